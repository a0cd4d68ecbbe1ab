/* monitor.c — what `monitor` of gdb's prompt understands.
 *
 * Linux's gdb scripts ask for `info version` to learn how CPUs are numbered: an answer tells them
 * that thread n is CPU n - 1.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "gdb/hex.h"
#include "gdb/session_int.h"
#include "hv/walk.h"

#define COMMAND_MAX 256u

static void say_version(struct gdb_session *s, const char *args, struct buf *out)
{
    (void)args;
    buf_printf(out, "ec1, %u CPU%s\n", s->target->cpu_count, s->target->cpu_count == 1 ? "" : "s");
}

static void translate(struct gdb_session *s, const char *args, struct buf *out)
{
    const struct cpu_state *state = gdb_state(s, s->cpu);
    struct walk_root root;
    uint64_t la;
    gpa_t gpa;

    args += strncmp(args, "0x", 2) == 0 ? 2 : 0;
    if (!state || !hex_number(&args, &la) || *args) {
        buf_append_str(out, "translate: which address? It is hexadecimal\n");
        return;
    }
    root = walk_root_of(state);
    if (walk_linear(s->target->mem, &root, la, &gpa) < 0) {
        buf_append_str(out, "not mapped\n");
    } else {
        buf_printf(out, "physical 0x%llx\n", (unsigned long long)gpa.v);
    }
}

static void help(struct gdb_session *s, const char *args, struct buf *out);

static const struct {
    const char *name;
    const char *what;
    void (*fn)(struct gdb_session *s, const char *args, struct buf *out);
} g_words[] = {
    {"help", "this list", help},
    {"info version", "what this is", say_version},
    {"translate ", "ADDRESS: where the chosen CPU's page tables lead", translate},
};

static void help(struct gdb_session *s, const char *args, struct buf *out)
{
    (void)s;
    (void)args;
    for (size_t i = 0; i < ARRAY_LEN(g_words); i++) {
        buf_printf(out, "%-13s %s\n", g_words[i].name, g_words[i].what);
    }
}

void gdb_cmd_monitor(struct gdb_session *s, char *args, size_t len)
{
    char text[COMMAND_MAX + 1] = "";
    struct buf out = {0};
    size_t i = 0;

    if (len / 2 > COMMAND_MAX || !hex_bytes(args, (uint8_t *)text, len / 2)) {
        gdb_reply_error(s, EINVAL);
        return;
    }
    while (i < ARRAY_LEN(g_words) && !strstr(text, g_words[i].name)) {
        i++;
    }
    if (i < ARRAY_LEN(g_words) && strstr(text, g_words[i].name) == text) {
        g_words[i].fn(s, text + strlen(g_words[i].name), &out);
    } else {
        buf_printf(&out, "monitor: no such command; there are:\n");
        help(s, text, &out);
    }
    hex_append(&s->reply, out.data, out.len);
    buf_fini(&out);
}
