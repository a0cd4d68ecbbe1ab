/* do_mmds_test.c — the metadata service as clients configure it. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/lib/fake_microvm.h"

static int act(struct microvm *vm, enum action_kind kind, const char *text, struct err *err)
{
    struct action action = {.kind = kind, .mmds = {.text = text, .len = strlen(text)}};

    return microvm_do(vm, &action, err);
}

static int configure(struct microvm *vm, const char *id, const char *address, struct err *err)
{
    struct resource_mmds_config config = {.version = MMDS_V2,
                                          .ipv4_address = address ? strdup(address) : NULL};
    struct action action = {.kind = ACTION_PUT_MMDS_CONFIG, .mmds_config = &config};
    int r;

    if (id) {
        config.network_interfaces.items = calloc(1, sizeof(char *));
        config.network_interfaces.count = 1;
        ((char **)config.network_interfaces.items)[0] = strdup(id);
    }
    r = microvm_do(vm, &action, err);
    resource_mmds_config_fini(&config);
    return r;
}

static void check_document(struct microvm *vm, const char *want)
{
    struct buf text = {0};
    struct action action = {.kind = ACTION_GET_MMDS, .ret_mmds = &text};
    struct err err = {0};

    CHECK_OK(microvm_do(vm, &action, &err), &err);
    CHECK_STR(buf_str(&text), want);
    buf_fini(&text);
}

static struct microvm *fresh(void)
{
    struct microvm_options options = {
        .id = "test", .version = "1", .engine = ENGINE_SOFT, .mmds_size_limit = 20};
    struct microvm *vm = NULL;
    struct err err = {0};

    CHECK_OK(microvm_new(&options, &vm, &err), &err);
    return vm;
}

TEST(do_mmds, the_document_is_set_before_any_interface_and_kept_to_its_limit)
{
    struct microvm *vm = fresh();
    struct err err = {0};

    check_document(vm, "{}");
    CHECK_INT(act(vm, ACTION_PATCH_MMDS, "{}", &err), -ENODATA);
    CHECK_STR(err.text, "MMDS error: The MMDS data store is not initialized.");
    CHECK_OK(act(vm, ACTION_PUT_MMDS, "{\"b\": 1}", &err), &err);
    CHECK_OK(act(vm, ACTION_PATCH_MMDS, "{\"a\": 1}", &err), &err);
    check_document(vm, "{\"a\":1,\"b\":1}");
    CHECK_INT(act(vm, ACTION_PATCH_MMDS, "{\"c\": 12345678}", &err), -EFBIG);
    CHECK_STR(err.text, "MMDS limit exceeded error: The MMDS patch request doesn't fit.");
    check_document(vm, "{\"a\":1,\"b\":1}");
    microvm_free(vm);
}

TEST(do_mmds, configurations_are_checked)
{
    static const char *const addresses[] = {"169.254.0.255", "169.254.255.0", "1.2.3.4"};
    struct resource_net net = {.iface_id = strdup("eth0"), .host_dev_name = strdup("tap0")};
    struct action put_net = {.kind = ACTION_PUT_NET, .net = &net};
    struct microvm *vm = fresh();
    struct err err = {0};

    CHECK(configure(vm, NULL, NULL, &err) < 0);
    CHECK_STR(err.text, "MMMDS config error: The list of network interface IDs that allow "
                        "forwarding MMDS requests is empty.");
    CHECK(configure(vm, "eth0", NULL, &err) < 0);
    CHECK_STR(err.text, "MMMDS config error: The list of network interface IDs provided contains "
                        "at least one ID that does not correspond to any existing network "
                        "interface.");
    if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK)) {
        resource_net_fini(&net);
        microvm_free(vm);
        SKIP("no network namespace, or no /dev/net/tun: no privilege");
    }
    CHECK_OK(microvm_do(vm, &put_net, &err), &err);
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        CHECK(configure(vm, "eth0", addresses[i], &err) < 0);
        CHECK_STR(err.text, "MMMDS config error: The MMDS IPv4 address is not link local.");
    }
    CHECK(!microvm_resources(vm)->has_mmds_config);
    CHECK_OK(configure(vm, "eth0", "169.254.1.0", &err), &err);
    CHECK(microvm_resources(vm)->has_mmds_config);
    /* an interface that is put again is without the service */
    net = (struct resource_net){.iface_id = strdup("eth0"), .host_dev_name = strdup("tap0")};
    CHECK_OK(microvm_do(vm, &put_net, &err), &err);
    CHECK(!microvm_resources(vm)->has_mmds_config);
    /* without an interface, a running machine has no document to talk about */
    CHECK_OK(act(vm, ACTION_PUT_MMDS, "{}", &err), &err);
    fake_microvm_start(vm);
    CHECK_INT(act(vm, ACTION_PUT_MMDS, "{}", &err), -ENODATA);
    CHECK_STR(err.text, "MMDS error: The MMDS data store is not initialized.");
    microvm_free(vm);
}
