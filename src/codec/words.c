/* words.c — see words.h. */
#include "codec/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"

#define BLANKS " \t\r\n"

void words_free(char **words)
{
    for (char **w = words; w && *w; w++) {
        free(*w);
    }
    free(words);
}

/* Behind a '"': up to and with the other. */
static const char *take_double(const char *at, struct buf *out)
{
    while (*at && *at != '"') {
        if (*at == '\\' && at[1] == '\n') {
            at += 2;
            continue;
        }
        if (*at == '\\' && at[1] && strchr("$`\"\\", at[1])) {
            at++;
        }
        buf_append_u8(out, (uint8_t)*at++);
    }
    return *at ? at + 1 : NULL;
}

/* A word up to the blank behind it; NULL: a quote, or a '\' at the very end, lacks its end. */
static const char *take_word(const char *at, struct buf *out)
{
    while (at && *at && !strchr(BLANKS, *at)) {
        const char *end;

        switch (*at) {
        case '\'':
            end = strchr(at + 1, '\'');
            if (end) {
                buf_append(out, at + 1, (size_t)(end - at - 1));
                end++;
            }
            at = end;
            break;
        case '"': at = take_double(at + 1, out); break;
        case '\\':
            if (at[1] != '\n') {
                buf_append(out, at + 1, at[1] != 0);
            }
            at = at[1] ? at + 2 : NULL;
            break;
        default: buf_append_u8(out, (uint8_t)*at++); break;
        }
    }
    return at;
}

/* Puts `word` behind the `count` that are there; -ENOMEM, and it is gone. */
static int add_word(char ***words, size_t count, char *word)
{
    char **more = realloc(*words, (count + 2) * sizeof(*more));

    if (more) {
        *words = more;
    }
    if (!more || !word) {
        free(word);
        return -ENOMEM;
    }
    more[count] = word;
    more[count + 1] = NULL;
    return 0;
}

int words_split(const char *text, char ***ret_words, struct err *err)
{
    char **words = calloc(1, sizeof(*words));
    size_t count = 0;
    int r = words ? 0 : -ENOMEM;

    for (const char *at = text + strspn(text, BLANKS); r == 0 && *at; at += strspn(at, BLANKS)) {
        AUTO_CALL(buf_fini) struct buf word = {0};

        at = take_word(at, &word);
        if (!at) {
            words_free(words);
            return err_set(err, -EINVAL, "'%s': a quote or a '\\' lacks its end", text);
        }
        r = add_word(&words, count++, buf_status(&word) < 0 ? NULL : strdup(buf_str(&word)));
    }
    if (r < 0) {
        words_free(words);
        return err_set(err, r, "command: out of memory");
    }
    *ret_words = words;
    return 0;
}

char **words_copy(char *const *words)
{
    char **copy = calloc(1, sizeof(*copy));

    for (size_t i = 0; copy && words[i]; i++) {
        if (add_word(&copy, i, strdup(words[i])) < 0) {
            words_free(copy);
            return NULL;
        }
    }
    return copy;
}
