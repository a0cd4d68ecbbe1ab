/* allow.c — see allow.h. */
#include "seccomp/allow.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>

#include "base/bits.h"

/* Arguments that are ints, as the kernel sees them. */
#define IS(index_, value_)                                                              \
    {                                                                                   \
        .index = (index_), .width = SECCOMP_DWORD, .op = SECCOMP_EQ, .value = (value_), \
    }
/* Of these bits just those. */
#define BITS(index_, mask_, value_)                                                            \
    {                                                                                          \
        .index = (index_), .width = SECCOMP_DWORD, .op = SECCOMP_MASKED_EQ, .value = (value_), \
        .mask = (mask_),                                                                       \
    }
#define ARGS(...)                                      \
    .args = (const struct seccomp_arg[]){__VA_ARGS__}, \
    .arg_count = sizeof((const struct seccomp_arg[]){__VA_ARGS__}) / sizeof(struct seccomp_arg)
#define CALL(name)            \
    {                         \
        .syscall = SYS_##name \
    }
#define CALL_IF(name, ...)                       \
    {                                            \
        .syscall = SYS_##name, ARGS(__VA_ARGS__) \
    }
#define IOCTL(request)  CALL_IF(ioctl, IS(1, (uint32_t)(request)))
#define MADVISE(advice) CALL_IF(madvise, IS(2, advice))
#define FCNTL(command)  CALL_IF(fcntl, IS(1, command))

/* clang-format off */

/* --- vCPUs: guest code, register accesses of devices --- */

static const struct seccomp_rule g_vcpu[] = {
    IOCTL(KVM_RUN),
    IOCTL(KVM_IRQ_LINE),
    IOCTL(KVM_SIGNAL_MSI),
    IOCTL(KVM_IOEVENTFD),           /* a guest moves the BARs of a PCI device */
    /* The software engine's memory of translated code, which is mapped before. */
    MADVISE(MADV_POPULATE_WRITE),
    MADVISE(MADV_POPULATE_READ),
    MADVISE(MADV_HUGEPAGE),
    MADVISE(MADV_DONTDUMP),
};

/* --- the REST interface: connections to a socket that listens already --- */

static const struct seccomp_rule g_api[] = {
    CALL(epoll_wait),
    CALL(epoll_ctl),
    CALL(read),                     /* its loop is woken by an eventfd */
    CALL(recvfrom),
    CALL(sendto),
    CALL(close),
    CALL_IF(accept4, IS(3, SOCK_CLOEXEC | SOCK_NONBLOCK)),
    CALL(poll),                     /* for a peer that is slow to read the last answer */
};

/* --- all other threads: devices, and what the interface asks for while the guest runs --- */

static const struct seccomp_rule g_vmm[] = {
    /* loops, doorbells, the serial port */
    CALL(epoll_wait),
    CALL(read),
    CALL(epoll_ctl),
    CALL(close),
    CALL(eventfd2),                 /* a device that is plugged */

    /* interrupts; devices that come and go; snapshots */
    IOCTL(KVM_IRQ_LINE),
    IOCTL(KVM_SIGNAL_MSI),
    IOCTL(KVM_IOEVENTFD),
    IOCTL(KVM_SET_USER_MEMORY_REGION),
    IOCTL(KVM_GET_DIRTY_LOG),
    IOCTL(KVM_KVMCLOCK_CTRL),
    IOCTL(KVM_GET_CLOCK),
    IOCTL(KVM_GET_IRQCHIP),
    IOCTL(KVM_GET_TSC_KHZ),
    IOCTL(KVM_GET_REGS),
    IOCTL(KVM_GET_SREGS),
    IOCTL(KVM_GET_XSAVE),
    IOCTL(KVM_GET_XCRS),
    IOCTL(KVM_GET_MP_STATE),
    IOCTL(KVM_GET_DEBUGREGS),
    IOCTL(KVM_GET_LAPIC),
    IOCTL(KVM_GET_MSRS),
    IOCTL(KVM_GET_VCPU_EVENTS),

    /* disks, memory files, snapshot files */
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(openat),
    CALL(newfstatat),               /* fstat() and lstat() */
    CALL(lseek),
    CALL(fsync),
    CALL(fdatasync),
    CALL(ftruncate),
    CALL(fallocate),
    CALL(unlink),                   /* of a snapshot that failed; the vsock's socket */
    CALL_IF(msync, IS(2, MS_SYNC)),
    CALL(mincore),
    FCNTL(F_GETFL),
    FCNTL(F_DUPFD_CLOEXEC),
    IOCTL(BLKGETSIZE64),
    CALL(io_uring_enter),
    CALL(io_uring_setup),
    CALL(io_uring_register),

    /* network interfaces */
    CALL(readv),
    IOCTL(TUNSETOFFLOAD),
    IOCTL(TUNSETIFF),
    IOCTL(TUNSETVNETHDRSZ),

    /* vsock, vhost-user */
    CALL_IF(socket, IS(0, AF_UNIX), BITS(1, 0xf, SOCK_STREAM)), /* the kind is 4 bits of it */
    CALL(connect),
    CALL_IF(accept4, IS(3, SOCK_CLOEXEC | SOCK_NONBLOCK)),
    CALL(recvfrom),
    CALL(sendto),
    CALL(recvmsg),
    CALL(sendmsg),
    CALL(shutdown),
    CALL_IF(setsockopt, IS(1, SOL_SOCKET), IS(2, SO_RCVTIMEO)),
    CALL_IF(setsockopt, IS(1, SOL_SOCKET), IS(2, SO_SNDTIMEO)),
    CALL_IF(memfd_create, IS(1, MFD_CLOEXEC)),

    /* guest memory: the balloon, what is plugged */
    MADVISE(MADV_REMOVE),
    MADVISE(MADV_DONTDUMP),
    MADVISE(MADV_HUGEPAGE),
    MADVISE(MADV_POPULATE_WRITE),   /* the software engine's memory */
    CALL_IF(mmap, BITS(2, ~(uint32_t)(PROT_READ | PROT_WRITE), 0)),
    CALL(sysinfo),                  /* qsort() asks how much memory it may take */

    CALL(getrandom),                /* the entropy device; tokens */
    IOCTL(TCGETS),                  /* a terminal becomes the serial port */
};

/* --- all threads --- */

/* Nothing gets pages that are written and run: no PROT_EXEC here, nor in g_vmm. */
static const struct seccomp_rule g_common[] = {
    /* Locks, conditions, the end of threads.  Not of several processes, not with priorities. */
    CALL_IF(futex, BITS(1, ~(uint32_t)FUTEX_PRIVATE_FLAG, FUTEX_WAKE)),
    CALL_IF(futex, BITS(1, ~(uint32_t)FUTEX_PRIVATE_FLAG, FUTEX_WAIT)),
    CALL_IF(futex, BITS(1, ~(uint32_t)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME),
                    FUTEX_WAIT_BITSET)),
    CALL(write),                    /* log, metrics, the console, eventfds */
    CALL(writev),                   /* the C library's last words, before abort() */
    CALL(sched_yield),

    /* The heap.  Fresh memory of our own. */
    CALL_IF(mmap, BITS(2, ~(uint32_t)(PROT_READ | PROT_WRITE), 0),
            BITS(3, MAP_TYPE | MAP_ANONYMOUS | MAP_FIXED, MAP_PRIVATE | MAP_ANONYMOUS)),
    CALL_IF(mprotect, BITS(2, ~(uint32_t)(PROT_READ | PROT_WRITE), 0)),
    CALL(munmap),
    CALL(brk),
    CALL_IF(mremap, IS(3, MREMAP_MAYMOVE)),
    MADVISE(MADV_DONTNEED),         /* also the stack of a thread that ends */

    /* Records tell their thread; the vDSO gives up where the host's clock is not the TSC. */
    CALL_IF(prctl, IS(0, PR_GET_NAME)),
    CALL(clock_gettime),

    /* Signals: kicks of vCPUs, abort(). */
    CALL(rt_sigreturn),
    CALL(rt_sigprocmask),
    CALL_IF(rt_sigaction, IS(0, SIGABRT)),
    CALL_IF(tgkill, IS(2, SIGABRT)),
    CALL_IF(tgkill, IS(2, 34)),     /* SIGRTMIN: glibc keeps 32 and 33 (nptl, internal-signals.h) */
    CALL(getpid),
    CALL(gettid),
    CALL(restart_syscall),

    /* The end: the terminal as it was. */
    IOCTL(TCSETS),
    FCNTL(F_SETFL),
    CALL(exit),
    CALL(exit_group),
};

/* --- builds with sanitizers or coverage (mk/flags.mk): what their runtimes do on any thread --- */

#ifdef EC1_INSTRUMENTED
static const struct seccomp_rule g_instrumented[] = {
    /* shadow memory and stacks, threads that come and go */
    CALL(mmap), CALL(mprotect), CALL(madvise), CALL(sigaltstack), CALL(futex), CALL(sched_getaffinity),
    /* the report: /proc/self/maps, the symbolizer, which is a program of its own */
    CALL(openat), CALL(read), CALL(close), CALL(newfstatat), CALL(readlink), CALL(lseek), CALL(getdents64),
    CALL(open), CALL(stat), CALL(lstat), CALL(fstat), CALL(getdents), CALL(access), CALL(pipe), CALL(pipe2), CALL(fork), CALL(vfork), CALL(clone), CALL(clone3), CALL(execve), CALL(dup2),
    CALL(wait4), CALL(kill), CALL(getppid), CALL(fcntl), CALL(ioctl), CALL(prlimit64), CALL(clock_nanosleep),
    /* the search for leaks at the end: a process that stops all threads and looks at them */
    CALL(ptrace), CALL(prctl), CALL(set_robust_list), CALL(rseq), CALL(rt_sigaction), CALL(tgkill), CALL(arch_prctl),
    CALL(process_vm_readv),
    /* coverage: files of counts */
    CALL(mkdir), CALL(ftruncate), CALL(umask),
};
#endif

/* clang-format on */

static struct seccomp_allow_list list(const struct seccomp_rule *rules, size_t count)
{
    return (struct seccomp_allow_list){.rules = rules, .count = count};
}

unsigned seccomp_allow_lists(enum seccomp_thread thread,
                             struct seccomp_allow_list ret_lists[static SECCOMP_LISTS_MAX])
{
    unsigned count = 0;

    switch (thread) {
    case SECCOMP_VMM: ret_lists[count++] = list(g_vmm, ARRAY_LEN(g_vmm)); break;
    case SECCOMP_API: ret_lists[count++] = list(g_api, ARRAY_LEN(g_api)); break;
    case SECCOMP_VCPU: ret_lists[count++] = list(g_vcpu, ARRAY_LEN(g_vcpu)); break;
    case SECCOMP_THREAD_COUNT: break;
    }
    ret_lists[count++] = list(g_common, ARRAY_LEN(g_common));
#ifdef EC1_INSTRUMENTED
    ret_lists[count++] = list(g_instrumented, ARRAY_LEN(g_instrumented));
#endif
    return count;
}
