/* queue_test.c — chains are taken and given back as the manual says, and hostile ones break the
 * queue and nothing else. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "dev/virtio/queue.h"
#include "tests/lib/fake_driver.h"

static struct virtq_chain g_chain; /* too large for a frame */

struct bench {
    struct fake_driver drv;
    struct fake_queue *f;
    struct virtq q;
};

static void bench_init(struct bench *b, uint16_t size)
{
    fake_driver_init(&b->drv);
    fake_queue_place(&b->drv, 0, size);
    b->f = &b->drv.queues[0];
    b->q = fake_virtq(b->f);
    b->q.has_indirect = true;
    CHECK_INT(virtq_enable(&b->q), 0);
}

static void bench_fini(struct bench *b)
{
    fake_driver_fini(&b->drv);
}

TEST(virtq, a_ring_that_is_misaligned_or_not_ram_is_refused)
{
    struct bench b;
    static const struct {
        uint16_t size;
        uint64_t desc, avail, used;
        int want;
    } rows[] = {
        {8, 0x1000, 0x2000, 0x3000, 0},
        {1024, 0x10000, 0x20000, 0x30000, 0},
        {0, 0x1000, 0x2000, 0x3000, -EINVAL},
        {7, 0x1000, 0x2000, 0x3000, -EINVAL},
        {2048, 0x10000, 0x20000, 0x30000, -EINVAL},
        {8, 0x1008, 0x2000, 0x3000, -EINVAL},
        {8, 0x1000, 0x2001, 0x3000, -EINVAL},
        {8, 0x1000, 0x2000, 0x3002, -EINVAL},
        {8, FAKE_MEM_BYTES - 16, 0x2000, 0x3000, -EINVAL},
        {8, 0x1000, FAKE_MEM_BYTES - 2, 0x3000, -EINVAL},
        {8, 0x1000, 0x2000, FAKE_MEM_BYTES - 4, -EINVAL},
        {8, UINT64_MAX - 15, 0x2000, 0x3000, -EINVAL},
    };

    bench_init(&b, 8);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        b.q = (struct virtq){.mem = b.drv.mem,
                             .size = rows[i].size,
                             .desc = GPA(rows[i].desc),
                             .avail = GPA(rows[i].avail),
                             .used = GPA(rows[i].used)};
        CHECK_INT(virtq_enable(&b.q), rows[i].want);
        CHECK_INT(b.q.is_enabled, rows[i].want == 0);
    }
    bench_fini(&b);
}

TEST(virtq, a_chain_is_taken_copied_and_given_back)
{
    struct bench b;
    gpa_t in;
    gpa_t out;
    char text[32] = {0};
    uint32_t id;
    uint32_t len;

    bench_init(&b, 8);
    in = fake_alloc(&b.drv, 64, 16);
    out = fake_alloc(&b.drv, 64, 16);
    memcpy(fake_ptr(&b.drv, in, 64), "hello, world", 12);
    fake_put_desc(b.f, 3, in, 5, FAKE_NEXT, 5);
    fake_put_desc(b.f, 5, GPA(in.v + 5), 7, FAKE_NEXT, 0);
    fake_put_desc(b.f, 0, out, 4, FAKE_NEXT | FAKE_WRITE, 7);
    fake_put_desc(b.f, 7, GPA(out.v + 4), 60, FAKE_WRITE, 99);
    CHECK_INT(virtq_pop(&b.q, &g_chain), 0);
    CHECK(!virtq_has_work(&b.q));
    fake_offer(b.f, 3);
    CHECK(virtq_has_work(&b.q));
    CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
    CHECK_INT(g_chain.head, 3);
    CHECK_INT(g_chain.readable_count, 2);
    CHECK_INT(g_chain.writable_count, 2);
    CHECK_INT(g_chain.readable_bytes, 12);
    CHECK_INT(g_chain.writable_bytes, 64);
    CHECK_INT(virtq_chain_read(&g_chain, 3, text, sizeof(text)), 9);
    CHECK_STR(text, "lo, world");
    CHECK_INT(virtq_chain_read(&g_chain, 12, text, 1), 0);
    CHECK_INT(virtq_chain_write(&g_chain, 2, "abcdef", 6), 6);
    CHECK_MEM(fake_ptr(&b.drv, out, 64), "\0\0abcdef", 8);
    CHECK(!fake_take_used(b.f, &id, &len));
    virtq_push(&b.q, &g_chain, 1000);
    CHECK(fake_take_used(b.f, &id, &len));
    CHECK_INT(id, 3);
    CHECK_INT(len, 64);
    bench_fini(&b);
}

TEST(virtq, indices_wrap_and_an_unpopped_chain_comes_again)
{
    struct bench b;
    gpa_t buf;
    uint32_t id;
    uint32_t len;

    bench_init(&b, 4);
    buf = fake_alloc(&b.drv, 64, 16);
    for (unsigned i = 0; i < 4; i++) {
        fake_put_desc(b.f, i, buf, 16, FAKE_WRITE, 0);
    }
    for (unsigned i = 0; i < 70000; i++) {
        fake_offer(b.f, i % 4);
        CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
        if (i % 1000 == 0) {
            virtq_unpop(&b.q, 1);
            CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
        }
        CHECK_INT(g_chain.head, i % 4);
        virtq_push(&b.q, &g_chain, i % 17);
        CHECK(virtq_wants_interrupt(&b.q));
        CHECK(fake_take_used(b.f, &id, &len));
        CHECK_INT(id, i % 4);
        CHECK_INT(len, i % 17);
    }
    CHECK(!virtq_wants_interrupt(&b.q));
    bench_fini(&b);
}

TEST(virtq, indirect_tables_follow_direct_descriptors)
{
    struct bench b;
    gpa_t table;
    gpa_t buf;

    bench_init(&b, 8);
    table = fake_alloc(&b.drv, 16 * 1024, 16);
    buf = fake_alloc(&b.drv, 4096, 16);
    for (unsigned i = 0; i < 1000; i++) {
        fake_write_desc(b.drv.mem, table, i, GPA(buf.v + i), 1, FAKE_WRITE | FAKE_NEXT,
                        (uint16_t)(i + 1));
    }
    fake_write_desc(b.drv.mem, table, 1000, buf, 2, FAKE_WRITE, 0);
    fake_put_desc(b.f, 0, buf, 44, FAKE_NEXT, 1);
    fake_put_desc(b.f, 1, table, 16 * 1001, FAKE_INDIRECT, 0);
    fake_offer(b.f, 0);
    CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
    CHECK_INT(g_chain.readable_count, 1);
    CHECK_INT(g_chain.writable_count, 1001);
    CHECK_INT(g_chain.writable_bytes, 1002);
    bench_fini(&b);
}

/* One hostile layout each. */
static void hostile(struct bench *b, unsigned kind, gpa_t buf, gpa_t table)
{
    struct mem_map *mem = b->drv.mem;
    struct fake_queue *f = b->f;

    fake_put_desc(f, 0, buf, 16, 0, 0);
    switch (kind) {
    case 0: fake_put_desc(f, 0, buf, 16, FAKE_NEXT, 0); break; /* loops on itself */
    case 1:                                                    /* loops over two */
        fake_put_desc(f, 0, buf, 16, FAKE_NEXT, 1);
        fake_put_desc(f, 1, buf, 16, FAKE_NEXT, 0);
        break;
    case 2: fake_put_desc(f, 0, buf, 16, FAKE_NEXT, f->size); break; /* beyond the table */
    case 3: fake_put_desc(f, 0, GPA(FAKE_MEM_BYTES), 16, 0, 0); break;
    case 4: fake_put_desc(f, 0, GPA(FAKE_MEM_BYTES - 8), 16, 0, 0); break;
    case 5: fake_put_desc(f, 0, GPA(UINT64_MAX - 3), 16, FAKE_WRITE, 0); break;
    case 6: fake_put_desc(f, 0, buf, UINT32_MAX, FAKE_WRITE, 0); break;
    case 7: /* readable after writable */
        fake_put_desc(f, 0, buf, 16, FAKE_WRITE | FAKE_NEXT, 1);
        fake_put_desc(f, 1, buf, 16, 0, 0);
        break;
    case 8: fake_put_desc(f, 0, table, 0, FAKE_INDIRECT, 0); break;
    case 9: fake_put_desc(f, 0, table, 24, FAKE_INDIRECT, 0); break;
    case 10: fake_put_desc(f, 0, table, 16, FAKE_INDIRECT | FAKE_NEXT, 1); break;
    case 11: fake_put_desc(f, 0, GPA(FAKE_MEM_BYTES - 16), 32, FAKE_INDIRECT, 0); break;
    case 12: /* an indirect table within one */
        fake_write_desc(mem, table, 0, table, 16, FAKE_INDIRECT, 0);
        fake_put_desc(f, 0, table, 16, FAKE_INDIRECT, 0);
        break;
    case 13: /* an indirect table that loops */
        fake_write_desc(mem, table, 0, buf, 1, FAKE_NEXT, 0);
        fake_put_desc(f, 0, table, 16, FAKE_INDIRECT, 0);
        break;
    case 14: /* leaves its indirect table */
        fake_write_desc(mem, table, 0, buf, 1, FAKE_NEXT, 1);
        fake_put_desc(f, 0, table, 16, FAKE_INDIRECT, 0);
        break;
    case 15: fake_put_desc(f, 0, buf, 0, FAKE_NEXT, 0); break; /* loops without any byte */
    case 16:                                                   /* was not negotiated */
        b->q.has_indirect = false;
        fake_write_desc(mem, table, 0, buf, 16, 0, 0);
        fake_put_desc(f, 0, table, 16, FAKE_INDIRECT, 0);
        break;
    case 17: fake_offer(f, f->size); return; /* head beyond the table */
    case 18: f->avail_idx += f->size; break; /* more offered than there can be */
    case 19: f->avail_idx -= 2; break;       /* taken back */
    default: fail();
    }
    fake_offer(f, 0);
}

static int pop_hostile(struct bench *b, unsigned kind)
{
    gpa_t buf;
    gpa_t table;
    int r;

    bench_init(b, 8);
    buf = fake_alloc(&b->drv, 4096, 16);
    table = fake_alloc(&b->drv, 4096, 16);
    hostile(b, kind, buf, table);
    r = virtq_pop(&b->q, &g_chain);
    if (r != (kind < 17 ? 1 : -EPROTO)) {
        print_error("hostile layout %u gave %d\n", kind, r);
        fail();
    }
    return r;
}

TEST(virtq, a_malformed_chain_has_no_buffers_and_the_next_one_is_taken)
{
    for (unsigned kind = 0; kind < 17; kind++) {
        struct bench b;
        uint32_t id;
        uint32_t len;

        (void)pop_hostile(&b, kind);
        CHECK_INT(g_chain.head, 0);
        CHECK_INT(g_chain.readable_count + g_chain.writable_count, 0);
        CHECK_INT(g_chain.readable_bytes + g_chain.writable_bytes, 0);
        virtq_push(&b.q, &g_chain, 512);
        CHECK(fake_take_used(b.f, &id, &len));
        CHECK_INT(len, 0);
        fake_put_desc(b.f, 3, GPA(0x8000), 16, FAKE_WRITE, 0);
        fake_offer(b.f, 3);
        CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
        CHECK_INT(g_chain.writable_bytes, 16);
        bench_fini(&b);
    }
}

TEST(virtq, impossible_offers_break_the_queue_for_good)
{
    for (unsigned kind = 17; kind <= 19; kind++) {
        struct bench b;

        (void)pop_hostile(&b, kind);
        CHECK(b.q.is_broken);
        CHECK_INT(virtq_pop(&b.q, &g_chain), -EPROTO);
        CHECK(!virtq_has_work(&b.q));
        CHECK(!virtq_wants_interrupt(&b.q));
        virtq_push(&b.q, &g_chain, 0);
        CHECK_INT(b.q.used_next, 0);
        virtq_reset(&b.q);
        CHECK(!b.q.is_enabled);
        CHECK_INT(virtq_pop(&b.q, &g_chain), 0);
        bench_fini(&b);
    }
}

TEST(virtq, an_empty_buffer_is_no_segment_wherever_it_points)
{
    struct bench b;

    bench_init(&b, 8);
    fake_put_desc(b.f, 0, GPA(UINT64_MAX), 0, FAKE_NEXT, 1);
    fake_put_desc(b.f, 1, GPA(0x8000), 4, FAKE_WRITE, 0);
    fake_offer(b.f, 0);
    CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
    CHECK_INT(g_chain.readable_count, 0);
    CHECK_INT(g_chain.writable_count, 1);
    bench_fini(&b);
}

static void finish(struct bench *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fake_offer(b->f, 0);
        CHECK_INT(virtq_pop(&b->q, &g_chain), 1);
        virtq_push(&b->q, &g_chain, 0);
    }
}

TEST(virtq, event_idx_says_when_either_side_wants_to_hear)
{
    struct bench b;

    bench_init(&b, 8);
    b.q.has_event_idx = true;
    fake_put_desc(b.f, 0, GPA(0x8000), 4, FAKE_WRITE, 0);
    /* the device states its wish only when it found the ring empty */
    finish(&b, 3);
    CHECK_INT(fake_wanted_kick(b.f), 0);
    CHECK_INT(virtq_pop(&b.q, &g_chain), 0);
    CHECK_INT(fake_wanted_kick(b.f), 3);

    fake_want_irq_at(b.f, 0);
    CHECK(virtq_wants_interrupt(&b.q)); /* 0 -> 3 stepped over 0 */
    CHECK(!virtq_wants_interrupt(&b.q));
    fake_want_irq_at(b.f, 5);
    finish(&b, 2);
    CHECK(!virtq_wants_interrupt(&b.q)); /* 3 -> 5 */
    finish(&b, 1);
    CHECK(virtq_wants_interrupt(&b.q)); /* 5 -> 6 */
    finish(&b, 5);
    CHECK(!virtq_wants_interrupt(&b.q)); /* the wish is behind */
    bench_fini(&b);
}

TEST(virtq, without_event_idx_a_flag_suppresses_interrupts)
{
    struct bench b;
    uint8_t *avail;

    bench_init(&b, 8);
    fake_put_desc(b.f, 0, GPA(0x8000), 4, FAKE_WRITE, 0);
    avail = fake_ptr(&b.drv, b.f->avail, 2);
    finish(&b, 1);
    CHECK(virtq_wants_interrupt(&b.q));
    store_le16(avail, 1);
    finish(&b, 1);
    CHECK(!virtq_wants_interrupt(&b.q));
    store_le16(avail, 0);
    finish(&b, 1);
    CHECK(virtq_wants_interrupt(&b.q));
    bench_fini(&b);
}

static unsigned g_noted;

static void note(void *owner, gpa_t gpa, uint64_t len)
{
    (void)owner;
    (void)gpa;
    g_noted += (unsigned)len;
}

TEST(virtq, what_the_device_wrote_is_reported_to_the_watcher)
{
    struct bench b;

    bench_init(&b, 8);
    mem_watch_set(b.drv.mem, note, NULL);
    mem_page_flag(b.drv.mem, GPA(0x8000), true);
    fake_put_desc(b.f, 0, GPA(0x8000), 100, FAKE_WRITE, 0);
    fake_offer(b.f, 0);
    CHECK_INT(virtq_pop(&b.q, &g_chain), 1);
    g_noted = 0;
    virtq_push(&b.q, &g_chain, 42);
    CHECK_INT(g_noted, 42);
    bench_fini(&b);
}

/* Random descriptors that mostly point somewhere sensible. */
static void scramble(struct bench *b, unsigned *seed, gpa_t table)
{
    for (unsigned i = 0; i < 64; i++) {
        uint64_t addr = rand_r(seed) % 8 ? (uint64_t)(rand_r(seed) % (int)FAKE_MEM_BYTES)
                                         : (uint64_t)rand_r(seed) << (rand_r(seed) % 33);
        uint32_t len = rand_r(seed) % 8 ? (uint32_t)(rand_r(seed) % 4096) : (uint32_t)rand_r(seed);
        uint16_t flags = (uint16_t)(rand_r(seed) % 8 ? rand_r(seed) % 4 : rand_r(seed));
        uint16_t next = (uint16_t)(rand_r(seed) % 8 ? rand_r(seed) % 32 : rand_r(seed));

        if (flags & FAKE_INDIRECT && rand_r(seed) % 2) {
            addr = table.v;
            len &= ~15u;
        }
        if (i < 32) {
            fake_put_desc(b->f, i, GPA(addr), len, flags, next);
        } else {
            fake_write_desc(b->drv.mem, table, i - 32, GPA(addr), len, flags, next);
        }
    }
}

TEST(virtq, random_tables_give_chains_within_ram_or_none)
{
    struct bench b;
    unsigned seed = 20240611;
    unsigned taken = 0;
    unsigned broken = 0;
    unsigned empty = 0;
    int64_t until = clock_mono_ns() + NS_PER_S / 2;
    gpa_t table;
    const uint8_t *ram;

    bench_init(&b, 32);
    table = fake_alloc(&b.drv, 16 * 32, 16);
    ram = fake_ptr(&b.drv, GPA(0), FAKE_MEM_BYTES);
    while (clock_mono_ns() < until) {
        scramble(&b, &seed, table);
        fake_offer(b.f, (uint16_t)(rand_r(&seed) % 33));
        if (virtq_pop(&b.q, &g_chain) < 0) {
            broken++;
            b.f->avail_idx = 0;
            CHECK_INT(virtq_enable(&b.q), 0);
            continue;
        }
        taken++;
        empty += g_chain.readable_count + g_chain.writable_count == 0;
        CHECK(g_chain.readable_count + g_chain.writable_count <= VIRTQ_SEG_MAX);
        for (unsigned i = 0; i < g_chain.readable_count + g_chain.writable_count; i++) {
            const uint8_t *at = g_chain.iov[i].iov_base;

            CHECK(at >= ram &&
                  range_within((uint64_t)(at - ram), g_chain.iov[i].iov_len, FAKE_MEM_BYTES));
        }
    }
    CHECK(taken > 100);
    CHECK(broken > 100);
    CHECK(empty > 100 && empty < taken);
    bench_fini(&b);
}
