/* kaslr.c — a kernel's move to another linear address, as its own decompressor would do it.
 *
 * Theory of operation.  Linux links a kernel of CONFIG_RANDOMIZE_BASE for one address and puts a
 * table behind the ELF, before it packs both (arch/x86/boot/compressed/misc.c, handle_relocations):
 *
 *     0, addresses of 64-bit words; 0, of inverse 32-bit words; 0, of 32-bit words
 *
 * Each is the linear address of a word, as 32 bits that are sign-extended.  The move is added to
 * the words, and subtracted from the inverse ones, which are distances from code to a per-CPU
 * variable, whose addresses count from 0 and do not move.  Linux 6.15 has no such distances any
 * more and leaves out their list.  What physical address a linear one has, the kernel finds out
 * from where it runs.
 *
 * The file is hostile, so the whole table is checked before the first word is written; something
 * that is not such a table is no error, for a file may carry anything behind its ELF.
 */
#include "boot/kaslr.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "mem/map.h"

#define LINEAR_BASE UINT64_C(0xffffffff80000000) /* Linux's __START_KERNEL_map */
#define LINEAR_ROOM GIB                          /* its KERNEL_IMAGE_SIZE: modules are above */
#define TABLE_MAX   (64 * MIB)                   /* Debian's have 1 MiB */
#define LIST_MAX    3u

/* Part of the table: words of one kind. */
struct list {
    const uint8_t *at;
    size_t count;
};

struct move {
    uint8_t *image; /* the kernel in guest memory */
    uint64_t gpa;
    uint64_t len;
    uint64_t by;
};

/* From the beginning of the kernel; anything, unless is_inside(). */
static uint64_t offset_of(const struct move *m, const struct list *l, size_t i)
{
    return (uint64_t)(int64_t)(int32_t)load_le32(l->at + i * 4) - LINEAR_BASE - m->gpa;
}

static bool is_inside(const struct move *m, const struct list *l, unsigned width)
{
    for (size_t i = 0; i < l->count; i++) {
        if (!range_within(offset_of(m, l, i), width, m->len)) {
            return false;
        }
    }
    return true;
}

static void add_64(const struct move *m, const struct list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        uint8_t *word = m->image + offset_of(m, l, i);

        store_le64(word, load_le64(word) + m->by);
    }
}

static void add_32(const struct move *m, const struct list *l, uint32_t by)
{
    for (size_t i = 0; i < l->count; i++) {
        uint8_t *word = m->image + offset_of(m, l, i);

        store_le32(word, load_le32(word) + by);
    }
}

/* What is behind the ELF, beginning with the first whole word counted from the end. */
static int read_table(const struct elf *elf, struct buf *table)
{
    uint64_t len = align_down(elf->source.len - elf->file_end, 4);
    uint8_t *to;

    if (len == 0 || len > TABLE_MAX) {
        return 0;
    }
    to = buf_reserve(table, len);
    if (!to) {
        return -ENOMEM;
    }
    table->len += len;
    return elf_read(&elf->source, elf->source.len - len, to, len);
}

/* Each list has a 0 before it.  How many there are, or 0 if this is something else. */
static unsigned split(const struct buf *table, struct list lists[static LIST_MAX])
{
    unsigned count = 0;

    for (size_t at = 0; at < table->len; at += 4) {
        if (load_le32(table->data + at) != 0) {
            if (count == 0) {
                return 0;
            }
            lists[count - 1].count++;
        } else if (count == LIST_MAX) {
            return 0;
        } else {
            lists[count++] = (struct list){.at = table->data + at + 4};
        }
    }
    return count;
}

static int apply(const struct move *m, const struct buf *table)
{
    struct list lists[LIST_MAX] = {0};
    unsigned count = split(table, lists);
    const struct list *inverse = &lists[1];
    const struct list *last = &lists[2];

    if (count < 2) {
        return 0;
    }
    if (count == 2) {
        lists[2] = lists[1];
        lists[1].count = 0;
    }
    if (!is_inside(m, &lists[0], 8) || !is_inside(m, inverse, 4) || !is_inside(m, last, 4)) {
        return 0;
    }
    add_64(m, &lists[0]);
    add_32(m, inverse, (uint32_t)-m->by);
    add_32(m, last, (uint32_t)m->by);
    return 1;
}

int kaslr_move(const struct kernel *kernel, uint64_t random, struct mem_map *mem, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf table = {0};
    const struct elf *elf = &kernel->elf;
    uint64_t align = kernel->setup.alignment;
    struct move move = {.gpa = elf->start, .len = elf->end - elf->start};
    int r;

    if (align == 0 || elf->end > LINEAR_ROOM) {
        return 0;
    }
    move.image = mem_ptr(mem, GPA(move.gpa), move.len);
    if (!move.image) { /* in two ranges of RAM */
        return 0;
    }
    move.by = random % (1 + (LINEAR_ROOM - elf->end) / align) * align;
    r = read_table(elf, &table);
    if (r < 0) {
        return err_set(err, r, "kernel '%s': cannot read its relocations: %s", kernel->path,
                       strerror(-r));
    }
    return apply(&move, &table);
}
