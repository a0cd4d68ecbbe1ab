/* recover.S — room for random code, and the way back from whatever it did. */
#include <linux/linkage.h>
#include <asm/msr-index.h>

	.text
	.balign 4096
SYM_CODE_START(hostile_code)
	.skip 4096, 0xcc
SYM_CODE_END(hostile_code)
	.skip 4096, 0xcc /* what runs past its end */

/* void hostile_enter(const u64 gpr[15]): rdi = the registers to load; there is no way back but the gates. */
SYM_CODE_START(hostile_enter)
	mov	hostile_stack(%rip), %rsp
	mov	0x00(%rdi), %rax
	mov	0x08(%rdi), %rbx
	mov	0x10(%rdi), %rcx
	mov	0x18(%rdi), %rdx
	mov	0x20(%rdi), %rsi
	mov	0x30(%rdi), %rbp
	mov	0x38(%rdi), %r8
	mov	0x40(%rdi), %r9
	mov	0x48(%rdi), %r10
	mov	0x50(%rdi), %r11
	mov	0x58(%rdi), %r12
	mov	0x60(%rdi), %r13
	mov	0x68(%rdi), %r14
	mov	0x70(%rdi), %r15
	mov	0x28(%rdi), %rdi
	jmp	hostile_code
SYM_CODE_END(hostile_enter)

/* All gates lead here, on the stack of the double fault, whose contents do not matter. */
	.balign 16
SYM_CODE_START(hostile_gate)
	cld
	mov	hostile_cr4(%rip), %rax
	mov	%rax, %cr4
	mov	hostile_cr3(%rip), %rax
	mov	%rax, %cr3
	mov	hostile_cr0(%rip), %rax
	mov	%rax, %cr0
	lgdt	hostile_gdt(%rip)
	lidt	hostile_idt(%rip)
	mov	$0x18, %eax /* __KERNEL_DS */
	mov	%eax, %ss
	mov	hostile_rsp(%rip), %rsp
	/* an NMI is over with IRET only */
	mov	%rsp, %rax
	pushq	$0x18
	push	%rax
	pushq	$2
	pushq	$0x10 /* __KERNEL_CS */
	lea	1f(%rip), %rax
	push	%rax
	iretq
1:	xor	%eax, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$MSR_EFER, %ecx
	mov	hostile_efer(%rip), %eax
	xor	%edx, %edx
	wrmsr
	mov	$MSR_GS_BASE, %ecx
	mov	hostile_gs(%rip), %eax
	mov	hostile_gs+4(%rip), %edx
	wrmsr
	call	hostile_round /* whatever was going on begins anew */
	int3
SYM_CODE_END(hostile_gate)
