/* loop.c — one thread's event loop over epoll.
 *
 * Theory of operation.  Every watched descriptor has a heap node; epoll carries its address.  A
 * removed node may still be named by events of the batch being walked, so it is marked dead and
 * freed after the batch.  Timers stand in a list sorted by deadline.  Other threads append to
 * `posted` under the lock and signal `wake`.
 */
#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/list.h"

struct source {
    struct list link;
    int fd;
    bool dead;
    loop_fd_fn fn;
    void *owner;
};

struct loop_timer {
    struct list link;
    int64_t due_ns;
    loop_fn fn;
    void *owner;
};

struct post {
    struct list link;
    loop_fn fn;
    void *owner;
    bool is_call; /* somebody waits for it, and it lives on their stack */
    bool is_done;
};

struct loop {
    int epoll;
    int wake; /* eventfd */
    _Atomic bool stop;
    struct list sources;
    struct list dead;
    struct list timers;   /* by due_ns */
    pthread_mutex_t lock; /* guards the next five */
    struct list posted;
    pthread_cond_t called; /* some call is done, or one of the next three changed */
    bool wants_pause;
    bool is_paused;
    bool is_running;
    pthread_t runner; /* valid while is_running */
    pthread_t thread;
    bool has_thread;
    loop_fn on_start; /* NULL: nothing */
    void *on_start_owner;
    char name[16]; /* of the thread */
};

int loop_new(struct loop **ret_loop, struct err *err)
{
    AUTO_FREE struct loop *loop = calloc(1, sizeof(*loop));
    AUTO_CLOSE int epoll = epoll_create1(EPOLL_CLOEXEC);
    AUTO_CLOSE int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN};

    if (!loop || epoll < 0 || wake < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &ev) < 0) {
        return err_sys(err, "create an event loop");
    }
    list_init(&loop->sources);
    list_init(&loop->dead);
    list_init(&loop->timers);
    list_init(&loop->posted);
    (void)pthread_mutex_init(&loop->lock, NULL);
    (void)pthread_cond_init(&loop->called, NULL);
    loop->epoll = take_fd(&epoll);
    loop->wake = take_fd(&wake);
    *ret_loop = TAKE_PTR(loop);
    return 0;
}

static void free_all(struct list *head, size_t offset)
{
    list_for_each (pos, head) {
        list_remove(pos);
        free((char *)pos - offset);
    }
}

void loop_free(struct loop *loop)
{
    if (!loop) {
        return;
    }
    loop_thread_stop(loop);
    free_all(&loop->sources, offsetof(struct source, link));
    free_all(&loop->dead, offsetof(struct source, link));
    free_all(&loop->timers, offsetof(struct loop_timer, link));
    free_all(&loop->posted, offsetof(struct post, link));
    (void)pthread_cond_destroy(&loop->called);
    (void)pthread_mutex_destroy(&loop->lock);
    (void)close(loop->epoll);
    (void)close(loop->wake);
    free(loop);
}

static void run_post(struct loop *loop, struct post *post)
{
    post->fn(post->owner);
    if (!post->is_call) {
        free(post);
        return;
    }
    (void)pthread_mutex_lock(&loop->lock);
    post->is_done = true;
    (void)pthread_cond_broadcast(&loop->called);
    (void)pthread_mutex_unlock(&loop->lock);
}

static void run_posted(struct loop *loop)
{
    for (;;) {
        struct post *post = NULL;

        (void)pthread_mutex_lock(&loop->lock);
        if (!list_is_empty(&loop->posted)) {
            post = container_of(loop->posted.next, struct post, link);
            list_remove(&post->link);
        }
        (void)pthread_mutex_unlock(&loop->lock);
        if (!post) {
            return;
        }
        run_post(loop, post);
    }
}

static void enter(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    loop->runner = pthread_self();
    loop->is_running = true;
    (void)pthread_mutex_unlock(&loop->lock);
}

/* The oldest call that waits, taken out; NULL: none.  With the lock. */
static struct post *take_call(struct loop *loop)
{
    list_for_each (pos, &loop->posted) {
        struct post *post = container_of(pos, struct post, link);

        if (post->is_call) {
            list_remove(&post->link);
            return post;
        }
    }
    return NULL;
}

/* The oldest call that waits; without one the loop is marked as not running. */
static struct post *take_call_or_leave(struct loop *loop)
{
    struct post *call;

    (void)pthread_mutex_lock(&loop->lock);
    call = take_call(loop);
    loop->is_running = call != NULL;
    (void)pthread_cond_broadcast(&loop->called); /* loop_pause() may wait for a loop that ends */
    (void)pthread_mutex_unlock(&loop->lock);
    return call;
}

/* Serve calls only, for as long as somebody wants the loop held. */
static void stand_still(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    while (loop->wants_pause && !atomic_load_explicit(&loop->stop, memory_order_acquire)) {
        struct post *call = take_call(loop);

        if (!loop->is_paused) {
            loop->is_paused = true;
            (void)pthread_cond_broadcast(&loop->called);
        }
        if (!call) {
            (void)pthread_cond_wait(&loop->called, &loop->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&loop->lock);
        run_post(loop, call);
        (void)pthread_mutex_lock(&loop->lock);
    }
    loop->is_paused = false;
    (void)pthread_mutex_unlock(&loop->lock);
}

/* Nobody may be left waiting for a loop that ended. */
static void leave(struct loop *loop)
{
    struct post *call;

    while ((call = take_call_or_leave(loop))) {
        run_post(loop, call);
    }
}

static void run_timers(struct loop *loop)
{
    while (!list_is_empty(&loop->timers)) {
        struct loop_timer *timer = container_of(loop->timers.next, struct loop_timer, link);

        if (timer->due_ns > clock_mono_ns()) {
            return;
        }
        list_remove(&timer->link);
        timer->fn(timer->owner);
        free(timer);
    }
}

/* Milliseconds to sleep, rounded up so that a timer is due when we wake; -1 without a timer. */
static int wait_ms(const struct loop *loop)
{
    int64_t left;

    if (list_is_empty(&loop->timers)) {
        return -1;
    }
    left = container_of(loop->timers.next, struct loop_timer, link)->due_ns - clock_mono_ns();
    if (left <= 0) {
        return 0;
    }
    left = (left + NS_PER_MS - 1) / NS_PER_MS;
    return left > 60000 ? 60000 : (int)left;
}

static int run(struct loop *loop)
{
    struct epoll_event events[64];

    while (!atomic_load_explicit(&loop->stop, memory_order_acquire)) {
        int count;

        stand_still(loop);
        count = epoll_wait(loop->epoll, events, (int)ARRAY_LEN(events), wait_ms(loop));
        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        for (int i = 0; i < count; i++) {
            struct source *source = events[i].data.ptr;

            if (!source) {
                uint64_t drained;

                (void)!read(loop->wake, &drained, sizeof(drained));
            } else if (!source->dead) {
                source->fn(source->owner, source->fd, events[i].events);
            }
        }
        free_all(&loop->dead, offsetof(struct source, link));
        run_posted(loop);
        run_timers(loop);
    }
    return 0;
}

int loop_run(struct loop *loop)
{
    int r;

    enter(loop);
    r = run(loop);
    leave(loop);
    return r;
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;

    (void)!write(loop->wake, &one, sizeof(one));
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    wake(loop);
    (void)pthread_mutex_lock(&loop->lock);
    (void)pthread_cond_broadcast(&loop->called); /* it may stand still */
    (void)pthread_mutex_unlock(&loop->lock);
}

int loop_pause(struct loop *loop, int64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int r = 0;

    (void)pthread_mutex_lock(&loop->lock);
    loop->wants_pause = true;
    wake(loop);
    while (r == 0 && loop->is_running && !loop->is_paused &&
           !atomic_load_explicit(&loop->stop, memory_order_acquire)) {
        r = -pthread_cond_clockwait(&loop->called, &loop->lock, CLOCK_MONOTONIC, &until);
    }
    if (r < 0) {
        loop->wants_pause = false;
    }
    (void)pthread_mutex_unlock(&loop->lock);
    return r;
}

void loop_resume(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    loop->wants_pause = false;
    (void)pthread_cond_broadcast(&loop->called);
    (void)pthread_mutex_unlock(&loop->lock);
}

static void *thread_main(void *arg)
{
    struct loop *loop = arg;

    /* By itself: of another thread it would be a file of /proc, which a jail has not. */
    (void)pthread_setname_np(pthread_self(), loop->name);
    if (loop->on_start) {
        loop->on_start(loop->on_start_owner);
    }
    (void)loop_run(loop);
    return NULL;
}

void loop_on_start(struct loop *loop, loop_fn fn, void *owner)
{
    loop->on_start = fn;
    loop->on_start_owner = owner;
}

int loop_thread_start(struct loop *loop, const char *name, struct err *err)
{
    int r;

    /* It counts as running from here on: a loop_call() made before the thread gets to run waits. */
    (void)snprintf(loop->name, sizeof(loop->name), "%s", name);
    (void)pthread_mutex_lock(&loop->lock);
    r = pthread_create(&loop->thread, NULL, thread_main, loop);
    loop->is_running = r == 0;
    loop->runner = loop->thread;
    (void)pthread_mutex_unlock(&loop->lock);
    if (r) {
        return err_set(err, -r, "start thread '%s': %s", name, strerror(r));
    }
    loop->has_thread = true;
    return 0;
}

void loop_thread_stop(struct loop *loop)
{
    if (loop && loop->has_thread) {
        loop_stop(loop);
        (void)pthread_join(loop->thread, NULL);
        loop->has_thread = false;
    }
}

static struct source *find(struct loop *loop, int fd)
{
    list_for_each (pos, &loop->sources) {
        struct source *source = container_of(pos, struct source, link);

        if (source->fd == fd) {
            return source;
        }
    }
    return NULL;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *owner)
{
    struct source *source = calloc(1, sizeof(*source));
    struct epoll_event ev = {.events = events, .data.ptr = source};

    if (!source) {
        return -ENOMEM;
    }
    *source = (struct source){.fd = fd, .fn = fn, .owner = owner};
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        free(source);
        return -errno;
    }
    list_append(&loop->sources, &source->link);
    return 0;
}

int loop_mod_fd(struct loop *loop, int fd, uint32_t events)
{
    struct source *source = find(loop, fd);
    struct epoll_event ev = {.events = events, .data.ptr = source};

    if (!source) {
        return -ENOENT;
    }
    return epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

void loop_del_fd(struct loop *loop, int fd)
{
    struct source *source = find(loop, fd);

    if (source) {
        (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
        list_remove(&source->link);
        source->dead = true;
        list_append(&loop->dead, &source->link);
    }
}

struct loop_timer *loop_add_timer(struct loop *loop, int64_t delay_ns, loop_fn fn, void *owner)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));
    struct list *at = loop->timers.next;

    if (!timer) {
        return NULL;
    }
    *timer = (struct loop_timer){.due_ns = clock_mono_ns() + delay_ns, .fn = fn, .owner = owner};
    while (at != &loop->timers &&
           container_of(at, struct loop_timer, link)->due_ns <= timer->due_ns) {
        at = at->next;
    }
    list_append(at, &timer->link); /* in front of `at` */
    return timer;
}

void loop_del_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    if (timer) {
        list_remove(&timer->link);
        free(timer);
    }
}

int loop_post(struct loop *loop, loop_fn fn, void *owner)
{
    struct post *post = calloc(1, sizeof(*post));

    if (!post) {
        return -ENOMEM;
    }
    *post = (struct post){.fn = fn, .owner = owner};
    (void)pthread_mutex_lock(&loop->lock);
    list_append(&loop->posted, &post->link);
    (void)pthread_mutex_unlock(&loop->lock);
    wake(loop);
    return 0;
}

void loop_unpost(struct loop *loop, const void *owner)
{
    struct list *next;

    (void)pthread_mutex_lock(&loop->lock);
    for (struct list *pos = loop->posted.next; pos != &loop->posted; pos = next) {
        struct post *post = container_of(pos, struct post, link);

        next = pos->next;
        if (!post->is_call && post->owner == owner) {
            list_remove(pos);
            free(post);
        }
    }
    (void)pthread_mutex_unlock(&loop->lock);
}

void loop_call(struct loop *loop, loop_fn fn, void *owner)
{
    struct post post = {.fn = fn, .owner = owner, .is_call = true};

    (void)pthread_mutex_lock(&loop->lock);
    if (!loop->is_running || pthread_equal(loop->runner, pthread_self())) {
        (void)pthread_mutex_unlock(&loop->lock);
        fn(owner);
        return;
    }
    list_append(&loop->posted, &post.link);
    wake(loop);
    (void)pthread_cond_broadcast(&loop->called);
    while (!post.is_done) {
        (void)pthread_cond_wait(&loop->called, &loop->lock);
    }
    (void)pthread_mutex_unlock(&loop->lock);
}
