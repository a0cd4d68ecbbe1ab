/* system.c — what the kernel does for one process: system calls, page faults, reads. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/soft/row.h"

/* --- the cheapest system call --- */

static inline long syscall0(long number)
{
    long r;

    __asm__ volatile("syscall" : "=a"(r) : "0"(number) : "rcx", "r11", "memory");
    return r;
}

static uint64_t syscall_run(uint64_t ops)
{
    long self = getpid();
    uint64_t right = 0;

    for (uint64_t n = 0; n < ops; n++) {
        right += syscall0(SYS_getpid) == self;
    }
    return right;
}

/* --- first touch of anonymous pages, and giving them back --- */

#define FAULT_PAGES 1024

static uint64_t fault_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n += FAULT_PAGES) {
        uint8_t *p = pages_new(FAULT_PAGES * UINT64_C(4096));

        for (uint64_t i = 0; i < FAULT_PAGES; i++) {
            sum = mix(sum, p[i * 4096 + (n + i) % 4000]); /* zero, and a page of zeros */
            p[i * 4096] = (uint8_t)(i + 1);
        }
        for (uint64_t i = 0; i < FAULT_PAGES; i++) {
            sum = mix(sum, p[i * 4096]);
        }
        if (munmap(p, FAULT_PAGES * UINT64_C(4096)) < 0) {
            die("munmap");
        }
    }
    return sum;
}

/* --- read(2) of a page --- */

static uint64_t read_run(uint64_t ops)
{
    static uint8_t page[4096];
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    uint64_t sum = 0;

    if (fd < 0) {
        die("/dev/zero");
    }
    for (uint64_t n = 0; n < ops; n++) {
        page[n % 4096] = 1;
        if (read(fd, page, sizeof(page)) != (ssize_t)sizeof(page)) {
            die("read");
        }
        sum += page[n % 4096] + 1u;
    }
    (void)close(fd);
    return sum;
}

const struct row rows_system[] = {
    {.name = "syscall", .ops = 100000, .run = syscall_run},
    {.name = "pagefault", .ops = 8192, .run = fault_run},
    {.name = "read", .ops = 20000, .run = read_run},
    {0},
};
