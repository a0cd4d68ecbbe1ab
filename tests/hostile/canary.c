/* canary.c — a library to preload: strips of known bytes around all anonymous memory of a program.
 *
 * The monitor keeps guest RAM, its vCPUs and decoded code in such mappings.  When it ends, a strip
 * that is not what it was says that somebody wrote outside; what it holds besides the strips says
 * nothing, for it changes anyway.  Constant data needs no strips: it is mapped read only, and who
 * writes there does not live to the end.
 *
 * munmap() leaves the strips behind.  One process maps few dozen, so nothing is ever given back. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE      4096ul
#define STRIP     (64ul << 10)
#define AREAS_MAX 512u
#define CHANGED   99 /* exit status */

struct area {
    uint8_t *from; /* first strip */
    size_t len;    /* of what is between the two */
};

static struct area g_areas[AREAS_MAX];
static _Atomic unsigned g_count;

static void *map(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, offset);
}

static uint64_t pattern(const uint64_t *at)
{
    return (uintptr_t)at * 0x9e3779b97f4a7c15ul ^ 0x5a5a5a5a5a5a5a5aul;
}

static bool lay(uint8_t *strip)
{
    uint64_t *word = (uint64_t *)(void *)strip;

    if (map(strip, STRIP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        return false;
    }
    for (size_t i = 0; i < STRIP / sizeof(*word); i++) {
        word[i] = pattern(&word[i]);
    }
    return true;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    size_t whole = (len + PAGE - 1) & ~(PAGE - 1);
    uint8_t *from;
    unsigned at;

    if (addr || !len || !(flags & MAP_ANONYMOUS) || flags & (MAP_FIXED | MAP_HUGETLB)) {
        return map(addr, len, prot, flags, fd, offset);
    }
    from = map(NULL, whole + 2 * STRIP, prot, flags, fd, offset);
    if (from == MAP_FAILED) {
        return MAP_FAILED;
    }
    at = g_count++;
    if (at >= AREAS_MAX || !lay(from) || !lay(from + STRIP + whole)) {
        (void)fprintf(stderr, "canary: no room for strips\n");
        abort();
    }
    g_areas[at] = (struct area){from, whole};
    return from + STRIP;
}

static unsigned changed(const uint8_t *strip)
{
    const uint64_t *word = (const uint64_t *)(const void *)strip;
    unsigned count = 0;

    for (size_t i = 0; i < STRIP / sizeof(*word); i++) {
        if (word[i] != pattern(&word[i]) && count++ < 4) {
            (void)fprintf(stderr, "canary: %p is %lx\n", (const void *)&word[i], word[i]);
        }
    }
    return count;
}

static __attribute__((destructor)) void look(void)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < g_count; i++) {
        bad += changed(g_areas[i].from) + changed(g_areas[i].from + STRIP + g_areas[i].len);
    }
    if (bad) {
        (void)fprintf(stderr, "canary: changed in %u places\n", bad);
        _exit(CHANGED);
    }
    (void)fprintf(stderr, "canary: %u areas untouched\n", g_count);
}
