/* loop.h — one thread's event loop: descriptors, timers, and calls posted by other threads.
 *
 * Everything is level-triggered, unless `events` says EPOLLET.  A callback runs on the loop's
 * thread, may add, change and remove any source including its own.  After loop_del_fd() or
 * loop_del_timer() returns (on the loop's thread) the callback is not called again.
 *
 * Threads: loop_add_*, loop_mod_fd, loop_del_* on the loop's thread, or before it runs.  loop_post,
 * loop_stop, loop_pause and loop_resume from any thread.
 */
#pragma once

#include <stdint.h>
#include <sys/epoll.h>

#include "base/err.h"

struct loop;
struct loop_timer;

typedef void (*loop_fd_fn)(void *owner, int fd, uint32_t events); /* events: EPOLLIN ... */
typedef void (*loop_fn)(void *owner);

int loop_new(struct loop **ret_loop, struct err *err);
void loop_free(struct loop *loop);

/* Runs callbacks until loop_stop(); 0 or negative errno. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Start and end a thread that runs the loop; name at most 15 bytes.  loop_thread_stop() stops and
 * joins; harmless if no thread was started. */
int loop_thread_start(struct loop *loop, const char *name, struct err *err);
void loop_thread_stop(struct loop *loop);
/* Before that start: the thread calls `fn` before anything else. */
void loop_on_start(struct loop *loop, loop_fn fn, void *owner);

/* Hold the loop between two callbacks: until loop_resume() nothing runs but what loop_call()
 * brings; descriptors, timers and posts wait.  Returns 0 once it holds, -ETIMEDOUT if a callback
 * has not returned by `until_ns` of the monotonic clock: then nothing is held.  Not on the loop's
 * thread; a loop that nobody runs is held when somebody does. */
int loop_pause(struct loop *loop, int64_t until_ns);
void loop_resume(struct loop *loop);

/* Watch `fd`, which stays the caller's.  One registration per descriptor. */
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *owner);
int loop_mod_fd(struct loop *loop, int fd, uint32_t events);
void loop_del_fd(struct loop *loop, int fd);

/* Call `fn` once, `delay_ns` from now.  The timer frees itself after the call; NULL when out of
 * memory. */
struct loop_timer *loop_add_timer(struct loop *loop, int64_t delay_ns, loop_fn fn, void *owner);
void loop_del_timer(struct loop *loop, struct loop_timer *timer);

/* Run `fn` soon on the loop's thread, in the order of posting.  -ENOMEM, else 0. */
int loop_post(struct loop *loop, loop_fn fn, void *owner);
/* Take back what was posted with this `owner` and has not run.  On the loop's thread, or while none
 * runs it: after return nothing of it is called any more. */
void loop_unpost(struct loop *loop, const void *owner);
/* Run `fn` on the loop's thread and wait until it returned.  Called on that thread, or while no
 * thread runs the loop, it is a plain call.  A loop that stops still serves calls it was given. */
void loop_call(struct loop *loop, loop_fn fn, void *owner);
