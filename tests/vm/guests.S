/* guests.S — the small guests of tests/vm: position-independent, copied to where the test says.
 *
 * GUEST name, END: guest_<name> to guest_<name>_end.  Every guest ends by writing a byte to port F4H
 * (EXIT).  Unless a line says otherwise a guest runs in 64-bit mode, the first 4 GiB mapped one to
 * one.
 */
    .intel_syntax noprefix
    .section .rodata

#define EXIT_PORT 0xf4
#define APIC      0xfee00000
#define IOAPIC    0xfec00000

    .macro GUEST name
    .global guest_\name
guest_\name:
    .endm

    .macro END name
    .global guest_\name\()_end
guest_\name\()_end:
    .endm

    .macro EXIT code
    mov al, \code
    out EXIT_PORT, al
    .endm

    /* Software-enable the local APIC, spurious vector FFH. */
    .macro APIC_ON
    mov ebx, APIC
    mov dword ptr [rbx + 0xf0], 0x1ff
    .endm

    /* Redirection entry `pin` (low word `low`, to APIC id 0). */
    .macro PIN pin, low
    mov ebx, IOAPIC
    mov dword ptr [rbx], 0x11 + 2 * \pin
    mov dword ptr [rbx + 0x10], 0
    mov dword ptr [rbx], 0x10 + 2 * \pin
    mov dword ptr [rbx + 0x10], \low
    .endm

/* --- ways to begin --- */

    .code16
GUEST real
    mov ax, cs
    mov bx, 0x1234
    add bx, 0x1111
    smsw cx
    EXIT 1
END real

    .code32
GUEST prot32
    mov eax, 0x80000000
    add eax, eax
    setc dl
    push 0x12345678
    pop ecx
    EXIT 2
END prot32

    .code64
GUEST long64
    mov rax, 0x1122334455667788
    bswap rax
    mov r15, rax
    mov rcx, [rip + 1f]
    EXIT 3
1:  .quad 0x0123456789abcdef
END long64

/* --- ports --- */

    .code16
GUEST port_widths
    mov dx, 0x3f0
    mov eax, 0x44332211
    out dx, al
    mov dx, 0x3f2
    out dx, ax
    mov dx, 0x3f4
    out dx, eax
    out 0xe2, al
    mov eax, 0
    in al, 0xe3
    mov ebx, eax
    mov eax, 0
    mov dx, 0x3f2
    in ax, dx
    mov ecx, eax
    mov dx, 0x3f4
    in eax, dx
    mov esi, eax
    EXIT 1
END port_widths

    .code64
/* RSI: 12 bytes to write, RDI: where to read to. */
GUEST port_strings
    cld
    mov dx, 0x510
    mov ecx, 4
    rep outsb
    mov ecx, 2
    rep outsw
    mov ecx, 1
    rep outsd
    mov ecx, 3
    rep insb
    mov ecx, 2
    rep insw
    mov ecx, 2
    rep insd
    EXIT 1
END port_strings

/* --- device memory at D0000000H --- */

GUEST mmio_widths
    mov ebx, 0xd0000000
    mov rax, 0x8877665544332211
    mov [rbx + 1], al
    mov [rbx + 2], ax
    mov [rbx + 4], eax
    mov [rbx + 8], rax
    mov dword ptr [rbx + 0x10], 0x12345678
    movzx ecx, byte ptr [rbx + 0x21]
    movzx edx, word ptr [rbx + 0x22]
    mov esi, [rbx + 0x24]
    mov rdi, [rbx + 0x28]
    movsx r8, byte ptr [rbx + 0x31]
    or dword ptr [rbx + 0x40], 1
    EXIT 1
END mmio_widths

GUEST doorbell
    mov ebx, 0xd0000050
    mov dword ptr [rbx], 3
    mov dword ptr [rbx], 3
    mov dword ptr [rbx], 2
    mov word ptr [rbx], 3
    mov dword ptr [rbx + 4], 3
    EXIT 1
END doorbell

/* --- interrupts --- */

/* Handler: R15 counts; port 80H tells the host; end of interrupt. */
GUEST handler_count
    push rax
    push rbx
    inc r15
    out 0x80, al
    mov ebx, APIC
    mov dword ptr [rbx + 0xb0], 0
    pop rbx
    pop rax
    iretq
END handler_count

GUEST handler_exit
    EXIT 0x40
END handler_exit

/* Sleep until R15 is R14, tell the host when ready (port 81H), then exit. */
    .macro SLEEP_UNTIL_COUNTED
    out 0x81, al
1:  cli
    cmp r15, r14
    jae 2f
    sti
    hlt
    jmp 1b
2:  EXIT 1
    .endm

GUEST wait_msi
    APIC_ON
    SLEEP_UNTIL_COUNTED
END wait_msi

GUEST wait_pin4_edge
    APIC_ON
    PIN 4, 0x40
    SLEEP_UNTIL_COUNTED
END wait_pin4_edge

GUEST wait_pin5_level
    APIC_ON
    PIN 5, 0x8040
    SLEEP_UNTIL_COUNTED
END wait_pin5_level

GUEST spin_for_pin4
    APIC_ON
    PIN 4, 0x40
    sti
    out 0x81, al
1:  cmp r15, r14
    jb 1b
    EXIT 1
END spin_for_pin4

GUEST one_shot_timer
    APIC_ON
    mov dword ptr [rbx + 0x3e0], 0xb
    mov dword ptr [rbx + 0x320], 0x40
    mov dword ptr [rbx + 0x380], 1000000
    SLEEP_UNTIL_COUNTED
END one_shot_timer

GUEST periodic_timer
    APIC_ON
    mov dword ptr [rbx + 0x3e0], 0xb
    mov dword ptr [rbx + 0x320], 0x20040
    mov dword ptr [rbx + 0x380], 1000000
    SLEEP_UNTIL_COUNTED
END periodic_timer

GUEST deadline_timer
    APIC_ON
    mov dword ptr [rbx + 0x320], 0x40040
    mov ecx, 0x6e0
    rdtsc
    add eax, 10000000
    adc edx, 0
    wrmsr
    SLEEP_UNTIL_COUNTED
END deadline_timer

/* --- control --- */

GUEST halt
1:  cli
    hlt
    jmp 1b
END halt

GUEST spin
1:  jmp 1b
END spin

GUEST invalid
    ud2
END invalid

/* CPUID of EAX = R8, ECX = R9. */
GUEST cpuid
    mov eax, r8d
    mov ecx, r9d
    cpuid
    mov r8, rax
    EXIT 1
END cpuid

/* Write EDX:EAX = R8 to MSR R9, read it back into R10. */
GUEST msr
    mov rcx, r9
    mov rax, r8
    mov rdx, r8
    shr rdx, 32
    wrmsr
    xor eax, eax
    xor edx, edx
    rdmsr
    shl rdx, 32
    mov r10d, eax
    or r10, rdx
    EXIT 1
END msr

/* System time page at 20000H, wall clock at 20040H; the TSC before and after. */
GUEST clock
    rdtsc
    shl rdx, 32
    lea rsi, [rax + rdx]
    mov ecx, 0x4b564d01
    mov eax, 0x20001
    xor edx, edx
    wrmsr
    mov ecx, 0x4b564d00
    mov eax, 0x20040
    xor edx, edx
    wrmsr
    out 0x80, al
    rdtsc
    shl rdx, 32
    lea rdi, [rax + rdx]
    EXIT 1
END clock

/* --- state --- */

/* Counts in R15, XMM7 and memory at 30000H, up to R14, then exits.  Begins at any point again. */
GUEST counter
    mov eax, 1
    movq xmm6, rax
1:  inc r15
    paddq xmm7, xmm6
    inc qword ptr [0x30000]
    cmp r15, r14
    jb 1b
    movq rbx, xmm7
    EXIT 1
END counter

/* Three instructions and out. */
GUEST few
    add rax, rbx
    xchg rcx, rdx
    stc
    out EXIT_PORT, al
    nop
END few

/* A deadline far away, then EXIT, then wait for it. */
GUEST armed_timer
    APIC_ON
    mov dword ptr [rbx + 0x320], 0x40040
    mov ecx, 0x6e0
    rdtsc
    add edx, 0x1000
    wrmsr
    EXIT 1
    sti
1:  hlt
    jmp 1b
END armed_timer

/* APIC on, interrupts off, EXIT, then interrupts on. */
GUEST masked
    APIC_ON
    cli
    EXIT 1
    sti
    nop
    EXIT 2
END masked

/* --- several CPUs --- */

/* Boot processor: INIT, SIPI (to 3000H), SIPI to all others; waits until R14 CPUs counted at
 * 30000H. */
GUEST smp_boot
    APIC_ON
    mov dword ptr [rbx + 0x300], 0xc4500
    pause
    mov dword ptr [rbx + 0x300], 0xc4603
    pause
    mov dword ptr [rbx + 0x300], 0xc4603
1:  pause
    cmp [0x30000], r14d
    jb 1b
    EXIT 1
END smp_boot

/* Application processor, real mode at 3000H: note own APIC id at 30100H + id, count, sleep. */
    .code16
GUEST smp_ap
    mov ax, 0x3000
    mov ds, ax
    mov eax, 1
    cpuid
    shr ebx, 24
    lock inc byte ptr [bx + 0x100]
    lock inc dword ptr [0]
1:  cli
    hlt
    jmp 1b
END smp_ap

/* --- under a debugger: RBX is where to count, R14 to how many --- */

    .code64
GUEST debugged
    xor eax, eax
guest_debugged_loop:
    inc eax
guest_debugged_store:
    mov [rbx], eax
    cmp eax, r14d
    jb guest_debugged_loop
guest_debugged_load:
    mov ecx, [rbx]
guest_debugged_int3:
    int3
    out 0x80, al
guest_debugged_string:
    mov ecx, 8
    lea rdi, [rbx + 0x100]
    cld
    rep stosb
    EXIT 1
END debugged
    .global guest_debugged_loop, guest_debugged_store, guest_debugged_load
    .global guest_debugged_int3, guest_debugged_string

/* Behind its own INT3. */
GUEST debugged_trap
    inc r12
    iretq
END debugged_trap

    .section .note.GNU-stack, "", @progbits
