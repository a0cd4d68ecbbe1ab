/* route_test.c — from requests to actions, and the order in which they are refused. */
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "api/route.h"
#include "base/bits.h"
#include "tests/lib/test.h"

static int route(const char *method, const char *path, const char *body, struct api_call *call,
                 struct err *err)
{
    struct http1_parser parser;
    struct http1_request request = {0};
    struct buf text = {0};
    size_t used;
    int r;

    buf_printf(&text, "%s %s HTTP/1.1\r\n", method, path);
    if (body) {
        buf_printf(&text, "Content-Length: %zu\r\n", strlen(body));
    }
    buf_printf(&text, "\r\n%s", body ? body : "");
    http1_parser_init(&parser, 51200);
    CHECK_INT(http1_feed(&parser, text.data, text.len, &used, &request, err), HTTP1_READY);
    CHECK_INT(used, text.len);
    r = api_route(&request, call, err);
    http1_request_fini(&request);
    http1_parser_fini(&parser);
    buf_fini(&text);
    return r;
}

TEST(route, paths_and_methods_become_actions)
{
    static const struct {
        const char *method, *path, *body;
        enum action_kind kind;
    } cases[] = {
        {"GET", "/", NULL, ACTION_GET_INSTANCE},
        {"GET", "//version/x/", NULL, ACTION_GET_VERSION},
        {"GET", "http://localhost/vm/config", NULL, ACTION_GET_CONFIG},
        {"PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", ACTION_START},
        {"PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}", ACTION_FLUSH_METRICS},
        {"PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}", ACTION_SEND_CTRL_ALT_DEL},
        {"GET", "/balloon", NULL, ACTION_GET_BALLOON},
        {"GET", "/balloon/statistics", NULL, ACTION_GET_BALLOON_STATS},
        {"GET", "/balloon/hinting/status", NULL, ACTION_GET_HINTING},
        {"PATCH", "/balloon/hinting/start", NULL, ACTION_START_HINTING},
        {"PATCH", "/balloon/hinting/stop", "rubbish", ACTION_STOP_HINTING},
        {"PATCH", "/balloon/whatever", "{\"amount_mib\":1}", ACTION_PATCH_BALLOON},
        {"PUT", "/mmds", "[1]", ACTION_PUT_MMDS},
        {"DELETE", "/drives/a", NULL, ACTION_DELETE_DRIVE},
        {"PATCH", "/hotplug/memory", "{\"requested_size_mib\":2}", ACTION_PATCH_MEMORY},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_call call;
        struct err err = {0};

        CHECK_OK(route(cases[i].method, cases[i].path, cases[i].body, &call, &err), &err);
        CHECK_INT(call.action.kind, cases[i].kind);
        api_call_fini(&call);
    }
}

TEST(route, bodies_are_filled_in_over_defaults)
{
    struct api_call call;
    struct err err = {0};

    CHECK_OK(route("PUT", "/hotplug/memory", "{\"total_size_mib\":1024}", &call, &err), &err);
    CHECK_INT(call.action.memory->total_size_mib, 1024);
    CHECK_INT(call.action.memory->block_size_mib, 2);
    CHECK_INT(call.action.memory->slot_size_mib, 128);
    api_call_fini(&call);
    CHECK_OK(route("PATCH", "/balloon/hinting/start", NULL, &call, &err), &err);
    CHECK(call.action.acknowledge_on_stop);
    api_call_fini(&call);
    CHECK_OK(
        route("PATCH", "/balloon/hinting/start", "{\"acknowledge_on_stop\":false}", &call, &err),
        &err);
    CHECK(!call.action.acknowledge_on_stop);
    api_call_fini(&call);
    CHECK_OK(route("PATCH", "/vm", "{\"state\":\"Resumed\"}", &call, &err), &err);
    CHECK(call.action.is_resumed);
    api_call_fini(&call);
    CHECK(setlocale(LC_CTYPE, "C.UTF-8")); /* as api_start() does */
    CHECK_OK(route("DELETE", "/pmem/\xc3\xa9_1", NULL, &call, &err), &err);
    CHECK_STR(call.action.id, "\xc3\xa9_1");
    api_call_fini(&call);
}

TEST(route, what_is_deprecated_is_told)
{
    static const struct {
        const char *path, *body;
        bool is_deprecated;
    } cases[] = {
        {"/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}", false},
        {"/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1,\"cpu_template\":null}", false},
        {"/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1,\"cpu_template\":\"None\"}",
         true},
        {"/vsock", "{\"guest_cid\":3,\"uds_path\":\"x\"}", false},
        {"/vsock", "{\"guest_cid\":3,\"uds_path\":\"x\",\"vsock_id\":\"v\"}", true},
        {"/mmds/config", "{\"network_interfaces\":[]}", true},
        {"/mmds/config", "{\"network_interfaces\":[],\"version\":\"V2\"}", false},
        {"/snapshot/load", "{\"snapshot_path\":\"a\",\"mem_file_path\":\"b\"}", true},
        {"/snapshot/load",
         "{\"snapshot_path\":\"a\",\"mem_backend\":{\"backend_path\":\"b\",\"backend_type\":"
         "\"File\"},"
         "\"enable_diff_snapshots\":false}",
         false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_call call;
        struct err err = {0};

        CHECK_OK(route("PUT", cases[i].path, cases[i].body, &call, &err), &err);
        CHECK_INT(call.deprecation != NULL, cases[i].is_deprecated);
        api_call_fini(&call);
    }
}

TEST(route, the_first_thing_that_is_wrong_is_told)
{
    static const struct {
        const char *method, *path, *body, *text;
    } cases[] = {
        {"PUT", "/nowhere", NULL, "Empty PUT request."},
        {"PUT", "/nowhere", "{", "Invalid request method and/or path: PUT nowhere."},
        {"GET", "/nowhere", "{", "GET request cannot have a body."},
        {"PUT", "/drives", "{", "The ID cannot be empty."},
        {"PUT", "/drives/a-b", "{",
         "API Resource IDs can only contain alphanumeric characters and underscores."},
        {"PUT", "/drives/a", "{",
         "An error occurred when deserializing the json body of a request: EOF while parsing an "
         "object at line 1 column 1."},
        {"PUT", "/drives/a", "{\"drive_id\":\"b\",\"is_root_device\":true}",
         "The id from the path does not match the id from the body!"},
        {"PUT", "/network-interfaces/a", "{\"iface_id\":\"b\",\"host_dev_name\":\"c\"}",
         "The id from the path [a] does not match the id from the body [b]!"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_call call;
        struct err err = {0};

        CHECK_INT(route(cases[i].method, cases[i].path, cases[i].body, &call, &err), -EINVAL);
        CHECK_STR(err.text, cases[i].text);
        api_call_fini(&call);
    }
}

TEST(route, no_line_of_the_table_hides_another)
{
    for (size_t i = 0; i < api_route_count; i++) {
        for (size_t j = i + 1; j < api_route_count; j++) {
            CHECK(api_routes[i].method != api_routes[j].method ||
                  strcmp(api_routes[i].path, api_routes[j].path) != 0);
        }
    }
}
