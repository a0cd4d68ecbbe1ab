/* diff_native_test.c — run cases on the host's CPU.
 *
 * Theory of operation.  A child process runs all cases of a batch from within a signal handler: the
 * handler takes the state a case ended with from the signal frame, puts the next case's state
 * there, and returns.  The kernel then loads everything: registers, flags (with TF set for one
 * instruction), code segment, vector state.  A trap or a fault brings the handler back.  Memory
 * that a case changed is noted and put right again, so that nothing is set up twice.
 *
 * A case that jumps astray may find a system call: calls from the pages of code are refused by
 * seccomp.  One that does not end is stopped after some time of its own.
 */
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/bits.h"
#include "hv/soft/cache/diff_int.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/vcpu.h"

#define CS_32       0x23u /* user code segments of Linux */
#define CS_64       0x33u
#define DS_USER     0x2bu
#define STACK_BYTES 65536u
#define CASE_US     1000 /* of CPU time, for a case that is not one instruction */

static struct diff_batch *g_batch; /* the child's */

/* Order of gregs for our numbering of registers. */
static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};

static uint8_t *memory(uint64_t at)
{
    return (uint8_t *)(uintptr_t)at;
}

static bool is_there(enum diff_place place, unsigned page)
{
    return place != DIFF_MISSING || page != 1;
}

/* Branches are stopped by a trap, which costs much in a virtual machine; all else by the HLT behind
 * it. */
static bool needs_trap(const struct diff_case *c)
{
    return c->is_step && c->insn.klass == INSN_CLASS_INT && c->insn.op >= INSN_JMP &&
           c->insn.op <= INSN_JRCXZ;
}

/* --- a case ends --- */

static int code_byte(uint64_t rip)
{
    return rip - DIFF_CODE < DIFF_CODE_BYTES ? *memory(rip) : -1;
}

static void take_memory(const struct diff_batch *b, const struct diff_case *c,
                        struct diff_result *r)
{
    for (unsigned place = 0; place < DIFF_PLACES; place++) {
        for (unsigned page = 0; page < DIFF_PAGES && c->regions >> place & 1; page++) {
            uint64_t at = DIFF_REGION(place) + page * 4096u;

            if (is_there((enum diff_place)place, page)) {
                diff_take_page(r, b->image + page * 4096u, memory(at), at);
            }
        }
    }
}

/* --- the wider registers, which the kernel has where CPUID says --- */

static const struct {
    unsigned number, at, size;
} parts[] = {
    {2, FPU_YMM_HI, 256}, {5, FPU_OPMASK, 64}, {6, FPU_ZMM_HI, 512}, {7, FPU_HI_ZMM, 1024}};

static uint64_t g_xcr0;
static unsigned g_offset[8];

static void find_parts(void)
{
    uint64_t features = cpuid_features(NULL);
    unsigned i, size, ecx, edx;

    g_xcr0 = features & CPU_HAS(AVX512F) ? XCR0_AVX512_ALL
             : features & CPU_HAS(AVX)   ? XCR0_AVX_ALL
                                         : 0;
    for (i = 0; i < ARRAY_LEN(parts); i++) {
        if (g_xcr0 >> parts[i].number & 1) {
            __cpuid_count(0xd, parts[i].number, size, g_offset[parts[i].number], ecx, edx);
            (void)size;
            (void)ecx;
            (void)edx;
        }
    }
}

static void save_parts(const uint8_t *frame, uint8_t *image)
{
    unsigned i;

    for (i = 0; i < ARRAY_LEN(parts); i++) {
        if (g_offset[parts[i].number]) {
            memcpy(image + parts[i].at, frame + g_offset[parts[i].number], parts[i].size);
        }
    }
}

static void load_parts(uint8_t *frame, const uint8_t *image)
{
    unsigned i;

    for (i = 0; i < ARRAY_LEN(parts); i++) {
        if (g_offset[parts[i].number]) {
            memcpy(frame + g_offset[parts[i].number], image + parts[i].at, parts[i].size);
        }
    }
}

static void take_result(const struct diff_case *c, struct diff_result *r, const ucontext_t *uc)
{
    const greg_t *g = uc->uc_mcontext.gregs;
    unsigned i;

    for (i = 0; i < 16; i++) {
        r->end.gpr[i] = (uint64_t)g[greg_of[i]];
    }
    r->end.rip = (uint64_t)g[REG_RIP];
    r->end.rflags = (uint64_t)g[REG_EFL];
    memcpy(r->end.fx, uc->uc_mcontext.fpregs, DIFF_FX_BYTES);
    save_parts((const uint8_t *)uc->uc_mcontext.fpregs, r->end.fx);
    r->vector = (int)g[REG_TRAPNO];
    r->error = (uint32_t)g[REG_ERR];
    r->cr2 = (uint64_t)g[REG_CR2];
    if (r->vector == EXC_DB && needs_trap(c)) {
        r->vector = DIFF_NONE;
    } else {
        diff_settle(c, r, code_byte(r->end.rip));
    }
}

/* --- a case begins --- */

static void load_memory(const struct diff_case *c)
{
    for (unsigned i = 0; i < c->code_len && c->code_at + i < DIFF_CODE + DIFF_CODE_BYTES; i++) {
        *memory(c->code_at + i) = c->code[i];
    }
    for (unsigned i = 0; i < c->word_count; i++) {
        memcpy(memory(c->words[i].at), &c->words[i].value, 8);
    }
}

static void load_case(const struct diff_case *c, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
    uint64_t selectors = (uint64_t)g[REG_CSGSFS];
    uint64_t header;
    unsigned i;

    load_memory(c);
    /* sigreturn leaves these as they are, and the case before may have set them */
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() &
                                   ~(uint64_t)(FLAG_ID | FLAG_NT));
    for (i = 0; i < 16; i++) {
        g[greg_of[i]] = (greg_t)c->start.gpr[i];
    }
    g[REG_RIP] = (greg_t)c->start.rip;
    g[REG_EFL] = (greg_t)(c->start.rflags | (needs_trap(c) ? FLAG_TF : 0));
    selectors = (selectors & ~UINT64_C(0xffff)) | (c->is_compat ? CS_32 : CS_64);
    g[REG_CSGSFS] = (greg_t)selectors;
    /* Bytes 464 to 511 tell the kernel that an XSAVE image follows: they stay. */
    memcpy(fx, c->start.fx, 464);
    memcpy(&header, fx + DIFF_FX_BYTES, sizeof(header));
    header |= 3 | g_xcr0; /* nothing is in its initial state */
    memcpy(fx + DIFF_FX_BYTES, &header, sizeof(header));
    load_parts(fx, c->start.fx);
}

static void end_case(struct diff_batch *b, int sig, const ucontext_t *uc)
{
    struct diff_case *c = &b->cases[b->at];
    struct diff_result *r = &b->native[b->at];

    r->word_count = 0;
    take_memory(b, c, r);
    take_result(c, r, uc);
    if (sig == SIGVTALRM) {
        r->vector = DIFF_TIMEOUT;
    } else if (sig == SIGSYS) {
        r->vector = DIFF_SYSCALL;
    }
    if (c->is_step) {
        for (unsigned i = 0; i < c->code_len && c->code_at + i < DIFF_CODE + DIFF_CODE_BYTES; i++) {
            *memory(c->code_at + i) = DIFF_STOP;
        }
    } else {
        memset(memory(DIFF_CODE), DIFF_STOP, DIFF_CODE_BYTES);
    }
    b->at++;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    static const struct itimerval timer = {.it_value.tv_usec = CASE_US};
    struct diff_batch *b = g_batch;

    (void)info;
    if (sig == SIGVTALRM && b->is_running && b->cases[b->at].is_step) {
        return; /* meant for one before */
    }
    if (b->is_running) {
        end_case(b, sig, context);
    }
    if (b->at == b->count) {
        _exit(0);
    }
    b->is_running = true;
    load_case(&b->cases[b->at], context);
    if (!b->cases[b->at].is_step) {
        (void)setitimer(ITIMER_VIRTUAL, &timer, NULL);
    }
}

/* --- the child --- */

static bool map_at(uint64_t at, size_t size, int prot)
{
    return mmap(memory(at), size, prot,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1,
                0) != MAP_FAILED;
}

/* Nothing but the case's is in the first 4 GiB: the vCPUs' code memory may be there. */
#define LOW_FIRST UINT64_C(0x100000)
#ifdef __SANITIZE_ADDRESS__
#define LOW_END UINT64_C(0x7fff0000) /* the shadow of the address sanitizer begins behind it */
#else
#define LOW_END UINT64_C(0xfff00000)
#endif

static bool prepare_memory(const struct diff_batch *b)
{
    (void)munmap(memory(LOW_FIRST), LOW_END - LOW_FIRST);
    if (!map_at(DIFF_CODE, DIFF_CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC)) {
        return false;
    }
    memset(memory(DIFF_CODE), DIFF_STOP, DIFF_CODE_BYTES);
    for (unsigned place = 0; place < DIFF_PLACES; place++) {
        uint8_t *region = memory(DIFF_REGION(place));

        if (!map_at(DIFF_REGION(place), DIFF_REGION_BYTES, PROT_READ | PROT_WRITE)) {
            return false;
        }
        memcpy(region, b->image, DIFF_REGION_BYTES);
        if (place == DIFF_MISSING && munmap(region + 4096, 4096) != 0) {
            return false;
        }
        if (place == DIFF_READONLY && mprotect(region + 4096, 4096, PROT_READ) != 0) {
            return false;
        }
    }
    return true;
}

/* Calls from the pages of code become SIGSYS. */
static void refuse_calls(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)DIFF_CODE, 0, 1),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)DIFF_CODE + DIFF_CODE_BYTES, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
        (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    }
}

static _Noreturn void child(struct diff_batch *b)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGVTALRM};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t stack = {.ss_size = STACK_BYTES};
    unsigned i;

    stack.ss_sp =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED || !prepare_memory(b) || sigaltstack(&stack, NULL) != 0) {
        _exit(1);
    }
    (void)sigfillset(&action.sa_mask);
    for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        (void)sigaction(signals[i], &action, NULL);
    }
    (void)syscall(SYS_arch_prctl, ARCH_SET_GS, DIFF_GS_BASE);
    /* 32-bit code uses the data segments. */
    __asm__ volatile("movl %0, %%ds; movl %0, %%es" : : "r"(DS_USER));
    g_batch = b;
    find_parts();
    (void)alarm(120);
    refuse_calls();
    (void)raise(SIGTRAP);
    _exit(2);
}

/* Run from b->at on until the end or the death of the child. */
static int run_child(struct diff_batch *b)
{
    pid_t pid = fork();
    int status;

    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        child(b);
    }
    if (waitpid(pid, &status, 0) < 0) {
        return -errno;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status)) {
        return -EIO;
    }
    return 0;
}

int diff_run_native(struct diff_batch *b)
{
    int r = 0;

    b->at = 0;
    while (r == 0 && b->at < b->count) {
        b->is_running = false;
        r = run_child(b);
        if (r == 0 && b->at < b->count) {
            b->native[b->at++].vector = DIFF_DIED;
        }
    }
    return r;
}
