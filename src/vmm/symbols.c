/* symbols.c — see symbols.h. */
#include "vmm/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/file.h"

/* More sections than a kernel has. */
#define SECTION_MAX 4096u

/* An ELF that was not stripped. */
static bool has_symbols(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    Elf64_Ehdr header;

    if (fd < 0 || file_read_at(fd, 0, &header, sizeof(header)) < 0 ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_shnum > SECTION_MAX) {
        return false;
    }
    for (unsigned i = 0; i < header.e_shnum; i++) {
        Elf64_Shdr section;

        if (file_read_at(fd, header.e_shoff + (uint64_t)i * sizeof(section), &section,
                         sizeof(section)) < 0) {
            return false;
        }
        if (section.sh_type == SHT_SYMTAB) {
            return true;
        }
    }
    return false;
}

/* Join up to three pieces; false: too long. */
static bool join(char out[static KERNEL_PATH_MAX], const char *a, const char *b, const char *c)
{
    return snprintf(out, KERNEL_PATH_MAX, "%s%s%s", a, b, c) < KERNEL_PATH_MAX;
}

/* root + infix + release + suffix */
static bool try_release(const char *root, const char *infix, const char *release,
                        const char *suffix, char out[static KERNEL_PATH_MAX])
{
    char front[KERNEL_PATH_MAX];

    return release[0] && join(front, root, infix, release) && join(out, front, suffix, "") &&
           has_symbols(out);
}

static bool find_vmlinux(const struct kernel_choice *kernel, char out[static KERNEL_PATH_MAX])
{
    const char *release = kernel->release;
    const char *roots[] = {kernel->files, ""};
    char dir[KERNEL_PATH_MAX];

    (void)snprintf(dir, sizeof(dir), "%s", kernel->image);
    *(strrchr(dir, '/') ? strrchr(dir, '/') : dir) = 0;
    if ((join(out, kernel->image, "", "") && has_symbols(out)) ||
        try_release(dir, "/vmlinux-", release, "", out) ||
        (join(out, dir, "/vmlinux", "") && has_symbols(out)) ||
        /* arch/x86/boot/bzImage of a built tree */
        (join(out, dir, "/../../../vmlinux", "") && has_symbols(out))) {
        return true;
    }
    for (size_t i = kernel->files[0] ? 0 : 1; i < ARRAY_LEN(roots); i++) {
        if (try_release(roots[i], "/usr/lib/debug/boot/vmlinux-", release, "", out) ||
            try_release(roots[i], "/usr/lib/debug/lib/modules/", release, "/vmlinux", out) ||
            try_release(roots[i], "/lib/modules/", release, "/build/vmlinux", out)) {
            return true;
        }
    }
    out[0] = 0;
    return false;
}

/* Without links and dots, if that fits. */
static void resolve(char path[static KERNEL_PATH_MAX])
{
    AUTO_FREE char *real = realpath(path, NULL);

    if (real && strlen(real) < KERNEL_PATH_MAX) {
        (void)snprintf(path, KERNEL_PATH_MAX, "%s", real);
    }
}

/* Is `name` there, beside vmlinux? */
static bool find_beside(const char *vmlinux, const char *name, char out[static KERNEL_PATH_MAX])
{
    char dir[KERNEL_PATH_MAX];

    (void)snprintf(dir, sizeof(dir), "%s", vmlinux);
    *(strrchr(dir, '/') ? strrchr(dir, '/') : dir) = 0;
    if (join(out, dir, name, "") && access(out, R_OK) == 0) {
        return true;
    }
    out[0] = 0;
    return false;
}

void kernel_symbols_find(const struct kernel_choice *kernel, struct kernel_symbols *ret_symbols)
{
    static const char main_c[] = "/init/main.c";
    struct kernel_symbols *s = ret_symbols;

    memset(s, 0, sizeof(*s));
    if (!find_vmlinux(kernel, s->vmlinux)) {
        return;
    }
    resolve(s->vmlinux);
    if (find_beside(s->vmlinux, main_c, s->source)) {
        s->source[strlen(s->source) - strlen(main_c)] = 0;
    }
    if (find_beside(s->vmlinux, "/vmlinux-gdb.py", s->scripts) ||
        find_beside(s->vmlinux, "/../gdb/vmlinux-gdb.py", s->scripts)) {
        resolve(s->scripts);
    }
}
