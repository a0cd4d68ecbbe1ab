/* do_net_test.c — network interfaces as clients configure them, in a namespace of the test's own.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fake_microvm.h"

#define NEED_TUN()                                                              \
    do {                                                                        \
        if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK)) { \
            SKIP("no network namespace, or no /dev/net/tun: no privilege");     \
        }                                                                       \
    } while (0)

static struct microvm *fresh(void)
{
    return fake_microvm(false);
}

struct wish {
    const char *id, *tap, *mac;
    int mtu;
};

static int put(struct microvm *vm, struct wish wish, struct err *err)
{
    struct resource_net net = {.iface_id = strdup(wish.id),
                               .host_dev_name = strdup(wish.tap),
                               .guest_mac = wish.mac ? strdup(wish.mac) : NULL,
                               .mtu = (uint16_t)wish.mtu,
                               .has_mtu = wish.mtu != 0};
    struct action action = {.kind = ACTION_PUT_NET, .net = &net};
    int r = microvm_do(vm, &action, err);

    resource_net_fini(&net);
    return r;
}

static void check_order(struct microvm *vm, const char *ids)
{
    const struct microvm_resources *res = microvm_resources(vm);

    CHECK_INT(res->net_count, strlen(ids));
    for (unsigned i = 0; i < res->net_count; i++) {
        CHECK_INT(res->nets[i].iface_id[0], ids[i]);
    }
}

TEST(do_net, an_interface_that_is_put_again_goes_to_the_end_and_the_last_fills_its_place)
{
    struct microvm *vm = fresh();
    struct err err = {0};

    NEED_TUN();
    CHECK_OK(put(vm, (struct wish){"a", "tap0", "06:00:AA:00:00:01", 0}, &err), &err);
    CHECK_OK(put(vm, (struct wish){"b", "tap1", "06:00:aa:00:00:02", 0}, &err), &err);
    CHECK_OK(put(vm, (struct wish){"c", "tap2", NULL, 1500}, &err), &err);
    check_order(vm, "abc");
    CHECK_STR(microvm_resources(vm)->nets[0].guest_mac, "06:00:aa:00:00:01");
    /* its own TAP and address are free for it */
    CHECK_OK(put(vm, (struct wish){"a", "tap0", "06:00:AA:00:00:01", 0}, &err), &err);
    check_order(vm, "cba");
    microvm_free(vm);
}

TEST(do_net, what_is_taken_is_refused_in_the_interfaces_words)
{
    struct microvm *vm = fresh();
    struct err err = {0};

    NEED_TUN();
    CHECK_OK(put(vm, (struct wish){"a", "tap0", "06:00:00:00:00:01", 0}, &err), &err);
    CHECK(put(vm, (struct wish){"b", "tap1", "06:00:00:00:00:01", 0}, &err) < 0);
    CHECK_STR(err.text,
              "Network config error: The MAC address is already in use: 06:00:00:00:00:01");
    check_order(vm, "a");
    CHECK(put(vm, (struct wish){"b", "tap0", NULL, 0}, &err) < 0);
    CHECK_STR(err.text,
              "Network config error: Could not create the network device: Open tap device failed: "
              "Error while creating ifreq structure: Resource busy (os error 16). Invalid TUN/TAP "
              "Backend provided by tap0. Check our documentation on setting up the network "
              "devices.");
    CHECK(put(vm, (struct wish){"b", "a_name_that_is_too_long", NULL, 0}, &err) < 0);
    CHECK_STR(err.text, "Network config error: Could not create the network device: Open tap "
                        "device failed: Invalid interface name");
    /* a bad replacement leaves nothing of what it was to replace */
    CHECK(put(vm, (struct wish){"a", "tap0", NULL, 10}, &err) < 0);
    CHECK_STR(err.text, "Network config error: Could not create the network device: MTU 10 is out "
                        "of range [68, 65535]");
    check_order(vm, "");
    CHECK_OK(put(vm, (struct wish){"b", "tap0", NULL, 0}, &err), &err);
    microvm_free(vm);
}

static int drop(struct microvm *vm, const char *id, struct err *err)
{
    struct action action = {.kind = ACTION_DELETE_NET, .id = id};

    return microvm_do(vm, &action, err);
}

TEST(do_net, interfaces_are_plugged_into_a_running_machine_and_pulled)
{
    struct microvm *vm = fake_microvm(true);
    struct err err = {0};

    NEED_TUN();
    CHECK_INT(drop(vm, "a", &err), -EBUSY);
    CHECK_HAS(err.text, "before starting");
    CHECK_OK(put(vm, (struct wish){"a", "tap0", "06:00:00:00:00:01", 0}, &err), &err);
    fake_microvm_start(vm);
    CHECK_INT(put(vm, (struct wish){"a", "tap1", NULL, 0}, &err), -EEXIST);
    CHECK_STR(err.text, "Device ID in use");
    CHECK(put(vm, (struct wish){"b", "tap1", "06:00:00:00:00:01", 0}, &err) < 0);
    CHECK_STR(err.text, "Network config error: The MAC address is already in use: "
                        "06:00:00:00:00:01");
    CHECK_INT(put(vm, (struct wish){"b", "tap0", NULL, 0}, &err), -EBUSY);
    CHECK_HAS(err.text, "Resource busy (os error 16)");
    check_order(vm, "a");
    CHECK_OK(put(vm, (struct wish){"b", "tap1", NULL, 0}, &err), &err);
    check_order(vm, "ab");
    CHECK_INT(drop(vm, "c", &err), -ENOENT);
    CHECK_STR(err.text, "Device not found");
    CHECK_OK(drop(vm, "a", &err), &err); /* also what was there from the start */
    CHECK_OK(put(vm, (struct wish){"a", "tap0", NULL, 0}, &err), &err); /* its TAP is free again */
    check_order(vm, "ba");
    for (int i = 3;; i++) { /* the entropy device of the machine may be there, too */
        char id[2] = {(char)('a' + i), 0};
        char tap[16];
        int r;

        (void)snprintf(tap, sizeof(tap), "tap%d", i);
        r = put(vm, (struct wish){id, tap, NULL, 0}, &err);
        if (r < 0) {
            CHECK_INT(r, -ENOSPC);
            CHECK_STR(err.text, "PCI manager error: Could not find an available device slot on the "
                                "PCI bus.");
            CHECK(i > 25);
            break;
        }
    }
    microvm_free(vm);
}

TEST(do_net, nothing_is_plugged_where_there_is_no_pci)
{
    struct microvm *vm = fake_microvm(false);
    struct err err = {0};

    fake_microvm_start(vm);
    CHECK_INT(put(vm, (struct wish){"a", "tap0", NULL, 0}, &err), -ENODEV);
    CHECK_STR(err.text, "PCI is not enabled");
    CHECK_INT(drop(vm, "a", &err), -ENODEV);
    CHECK_STR(err.text, "PCI is not enabled");
    microvm_free(vm);
}

TEST(do_net, limits_are_patched_bucket_by_bucket)
{
    struct resource_limiter limit = {0};
    struct resource_limiter patch = {.bandwidth = {.size = 5, .refill_time = 6},
                                     .has_bandwidth = true};
    bool has = false;

    resource_limiter_patch(&limit, &has, &patch, true);
    CHECK(has && limit.has_bandwidth && !limit.has_ops);
    patch = (struct resource_limiter){.ops = {.size = 7, .refill_time = 8}, .has_ops = true};
    resource_limiter_patch(&limit, &has, &patch, true);
    CHECK(limit.has_bandwidth && limit.has_ops);
    CHECK_INT(limit.bandwidth.size, 5);
    patch = (struct resource_limiter){.has_bandwidth = true}; /* zeros: no limit any more */
    resource_limiter_patch(&limit, &has, &patch, true);
    CHECK(has && !limit.has_bandwidth && limit.has_ops);
    resource_limiter_patch(&limit, &has, &patch, false);
    CHECK(limit.has_ops);
}
