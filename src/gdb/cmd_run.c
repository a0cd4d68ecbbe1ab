/* cmd_run.c — going on and stopping: c, s, vCont, D, k, ?, and what is said when a CPU stopped. */
#include <errno.h>
#include <string.h>

#include "gdb/hex.h"
#include "gdb/session_int.h"

/* Signals, as gdb numbers them. */
#define SIGNAL_INT  2u
#define SIGNAL_TRAP 5u

static void resume(struct gdb_session *s)
{
    int r;

    s->state_cpu = HV_VCPU_MAX;
    r = s->target->ops->resume(s->target->owner, s->actions);
    s->is_running = r >= 0;
    if (r < 0) {
        gdb_reply_error(s, r);
    }
}

/* --- stops --- */

static void append_reason(struct gdb_session *s, const struct hv_stop *stop)
{
    static const char *const watches[] = {[HV_BREAK_SOFT] = "watch",
                                          [HV_BREAK_HARD] = "watch",
                                          [HV_WATCH_WRITE] = "watch",
                                          [HV_WATCH_READ] = "rwatch",
                                          [HV_WATCH_ACCESS] = "awatch"};

    if (stop->why == HV_STOP_WATCH) {
        buf_printf(&s->reply, "%s:%llx;", watches[stop->at.kind], (unsigned long long)stop->at.la);
    } else if (stop->why == HV_STOP_BREAK && stop->at.kind == HV_BREAK_SOFT && s->tells_swbreak) {
        buf_append_str(&s->reply, "swbreak:;");
    } else if (stop->why == HV_STOP_BREAK && stop->at.kind == HV_BREAK_HARD && s->tells_hwbreak) {
        buf_append_str(&s->reply, "hwbreak:;");
    }
}

static void report(struct gdb_session *s, unsigned signal, unsigned cpu, const struct hv_stop *stop)
{
    s->is_running = false;
    s->cpu = cpu;
    buf_clear(&s->reply);
    buf_printf(&s->reply, "T%02xthread:%x;", signal, cpu + 1);
    append_reason(s, stop);
}

/* A step within the range that gdb wants to leave. */
static bool goes_on(struct gdb_session *s, unsigned cpu, const struct hv_stop *stop)
{
    const struct cpu_state *state;

    if (stop->why != HV_STOP_STEP || s->range.end == 0) {
        return false;
    }
    state = gdb_state(s, cpu);
    return state && state->rip >= s->range.first && state->rip < s->range.end;
}

void gdb_interrupt(struct gdb_session *s)
{
    struct hv_stop stop = {.why = HV_STOP_NONE};
    unsigned cpu = s->cpu;

    if (!s->target->ops->stop(s->target->owner)) {
        s->has_ended = true; /* gdb_session_exited() comes */
        return;
    }
    s->state_cpu = HV_VCPU_MAX;
    if (!s->target->ops->take_stop(s->target->owner, &cpu, &stop)) {
        report(s, SIGNAL_INT, cpu, &stop);
    } else if (goes_on(s, cpu, &stop)) {
        resume(s);
    } else {
        report(s, SIGNAL_TRAP, cpu, &stop);
    }
}

void gdb_cmd_why(struct gdb_session *s, char *args, size_t len)
{
    const struct hv_stop stop = {.why = HV_STOP_NONE};

    (void)args;
    (void)len;
    report(s, SIGNAL_TRAP, s->cpu, &stop);
}

/* --- going on --- */

static void fill(struct gdb_session *s, enum gdb_action action)
{
    for (unsigned i = 0; i < s->target->cpu_count; i++) {
        s->actions[i] = action;
    }
    s->range.end = 0;
}

void gdb_cmd_continue(struct gdb_session *s, char *args, size_t len)
{
    (void)args; /* an address, or a signal for the guest: gdb has vCont and P for the first */
    (void)len;
    fill(s, GDB_RUN);
    resume(s);
}

void gdb_cmd_step(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    fill(s, GDB_HOLD);
    s->actions[s->run_cpu < s->target->cpu_count ? s->run_cpu : s->cpu] = GDB_STEP;
    resume(s);
}

/* One of vCont's actions; moves behind it. */
static bool parse_action(struct gdb_session *s, const char **at, enum gdb_action *ret_action)
{
    uint64_t signal;
    char name = *(*at)++;

    switch (name) {
    case 'c': *ret_action = GDB_RUN; return true;
    case 's': *ret_action = GDB_STEP; return true;
    case 'C':
    case 'S': *ret_action = name == 'C' ? GDB_RUN : GDB_STEP; return hex_number(at, &signal);
    case 'r':
        *ret_action = GDB_STEP;
        return hex_number(at, &s->range.first) && *(*at)++ == ',' && hex_number(at, &s->range.end);
    default: return false;
    }
}

/* "ACTION[:THREAD];...": the leftmost that names a thread, or all, is the one for it. */
void gdb_cmd_vcont(struct gdb_session *s, char *args, size_t len)
{
    bool is_set[HV_VCPU_MAX] = {false};
    const char *at = args;

    (void)len;
    fill(s, GDB_HOLD);
    do {
        unsigned cpu = s->target->cpu_count;
        enum gdb_action action;

        if (!parse_action(s, &at, &action)) {
            gdb_reply_error(s, EINVAL);
            return;
        }
        if (*at == ':') {
            at++;
            if (!gdb_parse_thread(s, &at, &cpu)) {
                gdb_reply_error(s, EINVAL);
                return;
            }
        }
        for (unsigned i = 0; i < s->target->cpu_count; i++) {
            if ((i == cpu || cpu == s->target->cpu_count) && !is_set[i]) {
                s->actions[i] = action;
                is_set[i] = true;
            }
        }
    } while (*at++ == ';');
    if (at[-1]) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    resume(s);
}

void gdb_cmd_detach(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    s->breaks.count = 0;
    (void)s->target->ops->set_breaks(s->target->owner, &s->breaks);
    fill(s, GDB_RUN);
    resume(s);
    s->is_running = false;
    s->is_detached = true;
    s->is_over = true;
    buf_clear(&s->reply);
    gdb_reply_ok(s);
}

void gdb_cmd_kill(struct gdb_session *s, char *args, size_t len)
{
    (void)args;
    (void)len;
    s->target->ops->kill(s->target->owner);
    s->has_ended = true;
    s->is_over = true;
    gdb_reply_ok(s);
}
