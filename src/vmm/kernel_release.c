/* kernel_release.c — which Linux a kernel file holds.
 *
 * A bzImage points to a text "RELEASE (who built it) ..." in its setup code
 * (Documentation/arch/x86/boot.rst, "kernel_version").  A vmlinux has the first line of its log,
 * "Linux version RELEASE (...", among its constants; only what is loaded is looked through, not
 * the debug information behind.
 */
#include "vmm/kernel_release.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/file.h"
#include "base/str.h"
#include "x86/bootparam.h"

#define BANNER      "Linux version "
#define BANNER_LEN  (sizeof(BANNER) - 1)
#define CHUNK       (UINT64_C(1) << 20)
#define OVERLAP     (BANNER_LEN + KERNEL_RELEASE_MAX)
#define PHDR_MAX    64u         /* Linux has five */
#define SEGMENT_MAX (256 * MIB) /* nobody's kernel is larger */

/* The word at `text`, if it looks like a release: a digit first, then nothing that is not seen. */
static bool take(const char *text, size_t len, char out[static KERNEL_RELEASE_MAX])
{
    size_t n = 0;

    while (n < len && isgraph((unsigned char)text[n])) {
        n++;
    }
    if (n == 0 || n == len || n >= KERNEL_RELEASE_MAX || !isdigit((unsigned char)text[0]) ||
        memchr(text, '/', n)) {
        return false;
    }
    memcpy(out, text, n);
    out[n] = 0;
    return true;
}

static void from_bzimage(int fd, const uint8_t *head, char out[static KERNEL_RELEASE_MAX])
{
    char text[KERNEL_RELEASE_MAX];
    uint64_t offset = load_le16(head + BP_KERNEL_VERSION);

    if (offset && file_read_at(fd, offset + BP_KERNEL_VERSION_BASE, text, sizeof(text)) == 0) {
        (void)take(text, sizeof(text), out);
    }
}

static bool search(const char *data, size_t len, char out[static KERNEL_RELEASE_MAX])
{
    const char *end = data + len;
    const char *at = data;

    while ((at = memmem(at, (size_t)(end - at), BANNER, BANNER_LEN))) {
        at += BANNER_LEN;
        if (take(at, (size_t)(end - at), out)) {
            return true;
        }
    }
    return false;
}

static bool search_segment(int fd, uint64_t offset, uint64_t len,
                           char out[static KERNEL_RELEASE_MAX])
{
    AUTO_FREE char *chunk = malloc(CHUNK);

    while (chunk && len > 0) {
        uint64_t n = len < CHUNK ? len : CHUNK;

        if (file_read_at(fd, offset, chunk, n) < 0) {
            return false;
        }
        if (search(chunk, n, out)) {
            return true;
        }
        n = n > OVERLAP && n < len ? n - OVERLAP : n;
        offset += n;
        len -= n;
    }
    return false;
}

static void from_elf(int fd, char out[static KERNEL_RELEASE_MAX])
{
    Elf64_Phdr phdrs[PHDR_MAX];
    Elf64_Ehdr eh;

    if (file_read_at(fd, 0, &eh, sizeof(eh)) < 0 || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        eh.e_machine != EM_X86_64 || eh.e_phentsize != sizeof(*phdrs) || eh.e_phnum > PHDR_MAX ||
        file_read_at(fd, eh.e_phoff, phdrs, eh.e_phnum * sizeof(*phdrs)) < 0) {
        return;
    }
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        if (phdrs[i].p_type == PT_LOAD && phdrs[i].p_filesz <= SEGMENT_MAX &&
            search_segment(fd, phdrs[i].p_offset, phdrs[i].p_filesz, out)) {
            return;
        }
    }
}

void kernel_release(const char *path, bool deep, char out[static KERNEL_RELEASE_MAX])
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t head[BP_HDR_END_MAX];

    out[0] = 0;
    if (fd < 0 || file_read_at(fd, 0, head, sizeof(head)) < 0) {
        return;
    }
    if (load_le16(head + BP_BOOT_FLAG) == BP_BOOT_FLAG_VALUE &&
        load_le32(head + BP_HEADER) == BP_HEADER_MAGIC) {
        from_bzimage(fd, head, out);
    } else if (deep && memcmp(head, ELFMAG, SELFMAG) == 0) {
        from_elf(fd, out);
    }
}

void kernel_release_of_name(const char *path, char out[static KERNEL_RELEASE_MAX])
{
    const char *base = strrchr(path, '/');
    const char *dash;

    base = base ? base + 1 : path;
    dash = strchr(base, '-');
    out[0] = 0;
    if (dash && str_has_prefix(base, "vmlinu")) {
        (void)snprintf(out, KERNEL_RELEASE_MAX, "%s", dash + 1);
    }
}
