/* log_test.c — records have their form, go where they should, and never wait. */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/lib/test.h"

static char g_dir[] = "/tmp/ec1-log-XXXXXX";
static char g_path[64];

static void clean_up(void)
{
    static const char *const names[] = {"plain", "full", "filter", "long", "fifo",
                                        "kept",  "old",  "new",    "guest"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(g_path, sizeof(g_path), "%s/%s", g_dir, names[i]);
        (void)unlink(g_path);
    }
    (void)rmdir(g_dir);
}

/* Records to a new file below g_dir.  Once per process: the form stays, like that of the program.
 */
static void begin(const char *name, int fifo)
{
    static bool is_first = true;

    if (is_first) {
        assert_non_null(mkdtemp(g_dir));
        (void)atexit(clean_up);
        log_use_records("my-vm");
        is_first = false;
    }
    (void)snprintf(g_path, sizeof(g_path), "%s/%s", g_dir, name);
    (void)unlink(g_path);
    if (fifo) {
        CHECK_INT(mkfifo(g_path, 0600), 0);
    }
    CHECK_INT(log_open(g_path), 0);
    log_show_level(false);
    log_show_origin(false);
    log_set_module(NULL);
    log_set_level(LOG_INFO);
}

static const char *content(void)
{
    static char text[65536];
    int fd = open(g_path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    assert_true(fd >= 0);
    len = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    assert_true(len >= 0);
    text[len] = '\0';
    return text;
}

static void check_matches(const char *pattern)
{
    const char *text = content();
    regex_t regex;

    CHECK_INT(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&regex, text, 0, NULL, 0) != 0) {
        print_error("'%s' does not match '%s'\n", text, pattern);
        fail();
    }
    regfree(&regex);
}

#define TIME "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9} "

TEST(log, a_record_names_time_vm_and_thread)
{
    char now[32];
    time_t seconds = time(NULL);
    struct tm tm;

    begin("plain", 0);
    log_info("hello %d", 7);
    check_matches(TIME "\\[my-vm:[^:]+\\] hello 7\n$");
    (void)localtime_r(&seconds, &tm);
    (void)strftime(now, sizeof(now), "%Y-%m-%dT%H:", &tm);
    CHECK_HAS(content(), now);
}

TEST(log, level_and_origin_are_shown_on_request)
{
    begin("full", 0);
    log_show_level(true);
    log_show_origin(true);
    log_warn("x");
    check_matches(TIME "\\[my-vm:[^:]+:WARN:src/base/log_test\\.c:[0-9]+\\] x\n$");
}

TEST(log, levels_and_modules_filter)
{
    begin("filter", 0);
    log_debug("too low");
    log_set_module("vmm");
    log_info("of another module");
    log_set_module("base::log_test");
    log_info("one");
    log_set_module("base");
    log_info("two");
    log_set_level(LOG_OFF);
    log_error("off");
    check_matches("^[^\n]* one\n[^\n]* two\n$");
}

TEST(log, names_of_levels_have_any_case)
{
    enum log_level level;

    CHECK_INT(log_level_parse("WARNING", &level), 0);
    CHECK_INT(level, LOG_WARN);
    CHECK_INT(log_level_parse("oFF", &level), 0);
    CHECK_INT(level, LOG_OFF);
    CHECK_INT(log_level_parse("info ", &level), -EINVAL);
}

TEST(log, a_long_message_is_whole)
{
    static char text[20000];

    begin("long", 0);
    memset(text, 'y', sizeof(text) - 1);
    log_info("%s!", text);
    CHECK(strlen(content()) > sizeof(text));
    CHECK_HAS(content(), "y!\n");
}

TEST(log, a_fifo_that_nobody_reads_loses_records_and_counts_them)
{
    static char text[4000];
    _Atomic uint64_t lost = 0;

    begin("fifo", 1);
    memset(text, 'z', sizeof(text) - 1);
    log_set_counters(&lost, NULL);
    for (int i = 0; i < 100; i++) {
        log_info("%s", text);
    }
    log_set_counters(NULL, NULL);
    CHECK(lost > 50);
    CHECK(lost < 100);
}

TEST(log, a_file_that_cannot_be_opened_changes_nothing)
{
    begin("kept", 0);
    CHECK_INT(log_open("/nonexistent/log"), -ENOENT);
    log_info("still here");
    CHECK_HAS(content(), "still here");
}

TEST(log, a_new_file_takes_over)
{
    begin("old", 0);
    begin("new", 0);
    log_info("to the new one");
    CHECK_HAS(content(), "to the new one");
    (void)snprintf(g_path, sizeof(g_path), "%s/old", g_dir);
    CHECK_STR(content(), "");
}

TEST(log, a_site_may_log_ten_times_in_five_seconds)
{
    struct log_site site = {0};
    int64_t now_ns = 1000 * NS_PER_S;
    uint32_t held;

    for (int i = 0; i < LOG_SITE_BURST; i++) {
        CHECK(log_site_pass(&site, now_ns, &held));
    }
    CHECK(!log_site_pass(&site, now_ns, &held));
    CHECK(!log_site_pass(&site, now_ns + 5 * NS_PER_S - 1, &held));
    CHECK(log_site_pass(&site, now_ns + 5 * NS_PER_S, &held));
    CHECK_INT(held, 2);
}

TEST(log, what_a_guest_causes_is_limited_by_place)
{
    _Atomic uint64_t limited = 0;

    begin("guest", 0);
    log_set_counters(NULL, &limited);
    for (int i = 0; i < 25; i++) {
        log_guest(LOG_WARN, "first %d", i);
    }
    log_guest(LOG_WARN, "second");
    log_set_counters(NULL, NULL);
    CHECK_INT(limited, 15);
    CHECK_HAS(content(), "first 9");
    CHECK(!strstr(content(), "first 10"));
    CHECK_HAS(content(), "second");
}
