/* progress.c — see progress.h. */
#include "cli/progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

#define EVERY_NS   100000000 /* often enough to see it move */
#define BAR_CELLS  24
#define LINE_CLEAR "\r\033[K"

/* "pulling NAME  [=====     ]  12.0 MiB of 34.5 MiB", cut to the terminal. */
static void draw(const char *what, uint64_t done, uint64_t total)
{
    struct winsize size = {0};
    char bar[BAR_CELLS + 1];
    char have[32];
    char want[32];
    uint64_t cells = total ? (done < total ? done : total) * BAR_CELLS / total : 0;
    int room;

    for (unsigned i = 0; i < BAR_CELLS; i++) {
        bar[i] = i < cells ? '=' : ' ';
    }
    bar[BAR_CELLS] = 0;
    (void)ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    room = (int)(size.ws_col ? size.ws_col : 80) - BAR_CELLS - 40;
    (void)fprintf(stderr, LINE_CLEAR "pulling %.*s [%s] %s of %s", room > 8 ? room : 8, what, bar,
                  str_from_size(done, have), str_from_size(total, want));
    (void)fflush(stderr);
}

static void show(void *owner, const char *what, uint64_t done, uint64_t total)
{
    struct progress *p = owner;
    int64_t now = clock_mono_ns();

    if (p->shown_ns == 0 || now - p->shown_ns >= EVERY_NS || done == total) {
        draw(what, done, total);
        p->shown_ns = now;
    }
}

static void show_nothing(void *owner, const char *what, uint64_t done, uint64_t total)
{
    (void)owner;
    (void)what;
    (void)done;
    (void)total;
}

void progress_init(struct progress *progress)
{
    *progress = (struct progress){
        .oci = {.show = isatty(STDERR_FILENO) ? show : show_nothing, .owner = progress}};
}

void progress_end(struct progress *progress)
{
    if (progress->shown_ns) {
        (void)fputs(LINE_CLEAR, stderr);
        progress->shown_ns = 0;
    }
}
