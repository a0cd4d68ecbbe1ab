/* cmdline.c — the kernel's command line: the user's words, then what the machine's devices add,
 * then the words for the init (behind " -- "), which stay last. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "machine/machine_int.h"

/* COMMAND_LINE_SIZE of an x86 kernel, without the NUL. */
#define CMDLINE_MAX 2047u

static int check_len(const struct machine *m, size_t more, struct err *err)
{
    if (m->tells_devices && m->cmdline.len + more > CMDLINE_MAX) {
        return err_set(err, -E2BIG,
                       "Invalid kernel command line: inserting string would make command line too "
                       "long");
    }
    return buf_status(&m->cmdline) < 0 ? err_set(err, -ENOMEM, "command line: out of memory") : 0;
}

/* The first " -- " that is not between double quotes, NULL if there is none. */
static const char *find_separator(const char *text)
{
    bool is_quoted = false;

    for (; *text; text++) {
        is_quoted ^= *text == '"';
        if (!is_quoted && strncmp(text, " -- ", 4) == 0) {
            return text;
        }
    }
    return NULL;
}

int machine_cmdline_begin(struct machine *m, const struct vm_config *config, struct err *err)
{
    const char *text = config->cmdline ? config->cmdline : "";
    const char *end;

    m->tells_devices = config->tells_devices;
    m->init_args = "";
    if (!m->tells_devices) {
        buf_append_str(&m->cmdline, text);
        return check_len(m, 0, err);
    }
    end = find_separator(text);
    if (end) {
        m->init_args = end;
    } else {
        end = text + strlen(text);
    }
    while (text < end && isspace((unsigned char)*text)) {
        text++;
    }
    while (text < end && isspace((unsigned char)end[-1])) {
        end--;
    }
    buf_append(&m->cmdline, text, (size_t)(end - text));
    return config->has_pci ? 0 : machine_cmdline_add(m, err, "pci=off");
}

int machine_cmdline_add(struct machine *m, struct err *err, const char *fmt, ...)
{
    char word[256];
    va_list ap;

    if (!m->tells_devices) {
        return 0;
    }
    va_start(ap, fmt);
    (void)vsnprintf(word, sizeof(word), fmt, ap);
    va_end(ap);
    if (m->cmdline.len > 0) {
        buf_append_str(&m->cmdline, " ");
    }
    buf_append_str(&m->cmdline, word);
    return check_len(m, 0, err);
}

int machine_cmdline_end(struct machine *m, struct err *err)
{
    size_t len = strlen(m->init_args);

    while (len > 0 && isspace((unsigned char)m->init_args[len - 1])) {
        len--;
    }
    buf_append(&m->cmdline, m->init_args, len);
    return check_len(m, 0, err);
}
