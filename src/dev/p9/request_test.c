/* request_test.c — sessions: agreeing on a version, fids, names, hostile messages.
 *
 * EC1_SEED repeats a run of random messages, EC1_P9_MESSAGES says how many.
 */
#include <time.h>

#include "tests/lib/p9_client.h"

TEST(p9, version_agrees_on_a_size)
{
    struct p9_client c;

    p9_client_init(&c, false);
    CHECK_INT(p9_version(&c, 512000), 0);
    CHECK_INT(p9_n(&c, 4), 512000);
    CHECK_STR(p9_text(&c), "9P2000.L");
    CHECK_INT(p9_version(&c, UINT32_MAX), 0);
    CHECK_INT(p9_n(&c, 4), P9_MSIZE_MAX);
    CHECK_INT(p9_version(&c, 4095), -EINVAL);
    CHECK_INT(p9_attach(&c, 0, 0), -EIO); /* nothing holds any more */
    CHECK_INT(p9_call(&c, P9_TVERSION, "ds", 8192, "9P2000.u"), 0);
    CHECK_INT(p9_n(&c, 4), 8192);
    CHECK_STR(p9_text(&c), "unknown");
    CHECK_INT(p9_attach(&c, 0, 0), -EIO);
    p9_client_fini(&c);
}

TEST(p9, a_new_version_forgets_all_fids)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "x");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(p9_version(&c, 8192), 0);
    CHECK_INT(p9_getattr(&c, 0), -EBADF);
    CHECK_INT(p9_getattr(&c, 1), -EBADF);
    CHECK_INT(p9_attach(&c, 1, 0), 0);
    p9_client_fini(&c);
}

TEST(p9, attach_leads_to_the_root)
{
    struct p9_client c;
    struct stat st;

    p9_client_init(&c, false);
    CHECK_INT(p9_attach(&c, 1, 1000), 0);
    CHECK_INT(p9_n(&c, 1), 0x80);
    CHECK(p9_n(&c, 4) != 0);
    CHECK_INT(stat(c.dir, &st), 0);
    CHECK(p9_n(&c, 8) == st.st_ino);
    CHECK_INT(p9_attach(&c, 1, 1000), -EINVAL); /* in use */
    CHECK_INT(p9_attach(&c, P9_NOFID, 0), -EINVAL);
    CHECK_INT(p9_call(&c, P9_TATTACH, "ddssd", 2, 1, "", "", 0), -EOPNOTSUPP);
    CHECK_INT(p9_call(&c, P9_TATTACH, "ddssd", 2, P9_NOFID, "me", "/etc", 0), -ENOENT);
    CHECK_INT(p9_call(&c, P9_TATTACH, "ddssd", 2, P9_NOFID, "me", "/", 0), 0);
    CHECK_INT(p9_clunk(&c, 1), 0);
    CHECK_INT(p9_clunk(&c, 1), -EBADF);
    CHECK_INT(p9_getattr(&c, 0), 0);
    p9_client_fini(&c);
}

TEST(p9, walk_goes_step_by_step)
{
    struct p9_client c;

    p9_client_init(&c, false);
    CHECK_INT(mkdir(host_path(&c, "d"), 0755), 0);
    host_file(&c, "d/f", "hello");
    CHECK_INT(symlink("/etc", host_path(&c, "l")), 0);
    CHECK_INT(p9_call(&c, P9_TWALK, "ddwss", 0, 1, 2, "d", "f"), 0);
    CHECK_INT(p9_n(&c, 2), 2);
    CHECK_INT(p9_n(&c, 1), 0x80);
    c.at += 12;
    CHECK_INT(p9_n(&c, 1), 0);
    CHECK_INT(p9_getattr(&c, 1), 0);
    CHECK_INT(p9_call(&c, P9_TWALK, "ddwss", 0, 2, 2, "d", "x"), 0); /* one of two: no new fid */
    CHECK_INT(p9_n(&c, 2), 1);
    CHECK_INT(p9_getattr(&c, 2), -EBADF);
    CHECK_INT(p9_walk(&c, 0, 2, "x"), -ENOENT);
    CHECK_INT(p9_walk(&c, 0, 1, "d"), -EINVAL); /* in use */
    CHECK_INT(p9_walk(&c, 0, P9_NOFID, "d"), -EINVAL);
    CHECK_INT(p9_walk(&c, 1, 2, "x"), -ENOTDIR);
    CHECK_INT(p9_walk(&c, 0, 2, "l"), 0);
    CHECK_INT(p9_n(&c, 1), 0x02);
    CHECK_INT(p9_walk(&c, 2, 3, "passwd"), -ENOTDIR); /* links are the guest's business */
    CHECK_INT(p9_call(&c, P9_TWALK, "ddw", 0, 3, 17), -EINVAL);
    p9_client_fini(&c);
}

TEST(p9, a_fid_can_be_doubled_and_moved)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, ""), 0);
    CHECK_INT(p9_walk(&c, 1, 1, "a"), 0); /* itself */
    CHECK_INT(p9_open(&c, 1, O_RDONLY), 0);
    CHECK_INT(p9_walk(&c, 1, 2, ""), 0); /* of an open one: names the same file, is not open */
    CHECK_INT(p9_read(&c, 2, 0, 10), -EBADF);
    CHECK_INT(p9_clunk(&c, 1), 0);
    CHECK_INT(p9_open(&c, 2, O_RDONLY), 0);
    CHECK_INT(p9_read(&c, 2, 0, 10), 5);
    CHECK_INT(p9_walk(&c, 2, 2, ""), 0); /* to where it is: closed */
    CHECK_INT(p9_read(&c, 2, 0, 10), -EBADF);
    p9_client_fini(&c);
}

TEST(p9, nothing_outside_can_be_named)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/", "/etc", "../etc"};
    struct p9_client c;
    char name[300];

    p9_client_init(&c, false);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_INT(p9_call(&c, P9_TWALK, "ddws", 0, 1, 1, bad[i]), -EINVAL);
        CHECK_INT(p9_call(&c, P9_TMKDIR, "dsdd", 0, bad[i], 0755, 0), -EINVAL);
    }
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    CHECK_INT(p9_walk(&c, 0, 1, name), -ENAMETOOLONG);
    name[255] = '\0';
    CHECK_INT(p9_walk(&c, 0, 1, name), -ENOENT);
    (void)p9_build(&c, P9_TWALK, "ddws", 0, 1, 1, "a?b");
    c.in[P9_HEAD + 13] = '\0';
    CHECK_INT(p9_send(&c, load_le32(c.in)), -EINVAL);
    p9_client_fini(&c);
}

TEST(p9, many_fids)
{
    enum { COUNT = 5000 };
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "x");
    for (unsigned i = 1; i <= COUNT; i++) {
        CHECK_INT(p9_walk(&c, 0, i * 64, "a"), 0);
    }
    CHECK_INT(c.s->fids.count, COUNT + 1);
    for (unsigned i = 1; i <= COUNT; i++) {
        CHECK_INT(p9_clunk(&c, i * 64), 0);
    }
    CHECK_INT(c.s->fids.count, 1);
    c.s->fids.count = P9_FID_MAX;
    CHECK_INT(p9_walk(&c, 0, 1, "a"), -ENFILE);
    CHECK_INT(p9_attach(&c, 1, 0), -ENFILE);
    c.s->fids.count = 1;
    p9_client_fini(&c);
}

TEST(p9, unknown_messages_are_refused)
{
    struct p9_client c;

    p9_client_init(&c, false);
    for (unsigned type = 0; type < 256; type++) {
        bool is_known = false;
#define X(name, number, handler, args, flags) is_known = is_known || type == (number);
        P9_MESSAGES(X)
#undef X
        if (!is_known) {
            CHECK_INT(p9_call(&c, (uint8_t)type, "d", 0), -EOPNOTSUPP);
        }
    }
    p9_client_fini(&c);
}

/* Every message, cut anywhere, is refused or harmless. */
TEST(p9, short_messages_are_refused)
{
    struct p9_client c;

    p9_client_init(&c, false);
#define X(name, number, handler, args, flags)                               \
    if ((number) != P9_TVERSION && (number) != P9_TFLUSH) {                 \
        for (uint32_t len = P9_HEAD; len < P9_HEAD + strlen(args); len++) { \
            memset(c.in, 0, 64);                                            \
            store_le32(c.in, len);                                          \
            c.in[4] = (number);                                             \
            CHECK(p9_send(&c, 64) < 0);                                     \
        }                                                                   \
    }
    P9_MESSAGES(X)
#undef X
    p9_client_fini(&c);
}

TEST(p9, lengths_that_lie_are_refused)
{
    struct p9_client c;
    size_t len;

    p9_client_init(&c, false);
    len = p9_build(&c, P9_TGETATTR, "dq", 0, UINT64_MAX);
    for (uint32_t size = 0; size < P9_HEAD; size++) {
        store_le32(c.in, size);
        CHECK_INT(p9_send(&c, len), -EINVAL);
    }
    store_le32(c.in, (uint32_t)len + 1);
    CHECK_INT(p9_send(&c, len), -EINVAL);
    store_le32(c.in, UINT32_MAX);
    CHECK_INT(p9_send(&c, len), -EINVAL);
    CHECK_INT(p9_send(&c, 6), -EINVAL); /* not even a head */
    CHECK_INT(load_le16(c.out + 5), P9_NOTAG);
    store_le32(c.in, (uint32_t)len);
    CHECK_INT(p9_send(&c, len + 100), 0); /* more room than message */
    store_le32(c.in, P9_IN_MAX + 1);
    CHECK_INT(p9_send(&c, P9_IN_MAX + 1), -E2BIG);
    len = p9_build(&c, P9_TWALK, "ddww", 0, 1, 1, 0xffff); /* a name longer than the message */
    CHECK_INT(p9_send(&c, len), -EINVAL);
    p9_client_fini(&c);
}

TEST(p9, a_reply_without_room_is_an_error_or_nothing)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDONLY), 0);
    for (c.out_room = 0; c.out_room < 11; c.out_room++) {
        CHECK_INT(p9_call(&c, P9_TGETATTR, "dq", 0, UINT64_MAX), 1);
        CHECK_INT(p9_call(&c, P9_TREAD, "dqd", 1, UINT64_C(0), 10), 1);
    }
    CHECK_INT(p9_getattr(&c, 0), -EIO);
    CHECK_INT(p9_read(&c, 1, 0, 10), 0);
    c.out_room = 13;
    CHECK_INT(p9_read(&c, 1, 0, 10), 2);
    c.out_room = 160;
    CHECK_INT(p9_getattr(&c, 0), 0);
    p9_client_fini(&c);
}

/* A number that is mostly small, sometimes wild. */
static uint64_t random_number(uint64_t *state)
{
    uint64_t v = next_random(state);

    return (v & 7) == 0 ? v >> 3 : (v & 7) < 4 ? v >> 60 : v >> 56;
}

static size_t put_name(struct p9_client *c, size_t at, uint64_t *state)
{
    static const char *const names[] = {"a", "b", "d", "a", "d", "..", "", "x/y", "l", "user.e"};
    const char *name = names[next_random(state) % ARRAY_LEN(names)];

    store_le16(c->in + at, (uint16_t)strlen(name));
    memcpy(c->in + at + 2, name, strlen(name));
    return at + 2 + strlen(name);
}

/* Plausible messages with wild fields: known types, fids and names that mostly exist. */
static void random_message(struct p9_client *c, uint64_t *state)
{
    static const struct {
        uint8_t type;
        const char *args;
    } ops[] = {
#define X(name, number, handler, args, flags) {number, args},
        P9_MESSAGES(X)
#undef X
    };
    size_t pick = next_random(state) % ARRAY_LEN(ops);
    uint8_t type = ops[pick].type;
    size_t at = P9_HEAD;

    if (type == P9_TVERSION || (type == P9_TCLUNK && next_random(state) % 4)) {
        type = P9_TWALK;
    }
    for (const char *letter = type == P9_TWALK ? "fdw" : ops[pick].args; *letter; letter++) {
        unsigned bytes = *letter == 'b' ? 1 : *letter == 'w' ? 2 : *letter == 'q' ? 8 : 4;
        uint64_t n = random_number(state);

        if (*letter == 'n') {
            at = put_name(c, at, state);
            continue;
        }
        if (*letter == 'f' || (*letter == 'd' && type == P9_TWALK)) {
            n %= 6;
        } else if (*letter == 'w') {
            n %= 3;
        }
        memcpy(c->in + at, &n, bytes);
        at += bytes;
    }
    for (unsigned i = 0; type == P9_TWALK && i < 3; i++) {
        at = put_name(c, at, state);
    }
    at += type == P9_TWRITE ? next_random(state) % 64 : 0;
    store_le32(c->in, next_random(state) % 32 ? (uint32_t)at : (uint32_t)(next_random(state) % 80));
    c->in[4] = type;
    c->out_room = next_random(state) % 16 ? P9_CLIENT_BUF : next_random(state) % 300;
    (void)p9_send(c, next_random(state) % 32 ? at : next_random(state) % (at + 1));
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void fuzz_body(void)
{
    uint64_t seed = number("EC1_SEED", (uint64_t)time(NULL));
    uint64_t count = number("EC1_P9_MESSAGES", 50000);
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    struct p9_client c;
    char reset[256];

    print_message("EC1_SEED=%lu\n", seed);
    p9_client_init(&c, false);
    (void)snprintf(reset, sizeof(reset),
                   "chmod -R u+rwx %s; cd %s && rm -rf ./* && mkdir d && ln -s /etc/passwd l && "
                   "echo hello | tee a >d/a",
                   c.dir, c.dir);
    for (uint64_t i = 0; i < count; i++) {
        if (i % 2000 == 0) { /* as new, in spite of modes and types that came in between */
            CHECK_INT(system(reset), 0);
        }
        if (!p9_fid_get(c.s, 0)) {
            (void)p9_attach(&c, 0, 0);
        }
        random_message(&c, &state);
    }
    c.out_room = P9_CLIENT_BUF;
    CHECK_INT(p9_version(&c, 8192), 0);
    CHECK_INT(p9_attach(&c, 0, 0), 0);
    CHECK_INT(p9_getattr(&c, 0), 0);
    CHECK_INT(system(reset), 0);
    p9_client_fini(&c);
}

TEST(p9, random_messages_do_no_harm)
{
    as_nobody(fuzz_body);
}
