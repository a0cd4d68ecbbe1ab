/* metrics_test.c — a line says what was counted since the line before, with every key in its place.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics/metrics.h"
#include "tests/lib/test.h"

#define DIR_TEMPLATE "/tmp/ec1-metrics-XXXXXX"

static char g_dir[sizeof(DIR_TEMPLATE)];
static char g_path[sizeof(DIR_TEMPLATE) + 8];

static void begin(void)
{
    metrics_reset();
    strcpy(g_dir, DIR_TEMPLATE);
    assert_non_null(mkdtemp(g_dir));
    snprintf(g_path, sizeof(g_path), "%s/m", g_dir);
}

static void end(void)
{
    metrics_reset();
    (void)unlink(g_path);
    (void)rmdir(g_dir);
}

static void open_plain(void)
{
    struct metrics_options options = {.path = g_path};
    struct err err = {0};

    CHECK_OK(metrics_open(&options, &err), &err);
}

/* Write a line and read the n-th of the file. */
static json_t *nth_line(unsigned n)
{
    static char text[256 * 1024];
    json_t *line;
    char *at = text;
    ssize_t len;
    int fd = open(g_path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    len = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    assert_true(len > 0);
    text[len] = '\0';
    CHECK(text[len - 1] == '\n');
    while (n-- > 0) {
        at = strchr(at, '\n');
        assert_non_null(at);
        at++;
    }
    *strchr(at, '\n') = '\0';
    line = json_loads(at, 0, NULL);
    assert_non_null(line);
    return line;
}

static long long number(const json_t *line, const char *group, const char *name)
{
    const json_t *value = json_object_get(json_object_get(line, group), name);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void check_keys(json_t *object, const char *want)
{
    char got[2048] = "";
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        strcat(got, key);
        strcat(got, " ");
    }
    CHECK_STR(got, want);
}

TEST(metrics, a_line_has_all_groups_in_their_order)
{
    json_t *line;

    begin();
    open_plain();
    (void)metrics_net("eth0");
    (void)metrics_block("rootfs");
    (void)metrics_block("data");
    (void)metrics_pmem("p");
    (void)metrics_vhost_user_block("vub");
    CHECK_INT(metrics_write(), 0);
    line = nth_line(0);
    check_keys(line, "utc_timestamp_ms api_server balloon block_data block_rootfs block "
                     "deprecated_api get_api_requests i8042 uart latencies_us logger mmds net_eth0 "
                     "net patch_api_requests put_api_requests seccomp vcpu vmm signals vsock "
                     "entropy pmem_p pmem vhost_user_block_vub interrupts memory_hotplug ");
    check_keys(
        json_object_get(line, "uart"),
        "error_count flush_count missed_read_count missed_write_count read_count write_count "
        "rate_limiter_dropped_bytes ");
    check_keys(json_object_get(json_object_get(line, "vcpu"), "exit_io_in_agg"),
               "min_us max_us sum_us ");
    CHECK(json_integer_value(json_object_get(line, "utc_timestamp_ms")) > 1500000000000LL);
    json_decref(line);
    end();
}

TEST(metrics, counters_show_what_is_new_and_stores_what_is_last)
{
    json_t *line;

    begin();
    open_plain();
    metric_add(&g_metrics.i8042.read_count, 5);
    metric_set(&g_metrics.latencies_us.pause_vm, 70);
    metric_time(&g_metrics.vcpu.exit_io_in_agg, 9);
    metric_time(&g_metrics.vcpu.exit_io_in_agg, 4);
    CHECK_INT(metrics_write(), 0);
    metric_inc(&g_metrics.i8042.read_count);
    CHECK_INT(metrics_write(), 0);
    line = nth_line(0);
    CHECK_INT(number(line, "i8042", "read_count"), 5);
    CHECK_INT(json_integer_value(json_object_get(
                  json_object_get(json_object_get(line, "vcpu"), "exit_io_in_agg"), "sum_us")),
              13);
    json_decref(line);
    line = nth_line(1);
    CHECK_INT(number(line, "i8042", "read_count"), 1);
    CHECK_INT(number(line, "latencies_us", "pause_vm"), 70);
    CHECK_INT(json_integer_value(json_object_get(
                  json_object_get(json_object_get(line, "vcpu"), "exit_io_in_agg"), "min_us")),
              4);
    CHECK_INT(json_integer_value(json_object_get(
                  json_object_get(json_object_get(line, "vcpu"), "exit_io_in_agg"), "sum_us")),
              0);
    json_decref(line);
    end();
}

TEST(metrics, devices_are_found_by_id_and_summed)
{
    struct metrics_block *a;
    json_t *line;

    begin();
    open_plain();
    a = metrics_block("a");
    CHECK(a == metrics_block("a"));
    CHECK(a != metrics_block("b"));
    metric_add(&a->read_bytes, 512);
    metric_add(&metrics_block("b")->read_bytes, 1024);
    metric_time(&a->write_agg, 7);
    CHECK_INT(metrics_write(), 0);
    line = nth_line(0);
    CHECK_INT(number(line, "block_a", "read_bytes"), 512);
    CHECK_INT(number(line, "block_b", "read_bytes"), 1024);
    CHECK_INT(number(line, "block", "read_bytes"), 1536);
    CHECK_INT(json_integer_value(json_object_get(
                  json_object_get(json_object_get(line, "block"), "write_agg"), "sum_us")),
              7);
    json_decref(line);
    end();
}

TEST(metrics, no_number_of_devices_overflows_a_line)
{
    char id[200];

    begin();
    open_plain();
    memset(id, 'x', sizeof(id));
    for (unsigned i = 0; i < METRICS_DEVICES_MAX; i++) {
        struct metrics_net *net;

        (void)snprintf(id, sizeof(id), "%0190u", i);
        net = metrics_net(id);
        memset(net, 0xff, sizeof(*net) / 2); /* the longest numbers */
    }
    CHECK(metrics_net("one more") == metrics_net("and another"));
    CHECK_INT(metrics_write(), 0);
    CHECK_INT(metric_get(&g_metrics.logger.metrics_fails), 0);
    end();
}

TEST(metrics, id_and_properties_follow_the_time)
{
    struct metrics_options options = {
        .path = g_path, .id = "vm-1", .properties_json = "{\"az\":\"x\\\"y\"}"};
    struct err err = {0};
    json_t *line;

    begin();
    CHECK_OK(metrics_open(&options, &err), &err);
    CHECK_INT(metrics_open(&options, &err), -EALREADY);
    CHECK_INT(metrics_write(), 0);
    line = nth_line(0);
    CHECK_STR(json_string_value(json_object_get(line, "id")), "vm-1");
    CHECK_STR(json_string_value(json_object_get(json_object_get(line, "properties"), "az")),
              "x\"y");
    json_decref(line);
    end();
}

TEST(metrics, a_full_pipe_loses_lines_and_counts_them)
{
    unsigned lost = 0;

    begin();
    CHECK_INT(mkfifo(g_path, 0600), 0);
    open_plain();
    for (unsigned i = 0; i < 100; i++) {
        lost += metrics_write() < 0;
    }
    CHECK(lost > 50); /* 64 KiB hold fewer than 50 lines */
    CHECK_INT(metric_get(&g_metrics.logger.missed_metrics_count), lost);
    end();
}

TEST(metrics, a_destination_that_cannot_be_opened_can_be_tried_again)
{
    struct metrics_options options = {.path = "/nonexistent/m"};
    struct err err = {0};

    begin();
    CHECK_INT(metrics_write(), 0);
    CHECK_INT(metrics_open(&options, &err), -ENOENT);
    CHECK(!metrics_is_open());
    open_plain();
    CHECK_INT(metrics_write(), 0);
    end();
}
