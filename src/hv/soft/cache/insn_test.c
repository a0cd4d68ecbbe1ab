/* insn_test.c — snippets in other modes, strings, atomics, vectors: what single instructions
 * against the host's CPU (diff_test.c) do not show. */
#include "base/bits.h"
#include "hv/soft/cache/snippet.h"
#include "tests/lib/test.h"

/* --- other modes --- */

static void leave_long_mode(struct vcpu *v, enum cpu_mode mode)
{
    v->cr0 &= ~(uint64_t)CR0_PG;
    v->cr0 = mode == MODE_REAL ? v->cr0 & ~(uint64_t)CR0_PE : v->cr0;
    v->efer = 0;
    v->mode = (uint8_t)mode;
    for (unsigned i = 0; i < SEG_TR; i++) {
        v->seg[i].attr = (i == SEG_CS ? 0x9bu : 0x93u) | (mode == MODE_PROT32 ? SEG_ATTR_DB : 0);
    }
    mmu_mode_changed(v);
}

TEST(cache, real_mode_code_with_segments_runs)
{
    /* push bp; mov bp, sp; mov ax, 1234h; mov [bp-4], ax; lea di, [bx+si+2]; call f; hlt;
     * f: mov cx, [bp-4]; add cx, ax; ret */
    static const uint8_t code[] = {0x55, 0x89, 0xe5, 0xb8, 0x34, 0x12, 0x89, 0x46,
                                   0xfc, 0x8d, 0x78, 0x02, 0xe8, 0x01, 0x00, 0xf4,
                                   0x8b, 0x4e, 0xfc, 0x01, 0xc1, 0xc3};
    struct soft_vm vm;

    start(&vm, code, 0);
    leave_long_mode(vm.v, MODE_REAL);
    CHECK_INT(mem_write(vm.mem, GPA(0x8010), code, sizeof(code)), 0);
    for (unsigned i = 0; i < SEG_TR; i++) {
        vm.v->seg[i].base = i == SEG_CS ? 0x8000 : 0x9000;
        vm.v->seg[i].limit = 0xffff;
    }
    vm.v->rip = 0x10;
    vm.v->gpr[GPR_RSP] = UINT64_C(0xabcd0000) | 0x100;
    vm.v->gpr[GPR_RBX] = 0xffff;
    vm.v->gpr[GPR_RSI] = 0x10;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->rip, 0x20);
    CHECK_INT(vm.v->gpr[GPR_RCX] & 0xffff, 0x2468);
    CHECK_INT(vm.v->gpr[GPR_RDI], 0x11);
    CHECK_INT(vm.v->gpr[GPR_RSP], UINT64_C(0xabcd0000) | 0xfe);
    CHECK_INT(soft_vm_peek(&vm, 0x90fa) & 0xffff, 0x1234);
    vm.v->rip = 0x10000;
    CHECK_INT(run(&vm), EXC_GP); /* beyond the limit of CS */
    finish(&vm);
}

TEST(cache, protected_mode_code_of_32_bits_runs)
{
    /* pusha; mov ecx, 5; l: add eax, ecx; loop l; mov [edi], eax; call f; popa; hlt;
     * f: push eax; pop dword [edi+4]; mov al, 12h; add al, 19h; daa; enter 8, 0; leave; ret */
    static const uint8_t code[] = {0x60, 0xb9, 5,    0,    0,    0,    0x01, 0xc8, 0xe2,
                                   0xfc, 0x89, 0x07, 0xe8, 2,    0,    0,    0,    0x61,
                                   0xf4, 0x50, 0x8f, 0x47, 0x04, 0xb0, 0x12, 0x04, 0x19,
                                   0x27, 0xc8, 0x08, 0,    0,    0xc9, 0xc3};
    struct soft_vm vm;

    start(&vm, code, sizeof(code));
    leave_long_mode(vm.v, MODE_PROT32);
    vm.v->gpr[GPR_RDI] = DATA;
    vm.v->gpr[GPR_RAX] = 100;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(soft_vm_peek(&vm, DATA), UINT64_C(115) << 32 | 115);
    CHECK_INT(vm.v->gpr[GPR_RAX], 100);
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    CHECK_INT(vm.v->gpr[GPR_RSP], STACK);
    CHECK(vm.v->aflags & 0x1000); /* AF of DAA */
    vm.v->seg[SEG_DS].limit = 0xfff;
    vm.v->rip = CODE;
    CHECK_INT(run(&vm), EXC_GP);
    CHECK_INT(vm.v->rip, CODE + 10);
    finish(&vm);
}

/* --- strings --- */

static void fill_data(struct soft_vm *vm, uint64_t at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(i * 7 + 1);

        CHECK_INT(mem_write(vm->mem, GPA(at + i), &byte, 1), 0);
    }
}

TEST(cache, rep_movs_copies_across_pages_and_stops_at_the_faulting_element)
{
    struct soft_vm vm;
    static uint8_t a[12000], b[12000];

    /* rep movsb; hlt */
    START(&vm, 0xf3, 0xa4, 0xf4);
    fill_data(&vm, DATA, sizeof(a));
    vm.v->gpr[GPR_RSI] = DATA;
    vm.v->gpr[GPR_RDI] = DATA + 0x10123;
    vm.v->gpr[GPR_RCX] = sizeof(a);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RSI], DATA + sizeof(a));
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    CHECK_INT(mem_read(vm.mem, GPA(DATA), a, sizeof(a)), 0);
    CHECK_INT(mem_read(vm.mem, GPA(DATA + 0x10123), b, sizeof(b)), 0);
    CHECK_MEM(a, b, sizeof(a));
    vm.v->rip = CODE;
    vm.v->gpr[GPR_RSI] = CODE + 0x400000 - 10;
    vm.v->gpr[GPR_RDI] = DATA;
    vm.v->gpr[GPR_RCX] = 100;
    CHECK_INT(run(&vm), EXC_PF);
    CHECK_INT(vm.v->gpr[GPR_RCX], 90);
    CHECK_INT(vm.v->gpr[GPR_RDI], DATA + 10);
    CHECK_INT(vm.v->exc.cr2, CODE + 0x400000);
    CHECK_INT(vm.v->rip, CODE);
    finish(&vm);
}

static uint8_t *at(struct soft_vm *vm, uint64_t gpa)
{
    return mem_ptr(vm->mem, GPA(gpa), 1);
}

/* Where the page of `la` is if two of eight have changed places. */
static uint8_t *at_swapped(struct soft_vm *vm, uint64_t la)
{
    uint64_t page = la >> 12 & 7;
    uint64_t other = page == 3 ? 5 : page == 5 ? 3 : page;

    return mem_ptr(vm->mem, GPA((la & ~UINT64_C(0x7000)) | other << 12), 1);
}

TEST(cache, long_runs_go_over_pages_that_lie_together_and_apart)
{
    enum { COUNT = 3200 };
    static const uint64_t offsets[] = {0, 3, 4090};
    struct soft_vm vm;

    /* rep movsq; mov rcx, rdx; rep stosq; hlt */
    START(&vm, 0xf3, 0x48, 0xa5, 0x48, 0x89, 0xd1, 0xf3, 0x48, 0xab, 0xf4);
    (void)soft_vm_map(&vm, DATA + 0x3000, DATA + 0x5000, PTE_RW | PTE_US);
    (void)soft_vm_map(&vm, DATA + 0x5000, DATA + 0x3000, PTE_RW | PTE_US);
    for (unsigned i = 0; i < 2 * ARRAY_LEN(offsets); i++) {
        uint64_t from = DATA + offsets[i / 2], to = DATA + 0x10000 + offsets[(i + 1) / 2 % 3];

        for (unsigned k = 0; k < 8 * COUNT; k++) {
            *at_swapped(&vm, from + k) = (uint8_t)(k * 7 + k / 256);
        }
        vm.v->rip = CODE;
        vm.v->gpr[GPR_RSI] = from;
        vm.v->gpr[GPR_RDI] = to;
        vm.v->gpr[GPR_RCX] = COUNT;
        vm.v->gpr[GPR_RDX] = i & 1 ? COUNT : 0;
        vm.v->gpr[GPR_RAX] = 0x1122334455667788;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RSI], from + 8 * COUNT);
        CHECK_INT(vm.v->gpr[GPR_RDI], to + 8 * (COUNT + vm.v->gpr[GPR_RDX]));
        for (unsigned k = 0; k < 8 * COUNT; k++) {
            CHECK_INT(*at(&vm, to + k), (uint8_t)(k * 7 + k / 256));
        }
        for (unsigned k = 0; k < 8 * vm.v->gpr[GPR_RDX]; k++) {
            CHECK_INT(*at(&vm, to + 8 * COUNT + k), 0x88 - 0x11 * (k % 8));
        }
    }
    /* and back, onto the pages that have changed places; then not a byte of the next page */
    vm.v->rip = CODE;
    vm.v->gpr[GPR_RSI] = DATA + 0x10000;
    vm.v->gpr[GPR_RDI] = DATA + 3;
    vm.v->gpr[GPR_RCX] = COUNT;
    vm.v->gpr[GPR_RDX] = 0;
    *at_swapped(&vm, DATA + 3 + 8 * COUNT) = 0xee;
    CHECK_INT(run(&vm), -1);
    for (unsigned k = 0; k < 8 * COUNT; k++) {
        CHECK_INT(*at_swapped(&vm, DATA + 3 + k), *at(&vm, DATA + 0x10000 + k));
    }
    CHECK_INT(*at_swapped(&vm, DATA + 3 + 8 * COUNT), 0xee);
    finish(&vm);
}

TEST(cache, a_long_copy_onto_what_follows_repeats_it)
{
    struct soft_vm vm;

    /* rep movsb; hlt: 5,000 bytes again and again */
    START(&vm, 0xf3, 0xa4, 0xf4);
    for (unsigned k = 0; k < 5000; k++) {
        *at(&vm, DATA + k) = (uint8_t)(k * 3 + k / 256);
    }
    vm.v->gpr[GPR_RSI] = DATA;
    vm.v->gpr[GPR_RDI] = DATA + 5000;
    vm.v->gpr[GPR_RCX] = 30000;
    CHECK_INT(run(&vm), -1);
    for (unsigned k = 0; k < 35000; k++) {
        CHECK_INT(*at(&vm, DATA + k), (uint8_t)(k % 5000 * 3 + k % 5000 / 256));
    }
    finish(&vm);
}

TEST(cache, overlapping_rep_movs_repeats_the_pattern_element_by_element)
{
    struct soft_vm vm;
    uint8_t got[16], want[16];

    /* rep movsb; hlt */
    START(&vm, 0xf3, 0xa4, 0xf4);
    fill_data(&vm, DATA, 16);
    CHECK_INT(mem_read(vm.mem, GPA(DATA), want, 16), 0);
    for (unsigned i = 3; i < 16; i++) {
        want[i] = want[i - 3];
    }
    vm.v->gpr[GPR_RSI] = DATA;
    vm.v->gpr[GPR_RDI] = DATA + 3;
    vm.v->gpr[GPR_RCX] = 13;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(mem_read(vm.mem, GPA(DATA), got, 16), 0);
    CHECK_MEM(got, want, 16);
    finish(&vm);
}

TEST(cache, rep_movs_downwards_copies_a_shifted_range)
{
    struct soft_vm vm;
    uint8_t before[64], after[64];

    /* std; rep movsq; cld; hlt */
    START(&vm, 0xfd, 0xf3, 0x48, 0xa5, 0xfc, 0xf4);
    fill_data(&vm, DATA, 64);
    CHECK_INT(mem_read(vm.mem, GPA(DATA), before, 64), 0);
    vm.v->gpr[GPR_RSI] = DATA + 56;
    vm.v->gpr[GPR_RDI] = DATA + 64;
    vm.v->gpr[GPR_RCX] = 8;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(mem_read(vm.mem, GPA(DATA + 8), after, 64), 0);
    CHECK_MEM(before, after, 64);
    CHECK_INT(vm.v->gpr[GPR_RSI], DATA - 8);
    finish(&vm);
}

TEST(cache, rep_stos_onto_its_own_code_stops_in_time)
{
    struct soft_vm vm;

    /* rep stosb; hlt; then what becomes nop, and hlt at the end */
    START(&vm, 0xf3, 0xaa, 0x90, 0x90, 0xf4);
    vm.v->gpr[GPR_RAX] = 0xf4;
    vm.v->gpr[GPR_RDI] = CODE + 2;
    vm.v->gpr[GPR_RCX] = 1;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->rip, CODE + 3);
    finish(&vm);
}

TEST(cache, scas_and_cmps_stop_where_they_must)
{
    struct soft_vm vm;

    /* repne scasb; sete al; repe cmpsb; hlt */
    START(&vm, 0xf2, 0xae, 0x0f, 0x94, 0xc0, 0xf3, 0xa6, 0xf4);
    fill_data(&vm, DATA, 64);
    vm.v->gpr[GPR_RDI] = DATA;
    vm.v->gpr[GPR_RSI] = DATA + 6;
    vm.v->gpr[GPR_RCX] = 20;
    vm.v->gpr[GPR_RAX] = 5 * 7 + 1;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX] & 1, 1);
    CHECK_INT(vm.v->gpr[GPR_RDI], DATA + 20); /* the rest compared equal to itself */
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    finish(&vm);
}

TEST(cache, ins_and_outs_move_port_data)
{
    struct soft_vm vm;

    /* rep outsb; rep insw; hlt */
    START(&vm, 0xf3, 0x6e, 0xf3, 0x66, 0x6d, 0xf4);
    fill_data(&vm, DATA, 8);
    vm.v->gpr[GPR_RDX] = 0x3f8;
    vm.v->gpr[GPR_RSI] = DATA;
    vm.v->gpr[GPR_RDI] = DATA + 0x100;
    vm.v->gpr[GPR_RCX] = 3;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.pio.count, 3);
    CHECK_INT(vm.pio.value, 15);
    vm.pio_answer = 0xbeef;
    vm.v->rip = CODE + 2;
    vm.v->gpr[GPR_RCX] = 2;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0x100), 0xbeefbeef);
    finish(&vm);
}

/* --- atomics --- */

TEST(cache, locked_instructions_work_on_ram_across_pages_and_on_code_pages)
{
    /* lock inc dword [rdi]; lock xadd [rdi+8], rax; lock cmpxchg [rdi], ecx;
     * lock cmpxchg16b [rdi+16]; xchg [rdi], edx; hlt */
    static const uint8_t code[] = {0xf0, 0xff, 0x07, 0xf0, 0x48, 0x0f, 0xc1, 0x47,
                                   0x08, 0xf0, 0x0f, 0xb1, 0x0f, 0xf0, 0x48, 0x0f,
                                   0xc7, 0x4f, 0x10, 0x87, 0x17, 0xf4};
    static const uint64_t places[] = {DATA, CODE + 0x800};
    struct soft_vm vm;

    for (unsigned i = 0; i < 2; i++) {
        start(&vm, code, sizeof(code));
        vm.v->gpr[GPR_RDI] = places[i];
        vm.v->gpr[GPR_RAX] = 41;
        vm.v->gpr[GPR_RCX] = 5;
        vm.v->gpr[GPR_RDX] = 6;
        soft_vm_poke(&vm, places[i], 41);
        soft_vm_poke(&vm, places[i] + 8, 0);
        CHECK_INT(run(&vm), -1);
        CHECK_INT(soft_vm_peek(&vm, places[i] + 8), 41);
        CHECK_INT(soft_vm_peek(&vm, places[i]), 0); /* edx: high half of the 16 bytes read */
        CHECK_INT(vm.v->gpr[GPR_RDX], 42);
        finish(&vm);
    }
    start(&vm, code, sizeof(code));
    vm.v->gpr[GPR_RDI] = DATA + 0xffe;
    soft_vm_poke(&vm, DATA + 0xffe, UINT32_MAX);
    CHECK_INT(run(&vm), EXC_GP); /* CMPXCHG16B needs alignment; what came before is done */
    CHECK_INT(soft_vm_peek(&vm, DATA + 0xffe) & UINT32_MAX, 5 * 0);
    CHECK_INT(vm.v->rip, CODE + 13);
    finish(&vm);
}

/* --- SIMD and x87 --- */

TEST(cache, vector_and_x87_instructions_give_the_hosts_results)
{
    struct soft_vm vm;
    double four = 4.0;
    uint64_t bits;

    /* movd xmm1, eax; pshufd xmm2, xmm1, 0; movdqu [rdi], xmm2; paddd xmm2, [rdi];
     * movq rbx, xmm2; cvtsi2sd xmm3, ecx; sqrtsd xmm3, xmm3; cvttsd2si rdx, xmm3;
     * ucomisd xmm3, xmm3; fld qword [rsi]; fsqrt; fistp dword [rsi+8]; movq mm0, [rsi];
     * paddb mm0, mm0; movq [rsi+16], mm0; emms; hlt */
    START(&vm, 0x66, 0x0f, 0x6e, 0xc8, 0x66, 0x0f, 0x70, 0xd1, 0x00, 0xf3, 0x0f, 0x7f, 0x17, 0x66,
          0x0f, 0xfe, 0x17, 0x66, 0x48, 0x0f, 0x7e, 0xd3, 0xf2, 0x0f, 0x2a, 0xd9, 0xf2, 0x0f, 0x51,
          0xdb, 0xf2, 0x48, 0x0f, 0x2c, 0xd3, 0x66, 0x0f, 0x2e, 0xdb, 0xdd, 0x06, 0xd9, 0xfa, 0xdb,
          0x5e, 0x08, 0x0f, 0x6f, 0x06, 0x0f, 0xfc, 0xc0, 0x0f, 0x7f, 0x46, 0x10, 0x0f, 0x77, 0xf4);
    fpu_fninit(vm.v);
    memcpy(&bits, &four, 8);
    soft_vm_poke(&vm, DATA + 0x100, bits);
    vm.v->gpr[GPR_RAX] = 0x11111111;
    vm.v->gpr[GPR_RCX] = 144;
    vm.v->gpr[GPR_RDI] = DATA;
    vm.v->gpr[GPR_RSI] = DATA + 0x100;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RBX], 0x2222222222222222);
    CHECK_INT(vm.v->gpr[GPR_RDX], 12);
    CHECK_INT(vcpu_rflags(vm.v) & FLAGS_ARITH, FLAG_ZF);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0x108), 2);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0x110), 0x8020000000000000);
    finish(&vm);
}

TEST(cache, unmasked_vector_exceptions_reach_the_guest_and_change_nothing)
{
    struct soft_vm vm;
    double one = 1.0;

    /* divsd xmm0, xmm1; hlt */
    START(&vm, 0xf2, 0x0f, 0x5e, 0xc1, 0xf4);
    memcpy(vm.v->xsave + FPU_XMM0, &one, 8);
    store_le32(vm.v->xsave + FPU_MXCSR, 0x1f80 & ~0x200u); /* ZM clear */
    CHECK_INT(run(&vm), EXC_XM);
    CHECK_INT(vm.v->rip, CODE);
    CHECK_MEM(vm.v->xsave + FPU_XMM0, &one, 8);
    CHECK_INT(load_le32(vm.v->xsave + FPU_MXCSR) & 0x3f, 4);
    store_le32(vm.v->xsave + FPU_MXCSR, 0x1f80);
    CHECK_INT(run(&vm), -1);
    finish(&vm);
}

TEST(cache, x87_exceptions_that_are_not_masked_wait_for_the_next_instruction)
{
    struct soft_vm vm;

    /* fninit; fldcw [rdi]; fldz; fld1; fdivrp; fnstsw ax; fwait; hlt */
    START(&vm, 0xdb, 0xe3, 0xd9, 0x2f, 0xd9, 0xee, 0xd9, 0xe8, 0xde, 0xf1, 0xdf, 0xe0, 0x9b, 0xf4);
    vm.v->gpr[GPR_RDI] = DATA;
    soft_vm_poke(&vm, DATA, 0x37f & ~4u); /* ZM clear */
    CHECK_INT(run(&vm), EXC_MF);
    CHECK_INT(vm.v->rip, CODE + 12);
    CHECK_INT(vm.v->gpr[GPR_RAX] & 0x84, 0x84); /* ES, ZE */
    CHECK_INT(load_le64(vm.v->xsave + FPU_FIP), CODE + 8);
    finish(&vm);
}

TEST(cache, vector_instructions_obey_cr0_cr4_and_alignment)
{
    struct soft_vm vm;

    /* movaps xmm0, [rdi+1]; */
    START(&vm, 0x0f, 0x28, 0x47, 0x01, 0xf4);
    vm.v->gpr[GPR_RDI] = DATA;
    CHECK_INT(run(&vm), EXC_GP);
    vm.v->cr0 |= CR0_TS;
    CHECK_INT(run(&vm), EXC_NM);
    vm.v->cr4 &= ~(uint64_t)CR4_OSFXSR;
    CHECK_INT(run(&vm), EXC_UD);
    vm.v->cr4 |= CR4_OSFXSR;
    vm.v->cr0 &= ~(uint64_t)CR0_TS;
    vm.v->gpr[GPR_RDI] = DATA + 15;
    CHECK_INT(run(&vm), -1);
    finish(&vm);
}

/* The thread may have computed something of its own since; cmpps never is inexact. */
TEST(cache, flags_of_the_hosts_mxcsr_do_not_leak_into_the_guest)
{
    struct soft_vm vm;

    START(&vm, 0x0f, 0xc2, 0xc1, 0x00, 0xf4); /* cmpps xmm0, xmm1, 0; hlt */
    fpu_reset(vm.v);
    __asm__ volatile("ldmxcsr %0" : : "m"((const uint32_t){0x1fa0}));
    CHECK_INT(run(&vm), -1);
    CHECK_INT(load_le32(vm.v->xsave + FPU_MXCSR), 0x1f80);
    finish(&vm);
}
