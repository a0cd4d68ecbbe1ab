/* bucket_test.c — what a token bucket grants, and when. */
#include "base/clock.h"
#include "io/bucket.h"
#include "tests/lib/test.h"

#define MS NS_PER_MS

/* Enough, said as a value of its own so that a test sees whether it was written. */
#define UNTOUCHED INT64_C(-7)

static int take(struct bucket *b, uint64_t tokens, int64_t now)
{
    int64_t pause = UNTOUCHED;
    int answer = (int)bucket_take(b, tokens, now, &pause);

    CHECK_INT(pause != UNTOUCHED, answer == BUCKET_OVERDRAWN);
    return answer;
}

static struct bucket fresh(uint64_t size, uint64_t refill_ms, uint64_t burst)
{
    struct bucket_config config = {.size = size, .refill_ms = refill_ms, .burst = burst};
    struct bucket b;

    bucket_init(&b, &config, 0);
    return b;
}

TEST(io, bucket_without_size_or_time_does_not_limit)
{
    static const struct bucket_config none[] = {{0},
                                                {.size = 0, .refill_ms = 5},
                                                {.size = 5},
                                                {.size = 5, .refill_ms = UINT64_MAX / MS + 1}};
    struct bucket b = {0};

    CHECK_INT(take(&b, UINT64_MAX, 0), BUCKET_GRANTED);
    for (unsigned i = 0; i < 4; i++) {
        bucket_init(&b, &none[i], 0);
        CHECK_INT(take(&b, UINT64_MAX, 0), BUCKET_GRANTED);
        CHECK_INT(take(&b, UINT64_MAX, 0), BUCKET_GRANTED);
    }
}

TEST(io, bucket_starts_full_and_refills_at_its_rate)
{
    struct bucket b = fresh(1000, 100, 0);

    CHECK_INT(take(&b, 1000, 0), BUCKET_GRANTED);
    CHECK_INT(take(&b, 1, 0), BUCKET_REFUSED);
    CHECK_INT(take(&b, 1, MS / 10 - 1), BUCKET_REFUSED);
    CHECK_INT(take(&b, 1, MS / 10), BUCKET_GRANTED);
    CHECK_INT(take(&b, 501, 50 * MS), BUCKET_REFUSED);
    CHECK_INT(b.budget, 499);
    CHECK_INT(take(&b, 499, 50 * MS), BUCKET_GRANTED);
    CHECK_INT(take(&b, 1000, 400 * MS), BUCKET_GRANTED);
}

TEST(io, bucket_fractions_of_a_token_are_kept)
{
    struct bucket b = fresh(3, 1, 0); /* a token each 333,333.3 ns */
    uint64_t granted = 0;

    CHECK_INT(take(&b, 3, 0), BUCKET_GRANTED);
    for (int64_t now = 0; now < 1000 * MS; now += 1009) {
        granted += take(&b, 1, now) == BUCKET_GRANTED;
    }
    /* the clock rounds up by less than a nanosecond for each token */
    CHECK(granted >= 2998 && granted <= 3000);
}

TEST(io, bucket_spends_its_burst_first_and_once)
{
    struct bucket b = fresh(100, 100, 50);

    CHECK_INT(take(&b, 30, 0), BUCKET_GRANTED);
    CHECK_INT(b.burst, 20);
    CHECK_INT(b.budget, 100);
    CHECK_INT(take(&b, 30, 10 * MS), BUCKET_GRANTED);
    CHECK_INT(b.burst, 0);
    CHECK_INT(b.budget, 90);
    CHECK_INT(take(&b, 90, 10 * MS), BUCKET_GRANTED);
    CHECK_INT(take(&b, 100, 200 * MS), BUCKET_GRANTED);
    CHECK_INT(take(&b, 1, 200 * MS), BUCKET_REFUSED);
}

TEST(io, bucket_does_not_fill_while_the_burst_lasts)
{
    struct bucket b = fresh(100, 100, 10);

    b.budget = 0;
    CHECK_INT(take(&b, 1, 90 * MS), BUCKET_GRANTED); /* from the burst; the clock moves on */
    CHECK_INT(take(&b, 20, 91 * MS), BUCKET_REFUSED);
    CHECK_INT(b.budget, 1);
}

TEST(io, bucket_grants_more_than_it_holds_for_a_pause)
{
    struct bucket b = fresh(100, 50, 0);
    int64_t pause = 0;

    CHECK_INT(take(&b, 40, 0), BUCKET_GRANTED);
    CHECK_INT(bucket_take(&b, 260, 0, &pause), BUCKET_OVERDRAWN);
    CHECK_INT(pause, 100 * MS); /* (260 - 60) / 100 refills of 50 ms */
    CHECK_INT(b.budget, 0);
    CHECK_INT(bucket_take(&b, UINT64_MAX, 0, &pause), BUCKET_OVERDRAWN);
    CHECK(pause > 0);
}

TEST(io, bucket_refund_goes_to_the_burst_while_there_is_one)
{
    struct bucket b = fresh(100, 100, 50);

    CHECK_INT(take(&b, 10, 0), BUCKET_GRANTED);
    bucket_refund(&b, 10);
    CHECK_INT(b.burst, 50);
    CHECK_INT(take(&b, 50, 0), BUCKET_GRANTED);
    CHECK_INT(take(&b, 30, 0), BUCKET_GRANTED);
    bucket_refund(&b, 20);
    CHECK_INT(b.budget, 90);
    bucket_refund(&b, UINT64_MAX);
    CHECK_INT(b.budget, 100);
}

TEST(io, bucket_state_keeps_budget_burst_and_the_time_since)
{
    struct bucket b = fresh(100, 100, 50);
    struct bucket_state saved;
    struct bucket other;

    CHECK_INT(take(&b, 120, 0), BUCKET_GRANTED);
    bucket_save(&b, 7 * MS, &saved);
    bucket_load(&other, &saved, 1000 * MS);
    CHECK_INT(other.burst, 0);
    CHECK_INT(other.budget, 30);
    CHECK_INT(take(&other, 38, 1000 * MS), BUCKET_REFUSED);
    CHECK_INT(take(&other, 37, 1000 * MS), BUCKET_GRANTED);
}

TEST(io, bucket_state_that_lies_is_cut)
{
    struct bucket_state saved = {.config = {.size = 10, .refill_ms = UINT64_MAX / MS, .burst = 2},
                                 .burst = UINT64_MAX,
                                 .budget = UINT64_MAX,
                                 .elapsed_ns = UINT64_MAX};
    struct bucket b;

    bucket_load(&b, &saved, 5);
    CHECK_INT(b.burst, 2);
    CHECK_INT(b.budget, 10);
    CHECK_INT(take(&b, 12, 6), BUCKET_GRANTED);
    (void)take(&b, 5, INT64_MAX / 4);
}
