/* libraries.c — see libraries.h. */
#include "jailer/libraries.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/os_error.h"

/* Where Debian's loader looks without a cache, and where a copy is found by it. */
static const char *const g_dirs[] = {"/lib/x86_64-linux-gnu",
                                     "/usr/lib/x86_64-linux-gnu",
                                     "/lib64",
                                     "/usr/lib64",
                                     "/lib",
                                     "/usr/lib"};

#define FILE_MAX (256 * MIB)

/* A program or library as the loader sees it.  All offsets are checked: the file is trusted to be
 * run, not to be well-formed. */
struct image {
    struct buf file;
    const Elf64_Phdr *headers;
    unsigned count;
};

static int image_open(struct image *image, const char *path, struct err *err)
{
    const Elf64_Ehdr *head;
    int r = buf_read_file(&image->file, path, FILE_MAX);
    char text[OS_ERROR_MAX];

    if (r < 0) {
        return err_set(err, r, "Failed to open %s: %s", path, os_error(r, text));
    }
    head = (const void *)image->file.data;
    if (image->file.len < sizeof(*head) || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0) {
        return 0; /* a script, perhaps: no libraries of its own */
    }
    if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_phentsize != sizeof(Elf64_Phdr) ||
        head->e_phoff % _Alignof(Elf64_Phdr) ||
        !range_within(head->e_phoff, (uint64_t)head->e_phnum * sizeof(Elf64_Phdr),
                      image->file.len)) {
        return err_set(err, -ENOEXEC, "%s: no program of this machine", path);
    }
    image->headers = (const void *)(image->file.data + head->e_phoff);
    image->count = head->e_phnum;
    return 0;
}

static const Elf64_Phdr *find_header(const struct image *image, uint32_t type)
{
    for (unsigned i = 0; i < image->count; i++) {
        const Elf64_Phdr *header = &image->headers[i];

        if (header->p_type == type &&
            range_within(header->p_offset, header->p_filesz, image->file.len)) {
            return header;
        }
    }
    return NULL;
}

/* Text in the file; NULL where it does not end within it. */
static const char *text_at(const struct image *image, uint64_t offset)
{
    if (offset >= image->file.len ||
        !memchr(image->file.data + offset, '\0', image->file.len - offset)) {
        return NULL;
    }
    return (const char *)image->file.data + offset;
}

/* The place in the file of an address; the file's length if it is in none. */
static uint64_t offset_of(const struct image *image, uint64_t address)
{
    for (unsigned i = 0; i < image->count; i++) {
        const Elf64_Phdr *header = &image->headers[i];

        if (header->p_type == PT_LOAD && address >= header->p_vaddr &&
            address - header->p_vaddr < header->p_filesz) {
            return address - header->p_vaddr + header->p_offset;
        }
    }
    return image->file.len;
}

/* --- what is needed --- */

static int add(struct jailer_libraries *to, const char *path, int fd, struct err *err)
{
    if (to->count == JAILER_LIBRARY_MAX) {
        (void)close(fd);
        return err_set(err, -E2BIG, "more than %d libraries", JAILER_LIBRARY_MAX);
    }
    (void)snprintf(to->items[to->count].path, PATH_MAX, "%s", path);
    to->items[to->count++].fd = fd;
    return 0;
}

static bool is_there(const struct jailer_libraries *to, const char *name)
{
    for (unsigned i = 0; i < to->count; i++) {
        if (strcmp(strrchr(to->items[i].path, '/') + 1, name) == 0) {
            return true;
        }
    }
    return false;
}

static int add_library(struct jailer_libraries *to, const char *name, struct err *err)
{
    if (is_there(to, name)) {
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_LEN(g_dirs); i++) {
        char path[PATH_MAX];
        int fd;

        if (strchr(name, '/') ||
            snprintf(path, sizeof(path), "%s/%s", g_dirs[i], name) >= (int)sizeof(path)) {
            break;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            return add(to, path, fd, err);
        }
    }
    return err_set(err, -ENOENT, "library '%s' is in none of the loader's folders", name);
}

static int add_needed(struct jailer_libraries *to, const struct image *image, struct err *err)
{
    const Elf64_Phdr *header = find_header(image, PT_DYNAMIC);
    uint64_t strings = 0, count = header ? header->p_filesz / sizeof(Elf64_Dyn) : 0;
    int r = 0;

    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint64_t i = 0; r == 0 && i < count; i++) {
            Elf64_Dyn entry;
            const char *name;

            memcpy(&entry, image->file.data + header->p_offset + i * sizeof(entry), sizeof(entry));
            if (entry.d_tag == DT_STRTAB) {
                strings = offset_of(image, entry.d_un.d_ptr);
            }
            if (pass == 0 || entry.d_tag != DT_NEEDED) {
                continue;
            }
            name = entry.d_un.d_val < image->file.len ? text_at(image, strings + entry.d_un.d_val)
                                                      : NULL;
            r = name ? add_library(to, name, err)
                     : err_set(err, -ENOEXEC, "a library without a name is needed");
        }
    }
    return r;
}

static int add_loader(struct jailer_libraries *to, const struct image *image, struct err *err)
{
    const Elf64_Phdr *header = find_header(image, PT_INTERP);
    const char *path = header ? text_at(image, header->p_offset) : NULL;
    char text[OS_ERROR_MAX];
    int fd;

    if (!path) {
        return 0;
    }
    fd = path[0] == '/' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        int code = -errno;

        return err_set(err, code, "Failed to open %s: %s", path, os_error(code, text));
    }
    return add(to, path, fd, err);
}

static int add_all(struct jailer_libraries *to, const char *path, struct err *err)
{
    struct image image = {0};
    int r = image_open(&image, path, err);

    if (r == 0 && to->count == 0) {
        r = add_loader(to, &image, err);
    }
    if (r == 0 && image.count > 0) {
        r = add_needed(to, &image, err);
    }
    buf_fini(&image.file);
    return r;
}

int jailer_libraries_open(const char *program, struct jailer_libraries *to, struct err *err)
{
    int r;

    to->count = 0;
    r = add_all(to, program, err);
    for (unsigned i = 1; r == 0 && i < to->count; i++) { /* 0 is the loader */
        r = add_all(to, to->items[i].path, err);
    }
    return r < 0 ? err_wrap(err, r, "Libraries of %s", program) : 0;
}

void jailer_libraries_fini(struct jailer_libraries *to)
{
    for (unsigned i = 0; i < to->count; i++) {
        (void)close(to->items[i].fd);
    }
    to->count = 0;
}

/* --- into the jail --- */

static void make_parents(char *path)
{
    for (char *at = path + 1; *at; at++) {
        if (*at == '/') {
            *at = '\0';
            (void)mkdir(path, 0755); /* what cannot be made is told by the file in it */
            *at = '/';
        }
    }
}

static int copy(int to, int from)
{
    struct stat st;
    off_t at = 0;

    if (fstat(from, &st) < 0) {
        return -errno;
    }
    while (at < st.st_size) {
        if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0) {
            return errno ? -errno : -EIO;
        }
    }
    return fchmod(to, st.st_mode & 0755) < 0 ? -errno : 0;
}

int jailer_libraries_write(const struct jailer_libraries *libraries, struct err *err)
{
    for (unsigned i = 0; i < libraries->count; i++) {
        char path[PATH_MAX], text[OS_ERROR_MAX];
        AUTO_CLOSE int fd = -1;
        int r;

        memcpy(path, libraries->items[i].path, sizeof(path));
        make_parents(path);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
        if (fd < 0 && errno == EEXIST) {
            continue;
        }
        r = fd < 0 ? -errno : copy(fd, libraries->items[i].fd);
        if (r < 0) {
            return err_set(err, r, "Failed to copy %s into the jail: %s", path, os_error(r, text));
        }
    }
    return 0;
}
