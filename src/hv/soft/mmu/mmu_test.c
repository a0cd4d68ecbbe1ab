/* mmu_test.c — walks, permissions, the soft TLB and its flushes, on a small machine. */
#include "hv/soft/mmu/mmu_int.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define LA  UINT64_C(0x400000)
#define PHY UINT64_C(0x200000)

/* What cache/ would be told. */
static struct {
    uint64_t gpa, len, page;
    unsigned written, flushed, flushed_user, flushed_page;
    size_t announced;
} g_cache;

void code_cache_written(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    (void)v;
    g_cache.gpa = gpa.v;
    g_cache.len = len;
    g_cache.written++;
}

void code_store_coming(struct vcpu *v, uint8_t *host, size_t len)
{
    (void)v;
    CHECK(*host == 0); /* before the store */
    g_cache.announced += len;
}

void code_cache_flush_page(struct vcpu *v, uint64_t la)
{
    (void)v;
    g_cache.page = la;
    g_cache.flushed_page++;
}

void code_cache_flush_lookup(struct vcpu *v, bool is_user_only)
{
    (void)v;
    g_cache.flushed++;
    g_cache.flushed_user += is_user_only;
}

static void start(struct soft_vm *vm)
{
    soft_vm_init(vm);
    mmu_init(vm->v);
    memset(&g_cache, 0, sizeof(g_cache));
}

static void set_cpl(struct vcpu *v, unsigned cpl)
{
    v->cpl = (uint8_t)cpl;
    v->tlb_now = &v->tlb[cpl == 3 ? TLB_USER : TLB_SUPERVISOR];
}

/* -1 if the access works, else the page-fault error code. */
static int probe(struct soft_vm *vm, enum tlb_access access, unsigned cpl, uint64_t la)
{
    gpa_t page;

    mmu_flush_all(vm->v);
    set_cpl(vm->v, cpl);
    if (_setjmp(vm->v->unwind)) {
        assert_int_equal(vm->v->exc.vector, EXC_PF);
        assert_true(vm->v->exc.has_error);
        return (int)vm->v->exc.error;
    }
    switch (access) {
    case TLB_READ: (void)mmu_read8(vm->v, la); break;
    case TLB_WRITE: mmu_write8(vm->v, la, 1); break;
    case TLB_EXEC: (void)mmu_fetch_page(vm->v, la, &page); break;
    case TLB_ACCESS_COUNT: break;
    }
    return -1;
}

TEST(mmu, reads_and_writes_reach_the_mapped_page_at_every_size)
{
    struct soft_vm vm;
    gpa_t gpa;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    mmu_write64(vm.v, LA + 8, 0x1122334455667788);
    CHECK_INT(soft_vm_peek(&vm, PHY + 8), 0x1122334455667788);
    CHECK_INT(mmu_read8(vm.v, LA + 8), 0x88);
    CHECK_INT(mmu_read16(vm.v, LA + 9), 0x6677);
    CHECK_INT(mmu_read32(vm.v, LA + 10), 0x33445566);
    mmu_write16(vm.v, LA + 8, 0xaaaa);
    mmu_write32(vm.v, LA + 12, 0xbbbbbbbb);
    CHECK_INT(mmu_read64(vm.v, LA + 8), 0xbbbbbbbb5566aaaa);
    CHECK(mmu_translate(vm.v, LA + 0x123, &gpa));
    CHECK_INT(gpa.v, PHY + 0x123);
    CHECK(!mmu_translate(vm.v, LA + 0x1000, &gpa));
    soft_vm_fini(&vm);
}

TEST(mmu, stores_are_announced_before_they_are_made_by_every_way)
{
    static struct tlb_set empty;
    struct soft_vm vm;
    gpa_t gpa;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, LA + 4096, PHY + 4096, PTE_RW);
    mmu_clear_set(&empty);
    vm.v->tlb_now = &empty;
    vm.v->announces_stores = true;
    mmu_write8(vm.v, LA, 1);
    CHECK_INT(g_cache.announced, 1);
    mmu_write(vm.v, LA + 8, "123456789", 9);
    CHECK_INT(g_cache.announced, 10);
    mmu_write32(vm.v, LA + 4094, 1);
    CHECK_INT(g_cache.announced, 14);
    CHECK(mmu_ptr_write(vm.v, LA + 64, 32));
    CHECK_INT(g_cache.announced, 46);
    CHECK(mmu_ptr_atomic(vm.v, LA + 128, 8, &gpa));
    CHECK_INT(g_cache.announced, 54);
    soft_vm_fini(&vm);
}

TEST(mmu, accessed_and_dirty_are_set_by_what_needs_them)
{
    struct soft_vm vm;
    uint64_t pte;
    uint64_t pml4e;

    start(&vm);
    pte = soft_vm_map(&vm, LA, PHY, PTE_RW);
    pml4e = soft_vm_entry(&vm, LA, 39);
    (void)mmu_read8(vm.v, LA);
    CHECK_INT(soft_vm_peek(&vm, pte) & (PTE_A | PTE_D), PTE_A);
    CHECK_INT(soft_vm_peek(&vm, pml4e) & (PTE_A | PTE_D), PTE_A);
    CHECK(!mmu_hit(vm.v, TLB_WRITE, LA, 1));
    mmu_write8(vm.v, LA, 1);
    CHECK_INT(soft_vm_peek(&vm, pte) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_INT(soft_vm_peek(&vm, pml4e) & PTE_D, 0);
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA, 1));
    soft_vm_fini(&vm);
}

TEST(mmu, refused_access_sets_neither_accessed_nor_dirty)
{
    struct soft_vm vm;
    uint64_t pte;

    start(&vm);
    pte = soft_vm_map(&vm, LA, PHY, 0);
    CHECK_INT(probe(&vm, TLB_WRITE, 0, LA), PFEC_P | PFEC_W);
    CHECK_INT(soft_vm_peek(&vm, pte) & (PTE_A | PTE_D), 0);
    soft_vm_poke(&vm, pte, PHY);
    CHECK_INT(probe(&vm, TLB_READ, 0, LA), 0);
    CHECK_INT(soft_vm_peek(&vm, pte), PHY);
    soft_vm_fini(&vm);
}

TEST(mmu, permissions_follow_the_manual)
{
    static const struct {
        uint64_t flags, cr0_clear, cr4_set, efer_clear, rflags;
        int want[2][TLB_ACCESS_COUNT]; /* cpl 0, cpl 3: read, write, fetch */
    } cases[] = {
        {.flags = PTE_RW | PTE_US, .want = {{-1, -1, -1}, {-1, -1, -1}}},
        {.flags = PTE_US, .want = {{-1, 3, -1}, {-1, 7, -1}}},
        {.flags = PTE_US, .cr0_clear = CR0_WP, .want = {{-1, -1, -1}, {-1, 7, -1}}},
        {.flags = PTE_RW, .want = {{-1, -1, -1}, {5, 7, 0x15}}},
        {.flags = PTE_RW | PTE_XD, .want = {{-1, -1, 0x11}, {5, 7, 0x15}}},
        {.flags = PTE_RW | PTE_US | PTE_XD, .want = {{-1, -1, 0x11}, {-1, -1, 0x15}}},
        /* without NXE bit 63 is reserved and fetches are not told apart */
        {.flags = PTE_RW | PTE_US | PTE_XD,
         .efer_clear = EFER_NXE,
         .want = {{9, 11, 9}, {13, 15, 13}}},
        {.flags = PTE_RW | PTE_US, .cr4_set = CR4_SMEP, .want = {{-1, -1, 0x11}, {-1, -1, -1}}},
        {.flags = PTE_RW | PTE_US, .cr4_set = CR4_SMAP, .want = {{1, 3, -1}, {-1, -1, -1}}},
        {.flags = PTE_RW | PTE_US,
         .cr4_set = CR4_SMAP,
         .rflags = FLAG_AC,
         .want = {{-1, -1, -1}, {-1, -1, -1}}},
        /* reserved: above the physical address width */
        {.flags = PTE_RW | PTE_US | BIT(CPU_PHYS_BITS), .want = {{9, 11, 0x19}, {13, 15, 0x1d}}},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;

        start(&vm);
        (void)soft_vm_map(&vm, LA, PHY, cases[i].flags);
        vm.v->cr0 &= ~cases[i].cr0_clear;
        vm.v->cr4 |= cases[i].cr4_set;
        vm.v->efer &= ~cases[i].efer_clear;
        vm.v->rflags |= cases[i].rflags;
        for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
            for (unsigned a = 0; a < TLB_ACCESS_COUNT; a++) {
                int got = probe(&vm, (enum tlb_access)a, cpl, LA);

                if (got != cases[i].want[cpl == 3][a]) {
                    print_error("case %u cpl %u access %u: 0x%x\n", i, cpl, a, (unsigned)got);
                    fail();
                }
            }
        }
        soft_vm_fini(&vm);
    }
}

TEST(mmu, rights_of_upper_levels_count)
{
    struct soft_vm vm;
    uint64_t pde;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW | PTE_US);
    pde = soft_vm_entry(&vm, LA, 21);
    soft_vm_poke(&vm, pde, soft_vm_peek(&vm, pde) & ~PTE_RW);
    CHECK_INT(probe(&vm, TLB_WRITE, 3, LA), 7);
    soft_vm_poke(&vm, pde, (soft_vm_peek(&vm, pde) | PTE_RW) & ~PTE_US);
    CHECK_INT(probe(&vm, TLB_READ, 3, LA), 5);
    soft_vm_poke(&vm, pde, soft_vm_peek(&vm, pde) | PTE_US | PTE_XD);
    CHECK_INT(probe(&vm, TLB_EXEC, 3, LA), 0x15);
    soft_vm_poke(&vm, soft_vm_entry(&vm, LA, 39),
                 soft_vm_peek(&vm, soft_vm_entry(&vm, LA, 39)) | PTE_PS);
    CHECK_INT(probe(&vm, TLB_READ, 3, LA), 13);
    soft_vm_fini(&vm);
}

TEST(mmu, implicit_accesses_are_supervisor_ones_and_ignore_ac)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, LA + 0x1000, PHY, PTE_RW | PTE_US);
    set_cpl(vm.v, 3);
    mmu_sys_write(vm.v, LA, 0x55aa, 2);
    mmu_sys_check_write(vm.v, LA, 16);
    CHECK_INT(mmu_sys_read(vm.v, LA, 8), 0x55aa);
    vm.v->cr4 |= CR4_SMAP;
    mmu_mode_changed(vm.v);
    vm.v->rflags |= FLAG_AC;
    mmu_ac_changed(vm.v);
    CHECK(SOFT_VM_RAISES(&vm, mmu_sys_read(vm.v, LA + 0x1000, 8)));
    CHECK_INT(vm.v->exc.error, PFEC_P);
    soft_vm_fini(&vm);
}

TEST(mmu, smap_keeps_user_pages_out_of_supervisor_tables)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW | PTE_US);
    vm.v->cr4 |= CR4_SMAP;
    vm.v->rflags |= FLAG_AC;
    mmu_write32(vm.v, LA, 77);
    CHECK_INT(mmu_read32(vm.v, LA), 77);
    CHECK(!mmu_hit(vm.v, TLB_READ, LA, 1));
    vm.v->rflags &= ~(uint64_t)FLAG_AC;
    mmu_ac_changed(vm.v);
    CHECK(SOFT_VM_RAISES(&vm, mmu_read32(vm.v, LA)));
    soft_vm_fini(&vm);
}

TEST(mmu, crossing_access_checks_both_pages_before_either_is_written)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, LA + 0x1000, PHY + 0x5000, PTE_RW);
    mmu_write64(vm.v, LA + 0xffd, 0x1122334455667788);
    CHECK_INT(mmu_read64(vm.v, LA + 0xffd), 0x1122334455667788);
    CHECK_INT(soft_vm_peek(&vm, PHY + 0x5000) & 0xffffffffff, 0x1122334455);
    (void)soft_vm_map(&vm, LA + 0x1000, PHY + 0x5000, 0);
    mmu_flush_page(vm.v, LA + 0x1000);
    CHECK(SOFT_VM_RAISES(&vm, mmu_write64(vm.v, LA + 0xffd, 0)));
    CHECK_INT(vm.v->exc.cr2, LA + 0x1000);
    CHECK_INT(vm.v->exc.error, PFEC_P | PFEC_W);
    CHECK_INT(mmu_read64(vm.v, LA + 0xffd), 0x1122334455667788);
    CHECK(!mmu_ptr_read(vm.v, LA + 0xffd, 8));
    CHECK(mmu_ptr_read(vm.v, LA + 0xff8, 8) == mem_ptr(vm.mem, GPA(PHY + 0xff8), 8));
    soft_vm_fini(&vm);
}

TEST(mmu, fault_address_is_the_first_byte_that_failed)
{
    struct soft_vm vm;

    start(&vm);
    CHECK(SOFT_VM_RAISES(&vm, mmu_read64(vm.v, LA + 0x123)));
    CHECK_INT(vm.v->exc.cr2, LA + 0x123);
    CHECK(SOFT_VM_RAISES(&vm, mmu_check_read(vm.v, LA + 0xfff, 2)));
    CHECK_INT(vm.v->exc.cr2, LA + 0xfff);
    CHECK(SOFT_VM_RAISES(&vm, mmu_check_write(vm.v, LA + 0xff, 2)));
    CHECK_INT(vm.v->exc.error, PFEC_W);
    soft_vm_fini(&vm);
}

TEST(mmu, no_address_matches_an_empty_slot)
{
    struct soft_vm vm;

    start(&vm);
    for (uint64_t slot = 0; slot < TLB_SLOTS; slot++) {
        static const uint64_t tops[] = {0, 0x7ff, UINT64_MAX << 24, BIT(63),
                                        UINT64_C(0x5555) << 24};

        for (unsigned i = 0; i < ARRAY_LEN(tops); i++) {
            CHECK(!mmu_hit(vm.v, TLB_READ, tops[i] + (slot << 12), 1));
            CHECK(!mmu_hit(vm.v, TLB_READ, tops[i] + (slot << 12) + 0xfff, 1));
        }
    }
    soft_vm_fini(&vm);
}

TEST(mmu, cr3_write_keeps_global_pages_only)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW | PTE_G);
    (void)soft_vm_map(&vm, LA + 0x1000, PHY + 0x1000, PTE_RW);
    mmu_write8(vm.v, LA, 1);
    mmu_write8(vm.v, LA + 0x1000, 1);
    mmu_flush_non_global(vm.v);
    CHECK(mmu_hit(vm.v, TLB_READ, LA, 1));
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA, 1));
    CHECK(!mmu_hit(vm.v, TLB_READ, LA + 0x1000, 1));
    CHECK(!mmu_hit(vm.v, TLB_WRITE, LA + 0x1000, 1));
    mmu_flush_all(vm.v);
    CHECK(!mmu_hit(vm.v, TLB_READ, LA, 1));
    /* without CR4.PGE the bit means nothing */
    vm.v->cr4 &= ~CR4_PGE;
    (void)mmu_read8(vm.v, LA);
    mmu_flush_non_global(vm.v);
    CHECK(!mmu_hit(vm.v, TLB_READ, LA, 1));
    soft_vm_fini(&vm);
}

TEST(mmu, slot_that_changes_from_local_to_global_survives_cr3_writes)
{
    struct soft_vm vm;
    uint64_t other = LA + TLB_SLOTS * 4096ull;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, other, PHY + 0x1000, PTE_RW | PTE_G);
    (void)mmu_read8(vm.v, LA);
    (void)mmu_read8(vm.v, other);
    CHECK(!mmu_hit(vm.v, TLB_READ, LA, 1));
    mmu_flush_non_global(vm.v);
    CHECK(mmu_hit(vm.v, TLB_READ, other, 1));
    (void)mmu_read8(vm.v, LA);
    mmu_flush_non_global(vm.v);
    CHECK(!mmu_hit(vm.v, TLB_READ, LA, 1));
    soft_vm_fini(&vm);
}

TEST(mmu, invlpg_drops_one_page_and_permissions_are_reread)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW | PTE_G);
    (void)soft_vm_map(&vm, LA + 0x1000, PHY + 0x1000, PTE_RW);
    (void)mmu_read8(vm.v, LA);
    (void)mmu_read8(vm.v, LA + 0x1000);
    (void)soft_vm_map(&vm, LA, PHY + 0x2000, PTE_RW);
    soft_vm_poke(&vm, PHY + 0x2000, 0x77);
    CHECK_INT(mmu_read8(vm.v, LA), 0);
    mmu_flush_page(vm.v, LA + 0x567);
    CHECK_INT(mmu_read8(vm.v, LA), 0x77);
    CHECK(mmu_hit(vm.v, TLB_READ, LA + 0x1000, 1));
    soft_vm_fini(&vm);
}

TEST(mmu, permission_upgrade_needs_no_flush)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, 0);
    (void)mmu_read8(vm.v, LA);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    mmu_write8(vm.v, LA, 9);
    CHECK_INT(mmu_read8(vm.v, LA), 9);
    soft_vm_fini(&vm);
}

TEST(mmu, large_pages_work_and_die_as_a_whole)
{
    static const struct {
        unsigned shift;
        uint64_t la;
        uint64_t far_off; /* another address of the same page */
    } cases[] = {{21, 0x40000000, 0x1ff000}, {30, 0x8000000000, 0xa00000}};

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;
        uint64_t la = cases[i].la;
        uint64_t at;

        start(&vm);
        at = soft_vm_entry(&vm, la, cases[i].shift);
        soft_vm_poke(&vm, at, PTE_P | PTE_RW | PTE_PS);
        soft_vm_poke(&vm, cases[i].far_off, 0x1234);
        CHECK_INT(mmu_read16(vm.v, la + cases[i].far_off), 0x1234);
        mmu_write8(vm.v, la + 0x5000, 3);
        CHECK_INT(soft_vm_peek(&vm, 0x5000) & 0xff, 3);
        CHECK_INT(soft_vm_peek(&vm, at) & (PTE_A | PTE_D), PTE_A | PTE_D);
        mmu_flush_page(vm.v, la + 0x7000);
        CHECK(!mmu_hit(vm.v, TLB_READ, la + cases[i].far_off, 1));
        CHECK(!mmu_hit(vm.v, TLB_WRITE, la + 0x5000, 1));
        /* a large page at an odd place is a reserved-bit fault; bit 12 is PAT */
        soft_vm_poke(&vm, at, PTE_P | PTE_RW | PTE_PS | 0x1000);
        CHECK_INT(probe(&vm, TLB_READ, 0, la), -1);
        soft_vm_poke(&vm, at, PTE_P | PTE_RW | PTE_PS | 0x2000);
        CHECK_INT(probe(&vm, TLB_READ, 0, la), 9);
        soft_vm_fini(&vm);
    }
}

TEST(mmu, many_huge_regions_still_flush)
{
    struct soft_vm vm;

    start(&vm);
    for (uint64_t i = 0; i < MMU_HUGE_MAX + 2; i++) {
        soft_vm_poke(&vm, soft_vm_entry(&vm, i << 30, 30), PTE_P | PTE_RW | PTE_PS);
        (void)mmu_read8(vm.v, (i << 30) + 0x9000 + (i << 12));
    }
    mmu_flush_page(vm.v, UINT64_C(9) << 30);
    CHECK(!mmu_hit(vm.v, TLB_READ, (UINT64_C(9) << 30) + 0x9000 + (9 << 12), 1));
    CHECK(mmu_hit(vm.v, TLB_READ, (UINT64_C(8) << 30) + 0x9000 + (8 << 12), 1));
    soft_vm_fini(&vm);
}

TEST(mmu, device_memory_goes_to_the_platform_in_whole_accesses)
{
    struct soft_vm vm;
    uint8_t data[16];

    start(&vm);
    (void)soft_vm_map(&vm, LA, 0xfee00000, PTE_RW);
    vm.mmio_answer = 0x1234567;
    CHECK_INT(mmu_read32(vm.v, LA + 0x30), 0x1234567);
    CHECK_INT(vm.mmio.address, 0xfee00030);
    CHECK_INT(vm.mmio.len, 4);
    mmu_write16(vm.v, LA + 0x80, 0xbeef);
    CHECK_INT(vm.mmio.value, 0xbeef);
    CHECK(vm.mmio.is_write);
    CHECK_INT(vm.mmio.count, 2);
    CHECK(!mmu_ptr_write(vm.v, LA, 8));
    CHECK(!mmu_hit(vm.v, TLB_READ, LA, 1));
    mmu_read(vm.v, LA, data, 11);
    CHECK_INT(vm.mmio.count, 5); /* 8, 2, 1 */
    CHECK_INT(vm.mmio.len, 1);
    CHECK_INT(vm.mmio.address, 0xfee0000a);
    soft_vm_fini(&vm);
}

TEST(mmu, crossing_from_ram_to_a_device_does_each_part_its_way)
{
    struct soft_vm vm;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, LA + 0x1000, 0xd0000000, PTE_RW);
    mmu_write64(vm.v, LA + 0xffc, 0x1122334455667788);
    CHECK_INT(soft_vm_peek(&vm, PHY + 0xff8) >> 32, 0x55667788);
    CHECK_INT(vm.mmio.value, 0x11223344);
    CHECK_INT(vm.mmio.count, 1);
    soft_vm_fini(&vm);
}

TEST(mmu, page_table_outside_ram_is_a_reserved_bit_fault)
{
    struct soft_vm vm;

    start(&vm);
    vm.v->cr3 = UINT64_C(0x100000000);
    CHECK_INT(probe(&vm, TLB_READ, 0, LA), PFEC_P | PFEC_RSVD);
    soft_vm_fini(&vm);
}

TEST(mmu, code_pages_are_not_written_behind_the_caches_back)
{
    struct soft_vm vm;
    gpa_t gpa;
    uint8_t *p;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, LA + 0x8000, PHY, PTE_RW); /* an alias */
    mmu_write8(vm.v, LA, 1);
    mmu_write8(vm.v, LA + 0x8000, 1);
    mmu_code_page_add(vm.v, GPA(PHY));
    CHECK(!mmu_hit(vm.v, TLB_WRITE, LA, 1));
    CHECK(!mmu_hit(vm.v, TLB_WRITE, LA + 0x8000, 1));
    mmu_write32(vm.v, LA + 0x8010, 5);
    CHECK_INT(g_cache.written, 1);
    CHECK_INT(g_cache.gpa, PHY + 0x10);
    CHECK_INT(g_cache.len, 4);
    CHECK_INT(soft_vm_peek(&vm, PHY + 0x10), 5);
    CHECK(!mmu_ptr_write(vm.v, LA, 8));
    CHECK(mmu_ptr_read(vm.v, LA, 8));
    p = mmu_ptr_atomic(vm.v, LA + 0x20, 8, &gpa);
    CHECK(p == mem_ptr(vm.mem, GPA(PHY + 0x20), 8));
    mmu_atomic_done(vm.v, gpa, 8);
    CHECK_INT(g_cache.written, 2);
    CHECK_INT(g_cache.gpa, PHY + 0x20);
    mmu_code_page_remove(vm.v, GPA(PHY));
    mmu_write32(vm.v, LA + 0x10, 6);
    CHECK_INT(g_cache.written, 2);
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA, 1));
    p = mmu_ptr_atomic(vm.v, LA + 0x20, 8, &gpa);
    CHECK(p);
    mmu_atomic_done(vm.v, gpa, 8);
    CHECK_INT(g_cache.written, 2);
    soft_vm_fini(&vm);
}

TEST(mmu, fetch_gives_the_page_and_peeking_changes_nothing)
{
    struct soft_vm vm;
    uint64_t pte;
    gpa_t page;

    start(&vm);
    pte = soft_vm_map(&vm, LA, PHY, 0);
    CHECK(!mmu_peek_page(vm.v, LA, &page));
    CHECK_INT(soft_vm_peek(&vm, pte) & PTE_A, 0);
    CHECK(!mmu_peek_page(vm.v, LA + 0x1000, &page));
    CHECK(mmu_fetch_page(vm.v, LA + 0x10, &page) == mem_ptr(vm.mem, GPA(PHY), 1));
    CHECK_INT(page.v, PHY);
    CHECK_INT(soft_vm_peek(&vm, pte) & PTE_A, PTE_A);
    mmu_flush_all(vm.v);
    CHECK(mmu_peek_page(vm.v, LA + 0x20, &page) == mem_ptr(vm.mem, GPA(PHY), 1));
    CHECK_INT(page.v, PHY);
    (void)soft_vm_map(&vm, LA, 0xfee00000, PTE_A);
    mmu_flush_all(vm.v);
    CHECK(!mmu_fetch_page(vm.v, LA, &page));
    CHECK(!mmu_peek_page(vm.v, LA, &page));
    soft_vm_fini(&vm);
}

TEST(mmu, cache_hears_of_flushes_that_concern_code_only)
{
    struct soft_vm vm;
    gpa_t page;
    uint64_t other = LA + TLB_SLOTS * 4096ull;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_RW);
    (void)soft_vm_map(&vm, other, PHY, PTE_G);
    (void)mmu_read8(vm.v, LA);
    mmu_flush_page(vm.v, LA);
    (void)mmu_read8(vm.v, LA);
    mmu_flush_non_global(vm.v);
    CHECK_INT(g_cache.flushed, 0);
    (void)mmu_fetch_page(vm.v, LA, &page);
    mmu_flush_page(vm.v, LA);
    CHECK_INT(g_cache.flushed, 0);
    CHECK_INT(g_cache.flushed_page, 2);
    CHECK_INT(g_cache.page, LA);
    (void)mmu_fetch_page(vm.v, LA, &page);
    (void)mmu_fetch_page(vm.v, other, &page); /* takes the slot */
    mmu_flush_page(vm.v, LA);
    CHECK_INT(g_cache.flushed_page, 3);
    mmu_flush_non_global(vm.v);
    CHECK_INT(g_cache.flushed, 1);
    mmu_flush_non_global(vm.v);
    CHECK_INT(g_cache.flushed, 1);
    mmu_flush_all(vm.v);
    CHECK_INT(g_cache.flushed, 2);
    soft_vm_fini(&vm);
}

TEST(mmu, all_code_of_a_large_page_goes_with_any_of_its_addresses)
{
    struct soft_vm vm;
    gpa_t page;

    start(&vm);
    soft_vm_poke(&vm, soft_vm_entry(&vm, LA, 21), PHY | PTE_P | PTE_RW | PTE_PS | PTE_G);
    (void)mmu_fetch_page(vm.v, LA + 0x3000, &page);
    CHECK_INT(page.v, PHY + 0x3000);
    mmu_flush_page(vm.v, LA + 0x200000); /* another one */
    CHECK_INT(g_cache.flushed, 0);
    mmu_flush_page(vm.v, LA + 0x5000);
    CHECK_INT(g_cache.flushed, 1);
    CHECK_INT(g_cache.flushed_user, 0);
    soft_vm_fini(&vm);
}

TEST(mmu, process_switch_costs_the_kernel_none_of_its_code)
{
    struct soft_vm vm;
    gpa_t page;

    start(&vm);
    (void)soft_vm_map(&vm, LA, PHY, PTE_G);
    (void)soft_vm_map(&vm, LA + 0x1000, PHY, PTE_US);
    (void)mmu_fetch_page(vm.v, LA, &page);
    set_cpl(vm.v, 3);
    (void)mmu_fetch_page(vm.v, LA + 0x1000, &page);
    set_cpl(vm.v, 0);
    mmu_flush_non_global(vm.v);
    CHECK_INT(g_cache.flushed, 1);
    CHECK_INT(g_cache.flushed_user, 1);
    mmu_flush_all(vm.v);
    CHECK_INT(g_cache.flushed, 2);
    CHECK_INT(g_cache.flushed_user, 1);
    soft_vm_fini(&vm);
}

TEST(mmu, paging_off_is_identity)
{
    struct soft_vm vm;

    start(&vm);
    vm.v->cr0 &= ~CR0_PG;
    vm.v->efer = 0;
    vm.v->mode = MODE_REAL;
    mmu_mode_changed(vm.v);
    mmu_write32(vm.v, 0x12345, 0xcafe);
    CHECK_INT(soft_vm_peek(&vm, 0x12345), 0xcafe);
    CHECK(mmu_hit(vm.v, TLB_WRITE, 0x12345, 4));
    /* the address space wraps at 4 GiB */
    vm.v->mode = MODE_PROT32;
    vm.mmio_answer = 0xa1;
    soft_vm_poke(&vm, 0, 0xb2);
    CHECK_INT(mmu_read16(vm.v, 0xffffffff), 0xb2a1);
    soft_vm_fini(&vm);
}

TEST(mmu, pae_paging_walks_three_levels)
{
    struct soft_vm vm;

    start(&vm);
    vm.v->efer = EFER_NXE;
    vm.v->mode = MODE_PROT32;
    vm.v->cr3 = 0x3020;
    soft_vm_poke(&vm, 0x3020 + 3 * 8, 0x4000 | PTE_P);
    soft_vm_poke(&vm, 0x4000 + 8, 0x5000 | PTE_P | PTE_RW | PTE_US);
    soft_vm_poke(&vm, 0x5000 + 2 * 8, PHY | PTE_P | PTE_RW);
    soft_vm_poke(&vm, 0x4000 + 16, 0x600000 | PTE_P | PTE_RW | PTE_PS);
    mmu_write32(vm.v, 0xc0202010, 0x99);
    CHECK_INT(soft_vm_peek(&vm, PHY + 0x10), 0x99);
    CHECK_INT(soft_vm_peek(&vm, 0x5000 + 2 * 8), PHY | PTE_P | PTE_RW | PTE_A | PTE_D);
    CHECK_INT(soft_vm_peek(&vm, 0x3020 + 3 * 8), 0x4000 | PTE_P);
    soft_vm_poke(&vm, 0x7ff000, 0x4321);
    CHECK_INT(mmu_read32(vm.v, 0xc05ff000), 0x4321);
    CHECK_INT(probe(&vm, TLB_READ, 0, 0x1000), 0);
    soft_vm_poke(&vm, 0x5000 + 2 * 8, PHY | PTE_P | BIT(52));
    CHECK_INT(probe(&vm, TLB_READ, 0, 0xc0202000), 9);
    soft_vm_poke(&vm, 0x3020, 0x4000 | PTE_P | PTE_RW);
    CHECK_INT(probe(&vm, TLB_READ, 0, 0x1000), 9);
    soft_vm_fini(&vm);
}

TEST(mmu, paging_with_32_bit_entries_works)
{
    struct soft_vm vm;
    uint32_t pde = 0x5000 | PTE_P | PTE_RW | PTE_US;
    uint32_t pte = PHY | PTE_P | PTE_RW | PTE_US;
    uint32_t large = 0x400000 | PTE_P | PTE_RW | PTE_PS;

    start(&vm);
    vm.v->efer = 0;
    vm.v->mode = MODE_PROT32;
    vm.v->cr3 = 0x4000;
    vm.v->cr4 = CR4_PSE;
    CHECK_INT(mem_write(vm.mem, GPA(0x4000 + 4), &pde, 4), 0);
    CHECK_INT(mem_write(vm.mem, GPA(0x5000 + 12), &pte, 4), 0);
    CHECK_INT(mem_write(vm.mem, GPA(0x4000 + 8), &large, 4), 0);
    set_cpl(vm.v, 3);
    mmu_write32(vm.v, 0x403004, 0x5678);
    CHECK_INT(soft_vm_peek(&vm, PHY) >> 32, 0x5678);
    CHECK_INT(mem_read(vm.mem, GPA(0x5000 + 12), &pte, 4), 0);
    CHECK_INT(pte & (PTE_A | PTE_D), PTE_A | PTE_D);
    set_cpl(vm.v, 0);
    soft_vm_poke(&vm, 0x723450, 0x42);
    CHECK_INT(mmu_read8(vm.v, 0xb23450), 0x42);
    mmu_flush_page(vm.v, 0x800000);
    CHECK(!mmu_hit(vm.v, TLB_READ, 0xb23450, 1));
    CHECK_INT(probe(&vm, TLB_WRITE, 3, 0xb23450), 7);
    CHECK_INT(probe(&vm, TLB_READ, 0, 0x404000), 0);
    CHECK_INT(probe(&vm, TLB_READ, 0, 0xffc00000), 0);
    large |= 0x200000;
    CHECK_INT(mem_write(vm.mem, GPA(0x4000 + 8), &large, 4), 0);
    CHECK_INT(probe(&vm, TLB_READ, 0, 0x800000), 9);
    soft_vm_fini(&vm);
}

TEST(mmu, fuzzed_accesses_agree_with_a_plain_walk)
{
    struct soft_vm vm;
    uint64_t seed = 0x9e3779b97f4a7c15;

    start(&vm);
    for (uint64_t i = 0; i < 64; i++) {
        (void)soft_vm_map(&vm, LA + i * 0x1000, PHY + ((i * 37) & 63) * 0x1000,
                          PTE_RW | (i % 3 ? PTE_G : 0));
    }
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t la;
        gpa_t gpa;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        la = LA + (seed >> 33) % (64 * 0x1000 - 8);
        CHECK(mmu_translate(vm.v, la, &gpa));
        if (seed >> 63) {
            mmu_write8(vm.v, la, (uint8_t)i);
        }
        CHECK_INT(mmu_read8(vm.v, la), soft_vm_peek(&vm, gpa.v) & 0xff);
        if (i % 1000 == 0) {
            mmu_flush_non_global(vm.v);
        }
        if (i % 77 == 0) { /* move a page */
            uint64_t at = soft_vm_entry(&vm, la, 12);

            soft_vm_poke(&vm, at, (soft_vm_peek(&vm, at) ^ 0x40000));
            mmu_flush_page(vm.v, la);
        }
    }
    soft_vm_fini(&vm);
}

static uint8_t g_extra[8192] __attribute__((aligned(4096)));

#define EXTRA UINT64_C(0x8000000000)

TEST(mmu, extra_ranges_are_memory_that_may_be_fixed_and_goes_again)
{
    struct soft_vm vm;
    struct mem_range range = {.gpa = GPA(EXTRA), .len = 4096, .host = g_extra};
    unsigned index = 0;
    gpa_t page;

    start(&vm);
    (void)soft_vm_map(&vm, LA, EXTRA, PTE_RW);
    (void)soft_vm_map(&vm, LA + 4096, EXTRA + 4096, PTE_RW);
    vm.mmio_answer = 0x55;
    CHECK_INT(mmu_read8(vm.v, LA), 0x55); /* nothing there yet */
    CHECK_INT(mem_extra_add(vm.mem, &range, &index, NULL), 0);
    mmu_extra_changed(vm.v, index);
    range = (struct mem_range){
        .gpa = GPA(EXTRA + 4096), .len = 4096, .host = g_extra + 4096, .is_read_only = true};
    CHECK_INT(mem_extra_add(vm.mem, &range, &index, NULL), 0);
    mmu_extra_changed(vm.v, index);

    mmu_write32(vm.v, LA + 8, 0x11223344);
    CHECK_INT(g_extra[8], 0x44);
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA + 8, 4) == g_extra + 8);
    CHECK(mmu_fetch_page(vm.v, LA, &page) == g_extra);
    CHECK_INT(page.v, EXTRA);
    mmu_code_page_add(vm.v, GPA(EXTRA));
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA + 8, 4) == NULL);
    mmu_write8(vm.v, LA + 9, 1);
    CHECK_INT(g_cache.gpa, EXTRA + 9);

    vm.mmio.count = 0;
    g_extra[4096] = 7;
    CHECK_INT(mmu_read8(vm.v, LA + 4096), 7);
    mmu_write8(vm.v, LA + 4096, 9);
    CHECK_INT(g_extra[4096], 7);
    CHECK_INT(vm.mmio.count, 1);
    CHECK(mmu_hit(vm.v, TLB_WRITE, LA + 4096, 1) == NULL);
    CHECK(mmu_ptr_write(vm.v, LA + 4096, 4) == NULL);

    mem_extra_remove(vm.mem, index);
    mmu_extra_changed(vm.v, index);
    CHECK_INT(mmu_read8(vm.v, LA + 4096), 0x55);
    soft_vm_fini(&vm);
}

TEST(mmu, page_tables_are_not_read_from_an_extra_range)
{
    struct soft_vm vm;
    struct mem_range range = {.gpa = GPA(EXTRA), .len = 8192, .host = g_extra};
    unsigned index = 0;

    start(&vm);
    memset(g_extra, 0, sizeof(g_extra));
    CHECK_INT(mem_extra_add(vm.mem, &range, &index, NULL), 0);
    mmu_extra_changed(vm.v, index);
    soft_vm_poke(&vm, soft_vm_entry(&vm, LA, 21), EXTRA | PTE_P | PTE_RW | PTE_US);
    CHECK_INT(probe(&vm, TLB_READ, 0, LA), PFEC_P | PFEC_RSVD);
    CHECK_INT(g_extra[0], 0);
    soft_vm_fini(&vm);
}
