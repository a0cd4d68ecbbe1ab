/* track_test.c — known distances between accesses, and where knowledge ends. */
#include "hv/soft/plan/track.h"
#include "tests/lib/test.h"

/* All instructions of `bytes`; the accesses of the last one. */
static unsigned run(struct track *k, const uint8_t *bytes, size_t len,
                    struct track_access out[static TRACK_ACCESS_MAX])
{
    unsigned count = 0;

    track_init(k);
    for (size_t at = 0; at < len;) {
        struct insn insn;

        CHECK_INT(insn_decode(bytes + at, len - at, INSN_MODE_64, &insn), INSN_OK);
        count = track_accesses(k, &insn, out);
        track_step(k, &insn);
        at += insn.len;
    }
    return count;
}

#define RUN(k, out, code) run((k), (const uint8_t *)(code), sizeof(code) - 1, (out))

/* Both pieces of code start with `mov rax, [rsi]`: distance of the last access from that one. */
static bool distance(const uint8_t *code, size_t len, int64_t *ret_distance)
{
    struct track start, end;
    struct track_access first[TRACK_ACCESS_MAX], last[TRACK_ACCESS_MAX];

    CHECK_INT(RUN(&start, first, "\x48\x8b\x06"), 1);
    CHECK(run(&end, code, len, last) >= 1);
    *ret_distance = last[0].at.offset - first[0].at.offset;
    return track_is_near(&first[0].at, &last[0].at);
}

static const struct {
    uint8_t code[24];
    uint8_t len;
    bool is_near;
    int64_t distance;
} cases[] = {
    {{0x48, 0x8b, 0x5e, 0x10}, 4, true, 16},                         /* [rsi + 16] */
    {{0x48, 0xff, 0xc6, 0x8a, 0x06}, 5, true, 1},                    /* inc rsi */
    {{0x48, 0x83, 0xc6, 0x20, 0x8a, 0x46, 0xff}, 7, true, 31},       /* add rsi, 32 */
    {{0x48, 0x83, 0xee, 0x08, 0x8a, 0x06}, 6, true, -8},             /* sub rsi, 8 */
    {{0x48, 0x89, 0xf7, 0x8a, 0x47, 0x04}, 6, true, 4},              /* mov rdi, rsi */
    {{0x48, 0x8d, 0x7e, 0x40, 0x31, 0xf6, 0x8a, 0x07}, 8, true, 64}, /* lea rdi, [rsi+64] */
    {{0x48, 0xf7, 0xe1, 0x8a, 0x06}, 5, true, 0},                    /* mul rcx */
    {{0xff, 0xc6, 0x8a, 0x06}, 4, false, 0},                         /* inc esi */
    {{0x31, 0xf6, 0x8a, 0x06}, 4, false, 0},                         /* xor esi, esi */
    {{0x89, 0xf6, 0x8a, 0x06}, 4, false, 0},                         /* mov esi, esi */
    {{0x66, 0xff, 0xc6, 0x8a, 0x06}, 5, false, 0},                   /* inc si */
    {{0x48, 0x0f, 0x44, 0xf1, 0x8a, 0x06}, 6, false, 0},             /* cmove rsi, rcx */
    {{0x48, 0x87, 0xce, 0x8a, 0x06}, 5, false, 0},                   /* xchg rsi, rcx */
    {{0xa4, 0x8a, 0x06}, 3, false, 0},                               /* movsb */
    {{0x5e, 0x8a, 0x06}, 3, false, 0},                               /* pop rsi */
    {{0x64, 0x8a, 0x06}, 3, false, 0},                               /* fs: */
    {{0x8a, 0x04, 0x0e}, 3, false, 0},                               /* + rcx */
    {{0x0f, 0xa2, 0x8a, 0x06}, 4, false, 0},                         /* cpuid */
    {{0x48, 0x81, 0xc6, 0, 0, 0, 0x41, 0x8a, 0x06}, 9, false, 0},    /* too far */
    {{0x66, 0x48, 0x0f, 0x7e, 0xc6, 0x8a, 0x06}, 7, false, 0},       /* movq rsi, xmm0 */
    {{0x48, 0x0f, 0xc1, 0xf7, 0x8a, 0x06}, 6, false, 0},             /* xadd rdi, rsi */
};

TEST(track, accesses_know_their_distance_until_the_register_is_another)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t d;

        CHECK_INT(distance(cases[i].code, cases[i].len, &d), cases[i].is_near);
        if (cases[i].is_near) {
            CHECK_INT(d, cases[i].distance);
        }
    }
}

TEST(track, the_stack_pointer_is_followed_through_calls_and_frames)
{
    struct track a, b;
    struct track_access push[TRACK_ACCESS_MAX], last[TRACK_ACCESS_MAX];

    CHECK_INT(RUN(&a, push, "\x50"), 1);
    CHECK(push[0].is_write);
    CHECK_INT(push[0].len, 8);
    /* push rbp; mov rbp, rsp; sub rsp, 64; call; leave */
    CHECK_INT(RUN(&b, last, "\x55\x48\x89\xe5\x48\x83\xec\x40\xe8\x00\x00\x00\x00\xc9"), 1);
    CHECK(track_is_near(&push[0].at, &last[0].at));
    CHECK_INT(last[0].at.offset, push[0].at.offset);
    CHECK(!last[0].is_write);
    CHECK_INT(b.reg[GPR_RSP].root, push[0].at.base);
    CHECK_INT(b.reg[GPR_RSP].offset, 0);
    /* call [rsp + 8] reads there, then writes below */
    CHECK_INT(RUN(&b, last, "\xff\x54\x24\x08"), 2);
    CHECK_INT(last[0].at.offset, 8);
    CHECK(!last[0].is_write);
    CHECK_INT(last[1].at.offset, -8);
    CHECK(last[1].is_write);
    /* add rsp, rax; push */
    CHECK_INT(RUN(&b, last, "\x48\x01\xc4\x50"), 1);
    CHECK(!track_is_near(&push[0].at, &last[0].at));
}

TEST(track, indices_count_by_their_scale)
{
    struct track k;
    struct track_access first[TRACK_ACCESS_MAX], last[TRACK_ACCESS_MAX];

    CHECK_INT(RUN(&k, first, "\x8b\x04\x8e"), 1);                /* [rsi + rcx * 4] */
    CHECK_INT(RUN(&k, last, "\x48\xff\xc1\x8b\x44\x8e\x02"), 1); /* inc rcx; + 2 */
    CHECK(track_is_near(&first[0].at, &last[0].at));
    CHECK_INT(last[0].at.offset, 6);
    CHECK_INT(RUN(&k, last, "\x8b\x04\xce"), 1); /* * 8 */
    CHECK(!track_is_near(&first[0].at, &last[0].at));
}

TEST(track, what_may_change_translations_is_a_barrier)
{
    static const uint8_t swapgs[] = {0x0f, 0x01, 0xf8}, invlpg[] = {0x0f, 0x01, 0x3e},
                         load[] = {0x48, 0x8b, 0x06}, divide[] = {0x48, 0xf7, 0xf1};
    struct insn insn;

    CHECK_INT(insn_decode(swapgs, 3, INSN_MODE_64, &insn), INSN_OK);
    CHECK(track_is_barrier(&insn));
    CHECK_INT(insn_decode(invlpg, 3, INSN_MODE_64, &insn), INSN_OK);
    CHECK(track_is_barrier(&insn));
    CHECK_INT(insn_decode(load, 3, INSN_MODE_64, &insn), INSN_OK);
    CHECK(!track_is_barrier(&insn));
    CHECK_INT(insn_decode(divide, 3, INSN_MODE_64, &insn), INSN_OK);
    CHECK(!track_is_barrier(&insn));
}
