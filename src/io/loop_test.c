/* loop_test.c — descriptors, timers and posts reach their callbacks. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"
#include "tests/lib/test.h"

struct trace {
    struct loop *loop;
    char text[16];
};

static void note(struct trace *t, char c)
{
    size_t len = strlen(t->text);

    t->text[len] = c;
}

static void on_fd(void *owner, int fd, uint32_t events)
{
    struct trace *t = owner;
    char c;

    CHECK(events & EPOLLIN);
    CHECK_INT(read(fd, &c, 1), 1);
    note(t, c);
    loop_del_fd(t->loop, fd);
    loop_del_fd(t->loop, fd);
}

static void on_late(void *owner)
{
    struct trace *t = owner;

    note(t, 'L');
    loop_stop(t->loop);
}

static void on_early(void *owner)
{
    note(owner, 'E');
}

static void on_post(void *owner)
{
    note(owner, 'P');
}

TEST(io, loop_runs_fds_posts_and_timers_in_order)
{
    struct trace t = {0};
    struct err err = {0};
    int fds[2];
    struct loop_timer *never;

    CHECK_OK(loop_new(&t.loop, &err), &err);
    CHECK_INT(pipe(fds), 0);
    CHECK_INT(write(fds[1], "xx", 2), 2);
    CHECK_INT(loop_add_fd(t.loop, fds[0], EPOLLIN, on_fd, &t), 0);
    CHECK(loop_add_timer(t.loop, 20 * NS_PER_MS, on_late, &t) != NULL);
    CHECK(loop_add_timer(t.loop, 5 * NS_PER_MS, on_early, &t) != NULL);
    never = loop_add_timer(t.loop, NS_PER_MS, on_late, &t);
    loop_del_timer(t.loop, never);
    CHECK_INT(loop_post(t.loop, on_post, &t), 0);
    CHECK_INT(loop_run(t.loop), 0);
    CHECK_STR(t.text, "xPEL");
    loop_free(t.loop);
    loop_free(NULL);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void stop_post(void *owner)
{
    struct trace *t = owner;

    note(t, 'S');
}

TEST(io, a_loop_thread_takes_posts_and_stops)
{
    struct trace t = {0};
    struct err err = {0};

    CHECK_OK(loop_new(&t.loop, &err), &err);
    CHECK_OK(loop_thread_start(t.loop, "test", &err), &err);
    CHECK_INT(loop_post(t.loop, stop_post, &t), 0);
    for (int i = 0; i < 1000 && !t.text[0]; i++) {
        (void)usleep(1000);
    }
    loop_thread_stop(t.loop);
    CHECK_STR(t.text, "S");
    loop_free(t.loop);
}

static void note_thread(void *owner)
{
    *(pthread_t *)owner = pthread_self();
}

TEST(io, loop_call_runs_on_the_thread_of_the_loop_or_here)
{
    struct loop *loop;
    struct err err = {0};
    pthread_t seen = {0};

    CHECK_OK(loop_new(&loop, &err), &err);
    loop_call(loop, note_thread, &seen);
    CHECK(pthread_equal(seen, pthread_self()));
    CHECK_OK(loop_thread_start(loop, "called", &err), &err);
    for (unsigned i = 0; i < 1000; i++) { /* the thread may need a moment until it runs */
        loop_call(loop, note_thread, &seen);
    }
    (void)usleep(10000);
    loop_call(loop, note_thread, &seen);
    CHECK(!pthread_equal(seen, pthread_self()));
    loop_thread_stop(loop);
    loop_call(loop, note_thread, &seen);
    CHECK(pthread_equal(seen, pthread_self()));
    loop_free(loop);
}

static void count_up(void *owner)
{
    atomic_fetch_add((atomic_uint *)owner, 1);
}

static void count_fd(void *owner, int fd, uint32_t events)
{
    char byte;

    (void)events;
    (void)!read(fd, &byte, 1);
    count_up(owner);
}

TEST(io, a_held_loop_serves_calls_and_nothing_else)
{
    struct loop *loop;
    struct err err = {0};
    atomic_uint posts = 0;
    atomic_uint calls = 0;
    int fds[2];

    CHECK_INT(pipe(fds), 0);
    CHECK_OK(loop_new(&loop, &err), &err);
    CHECK_INT(loop_pause(loop, clock_mono_ns()), 0); /* before it runs */
    CHECK_INT(loop_add_fd(loop, fds[0], EPOLLIN, count_fd, &posts), 0);
    CHECK(loop_add_timer(loop, NS_PER_MS, count_up, &posts) != NULL);
    CHECK_OK(loop_thread_start(loop, "held", &err), &err);
    for (unsigned round = 0; round < 20; round++) {
        CHECK_INT(loop_pause(loop, clock_mono_ns() + 60 * NS_PER_S), 0);
        CHECK_INT(loop_pause(loop, clock_mono_ns() + 60 * NS_PER_S), 0);
        atomic_store(&posts, 0);
        CHECK_INT(loop_post(loop, count_up, &posts), 0);
        CHECK_INT(write(fds[1], "x", 1), 1);
        for (unsigned i = 0; i < 10; i++) {
            loop_call(loop, count_up, &calls);
        }
        CHECK_INT(atomic_load(&calls), 10 * (round + 1));
        (void)usleep(3000);
        CHECK_INT(atomic_load(&posts), 0);
        loop_resume(loop);
        for (unsigned i = 0; i < 1000 && atomic_load(&posts) < 2; i++) {
            (void)usleep(1000);
        }
        CHECK(atomic_load(&posts) >= 2);
    }
    CHECK_INT(loop_pause(loop, clock_mono_ns() + 60 * NS_PER_S), 0);
    loop_thread_stop(loop); /* a held loop can be stopped */
    loop_free(loop);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

struct stuck {
    atomic_bool is_there, may_go;
};

static void wait_for_leave(void *owner)
{
    struct stuck *s = owner;

    atomic_store(&s->is_there, true);
    while (!atomic_load(&s->may_go)) {
        (void)usleep(1000);
    }
}

TEST(io, a_loop_whose_callback_does_not_return_is_not_held)
{
    struct loop *loop;
    struct err err = {0};
    struct stuck stuck = {0};
    atomic_uint posts = 0;

    CHECK_OK(loop_new(&loop, &err), &err);
    CHECK_OK(loop_thread_start(loop, "stuck", &err), &err);
    CHECK_INT(loop_post(loop, wait_for_leave, &stuck), 0);
    while (!atomic_load(&stuck.is_there)) {
        (void)usleep(1000);
    }
    CHECK_INT(loop_pause(loop, clock_mono_ns() + 10 * NS_PER_MS), -ETIMEDOUT);
    CHECK_INT(loop_post(loop, count_up, &posts), 0);
    atomic_store(&stuck.may_go, true);
    for (unsigned i = 0; i < 10000 && atomic_load(&posts) == 0; i++) {
        (void)usleep(1000);
    }
    CHECK_INT(atomic_load(&posts), 1);
    loop_thread_stop(loop);
    loop_free(loop);
}

static void add_one(void *owner)
{
    atomic_fetch_add((atomic_uint *)owner, 1);
}

TEST(loop, what_is_taken_back_does_not_run)
{
    struct loop *loop;
    atomic_uint kept = 0;
    atomic_uint gone = 0;

    CHECK_INT(loop_new(&loop, NULL), 0);
    CHECK_INT(loop_post(loop, add_one, &gone), 0);
    CHECK_INT(loop_post(loop, add_one, &kept), 0);
    CHECK_INT(loop_post(loop, add_one, &gone), 0);
    loop_unpost(loop, &gone);
    CHECK_INT(loop_thread_start(loop, "test", NULL), 0);
    for (unsigned i = 0; i < 1000 && atomic_load(&kept) == 0; i++) {
        (void)usleep(1000);
    }
    loop_thread_stop(loop);
    CHECK_INT(atomic_load(&kept), 1);
    CHECK_INT(atomic_load(&gone), 0);
    loop_free(loop);
}
