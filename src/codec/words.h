/* words.h — a command in one line of text, as a shell would take it apart: blanks between words,
 * '...' as it is, "..." with \\ before $ ` " \\ and the end of a line, \\ before any other
 * character. Nothing is expanded.
 */
#pragma once

#include "base/err.h"

/* *ret_words ends with NULL; words_free() it.  -EINVAL with a sentence about a quote without its
 * end. */
int words_split(const char *text, char ***ret_words, struct err *err);
void words_free(char **words);
/* A copy of a list. */
char **words_copy(char *const *words);
