/* do_balloon_test.c — the balloon as clients configure it, with a guest that has no driver. */
#include <errno.h>

#include "tests/lib/fake_microvm.h"

static int put(struct microvm *vm, struct resource_balloon balloon, struct err *err)
{
    struct action action = {.kind = ACTION_PUT_BALLOON, .balloon = &balloon};

    return microvm_do(vm, &action, err);
}

static int patch(struct microvm *vm, enum action_kind kind, struct resource_balloon balloon,
                 struct err *err)
{
    struct action action = {.kind = kind, .balloon = &balloon};

    return microvm_do(vm, &action, err);
}

static int get(struct microvm *vm, struct resource_balloon *ret, struct err *err)
{
    struct action action = {.kind = ACTION_GET_BALLOON, .ret_balloon = ret};

    return microvm_do(vm, &action, err);
}

static int simple(struct microvm *vm, enum action_kind kind, struct err *err)
{
    struct resource_balloon_stats stats;
    struct resource_hinting hinting;
    struct action action = {.kind = kind};

    if (kind == ACTION_GET_BALLOON_STATS) {
        action.ret_balloon_stats = &stats;
    } else if (kind == ACTION_GET_HINTING) {
        action.ret_hinting = &hinting;
    }
    return microvm_do(vm, &action, err);
}

TEST(do_balloon, it_is_no_larger_than_the_memory)
{
    struct microvm *vm = fake_microvm(false);
    struct resource_balloon got = {0};
    struct err err = {0};

    CHECK(get(vm, &got, &err) < 0);
    CHECK_STR(err.text, "Balloon config error: No balloon device found.");
    CHECK(put(vm, (struct resource_balloon){.amount_mib = 129}, &err) < 0);
    CHECK_STR(err.text, "Balloon config error: Amount of pages requested is too large.");
    CHECK_OK(put(vm, (struct resource_balloon){.amount_mib = 128}, &err), &err);
    CHECK_OK(put(vm, (struct resource_balloon){.amount_mib = 5, .deflate_on_oom = true}, &err),
             &err);
    CHECK_OK(get(vm, &got, &err), &err);
    CHECK_INT(got.amount_mib, 5);
    CHECK(got.deflate_on_oom);
    microvm_free(vm);
}

TEST(do_balloon, what_a_running_one_cannot_is_refused_in_the_interfaces_words)
{
    struct microvm *vm = fake_microvm(false);
    struct resource_balloon got = {0};
    struct err err = {0};

    CHECK_OK(put(vm, (struct resource_balloon){.amount_mib = 5}, &err), &err);
    fake_microvm_start(vm);
    CHECK(patch(vm, ACTION_PATCH_BALLOON, (struct resource_balloon){.amount_mib = 8}, &err) < 0);
    CHECK_STR(err.text, "Balloon update error: Balloon: Device not activated yet.");
    CHECK(patch(vm, ACTION_PATCH_BALLOON, (struct resource_balloon){.amount_mib = 129}, &err) < 0);
    CHECK_STR(err.text,
              "Balloon update error: Balloon: Requested memory should be less than 129MiB");
    CHECK(patch(vm, ACTION_PATCH_BALLOON_STATS,
                (struct resource_balloon){.stats_polling_interval_s = 1}, &err) < 0);
    CHECK_STR(err.text, "Balloon update error: Balloon: Statistics cannot be enabled/disabled "
                        "after activation.");
    CHECK_OK(patch(vm, ACTION_PATCH_BALLOON_STATS, (struct resource_balloon){0}, &err), &err);
    CHECK(simple(vm, ACTION_GET_BALLOON_STATS, &err) < 0);
    CHECK_STR(err.text,
              "Internal VMM error: Balloon: Received stats query when stats are disabled.");
    CHECK(simple(vm, ACTION_START_HINTING, &err) < 0);
    CHECK_STR(err.text,
              "Balloon update error: Balloon: Attempting to use hinting when not enabled");
    CHECK(simple(vm, ACTION_STOP_HINTING, &err) < 0);
    CHECK(simple(vm, ACTION_GET_HINTING, &err) < 0);
    CHECK_OK(get(vm, &got, &err), &err);
    CHECK_INT(got.amount_mib, 5); /* as it was */
    microvm_free(vm);
}

TEST(do_balloon, a_machine_without_one_says_so)
{
    struct microvm *vm = fake_microvm(false);
    struct resource_balloon got = {0};
    struct err err = {0};

    fake_microvm_start(vm);
    CHECK(get(vm, &got, &err) < 0);
    CHECK_STR(err.text, "Internal VMM error: Failed perform action on device: Device not found");
    CHECK(patch(vm, ACTION_PATCH_BALLOON, (struct resource_balloon){.amount_mib = 1}, &err) < 0);
    CHECK_STR(err.text, "Balloon update error: Failed perform action on device: Device not found");
    CHECK(simple(vm, ACTION_GET_BALLOON_STATS, &err) < 0);
    CHECK_STR(err.text, "Internal VMM error: Failed perform action on device: Device not found");
    microvm_free(vm);
}
