/* litmus.S — what the vCPUs of litmus_test.c run: 64-bit mode, memory mapped one to one.
 *
 * litmus_thread: R12 rounds of the piece of code at R13, which all R15 CPUs begin together as well as they can.
 * RDI = a fresh cell of 256 bytes each time: x at 0, y at 64, results from 128 on.  R14: counts of arrivals at 0,
 * of CPUs that are done at 64.  RBP differs from CPU to CPU: how they get out of step.
 */
    .intel_syntax noprefix
    .section .rodata
    .code64

    .macro PIECE name
    .global litmus_\name
litmus_\name:
    .endm

PIECE thread
    xor ebx, ebx
1:  mov ecx, r15d
    add ebx, ecx
    lock inc dword ptr [r14]
2:  pause
    mov ecx, [r14]
    sub ecx, ebx
    js 2b
    imul ebp, ebp, 1103515245
    add ebp, 12345
    mov ecx, ebp
    shr ecx, 28
    inc ecx
3:  dec ecx
    jnz 3b
    call r13
    add rdi, 256
    dec r12d
    jnz 1b
    lock inc dword ptr [r14 + 64]
4:  pause
    mov ecx, [r14 + 64]
    cmp ecx, r15d
    jb 4b
    mov al, 1
    out 0xf4, al
5:  hlt
    jmp 5b
PIECE thread_end

/* --- pieces: name_cpu --- */

    .macro ST at, value
    mov dword ptr [rdi + \at], \value
    .endm
    .macro LD to, at
    mov eax, [rdi + \at]
    mov [rdi + 128 + 4 * \to], eax
    .endm
    /* Loads first, results afterwards: no store between them. */
    .macro LD2 to, first, second
    mov eax, [rdi + \first]
    mov edx, [rdi + \second]
    mov [rdi + 128 + 4 * \to], eax
    mov [rdi + 132 + 4 * \to], edx
    .endm

#define X 0
#define Y 64

PIECE sb_0
    ST X, 1
    LD 0, Y
    ret
PIECE sb_1
    ST Y, 1
    LD 1, X
    ret
PIECE sb_mfence_0
    ST X, 1
    mfence
    LD 0, Y
    ret
PIECE sb_mfence_1
    ST Y, 1
    mfence
    LD 1, X
    ret
PIECE sb_xchg_0
    mov eax, 1
    xchg [rdi + X], eax
    LD 0, Y
    ret
PIECE sb_xchg_1
    mov eax, 1
    xchg [rdi + Y], eax
    LD 1, X
    ret
PIECE sb_locked_0 /* the barrier of Linux */
    ST X, 1
    lock add dword ptr [rsp - 4], 0
    LD 0, Y
    ret
PIECE sb_locked_1
    ST Y, 1
    lock add dword ptr [rsp - 4], 0
    LD 1, X
    ret
PIECE mp_0
    ST X, 1
    ST Y, 1
    ret
PIECE mp_1
    LD2 0, Y, X
    ret
PIECE lb_0
    mov eax, [rdi + X]
    ST Y, 1
    mov [rdi + 128], eax
    ret
PIECE lb_1
    mov eax, [rdi + Y]
    ST X, 1
    mov [rdi + 132], eax
    ret
PIECE ww_0
    ST X, 1
    ST Y, 2
    ret
PIECE ww_1
    ST Y, 1
    ST X, 2
    ret
PIECE s_0
    ST X, 2
    ST Y, 1
    ret
PIECE s_1
    mov eax, [rdi + Y]
    ST X, 1
    mov [rdi + 128], eax
    ret
PIECE corr_0
    ST X, 1
    ret
PIECE corr_1
    LD2 0, X, X
    ret
PIECE iriw_0
    ST X, 1
    ret
PIECE iriw_1
    ST Y, 1
    ret
PIECE iriw_2
    LD2 0, X, Y
    ret
PIECE iriw_3
    LD2 2, Y, X
    ret

/* --- atomics: on what RSI points to, which all share --- */

/* The piece at R8, ten thousand times: what a round does, so that CPUs really meet. */
PIECE repeat
    mov r9d, 10000
1:  call r8
    dec r9d
    jnz 1b
    ret

PIECE xadd
    mov eax, 1
    lock xadd [rsi], rax
    ret
PIECE inc
    lock inc qword ptr [rsi]
    ret
PIECE bts /* a lock of one bit at RSI + 16, and what it protects */
1:  lock bts dword ptr [rsi + 16], 5
    jnc 2f
    pause
    jmp 1b
2:  mov rax, [rsi]
    inc rax
    mov [rsi], rax
    mov dword ptr [rsi + 16], 0
    ret
PIECE cmpxchg
    mov rax, [rsi]
1:  lea rdx, [rax + 1]
    lock cmpxchg [rsi], rdx
    jnz 1b
    ret
PIECE cmpxchg16b /* the upper half is twice the lower one */
    push rbx
    mov rax, [rsi]
    mov rdx, [rsi + 8]
1:  lea rbx, [rax + 1]
    lea rcx, [rdx + 2]
    lock cmpxchg16b [rsi]
    jnz 1b
    lea rbx, [rax + rax]
    cmp rbx, rdx
    je 2f
    ud2
2:  pop rbx
    ret

/* --- cross-modifying code --- */

/* R13: `mov eax, imm32; ret`.  Calls it, says at R14 + 192 what it got, serialises, and counts at R14, for ever.
 * All bytes of the immediate are equal, unless it was seen half written. */
PIECE caller
1:  call r13
    mov ecx, eax
    ror ecx, 8
    cmp ecx, eax
    je 2f
    ud2
2:  mov [r14 + 192], al
    xor eax, eax
    cpuid
    lock inc qword ptr [r14]
    jmp 1b

/* The other CPU, R12 times: INT3 first, then the rest, then the first byte; between them the caller serialises. */
PIECE patcher
    xor ebx, ebx
1:  mov byte ptr [r13], 0xcc
    call 3f
    inc ebx
    movzx eax, bl
    imul eax, eax, 0x01010101
    mov [r13 + 1], eax
    call 3f
    mov byte ptr [r13], 0xb8
    call 3f
    cmp [r14 + 192], bl
    je 2f
    ud2
2:
    lock inc qword ptr [r14 + 64]
    dec r12
    jnz 1b
    mov al, 1
    out 0xf4, al
5:  hlt
    jmp 5b
3:  mov rax, [r14] /* two more rounds, or breakpoints, begin and end */
    add rax, [r14 + 128]
    add rax, 2
4:  pause
    mov rcx, [r14]
    add rcx, [r14 + 128]
    cmp rcx, rax
    jb 4b
    ret

/* #BP: try again.  IRET serialises. */
PIECE breakpoint
    lock inc qword ptr [r14 + 128]
    dec qword ptr [rsp]
    iretq
PIECE end

    .section .note.GNU-stack, "", @progbits
