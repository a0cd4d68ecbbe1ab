/* console_test.c — the tail survives, watched lines are seen once and whole. */
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "host/console.h"
#include "tests/lib/test.h"

static void put(struct console *c, const char *text)
{
    const struct tty_port *port = console_port(c);

    port->write(port->owner, text, strlen(text));
}

static void seen(void *owner, const char *text)
{
    char *log = owner;

    (void)strcat(log, text);
    (void)strcat(log, "|");
}

TEST(host, console_watches_lines_that_arrive_in_pieces)
{
    struct console_config config = {.log_fd = -1, .echo_fd = -1};
    struct console *c = NULL;
    struct err err = {0};
    char log[256] = "";
    char tail[64];

    CHECK_OK(console_new(&config, &c, &err), &err);
    CHECK_INT(console_watch(c, "Kernel panic", seen, log), 0);
    put(c, "[ 1.0] Kernel pa");
    CHECK_STR(log, "");
    put(c, "nic - not syncing\r\nKernel fine\n");
    CHECK_STR(log, "[ 1.0] Kernel panic - not syncing|");
    console_tail(c, tail, sizeof(tail));
    CHECK_STR(tail, "[ 1.0] Kernel panic - not syncing\r\nKernel fine\n");
    console_free(c);
    console_free(NULL);
}

TEST(host, console_tail_begins_with_a_whole_line)
{
    int fds[2];
    struct console *c = NULL;
    struct err err = {0};
    char tail[64];
    char byte;

    CHECK_INT(pipe(fds), 0);
    CHECK_OK(console_new(&(struct console_config){.log_fd = fds[1], .echo_fd = -1}, &c, &err),
             &err);
    for (int i = 0; i < 5000; i++) {
        char line[32];

        (void)snprintf(line, sizeof(line), "line %05d\n", i);
        put(c, line);
        for (size_t n = 0; n < strlen(line); n++) {
            CHECK_INT(read(fds[0], &byte, 1), 1);
        }
    }
    console_tail(c, tail, sizeof(tail));
    CHECK(strncmp(tail, "line 04995\n", 11) == 0 || strncmp(tail, "line 04994\n", 11) == 0);
    CHECK_HAS(tail, "line 04999\n");
    console_free(c);
    CHECK_INT(read(fds[0], &byte, 1), 0);
    (void)close(fds[0]);
}
