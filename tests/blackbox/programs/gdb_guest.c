/* gdb_guest.c — a kernel for gdb to look at: two CPUs, a few functions, memory to watch.
 *
 * Entered in 64-bit mode with the first 4 GiB mapped one to one; linked to where it is loaded.  The
 * other CPU counts at BEAT in real mode.  It ends by a reset when `is_done` is set.
 */
#include <stdint.h>

#define AP_AT       ((volatile uint8_t *)0x20000)
#define BEAT        ((volatile uint32_t *)0x21000)
#define APIC        ((volatile uint32_t *)0xfee00000)
#define APIC_SVR    0xf0
#define APIC_ICR    0x300
#define INIT_OTHERS 0xc4500
#define SIPI_OTHERS 0xc4600
#define RESET_PORT  0x64
#define RESET       0xfe

volatile unsigned rounds, watched, idle;
volatile int is_done;
volatile char text[] = "text in the guest";

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

__attribute__((noinline)) unsigned add(unsigned a, unsigned b)
{
    unsigned sum = a + b;

    return sum;
}

__attribute__((noinline)) void one_round(void)
{
    watched = add(watched, 2);
    rounds++;
}

/* 1: lock inc dword ptr cs:[1000h]; jmp 1b */
static void start_other(void)
{
    static const uint8_t code[] = {0xf0, 0x2e, 0x66, 0xff, 0x06, 0x00, 0x10, 0xeb, 0xf7};

    for (unsigned i = 0; i < sizeof(code); i++) {
        AP_AT[i] = code[i];
    }
    APIC[APIC_SVR / 4] = 0x1ff;
    APIC[APIC_ICR / 4] = INIT_OTHERS;
    APIC[APIC_ICR / 4] = SIPI_OTHERS | (uintptr_t)AP_AT >> 12;
}

__attribute__((noinline)) void wait_for_gdb(void)
{
    while (!is_done) {
        idle++;
    }
}

void kernel_main(void)
{
    start_other();
    for (unsigned i = 0; i < 1000; i++) {
        one_round();
    }
    wait_for_gdb();
    out8(RESET_PORT, RESET);
    for (;;) {
        idle++;
    }
}

__asm__(".globl _start\n_start: lea stack_end(%rip), %rsp\n call kernel_main\n"
        ".bss\n .balign 16\n .skip 4096\nstack_end:\n .text\n");
