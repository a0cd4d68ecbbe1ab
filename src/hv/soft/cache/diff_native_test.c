/* diff_native_test.c — run cases on the host's CPU.
 *
 * Theory of operation.  A child process runs all cases of a batch from within a signal handler: the
 * handler takes the state a case ended with from the signal frame, puts the next case's state
 * there, and returns.  The kernel then loads everything: registers, flags with TF set, code
 * segment, vector state.  After one instruction the trap, or a fault, brings the handler back.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/vcpu.h"

#define CS_32       0x23u /* user code segments of Linux */
#define CS_64       0x33u
#define DS_USER     0x2bu
#define CODE_BYTES  4096u
#define STACK_BYTES 65536u

struct batch {
    size_t count;
    volatile size_t at; /* case that runs */
    bool is_running;
    struct diff_case *cases;
    struct diff_result *results;
};

static struct batch *g_batch; /* the child's */

/* Order of gregs for our numbering of registers. */
static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};

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
    memcpy(r->memory, (const void *)(uintptr_t)DIFF_DATA, DIFF_BYTES);
    r->vector = (int)g[REG_TRAPNO];
    r->error = (uint32_t)g[REG_ERR];
    r->cr2 = (uint64_t)g[REG_CR2];
    if (r->vector == EXC_DB || (r->vector == EXC_BP && c->is_repeated)) {
        r->vector = -1;
        r->end.rip -= c->is_repeated;
    }
}

static void load_case(const struct diff_case *c, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
    uint8_t *code = (uint8_t *)(uintptr_t)c->start.rip;
    uint64_t selectors = (uint64_t)g[REG_CSGSFS];
    uint64_t header;
    unsigned i;

    memcpy(code, c->code, c->insn.len);
    code[c->insn.len] = 0xcc;
    diff_fill_case(c, (uint8_t *)(uintptr_t)DIFF_DATA);
    for (i = 0; i < 16; i++) {
        g[greg_of[i]] = (greg_t)c->start.gpr[i];
    }
    g[REG_RIP] = (greg_t)c->start.rip;
    g[REG_EFL] = (greg_t)(c->start.rflags | (c->is_repeated ? 0 : FLAG_TF));
    selectors = (selectors & ~UINT64_C(0xffff)) | (c->is_compat ? CS_32 : CS_64);
    g[REG_CSGSFS] = (greg_t)selectors;
    /* Bytes 464 to 511 tell the kernel that an XSAVE image follows: they stay. */
    memcpy(fx, c->start.fx, 464);
    memcpy(&header, fx + DIFF_FX_BYTES, sizeof(header));
    header |= 3; /* x87 and SSE are not in their initial state */
    memcpy(fx + DIFF_FX_BYTES, &header, sizeof(header));
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    struct batch *b = g_batch;
    ucontext_t *uc = context;

    (void)sig;
    (void)info;
    if (b->is_running) {
        take_result(&b->cases[b->at], &b->results[b->at], uc);
        b->at++;
    }
    if (b->at == b->count) {
        _exit(0);
    }
    b->is_running = true;
    load_case(&b->cases[b->at], uc);
}

static void *map_at(uint64_t at, size_t size, int prot)
{
    return mmap((void *)(uintptr_t)at, size, prot,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
}

static bool prepare_memory(void)
{
    void *readonly = map_at(DIFF_READONLY, 4096, PROT_READ | PROT_WRITE);

    if (readonly == MAP_FAILED ||
        map_at(DIFF_DATA, DIFF_BYTES, PROT_READ | PROT_WRITE) == MAP_FAILED ||
        map_at(DIFF_CODE, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) == MAP_FAILED) {
        return false;
    }
    diff_fill(1, readonly, 4096);
    return mprotect(readonly, 4096, PROT_READ) == 0;
}

static _Noreturn void child(struct batch *b)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t stack = {.ss_size = STACK_BYTES};
    unsigned i;

    stack.ss_sp =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED || !prepare_memory() || sigaltstack(&stack, NULL) != 0) {
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
    (void)alarm(60);
    (void)raise(SIGTRAP);
    _exit(2);
}

/* Run from b->at on until the end or the death of the child. */
static int run_child(struct batch *b)
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

int diff_run_native(const struct diff_case *cases, struct diff_result *ret_results, size_t count)
{
    size_t case_bytes = count * sizeof(*cases), result_bytes = count * sizeof(*ret_results);
    size_t bytes = sizeof(struct batch) + case_bytes + result_bytes + 128;
    struct batch *b = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int r = 0;

    if (b == MAP_FAILED) {
        return -errno;
    }
    b->count = count;
    b->results = (struct diff_result *)(void *)((uint8_t *)b + 128);
    b->cases = (struct diff_case *)(void *)(b->results + count);
    memcpy(b->cases, cases, case_bytes);
    while (r == 0 && b->at < count) {
        b->is_running = false;
        r = run_child(b);
        if (r == 0 && b->at < count) {
            b->results[b->at++].vector = -2;
        }
    }
    memcpy(ret_results, b->results, result_bytes);
    (void)munmap(b, bytes);
    return r;
}
