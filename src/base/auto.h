/* auto.h — scope-bound cleanup for locals of control code.
 *
 * Always initialise where declared.  A function uses AUTO_* or `goto out`, never both.  Hand a
 * value on with TAKE_PTR or take_fd, which leave NULL or -1 behind.  Not for frames that a longjmp
 * may leave (hv/soft): cleanups are skipped there.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_free(void *slot)
{
    free(*(void **)slot);
}

static inline void auto_close(const int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

static inline void auto_fclose(FILE *const *file)
{
    if (*file) {
        (void)fclose(*file);
    }
}

static inline int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#define AUTO_FREE   __attribute__((cleanup(auto_free)))
#define AUTO_CLOSE  __attribute__((cleanup(auto_close)))
#define AUTO_FCLOSE __attribute__((cleanup(auto_fclose)))
/* Call `fini(&local)` when the local goes out of scope. */
#define AUTO_CALL(fini) __attribute__((cleanup(fini)))

#define TAKE_PTR(ptr)                   \
    __extension__({                     \
        __typeof__(ptr) taken_ = (ptr); \
        (ptr) = NULL;                   \
        taken_;                         \
    })

#define MUST_CHECK __attribute__((warn_unused_result))
