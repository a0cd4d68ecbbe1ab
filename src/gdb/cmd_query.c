/* cmd_query.c — what the stub can do, which CPUs there are. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gdb/hex.h"
#include "gdb/regs.h"
#include "gdb/session_int.h"

void gdb_cmd_supported(struct gdb_session *s, char *args, size_t len)
{
    (void)len;
    s->tells_swbreak = strstr(args, "swbreak+") != NULL;
    s->tells_hwbreak = strstr(args, "hwbreak+") != NULL;
    buf_printf(&s->reply,
               "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
               "swbreak+;hwbreak+",
               GDB_PACKET_MAX);
}

/* "target.xml:OFFSET,LENGTH" */
void gdb_cmd_features(struct gdb_session *s, char *args, size_t len)
{
    static const char name[] = "target.xml:";
    const char *at = args + strlen(name);
    struct buf text = {0};
    uint64_t offset;
    uint64_t count;

    (void)len;
    if (strncmp(args, name, strlen(name)) != 0 || !hex_number(&at, &offset) || *at++ != ',' ||
        !hex_number(&at, &count) || *at) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    gdb_reg_describe(&text);
    offset = offset < text.len ? offset : text.len;
    count = count < GDB_PACKET_MAX / 2 ? count : GDB_PACKET_MAX / 2;
    count = count < text.len - offset ? count : text.len - offset;
    buf_append_str(&s->reply, offset + count == text.len ? "l" : "m");
    buf_append(&s->reply, text.data + offset, count);
    buf_fini(&text);
}

void gdb_cmd_threads(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    for (unsigned i = 0; i < s->target->cpu_count; i++) {
        buf_printf(&s->reply, "%c%x", i ? ',' : 'm', i + 1);
    }
}

/* One thread, not all of them. */
static bool parse_one(struct gdb_session *s, const char *at, unsigned *ret_cpu)
{
    return gdb_parse_thread(s, &at, ret_cpu) && !*at && *ret_cpu < s->target->cpu_count;
}

static const char *doing(const struct cpu_state *state)
{
    static const char *const texts[] = {
        [CPU_RUNNABLE] = "running", [CPU_HALTED] = "halted", [CPU_WAIT_FOR_SIPI] = "not started"};

    return state ? texts[state->run_state] : "unknown";
}

void gdb_cmd_thread_info(struct gdb_session *s, char *args, size_t len)
{
    char text[64];
    unsigned cpu;

    (void)len;
    if (!parse_one(s, args, &cpu)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    (void)snprintf(text, sizeof(text), "CPU %u, %s", cpu, doing(gdb_state(s, cpu)));
    hex_append(&s->reply, text, strlen(text));
}

void gdb_cmd_thread_now(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    buf_printf(&s->reply, "QC%x", s->cpu + 1);
}

void gdb_cmd_thread_alive(struct gdb_session *s, char *args, size_t len)
{
    unsigned cpu;

    (void)len;
    if (parse_one(s, args, &cpu)) {
        gdb_reply_ok(s);
    } else {
        gdb_reply_error(s, EINVAL);
    }
}

/* "gTHREAD": for registers and memory; "cTHREAD": for c and s. */
void gdb_cmd_thread_choose(struct gdb_session *s, char *args, size_t len)
{
    const char *at = args + 1;
    unsigned cpu;

    if (len == 0 || !gdb_parse_thread(s, &at, &cpu) || *at) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    if (args[0] == 'c') {
        s->run_cpu = cpu;
    } else if (cpu < s->target->cpu_count) {
        s->cpu = cpu;
    }
    gdb_reply_ok(s);
}
