/* debugger.c — see debugger.h. */
#include "vmm/debugger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "gdb/server.h"
#include "machine/debug.h"
#include "machine/machine.h"
#include "vmm/symbols.h"

struct debugger {
    struct machine *machine;
    struct gdb_server *server;
    struct buf command;
};

/* --- the target --- */

_Static_assert((int)GDB_HOLD == (int)MACHINE_DEBUG_HOLD && (int)GDB_RUN == (int)MACHINE_DEBUG_RUN &&
                   (int)GDB_STEP == (int)MACHINE_DEBUG_STEP,
               "the same words");

static bool on_stop(void *owner)
{
    return machine_debug_stop(owner);
}

static bool on_take_stop(void *owner, unsigned *ret_cpu, struct hv_stop *ret_stop)
{
    return machine_debug_take(owner, ret_cpu, ret_stop);
}

static int on_resume(void *owner, const enum gdb_action *actions)
{
    return machine_debug_resume(owner, (const enum machine_debug_action *)actions);
}

static int on_set_breaks(void *owner, const struct hv_debug *debug)
{
    return machine_debug_set(owner, debug);
}

static int on_get_regs(void *owner, unsigned cpu, struct cpu_state *ret_state)
{
    return machine_debug_get_regs(owner, cpu, ret_state);
}

static int on_set_regs(void *owner, unsigned cpu, const struct cpu_state *state)
{
    return machine_debug_set_regs(owner, cpu, state);
}

static void on_kill(void *owner)
{
    machine_stop(owner);
}

static const struct gdb_target_ops g_ops = {
    .stop = on_stop,
    .take_stop = on_take_stop,
    .resume = on_resume,
    .set_breaks = on_set_breaks,
    .get_regs = on_get_regs,
    .set_regs = on_set_regs,
    .kill = on_kill,
};

/* --- the command line --- */

/* For a shell. */
static void append_quoted(struct buf *out, const char *text)
{
    buf_append_str(out, "'");
    for (; *text; text++) {
        if (*text == '\'') {
            buf_append_str(out, "'\\''");
        } else {
            buf_append(out, text, 1);
        }
    }
    buf_append_str(out, "'");
}

/* " -ex 'WORD ARGUMENT'"; for a path in quotes of gdb's own, if it has spaces. */
static void append_do(struct buf *out, const char *word, const char *argument)
{
    struct buf text = {0};

    buf_printf(&text, strchr(argument, ' ') ? "%s \"%s\"" : "%s %s", word, argument);
    buf_append_str(out, " -ex ");
    append_quoted(out, buf_str(&text));
    buf_fini(&text);
}

static void write_command(struct debugger *d, const struct kernel_choice *kernel)
{
    const char *address = gdb_server_address(d->server);
    struct kernel_symbols symbols;

    kernel_symbols_find(kernel, &symbols);
    buf_append_str(&d->command, "gdb");
    if (symbols.source[0]) {
        append_do(&d->command, "directory", symbols.source);
    }
    if (symbols.scripts[0]) {
        append_do(&d->command, "source", symbols.scripts);
    }
    append_do(&d->command, "target remote",
              str_has_prefix(address, "unix:") ? address + strlen("unix:") : address);
    if (symbols.vmlinux[0]) {
        buf_append_str(&d->command, " ");
        append_quoted(&d->command, symbols.vmlinux);
    }
}

int debugger_new(struct machine *machine, const struct kernel_choice *kernel, const char *address,
                 struct debugger **ret_debugger, struct err *err)
{
    struct debugger *d = calloc(1, sizeof(*d));
    struct gdb_target target = {.ops = &g_ops,
                                .owner = machine,
                                .mem = machine_debug_mem(machine),
                                .cpu_count = machine_debug_vcpu_count(machine)};
    int r;

    if (!d) {
        return err_set(err, -ENOMEM, "gdb: out of memory");
    }
    d->machine = machine;
    r = machine_debug_begin(machine, err);
    if (r == 0) {
        target.stop_fd = machine_debug_fd(machine);
        r = gdb_server_new(address, &target, &d->server, err);
    }
    if (r == 0) {
        write_command(d, kernel);
        r = buf_status(&d->command) < 0 ? err_set(err, -ENOMEM, "gdb: out of memory") : 0;
    }
    if (r < 0) {
        debugger_free(d, 0);
        return r;
    }
    *ret_debugger = d;
    return 0;
}

int debugger_start(struct debugger *d, struct err *err)
{
    return gdb_server_start(d->server, err);
}

const char *debugger_command(const struct debugger *d)
{
    return buf_str(&d->command);
}

int64_t debugger_stopped_ns(const struct debugger *d)
{
    return d ? machine_debug_stopped_ns(d->machine) : 0;
}

void debugger_free(struct debugger *d, int status)
{
    if (d) {
        gdb_server_free(d->server, status);
        buf_fini(&d->command);
        free(d);
    }
}
