/* audit_test.c — the audit takes what the guest filled, and finds what leads elsewhere. */
#include "hv/soft/mmu/mmu.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define LA  UINT64_C(0x40000000)
#define PHY UINT64_C(0x200000)

static void start(struct soft_vm *vm)
{
    soft_vm_init(vm);
    mmu_init(vm->v);
    soft_vm_map_range(vm, LA, PHY, 0x10000, PTE_RW | PTE_US);
    for (uint64_t la = LA; la < LA + 0x10000; la += 4096) {
        mmu_write8(vm->v, la, mmu_read8(vm->v, la));
    }
}

static struct tlb_entry *entry_of(struct soft_vm *vm, enum tlb_access access, uint64_t la)
{
    return &vm->v->tlb[TLB_SUPERVISOR].slot[access][MMU_SLOT(la)];
}

TEST(audit, what_accesses_filled_is_good)
{
    char why[MMU_AUDIT_WHY] = "";
    struct soft_vm vm;

    start(&vm);
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA, 8) != NULL);
    CHECK(mmu_audit(vm.v, why));
    mmu_flush_all(vm.v);
    CHECK(mmu_audit(vm.v, why));
    CHECK_STR(why, "");
    soft_vm_fini(&vm);
}

TEST(audit, an_entry_that_leads_out_of_memory_is_found)
{
    char why[MMU_AUDIT_WHY] = "";
    struct soft_vm vm;
    struct tlb_entry *e, good;

    start(&vm);
    e = entry_of(&vm, TLB_WRITE, LA + 0x3000);
    good = *e;
    e->host = (uintptr_t)vm.v & ~UINT64_C(4095);
    CHECK(!mmu_audit(vm.v, why));
    CHECK(strstr(why, "the TLB entry for 0x40003000 (privilege 0, access 1) leads to ") == why);
    e->host = good.host + 8; /* the end of the page is another's */
    CHECK(!mmu_audit(vm.v, why));
    e->host = (uintptr_t)mem_ptr(vm.mem, GPA(0), 4096) + SOFT_VM_RAM; /* the first page behind */
    CHECK(!mmu_audit(vm.v, why));
    e->host = good.host;
    e->page += 8;
    CHECK(!mmu_audit(vm.v, why));
    *e = good;
    CHECK(mmu_audit(vm.v, why));
    soft_vm_fini(&vm);
}

TEST(audit, memory_that_is_read_only_has_no_entry_for_writing)
{
    static uint8_t page[4096] __attribute__((aligned(4096)));
    struct mem_range range = {
        .gpa = GPA(SOFT_VM_RAM), .len = sizeof(page), .host = page, .is_read_only = true};
    char why[MMU_AUDIT_WHY] = "";
    struct soft_vm vm;
    unsigned index = 0;

    start(&vm);
    CHECK_INT(mem_extra_add(vm.mem, &range, &index, NULL), 0);
    mmu_extra_changed(vm.v, index);
    (void)soft_vm_map(&vm, LA, SOFT_VM_RAM, PTE_RW);
    CHECK_INT(mmu_read8(vm.v, LA), 0);
    CHECK(mmu_hit(vm.v, TLB_READ, LA, 8) == page);
    CHECK(mmu_audit(vm.v, why));
    *entry_of(&vm, TLB_WRITE, LA) = *entry_of(&vm, TLB_READ, LA);
    CHECK(!mmu_audit(vm.v, why));
    soft_vm_fini(&vm);
}

TEST(audit, a_stack_window_that_leads_out_of_memory_is_found)
{
    char why[MMU_AUDIT_WHY] = "";
    struct soft_vm vm;
    struct stack_window *w;
    const struct tlb_entry *e;

    start(&vm);
    e = entry_of(&vm, TLB_WRITE, LA);
    w = &vm.v->window[TLB_SUPERVISOR];
    w->neg_page = -e->page;
    w->delta = e->host - e->page;
    w->limit[0] = 4096 - 8 + 1;
    CHECK(mmu_audit(vm.v, why));
    w->limit[0]++;
    CHECK(!mmu_audit(vm.v, why));
    w->limit[0]--;
    w->delta += SOFT_VM_RAM;
    CHECK(!mmu_audit(vm.v, why));
    CHECK(strstr(why, "the stack window of privilege 0 leads to ") == why);
    soft_vm_fini(&vm);
}
