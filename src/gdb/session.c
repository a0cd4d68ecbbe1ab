/* session.c — packets to their handlers, and answers out. */
#include "gdb/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "gdb/hex.h"
#include "gdb/session_int.h"

/* --- answers --- */

void gdb_reply_error(struct gdb_session *s, int error)
{
    buf_clear(&s->reply);
    buf_printf(&s->reply, "E%02x", (unsigned)(error < 0 ? -error : error) & 0xff);
}

void gdb_reply_ok(struct gdb_session *s)
{
    buf_append_str(&s->reply, "OK");
}

static void send_reply(struct gdb_session *s)
{
    buf_clear(&s->sent);
    gdb_put_packet(&s->sent, s->reply.data, s->reply.len);
    buf_append(&s->out, s->sent.data, s->sent.len);
    buf_clear(&s->reply);
    if (buf_status(&s->reply) < 0 || buf_status(&s->sent) < 0 || buf_status(&s->out) < 0) {
        s->is_over = true;
    }
}

/* --- registers --- */

struct cpu_state *gdb_state(struct gdb_session *s, unsigned cpu)
{
    if (s->state_cpu != cpu) {
        s->state_cpu = HV_VCPU_MAX;
        if (s->target->ops->get_regs(s->target->owner, cpu, &s->state) < 0) {
            return NULL;
        }
        s->state_cpu = cpu;
    }
    return &s->state;
}

int gdb_state_write(struct gdb_session *s)
{
    unsigned cpu = s->state_cpu;

    s->state_cpu = HV_VCPU_MAX; /* what it made of them is asked for anew */
    return s->target->ops->set_regs(s->target->owner, cpu, &s->state);
}

/* --- threads --- */

static bool parse_id(struct gdb_session *s, const char **at, unsigned *ret_cpu)
{
    uint64_t id;

    if (strncmp(*at, "-1", 2) == 0) {
        *at += 2;
        *ret_cpu = s->target->cpu_count;
        return true;
    }
    if (!hex_number(at, &id) || id > s->target->cpu_count) {
        return false;
    }
    *ret_cpu = id ? (unsigned)id - 1 : s->cpu;
    return true;
}

bool gdb_parse_thread(struct gdb_session *s, const char **at, unsigned *ret_cpu)
{
    unsigned process;

    if (**at != 'p') {
        return parse_id(s, at, ret_cpu);
    }
    ++*at;
    if (!parse_id(s, at, &process)) {
        return false;
    }
    if (**at != '.') { /* all threads of the process */
        *ret_cpu = s->target->cpu_count;
        return true;
    }
    ++*at;
    return parse_id(s, at, ret_cpu);
}

/* --- commands --- */

static void cmd_no_acks(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    gdb_reply_ok(s);
    s->has_no_acks = true;
}

static void cmd_attached(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    buf_append_str(&s->reply, "1"); /* so that `quit` detaches */
}

static void cmd_actions(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    buf_append_str(&s->reply, "vCont;c;C;s;S;r");
}

static void cmd_no_more_threads(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    buf_append_str(&s->reply, "l");
}

/* The first that fits is taken. */
static const struct {
    const char *name;
    gdb_command_fn fn;
} g_commands[] = {
    {"?", gdb_cmd_why},
    {"g", gdb_cmd_g},
    {"G", gdb_cmd_G},
    {"p", gdb_cmd_p},
    {"P", gdb_cmd_P},
    {"m", gdb_cmd_m},
    {"M", gdb_cmd_M},
    {"X", gdb_cmd_X},
    {"Z", gdb_cmd_Z},
    {"z", gdb_cmd_z},
    {"c", gdb_cmd_continue},
    {"C", gdb_cmd_continue},
    {"s", gdb_cmd_step},
    {"S", gdb_cmd_step},
    {"D", gdb_cmd_detach},
    {"k", gdb_cmd_kill},
    {"H", gdb_cmd_thread_choose},
    {"T", gdb_cmd_thread_alive},
    {"vCont?", cmd_actions},
    {"vCont;", gdb_cmd_vcont},
    {"vKill;", gdb_cmd_kill},
    {"qSupported", gdb_cmd_supported},
    {"qXfer:features:read:", gdb_cmd_features},
    {"qfThreadInfo", gdb_cmd_threads},
    {"qsThreadInfo", cmd_no_more_threads},
    {"qThreadExtraInfo,", gdb_cmd_thread_info},
    {"qC", gdb_cmd_thread_now},
    {"qAttached", cmd_attached},
    {"qRcmd,", gdb_cmd_monitor},
    {"QStartNoAckMode", cmd_no_acks},
};

/* What nobody knows is answered with nothing: so it says that it is not supported. */
static void dispatch(struct gdb_session *s, char *data, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(g_commands); i++) {
        size_t name_len = strlen(g_commands[i].name);

        if (len >= name_len && memcmp(data, g_commands[i].name, name_len) == 0) {
            g_commands[i].fn(s, data + name_len, len - name_len);
            return;
        }
    }
}

static void packet(struct gdb_session *s)
{
    s->has_talked = true;
    if (!s->has_no_acks) {
        buf_append_str(&s->out, "+");
    }
    if (s->is_running) {
        gdb_reply_error(s, EBUSY); /* gdb waits until the guest stops */
        send_reply(s);
        return;
    }
    dispatch(s, s->reader.data, s->reader.len);
    if (!s->is_running) { /* else the stop will be the answer */
        send_reply(s);
    }
}

static void byte_in(struct gdb_session *s, uint8_t byte)
{
    switch (gdb_read_byte(&s->reader, byte)) {
    case GDB_INPUT_MORE: break;
    case GDB_INPUT_PACKET: packet(s); break;
    case GDB_INPUT_BAD: buf_append_str(&s->out, s->has_no_acks ? "" : "-"); break;
    case GDB_INPUT_REPEAT: buf_append(&s->out, s->sent.data, s->sent.len); break;
    case GDB_INPUT_BROKEN: s->is_over = true; break;
    case GDB_INPUT_INTERRUPT:
        if (s->is_running) {
            gdb_interrupt(s);
            if (!s->is_running) {
                send_reply(s);
            }
        }
        break;
    }
}

void gdb_session_input(struct gdb_session *s, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len && !s->is_over; i++) {
        byte_in(s, bytes[i]);
    }
}

void gdb_session_stopped(struct gdb_session *s)
{
    if (s->is_running) {
        gdb_interrupt(s);
        if (!s->is_running) {
            send_reply(s);
        }
    }
}

void gdb_session_exited(struct gdb_session *s, int status)
{
    if (s->is_running && !s->is_over) {
        buf_clear(&s->reply);
        buf_printf(&s->reply, "W%02x", (unsigned)status & 0xff);
        send_reply(s);
    }
    s->has_ended = true;
    s->is_over = true;
}

struct buf *gdb_session_output(struct gdb_session *s)
{
    return &s->out;
}

bool gdb_session_is_over(const struct gdb_session *s)
{
    return s->is_over;
}

bool gdb_session_has_talked(const struct gdb_session *s)
{
    return s->has_talked;
}

struct gdb_session *gdb_session_new(const struct gdb_target *target)
{
    struct gdb_session *s = calloc(1, sizeof(*s));

    if (s) {
        s->target = target;
        s->run_cpu = target->cpu_count;
        s->state_cpu = HV_VCPU_MAX;
    }
    return s;
}

void gdb_session_free(struct gdb_session *s, bool is_to_wait)
{
    char none[] = "";

    if (!s) {
        return;
    }
    if (s->is_running && !s->has_ended) {
        s->has_ended = !s->target->ops->stop(s->target->owner);
    }
    if (!s->has_ended && !s->is_detached && !is_to_wait) {
        gdb_cmd_detach(s, none, 0);
    }
    buf_fini(&s->out);
    buf_fini(&s->reply);
    buf_fini(&s->sent);
    free(s);
}
