/* cpuid_test.c — the table says what the VM is, whatever the host and the template say. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "hv/cpuid.h"
#include "tests/lib/test.h"

enum { EAX = CPUID_EAX, EBX = CPUID_EBX, ECX = CPUID_ECX, EDX = CPUID_EDX };

/* Leaf 0 as the vendor's; the shape of the rest follows from it, except that the host decides. */
static bool g_is_amd;

static void fill(struct hv_cpuid *table)
{
    static const uint32_t ones[CPUID_REGS] = {~0u, ~0u, ~0u, ~0u};
    struct cpu_identity cpu = cpu_identity_host();
    uint32_t r[CPUID_REGS] = {0xd};

    memset(table, 0, sizeof(*table));
    memcpy(&r[EBX], cpu.vendor, 4);
    memcpy(&r[EDX], cpu.vendor + 4, 4);
    memcpy(&r[ECX], cpu.vendor + 8, 4);
    g_is_amd = cpu.vendor[0] != 'G';
    CHECK_INT(hv_cpuid_add(table, 0, -1, r), 0);
    CHECK_INT(hv_cpuid_add(table, 1, -1, ones), 0);
    CHECK_INT(hv_cpuid_add(table, 4, 0, (uint32_t[4]){0xfffffc21}), 0); /* level 1 */
    CHECK_INT(hv_cpuid_add(table, 4, 1, (uint32_t[4]){0x61}), 0);       /* level 3 */
    CHECK_INT(hv_cpuid_add(table, 6, -1, ones), 0);
    CHECK_INT(hv_cpuid_add(table, 7, 0, (uint32_t[4]){1, 0, ~0u, ~0u}), 0);
    CHECK_INT(hv_cpuid_add(table, 0xa, -1, ones), 0);
    CHECK_INT(hv_cpuid_add(table, 0xb, 0, ones), 0);
    CHECK_INT(hv_cpuid_add(table, 0x1f, 0, ones), 0);
    CHECK_INT(hv_cpuid_add(table, 0x80000000, -1, (uint32_t[4]){0x80000021}), 0);
    CHECK_INT(hv_cpuid_add(table, 0x80000001, -1, (uint32_t[4]){0}), 0);
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000008; leaf++) {
        CHECK_INT(hv_cpuid_add(table, leaf, -1, ones), 0);
    }
}

static const uint32_t *regs(struct hv_cpuid *table, uint32_t leaf, uint32_t subleaf)
{
    const struct hv_cpuid_entry *entry = hv_cpuid_find(table, leaf, subleaf);

    assert_non_null(entry);
    return entry->regs;
}

static void shape(struct hv_cpuid *table, const struct hv_cpuid_vm *vm)
{
    struct err err = {0};

    fill(table);
    CHECK_OK(hv_cpuid_shape(table, vm, &err), &err);
}

TEST(hv, cpuid_says_what_every_vm_is)
{
    struct hv_cpuid_vm vm = {.vcpu_count = 6};
    static struct hv_cpuid table;
    const uint32_t *r;

    shape(&table, &vm);
    r = regs(&table, 1, 0);
    CHECK_INT(r[EBX] >> 8 & 0xff, 8);
    CHECK_INT(r[EBX] >> 16 & 0xff, 8); /* the power of two above 6 */
    CHECK_INT(r[ECX] & (BIT(15) | BIT(24) | BIT(31)), BIT(24) | BIT(31));
    CHECK(r[EDX] & BIT(28));
    r = regs(&table, 0xb, 0);
    CHECK_INT(r[EAX], 0);
    CHECK_INT(r[EBX], 1);
    CHECK_INT(r[ECX], 0x100);
    r = regs(&table, 0xb, 1);
    CHECK_INT(r[EAX], 5);
    CHECK_INT(r[EBX], 6);
    CHECK_INT(r[ECX], 0x201);
    vm.vcpu_count = 1;
    shape(&table, &vm);
    CHECK(!(regs(&table, 1, 0)[EDX] & BIT(28)));
}

TEST(hv, cpuid_has_two_threads_per_core_with_smt)
{
    struct hv_cpuid_vm vm = {.vcpu_count = 4, .has_smt = true};
    static struct hv_cpuid table;
    uint32_t id[CPUID_REGS] = {0};

    shape(&table, &vm);
    CHECK_INT(regs(&table, 0xb, 0)[EAX], 1);
    CHECK_INT(regs(&table, 0xb, 0)[EBX], 2);
    CHECK_INT(regs(&table, 0xb, 1)[EBX], 4);
    hv_cpuid_patch_id(&vm, 3, 0x8000001e, id);
    CHECK_INT(id[EAX], 3);
    CHECK_INT(id[EBX], 0x101);
    hv_cpuid_patch_id(&vm, 3, 1, id);
    CHECK_INT(id[EBX] >> 24, 3);
    vm.vcpu_count = 1;
    shape(&table, &vm);
    CHECK_INT(regs(&table, 0xb, 0)[EBX], 1);
}

TEST(hv, cpuid_is_shaped_for_its_vendor)
{
    struct hv_cpuid_vm vm = {.vcpu_count = 4, .has_smt = true};
    static struct hv_cpuid table;

    shape(&table, &vm);
    if (g_is_amd) {
        CHECK_INT(regs(&table, 7, 0)[EDX] & BIT(29), 0);
        CHECK(regs(&table, 0x80000001, 0)[ECX] & BIT(22));
        CHECK_INT(regs(&table, 0x80000008, 0)[ECX] & 0xf0ff, 0x7003);
        CHECK_MEM(regs(&table, 0x80000002, 0), "AMD EPYC", 9);
        CHECK(hv_cpuid_find(&table, 0x8000001d, 0) != NULL);
    } else {
        CHECK_INT(regs(&table, 4, 0)[EAX] >> 14 & 0xfff, 1);
        CHECK_INT(regs(&table, 4, 1)[EAX] >> 14 & 0xfff, 3);
        CHECK_INT(regs(&table, 4, 0)[EAX] >> 26, 1);
        CHECK_INT(regs(&table, 6, 0)[EAX] & BIT(1), 0);
        CHECK_INT(regs(&table, 7, 0)[EBX] & (BIT(6) | BIT(13)), BIT(6) | BIT(13));
        CHECK_INT(regs(&table, 0xa, 0)[EAX], 0);
        CHECK_INT(regs(&table, 0x1f, 1)[EBX], 4);
        CHECK_MEM(regs(&table, 0x80000002, 0), "Intel(R) Xeon(R)", 16);
    }
}

TEST(hv, a_template_changes_bits_and_the_vm_wins)
{
    static const struct cpu_template_reg changes[] = {
        {1, 0, 0, CPUID_EAX, 0x0fff3fff, 0x306f2},
        {1, 0, 0, CPUID_ECX, UINT32_MAX, 0}, /* no hypervisor? */
    };
    static const struct cpu_template template = {.regs = changes, .reg_count = 2};
    struct hv_cpuid_vm vm = {.vcpu_count = 2, .template = &template};
    static struct hv_cpuid table;

    shape(&table, &vm);
    CHECK_INT(regs(&table, 1, 0)[EAX], (0xffffffff & ~0x0fff3fff) | 0x306f2);
    CHECK_INT(regs(&table, 1, 0)[ECX], BIT(24) | BIT(31));
}

TEST(hv, a_template_cannot_change_what_is_not_there)
{
    static const struct cpu_template_reg change = {0x7, 3, 1, CPUID_EAX, 1, 1};
    static const struct cpu_template template = {.regs = &change, .reg_count = 1};
    struct hv_cpuid_vm vm = {.vcpu_count = 2, .template = &template};
    static struct hv_cpuid table;
    struct err err = {0};

    fill(&table);
    CHECK_INT(hv_cpuid_shape(&table, &vm, &err), -ENOTSUP);
    CHECK_STR(err.text, "Failed to create guest config: Template changes a CPUID entry not "
                        "supported by KVM: Leaf: 7, Subleaf: 3");
}

/* On a table that has all their leaves, as the CPUs that they are made for have. */
TEST(hv, static_templates_leave_no_bit_of_their_masks)
{
    for (unsigned kind = 0; kind < CPU_TEMPLATE_COUNT; kind++) {
        const struct cpu_template *template = cpu_template_get(kind);
        struct hv_cpuid_vm vm = {.vcpu_count = 1, .template = template};
        static const uint32_t ones[CPUID_REGS] = {~0u, ~0u, ~0u, ~0u};
        static struct hv_cpuid table;
        struct err err = {0};

        fill(&table);
        CHECK_INT(hv_cpuid_add(&table, 0xd, 0, ones), 0);
        CHECK_INT(hv_cpuid_add(&table, 0xd, 1, ones), 0);
        CHECK_OK(hv_cpuid_shape(&table, &vm, &err), &err);
        for (size_t i = 0; i < template->reg_count; i++) {
            const struct cpu_template_reg *change = &template->regs[i];
            /* the VM's own: TSC deadline timer, x2APIC and hypervisor are there in any case */
            uint32_t mask = change->leaf == 1 && change->reg == CPUID_ECX
                                ? change->mask & ~(uint32_t)(BIT(21) | BIT(24) | BIT(31))
                                : change->mask;

            CHECK_INT(regs(&table, change->leaf, change->subleaf)[change->reg] & mask,
                      change->value & mask);
        }
    }
}

TEST(hv, a_saved_table_may_promise_what_needs_nothing)
{
    static struct hv_cpuid mine;
    static struct hv_cpuid saved;
    struct hv_cpuid before;
    struct err err = {0};

    fill(&mine);
    fill(&saved);
    hv_cpuid_find(&mine, 1, 0)->regs[EDX] &= ~(uint32_t)(BIT(27) | BIT(28)); /* SS, HTT */
    hv_cpuid_find(&saved, 0x80000001, 0)->regs[ECX] |= (uint32_t)BIT(22);    /* TOPOEXT */
    before = mine;
    CHECK_OK(hv_cpuid_adopt(&mine, &saved, &err), &err);
    CHECK_MEM(&mine, &saved, sizeof(mine));
    mine = before;
    hv_cpuid_find(&mine, 1, 0)->regs[EDX] &= ~(uint32_t)BIT(7); /* machine checks have registers */
    CHECK_INT(hv_cpuid_adopt(&mine, &saved, &err), -ENOTSUP);
    CHECK_STR(err.text, "the guest was shown CPU features that are not here: CPUID leaf 0x1.0 edx, "
                        "bits 0x80");
}
