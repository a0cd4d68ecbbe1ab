/* words_test.c — commands taken apart. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "codec/words.h"
#include "tests/lib/test.h"

static void join(char **words, char *out, size_t size)
{
    out[0] = 0;
    for (; *words; words++) {
        strncat(out, "<", size - strlen(out) - 1);
        strncat(out, *words, size - strlen(out) - 1);
        strncat(out, ">", size - strlen(out) - 1);
    }
}

TEST(codec, words_of_a_command)
{
    static const struct {
        const char *text, *want;
    } table[] = {
        {"", ""},
        {" \t\n ", ""},
        {"touch  'foo bar' ", "<touch><foo bar>"},
        {"a'b'\"c\"d", "<abcd>"},
        {"'' \"\"", "<><>"},
        {"'a\\b' \"\\$\\`\\\"\\\\\\n\" \\x\\ y", "<a\\b><$`\"\\\\n><x y>"},
        {"a\\\nb \"c\\\nd\"", "<ab><cd>"},
        {"$HOME *", "<$HOME><*>"},
        {"gr\xc3\xbc\xc3\x9f", "<gr\xc3\xbc\xc3\x9f>"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char **words;
        char **copy;
        char seen[64];

        CHECK_INT(words_split(table[i].text, &words, NULL), 0);
        copy = words_copy(words);
        words_free(words);
        join(copy, seen, sizeof(seen));
        CHECK_STR(seen, table[i].want);
        words_free(copy);
    }
}

TEST(codec, words_without_an_end)
{
    static const char *const table[] = {"'a", "a \"b", "a\\", "\"\\\""};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char **words;
        struct err err = {0};

        CHECK_INT(words_split(table[i], &words, &err), -EINVAL);
        CHECK_HAS(err.text, "lacks its end");
        CHECK_HAS(err.text, table[i]);
    }
}
