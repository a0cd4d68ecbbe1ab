/* cmd_regs.c — registers: g, G, p, P. */
#include <errno.h>
#include <string.h>

#include "gdb/hex.h"
#include "gdb/regs.h"
#include "gdb/session_int.h"

static void append_reg(struct gdb_session *s, const struct cpu_state *state, unsigned index)
{
    uint8_t bytes[GDB_REG_BYTES_MAX];

    gdb_reg_get(state, index, bytes);
    hex_append(&s->reply, bytes, gdb_reg_bytes(index));
}

void gdb_cmd_g(struct gdb_session *s, char *args, size_t len)
{
    const struct cpu_state *state = gdb_state(s, s->cpu);

    (void)args;
    (void)len;
    if (!state) {
        gdb_reply_error(s, EIO);
        return;
    }
    for (unsigned i = 0; i < gdb_reg_count(); i++) {
        append_reg(s, state, i);
    }
}

void gdb_cmd_p(struct gdb_session *s, char *args, size_t len)
{
    const struct cpu_state *state = gdb_state(s, s->cpu);
    const char *at = args;
    uint64_t index;

    (void)len;
    if (!state || !hex_number(&at, &index) || *at || index >= gdb_reg_count()) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    append_reg(s, state, (unsigned)index);
}

static void write_back(struct gdb_session *s)
{
    int r = gdb_state_write(s);

    if (r < 0) {
        gdb_reply_error(s, r);
    } else {
        gdb_reply_ok(s);
    }
}

/* The digits of one register, which the text begins with. */
static bool set_reg(struct cpu_state *state, unsigned index, char *text)
{
    uint8_t bytes[GDB_REG_BYTES_MAX] = {0};
    size_t digits = gdb_reg_bytes(index) * 2;
    char behind;
    bool is_good;

    if (strnlen(text, digits) < digits) {
        return false;
    }
    behind = text[digits];
    text[digits] = 0;
    is_good = hex_bytes(text, bytes, digits / 2);
    text[digits] = behind;
    if (is_good) {
        gdb_reg_set(state, index, bytes);
    }
    return is_good;
}

void gdb_cmd_G(struct gdb_session *s, char *args, size_t len)
{
    struct cpu_state *state = gdb_state(s, s->cpu);
    bool is_good = state != NULL;
    unsigned i;

    (void)len;
    for (i = 0; i < gdb_reg_count() && is_good; i++) {
        is_good = set_reg(state, i, args);
        args += is_good ? gdb_reg_bytes(i) * 2 : 0;
    }
    if (!is_good || *args) {
        s->state_cpu = HV_VCPU_MAX;
        gdb_reply_error(s, EINVAL);
        return;
    }
    write_back(s);
}

void gdb_cmd_P(struct gdb_session *s, char *args, size_t len)
{
    struct cpu_state *state = gdb_state(s, s->cpu);
    const char *at = args;
    uint64_t index;

    (void)len;
    if (!state || !hex_number(&at, &index) || *at != '=' || index >= gdb_reg_count()) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    args += at + 1 - args;
    if (strlen(args) != gdb_reg_bytes((unsigned)index) * 2 ||
        !set_reg(state, (unsigned)index, args)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    write_back(s);
}
