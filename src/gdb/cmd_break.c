/* cmd_break.c — breakpoints and watched memory: Z, z. */
#include <errno.h>

#include "gdb/hex.h"
#include "gdb/session_int.h"

#define WATCH_BYTES_MAX 4096u

/* "TYPE,ADDRESS,KIND"; the kind is the length of what is watched, and conditions may follow, which
 * nobody was told that we know. */
static bool parse(const char *at, struct hv_break *ret_break)
{
    /* in the order of gdb's types */
    static const enum hv_break_kind kinds[] = {HV_BREAK_SOFT, HV_BREAK_HARD, HV_WATCH_WRITE,
                                               HV_WATCH_READ, HV_WATCH_ACCESS};
    uint64_t type;
    uint64_t la;
    uint64_t len;

    if (!hex_number(&at, &type) || type >= sizeof(kinds) / sizeof(kinds[0]) || *at++ != ',' ||
        !hex_number(&at, &la) || *at++ != ',' || !hex_number(&at, &len) || *at) {
        return false;
    }
    *ret_break = (struct hv_break){.kind = kinds[type], .la = la, .len = len};
    return type < 2 || (len > 0 && len <= WATCH_BYTES_MAX);
}

/* Its index, or `count`. */
static unsigned find(const struct hv_debug *debug, const struct hv_break *b)
{
    unsigned i = 0;

    while (i < debug->count && (debug->list[i].kind != b->kind || debug->list[i].la != b->la ||
                                (b->kind != HV_BREAK_SOFT && b->kind != HV_BREAK_HARD &&
                                 debug->list[i].len != b->len))) {
        i++;
    }
    return i;
}

static int apply(struct gdb_session *s)
{
    return s->target->ops->set_breaks(s->target->owner, &s->breaks);
}

void gdb_cmd_Z(struct gdb_session *s, char *args, size_t len)
{
    struct hv_debug *debug = &s->breaks;
    struct hv_break b;
    int r = -ENOSPC;

    (void)len;
    if (!parse(args, &b)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    if (find(debug, &b) < debug->count) {
        gdb_reply_ok(s);
        return;
    }
    if (debug->count < HV_BREAK_MAX) {
        debug->list[debug->count++] = b;
        r = apply(s);
        debug->count -= r < 0;
    }
    if (r < 0) {
        gdb_reply_error(s, r);
    } else {
        gdb_reply_ok(s);
    }
}

void gdb_cmd_z(struct gdb_session *s, char *args, size_t len)
{
    struct hv_debug *debug = &s->breaks;
    struct hv_break b;
    unsigned i;

    (void)len;
    if (!parse(args, &b)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    i = find(debug, &b);
    if (i < debug->count) {
        debug->list[i] = debug->list[--debug->count];
        (void)apply(s); /* fewer always fit */
    }
    gdb_reply_ok(s);
}
