/* disk_test.c — files as disks, on both engines; what cannot be one is refused in the words of the
 * interface. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "host/disk.h"
#include "io/loop.h"
#include "tests/lib/test.h"

#define FILE_BYTES 65536u

static char g_path[64];

static void make_file(void)
{
    uint8_t bytes[FILE_BYTES];
    int fd;

    (void)snprintf(g_path, sizeof(g_path), "/tmp/ec1-disk-test-%d", getpid());
    for (unsigned i = 0; i < FILE_BYTES; i++) {
        bytes[i] = (uint8_t)(i / 512);
    }
    fd = open(g_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, bytes, FILE_BYTES), FILE_BYTES);
    (void)close(fd);
}

struct rig {
    struct loop *loop;
    struct disk_port *disk;
    int64_t results[512];
    struct disk_io ios[512];
    unsigned done;
    unsigned batches;
};

static void on_done(void *owner, struct disk_io *io, int64_t result)
{
    struct rig *g = owner;

    g->results[io - g->ios] = result;
    g->done++;
}

static void on_batch_end(void *owner)
{
    ((struct rig *)owner)->batches++;
}

static bool rig_init(struct rig *g, bool is_async)
{
    struct disk_config config = {.path = g_path, .is_async = is_async};
    struct disk_client client = {.done = on_done, .batch_end = on_batch_end, .owner = g};
    struct err err = {0};
    int r;

    memset(g, 0, sizeof(*g));
    make_file();
    r = disk_open(&config, &g->disk, &err);
    if (r < 0 && is_async) {
        CHECK_HAS(err_text(&err), "Error coming from the IO engine: Async error: ");
        return false; /* no io_uring here */
    }
    CHECK_OK(r, &err);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    CHECK_INT(g->disk->ops->attach(g->disk, g->loop, &client), 0);
    return true;
}

static void rig_fini(struct rig *g)
{
    g->disk->ops->detach(g->disk);
    g->disk->ops->detach(g->disk);
    disk_port_free(g->disk);
    loop_free(g->loop);
    (void)unlink(g_path);
}

/* Submit and wait, whatever the engine. */
static int64_t io(struct rig *g, struct disk_io what)
{
    int64_t result;

    g->ios[0] = what;
    result = g->disk->ops->submit(g->disk, &g->ios[0]);
    if (result == DISK_PENDING) {
        g->disk->ops->commit(g->disk);
        g->disk->ops->drain(g->disk);
        result = g->results[0];
    }
    return result;
}

static void round_trip(struct rig *g)
{
    uint8_t data[2048];
    struct disk_io read = {.op = DISK_READ, .offset = 1024, .data = data, .len = 2048};
    struct disk_io write = {.op = DISK_WRITE, .offset = 2048, .data = data, .len = 1024};
    struct disk_io flush = {.op = DISK_FLUSH};

    CHECK_INT(io(g, read), 2048);
    CHECK_INT(data[0], 2);
    CHECK_INT(data[2047], 5);
    memset(data, 0xaa, sizeof(data));
    CHECK_INT(io(g, write), 1024);
    CHECK_INT(io(g, flush), 0);
    memset(data, 0, sizeof(data));
    CHECK_INT(io(g, read), 2048);
    CHECK_INT(data[1023], 3);
    CHECK_INT(data[1024], 0xaa);
    read.offset = FILE_BYTES - 512; /* the file ends within */
    CHECK_INT(io(g, read), 512);
    read.offset = FILE_BYTES;
    CHECK_INT(io(g, read), 0);
    read.data = NULL;
    read.offset = 0;
    CHECK_INT(io(g, read), -EFAULT);
}

TEST(disk, both_engines_read_write_and_flush)
{
    struct rig g;

    CHECK(rig_init(&g, false));
    CHECK_INT(g.disk->bytes, FILE_BYTES);
    round_trip(&g);
    CHECK_INT(g.done, 0); /* it answers at once */
    rig_fini(&g);
    if (!rig_init(&g, true)) {
        SKIP("no io_uring");
    }
    round_trip(&g);
    CHECK_INT(g.done, 7);
    rig_fini(&g);
}

TEST(disk, a_full_ring_says_so_and_room_comes_back_on_the_loop)
{
    static uint8_t data[512 * 512];
    struct rig g;
    unsigned taken = 0;
    unsigned spins = 0;

    if (!rig_init(&g, true)) {
        SKIP("no io_uring");
    }
    for (unsigned i = 0; i < 512; i++) {
        g.ios[i] = (struct disk_io){.op = DISK_READ,
                                    .offset = UINT64_C(512) * (i % 128),
                                    .data = data + (size_t)512 * i,
                                    .len = 512};
    }
    while (g.disk->ops->submit(g.disk, &g.ios[taken]) == DISK_PENDING) {
        taken++;
    }
    CHECK_INT(taken, 128);
    g.disk->ops->commit(g.disk);
    CHECK_OK(loop_thread_start(g.loop, "disk", &(struct err){0}), &(struct err){0});
    while (__atomic_load_n(&g.done, __ATOMIC_SEQ_CST) < taken && spins++ < 5000) {
        (void)usleep(1000);
    }
    loop_thread_stop(g.loop);
    CHECK_INT(g.done, taken);
    for (unsigned i = 0; i < taken; i++) {
        CHECK_INT(g.results[i], 512);
        CHECK_INT(data[512 * i], i % 128);
    }
    for (unsigned i = 0; i < 300; i++) { /* never more in flight than completions have room */
        if (g.disk->ops->submit(g.disk, &g.ios[i]) != DISK_PENDING) {
            g.disk->ops->commit(g.disk);
        }
    }
    g.disk->ops->drain(g.disk);
    rig_fini(&g);
}

TEST(disk, detaching_waits_for_what_is_in_flight)
{
    static uint8_t data[4096];
    struct rig g;

    if (!rig_init(&g, true)) {
        SKIP("no io_uring");
    }
    for (unsigned i = 0; i < 8; i++) { /* not even committed */
        g.ios[i] =
            (struct disk_io){.op = DISK_READ, .offset = 512, .data = data + 512 * i, .len = 512};
        CHECK_INT(g.disk->ops->submit(g.disk, &g.ios[i]), DISK_PENDING);
    }
    g.disk->ops->detach(g.disk);
    CHECK_INT(g.done, 8);
    CHECK_INT(data[4095], 1);
    rig_fini(&g);
}

TEST(disk, the_id_names_the_file)
{
    struct rig g;
    struct stat st;
    char text[96];

    CHECK(rig_init(&g, false));
    CHECK_INT(stat(g_path, &st), 0);
    (void)snprintf(text, sizeof(text), "%llu%llu%llu%20s", (unsigned long long)st.st_dev,
                   (unsigned long long)st.st_rdev, (unsigned long long)st.st_ino, "");
    for (unsigned i = 0; i < DISK_ID_BYTES; i++) {
        CHECK_INT(g.disk->id[i], text[i] == ' ' ? 0 : text[i]);
    }
    rig_fini(&g);
}

static void refused(const char *path, bool is_read_only, int code, const char *text)
{
    struct disk_config config = {.path = path, .is_read_only = is_read_only};
    struct disk_port *disk = NULL;
    struct err err = {0};
    char whole[256];

    CHECK_INT(disk_open(&config, &disk, &err), code);
    CHECK(disk == NULL);
    (void)snprintf(whole, sizeof(whole), "Error manipulating the backing file: %s %s", text, path);
    CHECK_STR(err_text(&err), whole);
}

TEST(disk, what_cannot_be_a_disk_is_refused)
{
    char fifo[64];

    refused("/nowhere/at/all", false, -ENOENT, "No such file or directory (os error 2)");
    refused("", false, -ENOENT, "No such file or directory (os error 2)");
    refused("/tmp", false, -EISDIR, "Is a directory (os error 21)");
    refused("/tmp", true, -EINVAL,
            "it is a directory, and must be a regular file or a block device");
    refused("/dev/zero", false, -EINVAL,
            "it is a character device, and must be a regular file or a block device");
    (void)snprintf(fifo, sizeof(fifo), "/tmp/ec1-fifo-%d", getpid());
    CHECK_INT(mkfifo(fifo, 0600), 0);
    refused(fifo, false, -EINVAL, "it is a FIFO, and must be a regular file or a block device");
    refused(fifo, true, -EINVAL, "it is a FIFO, and must be a regular file or a block device");
    (void)unlink(fifo);
}

TEST(disk, an_empty_file_and_an_odd_size_are_disks)
{
    struct disk_config config = {.path = g_path};
    struct disk_port *disk;
    struct err err = {0};

    make_file();
    for (off_t size = 0; size < 1000; size += 999) {
        CHECK_INT(truncate(g_path, size), 0);
        CHECK_OK(disk_open(&config, &disk, &err), &err);
        CHECK_INT(disk->bytes, size);
        disk_port_free(disk);
    }
    (void)unlink(g_path);
}
