/* kernel.c — a Linux kernel file: what is in it, and its way into guest memory. */
#include "boot/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/file.h"
#include "base/str.h"
#include "boot/cache.h"
#include "boot/layout.h"
#include "codec/decompress.h"

#define FILE_MAX       GIB         /* of what has to be read into memory whole */
#define ELF_MAX        (2 * GIB)   /* a vmlinux with debug information is about 1 GiB */
#define HINT_MAX       (256 * MIB) /* as far as a length word in the file is believed */
#define IMAGE_MAGIC_AT 56          /* in the headers of arm64 and riscv images */

/* What is known about a file while it is opened. */
struct opening {
    int fd;
    uint64_t len;
    uint8_t head[BZIMAGE_HEAD_LEN];
    size_t head_len;
};

static int read_range(int fd, uint64_t offset, uint64_t len, struct buf *out)
{
    uint8_t *to = buf_reserve(out, len);
    int r;

    if (!to) {
        return -ENOMEM;
    }
    r = file_read_at(fd, offset, to, len);
    if (r == 0) {
        out->len += len;
    }
    return r;
}

/* Takes `fd` over. */
static int open_file(int fd, struct opening *o, struct err *err)
{
    struct stat st;
    ssize_t got;

    o->fd = fd;
    if (o->fd < 0) {
        return err_set(err, -errno, "%s", strerror(errno));
    }
    if (fstat(o->fd, &st) < 0) {
        return err_set(err, -errno, "%s", strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, -EINVAL, "%s: must be a file",
                       S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    }
    if (st.st_size == 0) {
        return err_set(err, -ENODATA, "the file is empty");
    }
    o->len = (uint64_t)st.st_size;
    got = pread(o->fd, o->head, sizeof(o->head), 0);
    if (got < 0) {
        return err_set(err, -errno, "%s", strerror(errno));
    }
    o->head_len = (size_t)got;
    return 0;
}

/* An error that says what it is instead of a kernel for us. */
static int refuse(const uint8_t *head, size_t len, struct err *err)
{
    if (len >= IMAGE_MAGIC_AT + 4 && memcmp(head + IMAGE_MAGIC_AT, "ARM\x64", 4) == 0) {
        return err_set(err, -ENOEXEC, "a kernel for arm64: must be for x86-64");
    }
    if (len >= IMAGE_MAGIC_AT + 4 && memcmp(head + IMAGE_MAGIC_AT, "RSC\x05", 4) == 0) {
        return err_set(err, -ENOEXEC, "a kernel for riscv: must be for x86-64");
    }
    if (len >= 8 && memcmp(head, "MZ", 2) == 0 && memcmp(head + 4, "zimg", 4) == 0) {
        return err_set(err, -ENOEXEC, "an EFI zboot image: must be a bzImage or a vmlinux");
    }
    if (len >= 2 && memcmp(head, "MZ", 2) == 0) {
        return err_set(err, -ENOEXEC,
                       "an EFI program without a Linux boot header: must be a "
                       "bzImage or a vmlinux");
    }
    return err_set(err, -ENOEXEC, "not a Linux kernel: neither a bzImage nor an ELF file");
}

static int parse_image(struct kernel *k, struct err *err)
{
    struct elf_source source = {.data = k->image.data, .fd = -1, .len = k->image.len};

    if (!elf_sniff(k->image.data, k->image.len)) {
        return refuse(k->image.data, k->image.len, err);
    }
    return elf_parse(&source, &k->elf, err);
}

/* Hosts may give fresh memory slowly, so the key is taken without reading the file whole. */
static int open_cached(struct kernel *k, const struct opening *o, uint64_t offset, uint64_t len,
                       const char *dir)
{
    struct elf_source source = {0};
    struct cache_key key;
    int fd;
    int r = cache_key_of_file(o->fd, offset, len, &key);

    if (r < 0) {
        return r;
    }
    fd = cache_open(dir, &key, &source.len);
    if (fd < 0) {
        return fd;
    }
    source.fd = fd;
    r = elf_parse(&source, &k->elf, NULL);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    k->fd = fd;
    k->packing = "cached";
    return 0;
}

/* Linux puts the unpacked length behind the payload, and gzip ends with it; a hint that saves
 * growing. */
static size_t unpacked_hint(const struct buf *packed)
{
    size_t hint = packed->len >= 4 ? load_le32(packed->data + packed->len - 4) : 0;

    return hint <= HINT_MAX ? hint : 0;
}

static int unpack(struct kernel *k, const struct buf *packed, const char *cache_dir,
                  struct err *err)
{
    enum codec_format format = codec_sniff(packed->data, packed->len);
    int r;

    (void)buf_reserve(&k->image, unpacked_hint(packed));
    r = codec_decompress(format, packed->data, packed->len, ELF_MAX, &k->image, err);
    if (r < 0) {
        return r;
    }
    k->packing = codec_name(format);
    r = parse_image(k, err);
    if (r == 0 && cache_dir) {
        /* Of what was unpacked: the file may have changed since open_cached(). */
        struct cache_key key = cache_key(packed->data, packed->len);

        (void)cache_store(cache_dir, &key, k->image.data, k->image.len);
    }
    return r;
}

/* The kernel is in [offset, offset + len) of the file, packed or not. */
static int open_payload(struct kernel *k, const struct opening *o, uint64_t offset, uint64_t len,
                        const char *cache_dir, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf packed = {0};
    char have[32];
    char may[32];
    int r;

    if (len > FILE_MAX) {
        return err_set(err, -EFBIG, "%s of packed kernel: must be at most %s",
                       str_from_size(len, have), str_from_size(FILE_MAX, may));
    }
    if (cache_dir && open_cached(k, o, offset, len, cache_dir) == 0) {
        return 0;
    }
    r = read_range(o->fd, offset, len, &packed);
    if (r < 0) {
        return err_set(err, r, "%s", r == -ENODATA ? "changed while it was read" : strerror(-r));
    }
    if (codec_sniff(packed.data, packed.len) != CODEC_UNKNOWN) {
        return unpack(k, &packed, cache_dir, err);
    }
    if (!elf_sniff(packed.data, packed.len)) {
        return err_set(err, -ENOEXEC, "the payload is packed in an unknown way, or damaged");
    }
    k->image = packed;
    packed = (struct buf){0};
    return parse_image(k, err);
}

static int open_elf(struct kernel *k, struct opening *o, struct err *err)
{
    struct elf_source source = {.fd = o->fd, .len = o->len};
    int r = elf_parse(&source, &k->elf, err);

    if (r == 0) {
        k->fd = take_fd(&o->fd);
    }
    return r;
}

static int open_any(struct kernel *k, struct opening *o, const char *cache_dir, struct err *err)
{
    int r;

    bzimage_make_up(&k->setup);
    if (elf_sniff(o->head, o->head_len)) {
        return open_elf(k, o, err);
    }
    if (bzimage_sniff(o->head, o->head_len)) {
        r = bzimage_parse(o->head, o->head_len, o->len, &k->setup, err);
        return r < 0 ? r
                     : open_payload(k, o, k->setup.payload_offset, k->setup.payload_len, cache_dir,
                                    err);
    }
    if (codec_sniff(o->head, o->head_len) != CODEC_UNKNOWN) {
        return open_payload(k, o, 0, o->len, cache_dir, err);
    }
    return refuse(o->head, o->head_len, err);
}

static int check_place(const struct kernel *k, struct err *err)
{
    if (k->elf.start < BOOT_LOW_END) {
        return err_set(err, -ENOEXEC, "wants to be loaded at 0x%llx: must be at 1 MiB or above",
                       (unsigned long long)k->elf.start);
    }
    return 0;
}

static int open_kernel(int fd, const char *path, const char *cache_dir, struct kernel **ret_kernel,
                       struct err *err)
{
    struct kernel *k = calloc(1, sizeof(*k));
    struct opening o = {.fd = -1};
    int r;

    if (!k) {
        auto_close(&fd);
        return err_set(err, -ENOMEM, "kernel '%s': out of memory", path);
    }
    k->fd = -1;
    k->packing = "none";
    k->path = strdup(path);
    r = open_file(fd, &o, err);
    if (r == 0 && !k->path) {
        r = err_set(err, -ENOMEM, "out of memory");
    }
    if (r == 0) {
        r = open_any(k, &o, cache_dir, err);
    }
    if (r == 0) {
        r = check_place(k, err);
    }
    auto_close(&o.fd);
    if (r < 0) {
        kernel_close(k);
        return err_wrap(err, r, "kernel '%s'", path);
    }
    *ret_kernel = k;
    return 0;
}

int kernel_open(const char *path, const char *cache_dir, struct kernel **ret_kernel,
                struct err *err)
{
    return open_kernel(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), path, cache_dir, ret_kernel,
                       err);
}

int kernel_open_fd(int fd, const char *path, const char *cache_dir, struct kernel **ret_kernel,
                   struct err *err)
{
    return open_kernel(fcntl(fd, F_DUPFD_CLOEXEC, 3), path, cache_dir, ret_kernel, err);
}

void kernel_close(struct kernel *kernel)
{
    if (kernel) {
        auto_close(&kernel->fd);
        buf_fini(&kernel->image);
        free(kernel->path);
        free(kernel);
    }
}

int kernel_load(const struct kernel *kernel, struct mem_map *mem, struct err *err)
{
    int r = elf_load(&kernel->elf, mem, err);

    return r < 0 ? err_wrap(err, r, "kernel '%s'", kernel->path) : 0;
}
