// SPDX-License-Identifier: GPL-2.0
/* attack.c — a kernel module that does to the CPU it runs on whatever a hostile kernel could.
 *
 * CPU 1 runs random privileged code with interrupts off, again and again: random instructions from
 * a list of dangerous ones and plain random bytes, on random registers, while part of the address
 * space has random page tables, and with a descriptor table full of junk.  Its own interrupt table
 * leads every exception back (recover.S).  CPU 0 sends it an NMI now and then, which ends loops.
 * Mostly the guest goes on for a while; in the end it dies, which is its own business.
 */
#include <asm/desc.h>
#include <asm/tlbflush.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/vmalloc.h>

#define GATE_IST   1 /* an interrupt stack that Linux has */
#define X2APIC_ICR 0x830
#define ICR_NMI    0x400
#define SLOT_BASE  0x100000000000ul /* user half, entry 32 of the top table */
#define SLOT       (SLOT_BASE >> 39)
#define TABLES     8

static unsigned long seed = 1;
static unsigned int seconds = 20;
module_param(seed, ulong, 0);
module_param(seconds, uint, 0);

extern u8 hostile_code[];
void hostile_enter(const u64 *gpr);
void hostile_gate(void);

u64 hostile_rsp, hostile_stack, hostile_cr0, hostile_cr3, hostile_cr4, hostile_efer, hostile_gs;
struct desc_ptr hostile_gdt, hostile_idt;

static gate_desc *gates;
static u64 *tables[TABLES], *top, *junk;
static unsigned long rounds;

static u64 dice_state;
static u64 dice(void)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return dice_state * 0x2545f4914f6cdd1dull;
}

static unsigned int below(unsigned int n)
{
    return (dice() >> 33) % n;
}

/* An address, a number, or what looks like one. */
static u64 value(void)
{
    switch (below(14)) {
    case 0: return (u64)junk + below(8192);
    case 1: return (u64)hostile_code + below(4096);
    case 2: return SLOT_BASE + (dice() & 0x7fffffffffull);
    case 3: return SLOT_BASE + below(1 << 16);
    case 4: return (u64)tables[below(TABLES)] + below(4096);
    case 5: return (u64)page_address(ZERO_PAGE(0)) + below(4096);
    case 6: return 0xfee00000 + below(4096);
    case 7: /* any physical address, seldom */
        return below(64) ? (u64)junk + below(4096) : PAGE_OFFSET + (dice() & 0xfffffffffffull);
    case 8: return 1ull << below(64);
    case 9: return -(1ull << below(64));
    case 10: return below(64);
    case 11: return (u64)gates + below(4096);
    case 12: return dice() >> below(64);
    default: return dice();
    }
}

/* --- code --- */

static const struct {
    u8 len;
    u8 bytes[9];
} dangerous[] = {
    /* the first ones mostly mean the end */
    {3, {0x0f, 0x22, 0xd8}},
    {3, {0x0f, 0x01, 0x13}},
    {3, {0x0f, 0x01, 0x1b}},
    {2, {0xe6, 0x64}}, /* mov cr3 lgdt lidt out */
#define DEADLY 4
    {3, {0x0f, 0x22, 0xc0}},
    {3, {0x0f, 0x22, 0xe0}}, /* mov cr0/4, rax */
    {4, {0x44, 0x0f, 0x22, 0xc0}},
    {3, {0x0f, 0x22, 0xd0}}, /* mov cr8/2, rax */
    {3, {0x0f, 0x20, 0xc3}},
    {3, {0x0f, 0x20, 0xdb}},
    {3, {0x0f, 0x20, 0xe3}}, /* mov rbx, cr */
    {3, {0x0f, 0x23, 0xf8}},
    {3, {0x0f, 0x23, 0xc3}},
    {3, {0x0f, 0x21, 0xf1}}, /* mov dr */
    {2, {0x0f, 0x30}},
    {2, {0x0f, 0x32}},
    {2, {0x0f, 0x33}},
    {2, {0x0f, 0xa2}},       /* wrmsr rdmsr rdpmc cpuid */
    {3, {0x0f, 0x01, 0x03}}, /* sgdt [rbx] */
    {3, {0x0f, 0x01, 0x0b}},
    {3, {0x0f, 0x01, 0x33}},
    {3, {0x0f, 0x01, 0x3b}}, /* sidt lmsw invlpg [rbx] */
    {3, {0x0f, 0x00, 0xd0}},
    {3, {0x0f, 0x00, 0xd8}},
    {3, {0x0f, 0x00, 0xe0}}, /* lldt ltr verr */
    {3, {0x0f, 0x02, 0xc1}},
    {3, {0x0f, 0x03, 0xc1}},
    {2, {0x0f, 0x06}}, /* lar lsl clts */
    {2, {0x0f, 0x08}},
    {2, {0x0f, 0x09}},
    {1, {0xf4}},
    {1, {0xfa}},
    {1, {0xfb}}, /* invd wbinvd hlt cli sti */
    {3, {0x0f, 0x01, 0xf8}},
    {2, {0x0f, 0x05}},
    {3, {0x48, 0x0f, 0x07}}, /* swapgs syscall sysret */
    {2, {0x0f, 0x34}},
    {3, {0x48, 0x0f, 0x35}},
    {2, {0x48, 0xcf}},
    {1, {0xcf}}, /* sysenter sysexit iretq */
    {2, {0x48, 0xcb}},
    {1, {0xcb}},
    {3, {0x48, 0xff, 0x2b}},
    {2, {0xff, 0x1b}}, /* lret ljmp lcall */
    {2, {0x8e, 0xd0}},
    {2, {0x8e, 0xd8}},
    {2, {0x8e, 0xe8}},
    {3, {0x48, 0x0f, 0xb2}}, /* mov sreg */
    {3, {0x0f, 0xb2, 0x23}},
    {3, {0x0f, 0xb4, 0x23}},
    {2, {0x0f, 0xa9}}, /* lss lfs pop gs */
    {1, {0x9d}},
    {1, {0x9c}},
    {2, {0xcd, 0x80}},
    {2, {0xcd, 0x02}},
    {1, {0xcc}},
    {1, {0xf1}},
    {2, {0x0f, 0x0b}},
    {2, {0x0f, 0xaa}},
    {3, {0x0f, 0x01, 0xd1}},
    {3, {0x0f, 0x01, 0xc1}}, /* rsm xsetbv vmcall */
    {3, {0x0f, 0x01, 0xc8}},
    {3, {0x0f, 0x01, 0xc9}},
    {3, {0x0f, 0x01, 0xd8}}, /* monitor mwait vmrun */
    {3, {0x0f, 0xae, 0x0b}},
    {3, {0x0f, 0xae, 0x2b}},
    {3, {0x0f, 0xae, 0x23}}, /* fxrstor xrstor xsave */
    {3, {0x0f, 0xae, 0x13}},
    {4, {0x48, 0x0f, 0xc7, 0x1b}},
    {3, {0x0f, 0xc7, 0x33}}, /* ldmxcsr xrstors vmptrld */
    {5, {0xf0, 0x48, 0x0f, 0xc7, 0x0b}},
    {4, {0xf0, 0x48, 0x87, 0x03}}, /* cmpxchg16b xchg */
    {4, {0xf0, 0x48, 0x0f, 0xb1}},
    {3, {0xf3, 0x48, 0xa5}},
    {3, {0xf3, 0x48, 0xab}}, /* rep movs, stos */
    {2, {0xf3, 0xa6}},
    {2, {0xf3, 0x6c}},
    {2, {0xf3, 0x6f}},
    {1, {0xfd}}, /* cmps ins outs std */
    {1, {0xec}},
    {1, {0xee}},
    {1, {0xed}},
    {1, {0xef}}, /* in, out */
    {3, {0x48, 0x89, 0xdc}},
    {3, {0x48, 0x89, 0x03}},
    {3, {0x48, 0x8b, 0x03}}, /* mov rsp, rbx; [rbx] */
    {2, {0xff, 0xe3}},
    {2, {0xff, 0xd3}},
    {1, {0xc3}},
    {1, {0xc9}},
    {4, {0xc8, 0x20, 0, 0x1f}},
    {5, {0x66, 0x0f, 0x38, 0x82, 0x03}},
    {4, {0xf3, 0x0f, 0xae, 0xd3}},
    {4, {0xf3, 0x0f, 0xae, 0xdb}},
    {3, {0x0f, 0x01, 0xca}},
    {3, {0x0f, 0x01, 0xcb}},
    {7, {0x62, 0xf2, 0x7d, 0x48, 0x92, 0x04, 0x1b}},
    {8, {0xc4, 0xe2, 0xf9, 0x90, 0x04, 0x1b, 0x90, 0x90}},
    {3, {0x0f, 0x0d, 0x0b}},
    {4, {0x0f, 0x01, 0xf9, 0x90}},
    {3, {0x0f, 0xc7, 0xf0}},
    {5, {0xc7, 0xf8, 2, 0, 0}},
};

/* MSRs that engines implement, among any others. */
static u32 msr(void)
{
    static const u32 known[] = {
        0x10,       0x1b,       0x174,      0x175,      0x176,      0x1a0,      0x200,
        0x250,      0x277,      0x2ff,      0x6e0,      0x802,      0x808,      0x80b,
        0x80d,      0x80f,      0x828,      0x830,      0x832,      0x838,      0x83e,
        0x83f,      0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
        0xc0000101, 0xc0000102, 0xc0000103, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03,
        0x4b564d04, 0x12,       0x11,
    };

    return below(8) ? known[below(ARRAY_SIZE(known))] + (below(6) ? 0 : below(16)) : dice();
}

static unsigned int put(unsigned int at, const void *bytes, unsigned int len)
{
    if (at + len < 4096)
        memcpy(hostile_code + at, bytes, len);
    return at + len;
}

static void make_code(void)
{
    unsigned int at = 0, count = 1 + below(12);
    u64 bytes[2];

    while (count--) {
        unsigned int which =
            below(200) ? DEADLY + below(ARRAY_SIZE(dangerous) - DEADLY) : below(DEADLY);

        switch (below(8)) {
        case 0: /* random bytes */
            bytes[0] = dice();
            at = put(at, bytes, 1 + below(8));
            break;
        case 1: /* of the two-byte map */
            bytes[0] = dice() << 8 | 0x0f;
            at = put(at, bytes, 3 + below(4));
            break;
        case 2: /* mov rbx, value */
            bytes[0] = 0xbb48;
            at = put(at, bytes, 2);
            bytes[0] = value();
            at = put(at, bytes, 8);
            break;
        case 3: /* mov ecx, msr */
            bytes[0] = (u64)msr() << 8 | 0xb9;
            at = put(at, bytes, 5);
            break;
        default: at = put(at, dangerous[which].bytes, dangerous[which].len); break;
        }
    }
    memset(hostile_code + at, 0xcc, 16);
}

/* --- tables --- */

static u64 entry(void)
{
    u64 flags = dice() & 0xfff;
    u64 phys = below(3)   ? __pa(tables[below(TABLES)])
               : below(3) ? __pa(junk)
                          : dice() & 0xffffffffff000ull;

    if (below(4))
        flags = (flags & ~0x80ull) | 3;
    if (phys < 0x100000 || (phys >= __pa(junk) + 8192 && below(8)))
        phys = __pa(tables[below(TABLES)]);
    /* other memory of the guest is read only, most of the time: it shall live on for a while */
    if (below(16) == 0)
        flags |= dice() & (1ull << 63);
    return phys | flags;
}

static void make_tables(void)
{
    unsigned int count = 1 + below(64);

    while (count--)
        tables[below(TABLES)][below(4) ? below(8) : below(512)] = entry();
    for (count = below(16); count--;)
        junk[below(1024)] = below(2) ? value() : dice();
    top[SLOT] = __pa(tables[0]) | 0x67;
}

static void make_gates(void)
{
    unsigned int i;

    for (i = 0; i < 256; i++) {
        pack_gate(&gates[i], GATE_INTERRUPT, (unsigned long)hostile_gate, 0, 0, __KERNEL_CS);
        gates[i].bits.ist = GATE_IST;
    }
}

/* --- rounds --- */

/* Called by the gates, on hostile_rsp. */
asmlinkage void hostile_round(void);
asmlinkage void hostile_round(void)
{
    u64 gpr[15];
    unsigned int i;

    WRITE_ONCE(rounds, rounds + 1);
    for (i = 0; i < 15; i++)
        gpr[i] = value();
    if (below(64)) /* else a count that overwrites more than the guest can bear */
        gpr[2] = below(2) ? msr() & 0xc0001fff : below(64);
    asm volatile("mov %0, %%cr0" : : "r"(hostile_cr0 & ~X86_CR0_WP) : "memory");
    make_code();
    asm volatile("mov %0, %%cr0" : : "r"(hostile_cr0) : "memory");
    make_tables();
    make_gates();
    hostile_stack = below(8) ? (u64)junk + 4096 + 8 * below(256) : value();
    hostile_enter(gpr);
}

static void keep_state(void)
{
    hostile_cr0 = read_cr0();
    hostile_cr4 = native_read_cr4();
    rdmsrl(MSR_EFER, hostile_efer);
    rdmsrl(MSR_GS_BASE, hostile_gs);
    native_store_gdt(&hostile_gdt);
    hostile_cr3 = __pa(top);
    hostile_idt.size = 4095;
    hostile_idt.address = (unsigned long)gates;
}

static int attack(void *unused)
{
    local_irq_disable();
    keep_state();
    memcpy(top, __va(read_cr3_pa()), 4096);
    make_gates();
    asm volatile("mov %0, %%cr4" : : "r"(hostile_cr4 &= ~(u64)X86_CR4_PGE) : "memory");
    native_write_cr3(hostile_cr3);
    load_idt(&hostile_idt);
    hostile_rsp = (u64)__builtin_frame_address(0) & ~15ul;
    hostile_rsp -= 256;
    hostile_round(); /* there is no way back into this kernel */
    return 0;
}

static int __init hostile_init(void)
{
    struct task_struct *task;
    unsigned int i, left;

    set_cpus_allowed_ptr(current, cpumask_of(0));
    dice_state = seed * 0x9e3779b97f4a7c15ull | 1;
    gates = (gate_desc *)get_zeroed_page(GFP_KERNEL);
    top = (u64 *)get_zeroed_page(GFP_KERNEL);
    junk = (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 1);
    for (i = 0; i < TABLES; i++)
        tables[i] = (u64 *)get_zeroed_page(GFP_KERNEL);
    task = kthread_create(attack, NULL, "hostile");
    if (!gates || !top || !junk || IS_ERR(task))
        return -ENOMEM;
    kthread_bind(task, 1);
    wake_up_process(task);
    for (left = seconds * 20; left; left--) {
        unsigned long before = READ_ONCE(rounds);

        msleep(50);
        if (left % 20 == 0)
            pr_emerg("hostile: seed %lu, %lu rounds\n", seed, READ_ONCE(rounds));
        if (before == READ_ONCE(rounds))
            wrmsrl(X2APIC_ICR, (u64)cpu_physical_id(1) << 32 | ICR_NMI);
    }
    pr_emerg("hostile: seed %lu, %lu rounds\n", seed, READ_ONCE(rounds));
    emergency_restart(); /* nothing that waits for the other CPU */
    return -EAGAIN;
}
module_init(hostile_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("what a hostile kernel could do");
