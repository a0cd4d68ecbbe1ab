/* limiter_test.c — what a limiter refuses comes back when its timer has run out. */
#include "base/clock.h"
#include "io/limiter.h"
#include "io/loop.h"
#include "tests/lib/test.h"

struct fixture {
    struct loop *loop;
    struct limiter limiter;
    unsigned retries;
    int64_t retried_ns;
};

static void on_retry(void *owner)
{
    struct fixture *f = owner;

    f->retries++;
    f->retried_ns = clock_mono_ns();
    loop_stop(f->loop);
}

static void begin(struct fixture *f, struct limiter_config config)
{
    struct err err = {0};

    memset(f, 0, sizeof(*f));
    CHECK_OK(loop_new(&f->loop, &err), &err);
    limiter_init(&f->limiter, &config, f->loop, on_retry, f);
}

static void finish(struct fixture *f)
{
    limiter_fini(&f->limiter);
    loop_free(f->loop);
}

#define HOUR_MS UINT64_C(3600000)

TEST(io, limiter_without_buckets_grants_everything)
{
    struct limiter unused = {0};
    struct fixture f;

    CHECK(limiter_take(&unused, 1, UINT64_MAX));
    begin(&f, (struct limiter_config){0});
    CHECK(limiter_take(&f.limiter, 1, UINT64_MAX));
    CHECK(!limiter_is_blocked(&f.limiter));
    finish(&f);
}

TEST(io, limiter_refuses_and_asks_again_after_100_ms)
{
    struct fixture f;
    int64_t before;

    begin(&f, (struct limiter_config){.ops = {.size = 2, .refill_ms = HOUR_MS}});
    CHECK(limiter_take(&f.limiter, 1, 1 << 20));
    CHECK(limiter_take(&f.limiter, 1, 1 << 20));
    before = clock_mono_ns();
    CHECK(!limiter_take(&f.limiter, 1, 1 << 20));
    CHECK(limiter_is_blocked(&f.limiter));
    CHECK_INT(loop_run(f.loop), 0);
    CHECK_INT(f.retries, 1);
    CHECK(f.retried_ns - before >= 100 * NS_PER_MS);
    CHECK(!limiter_is_blocked(&f.limiter));
    finish(&f);
}

TEST(io, limiter_refunds_the_operation_whose_bytes_are_refused)
{
    struct fixture f;

    begin(&f, (struct limiter_config){.ops = {.size = 5, .refill_ms = HOUR_MS},
                                      .bandwidth = {.size = 100, .refill_ms = HOUR_MS}});
    CHECK(limiter_take(&f.limiter, 1, 60));
    CHECK(!limiter_take(&f.limiter, 1, 60));
    CHECK_INT(f.limiter.ops.budget, 4);
    CHECK_INT(f.limiter.bandwidth.budget, 40);
    /* everything waits now, also what both buckets would grant */
    CHECK(!limiter_take(&f.limiter, 1, 1));
    CHECK(!limiter_take(&f.limiter, 1, 0));
    CHECK_INT(f.limiter.ops.budget, 4);
    finish(&f);
}

TEST(io, limiter_pauses_for_what_a_large_request_borrowed)
{
    struct fixture f;
    int64_t before = clock_mono_ns();

    begin(&f, (struct limiter_config){.bandwidth = {.size = 100, .refill_ms = 10}});
    CHECK(limiter_take(&f.limiter, 1, 400)); /* three more refills to come */
    CHECK(limiter_is_blocked(&f.limiter));
    CHECK(!limiter_take(&f.limiter, 1, 1));
    CHECK_INT(loop_run(f.loop), 0);
    CHECK(f.retried_ns - before >= 30 * NS_PER_MS);
    CHECK(limiter_take(&f.limiter, 1, 1));
    finish(&f);
}

TEST(io, limiter_change_replaces_only_what_is_named)
{
    struct fixture f;
    struct limiter_update update = {.has_ops = true,
                                    .config = {.ops = {.size = 7, .refill_ms = HOUR_MS}}};

    begin(&f, (struct limiter_config){.ops = {.size = 5, .refill_ms = HOUR_MS},
                                      .bandwidth = {.size = 100, .refill_ms = HOUR_MS}});
    CHECK(limiter_take(&f.limiter, 1, 60));
    limiter_change(&f.limiter, &update);
    CHECK_INT(f.limiter.ops.budget, 7);
    CHECK_INT(f.limiter.bandwidth.budget, 40);
    update = (struct limiter_update){.has_bandwidth = true}; /* zeros: no limit any more */
    limiter_change(&f.limiter, &update);
    CHECK(limiter_take(&f.limiter, 1, UINT64_MAX));
    CHECK_INT(f.limiter.ops.budget, 6);
    finish(&f);
}

TEST(io, limiter_state_keeps_budgets_and_not_the_timer)
{
    struct fixture f;
    struct limiter_config config = {.ops = {.size = 5, .refill_ms = HOUR_MS, .burst = 3},
                                    .bandwidth = {.size = 100, .refill_ms = HOUR_MS}};
    struct limiter_state saved;

    begin(&f, config);
    CHECK(limiter_take(&f.limiter, 1, 90));
    CHECK(!limiter_take(&f.limiter, 1, 90));
    limiter_save(&f.limiter, &saved);
    finish(&f);

    begin(&f, (struct limiter_config){0});
    limiter_load(&f.limiter, &saved);
    CHECK(!limiter_is_blocked(&f.limiter));
    CHECK_INT(f.limiter.ops.burst, 2);
    CHECK_INT(f.limiter.bandwidth.budget, 10);
    finish(&f);
}
