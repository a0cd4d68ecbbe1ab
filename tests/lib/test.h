/* test.h — unit tests: TEST(room, promise) registers itself, CHECK_* say what must hold.
 *
 * One program per room links every <file>_test.c of it with tests/lib/main.c, on cmocka.  A test
 * that cannot run here calls SKIP("why").  Parsers and devices use tables of vectors.
 */
#pragma once

/* cmocka.h wants these before it. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/err.h"

void test_register(const char *name, void (*fn)(void **state));

#define TEST(room, promise)                                                    \
    static void test_##room##_##promise(void **state);                         \
    __attribute__((constructor)) static void register_##room##_##promise(void) \
    {                                                                          \
        test_register(#room ": " #promise, test_##room##_##promise);           \
    }                                                                          \
    static void test_##room##_##promise(void **state __attribute__((unused)))

#define CHECK(cond)               assert_true(cond)
#define CHECK_INT(got, want)      assert_int_equal(got, want)
#define CHECK_STR(got, want)      assert_string_equal(got, want)
#define CHECK_MEM(got, want, len) assert_memory_equal(got, want, len)
/* `text` contains `part`. */
#define CHECK_HAS(text, part)                                         \
    do {                                                              \
        const char *text_ = (text);                                   \
        if (!strstr(text_, part)) {                                   \
            print_error("'%s' does not contain '%s'\n", text_, part); \
            fail();                                                   \
        }                                                             \
    } while (0)
/* A call that returns 0 on success; shows the sentence of `err` otherwise. */
#define CHECK_OK(call, err)                                        \
    do {                                                           \
        int r_ = (call);                                           \
        if (r_ < 0) {                                              \
            print_error("%s: %d: %s\n", #call, r_, err_text(err)); \
            fail();                                                \
        }                                                          \
    } while (0)
#define SKIP(why)                            \
    do {                                     \
        print_message("skipped: %s\n", why); \
        skip();                              \
    } while (0)
