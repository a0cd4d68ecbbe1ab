/* cmd_memory.c — memory by linear address, as the chosen CPU's page tables have it: m, M, X. */
#include <errno.h>
#include <string.h>

#include "gdb/hex.h"
#include "gdb/session_int.h"
#include "hv/walk.h"
#include "mem/map.h"

#define PAGE_BYTES 4096u

/* "ADDRESS,LENGTH", then `end`; returns behind it, NULL: it is not so. */
static char *parse_range(char *args, char end, uint64_t *ret_la, uint64_t *ret_len)
{
    const char *at = args;

    if (!hex_number(&at, ret_la) || *at++ != ',' || !hex_number(&at, ret_len) || *at != end) {
        return NULL;
    }
    return args + (at - args) + (end ? 1 : 0);
}

typedef int (*piece_fn)(struct mem_map *mem, gpa_t gpa, uint8_t *data, size_t len);

static int read_piece(struct mem_map *mem, gpa_t gpa, uint8_t *data, size_t len)
{
    return mem_read(mem, gpa, data, len);
}

static int write_piece(struct mem_map *mem, gpa_t gpa, uint8_t *data, size_t len)
{
    return mem_write(mem, gpa, data, len);
}

/* Page by page; returns how many bytes could be reached. */
static size_t touch(struct gdb_session *s, uint64_t la, uint8_t *data, size_t len, piece_fn fn)
{
    const struct cpu_state *state = gdb_state(s, s->cpu);
    struct walk_root root;
    size_t done = 0;

    if (!state) {
        return 0;
    }
    root = walk_root_of(state);
    while (done < len) {
        size_t room = PAGE_BYTES - ((la + done) & (PAGE_BYTES - 1));
        size_t piece = room < len - done ? room : len - done;
        gpa_t gpa;

        if (walk_linear(s->target->mem, &root, la + done, &gpa) < 0 ||
            fn(s->target->mem, gpa, data + done, piece) < 0) {
            break;
        }
        done += piece;
    }
    return done;
}

/* What can be read of it; gdb asks again for the rest, if it wants to know where that ends. */
void gdb_cmd_m(struct gdb_session *s, char *args, size_t len)
{
    uint64_t la;
    uint64_t count;
    size_t got;

    (void)len;
    if (!parse_range(args, 0, &la, &count)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    count = count < sizeof(s->data) ? count : sizeof(s->data);
    got = touch(s, la, s->data, count, read_piece);
    if (got == 0 && count > 0) {
        gdb_reply_error(s, EFAULT);
        return;
    }
    hex_append(&s->reply, s->data, got);
}

static void write_all(struct gdb_session *s, uint64_t la, uint8_t *data, size_t len)
{
    if (len > sizeof(s->old) || touch(s, la, s->old, len, read_piece) < len ||
        touch(s, la, data, len, write_piece) < len) {
        gdb_reply_error(s, EFAULT);
    } else {
        gdb_reply_ok(s);
    }
}

void gdb_cmd_M(struct gdb_session *s, char *args, size_t len)
{
    uint64_t la;
    uint64_t count;

    (void)len;
    args = parse_range(args, ':', &la, &count);
    if (!args || count > sizeof(s->data) || !hex_bytes(args, s->data, count)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    write_all(s, la, s->data, count);
}

void gdb_cmd_X(struct gdb_session *s, char *args, size_t len)
{
    const char *end = args + len;
    uint64_t la;
    uint64_t count;

    args = parse_range(args, ':', &la, &count);
    if (!args || gdb_unescape(args, (size_t)(end - args)) != count) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    write_all(s, la, (uint8_t *)args, count);
}
