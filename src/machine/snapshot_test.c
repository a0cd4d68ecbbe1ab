/* snapshot_test.c — a machine that is paused stands still, and one that is loaded goes on where the
 * saved one stopped.  On the software engine. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "boot/fake_kernel.h"
#include "dev/port/tty_port.h"
#include "machine/layout.h"
#include "machine/machine_int.h"
#include "machine/snapshot.h"
#include "state/state.h"
#include "tests/lib/test.h"

#define MEM_BYTES (64 * MIB)

/* Counts on the serial port without end: mov dx, 3f8h; l: inc al; out dx, al; mov [400000h], al;
 * jmp l
 */
static const char g_counter[] = "\x66\xba\xf8\x03\x31\xc0"
                                "\xfe\xc0\xee\x88\x04\x25\x00\x00\x40\x00\xeb\xf4";

/* What came out of the serial port. */
struct port {
    struct tty_port tty;
    atomic_uint count;
    _Atomic uint8_t last;
    atomic_bool has_gap;
    atomic_bool is_stuck; /* whoever writes waits */
};

static void on_write(void *owner, const void *bytes, size_t len)
{
    const uint8_t *data = bytes;
    struct port *p = owner;

    while (atomic_load(&p->is_stuck)) {
        (void)usleep(1000);
    }
    for (size_t i = 0; i < len; i++) {
        if (atomic_load(&p->count) && data[i] != (uint8_t)(atomic_load(&p->last) + 1)) {
            atomic_store(&p->has_gap, true);
        }
        atomic_store(&p->last, data[i]);
        atomic_fetch_add(&p->count, 1);
    }
}

static void on_room(void *owner)
{
    (void)owner;
}

static void port_init(struct port *p)
{
    *p = (struct port){.tty = {.write = on_write, .has_room = on_room, .owner = p}};
}

static struct machine *build(struct port *port, struct vm_config *config)
{
    struct machine *m = NULL;
    struct buf elf = {0};
    struct err err = {0};
    char path[64];
    int fd;

    fake_elf(&elf);
    memcpy(elf.data + 4096 + (FAKE_ENTRY - FAKE_TEXT_GPA), g_counter, sizeof(g_counter) - 1);
    fd = fake_file(&elf, path);
    buf_fini(&elf);
    config->engine = ENGINE_SOFT;
    config->vcpu_count = 1;
    config->mem_bytes = MEM_BYTES;
    config->cmdline = "test";
    config->kernel = config->restored ? NULL : path;
    CHECK_OK(machine_new(config, &port->tty, &m, &err), &err);
    (void)close(fd);
    return m;
}

static void wait_for_output(struct port *port)
{
    unsigned before = atomic_load(&port->count);

    for (unsigned i = 0; i < 20000 && atomic_load(&port->count) < before + 1000; i++) {
        (void)usleep(1000);
    }
    CHECK(atomic_load(&port->count) >= before + 1000);
}

static void check_still(struct port *port)
{
    unsigned before = atomic_load(&port->count);

    (void)usleep(20000);
    CHECK_INT(atomic_load(&port->count), before);
}

TEST(machine_snapshot, a_paused_machine_stands_still_and_loses_nothing)
{
    struct port port;
    struct vm_config config = {0};
    struct machine *m;
    struct err err = {0};

    port_init(&port);
    m = build(&port, &config);
    CHECK_OK(machine_start(m, &err), &err);
    for (unsigned i = 0; i < 20; i++) {
        CHECK_OK(machine_resume(m, &err), &err);
        wait_for_output(&port);
        CHECK_INT(machine_pause(m, NULL), 0);
        CHECK_INT(machine_pause(m, NULL), 0);
        check_still(&port);
        CHECK_OK(machine_resume(m, &err), &err);
    }
    CHECK_INT(machine_pause(m, NULL), 0);
    CHECK(!atomic_load(&port.has_gap));
    machine_free(m); /* paused as it is */
}

/* As one that waits for memory which nobody brings. */
TEST(machine_snapshot, a_vcpu_that_does_not_stop_fails_the_pause_and_nothing_else)
{
    struct port port;
    struct vm_config config = {0};
    struct machine *m;
    struct err err = {0};

    port_init(&port);
    m = build(&port, &config);
    m->pause.max_ns = 20 * NS_PER_MS;
    CHECK_OK(machine_start(m, &err), &err);
    wait_for_output(&port);
    atomic_store(&port.is_stuck, true);
    (void)usleep(10000);
    CHECK_INT(machine_pause(m, &err), -ETIMEDOUT);
    CHECK_STR(err.text, "the machine did not stand still within 20 ms");
    atomic_store(&port.is_stuck, false);
    wait_for_output(&port);
    m->pause.max_ns = 60 * NS_PER_S;
    CHECK_INT(machine_pause(m, &err), 0);
    check_still(&port);
    CHECK_OK(machine_resume(m, &err), &err);
    wait_for_output(&port);
    CHECK(!atomic_load(&port.has_gap));
    machine_free(m);
}

TEST(machine_snapshot, a_machine_that_ends_cannot_hold_up_a_pause)
{
    for (unsigned i = 0; i < 50; i++) {
        struct port port;
        struct vm_config config = {0};
        struct machine *m;
        struct err err = {0};

        port_init(&port);
        m = build(&port, &config);
        CHECK_OK(machine_start(m, &err), &err);
        if (i % 2) {
            wait_for_output(&port);
        }
        machine_stop(m);
        CHECK_INT(machine_pause(m, NULL), 0);
        CHECK_INT(machine_end(m), MACHINE_STOPPED);
        machine_free(m);
    }
}

/* A machine that counted, paused, in a file; where its memory is. */
static struct machine *make_snapshot(struct port *port, struct state_file *file, int *ret_fd)
{
    struct vm_config config = {.tracks_dirty_pages = true};
    struct machine *m;
    struct err err = {0};
    char path[] = "/tmp/ec1-test-XXXXXX";

    port_init(port);
    m = build(port, &config);
    CHECK_OK(machine_start(m, &err), &err);
    wait_for_output(port);
    CHECK_INT(machine_pause(m, NULL), 0);
    *ret_fd = mkstemp(path);
    CHECK(*ret_fd >= 0);
    (void)unlink(path);
    state_file_begin(file);
    CHECK_OK(machine_save(m, file, &err), &err);
    CHECK_OK(state_file_finish(file, &err), &err);
    CHECK_OK(machine_save_memory(m, *ret_fd, MEMORY_ALL, &err), &err);
    machine_forget_changes(m);
    return m;
}

TEST(machine_snapshot, a_loaded_machine_goes_on_where_the_other_stopped)
{
    struct port port;
    struct port after;
    struct state_file file = {0};
    struct vm_config config = {.restored = &file};
    struct machine *saved = make_snapshot(&port, &file, &config.memory_fd);
    struct machine *loaded;
    struct err err = {0};

    port_init(&after);
    loaded = build(&after, &config);
    CHECK_OK(machine_load(loaded, &file, false, &err), &err);
    check_still(&after);
    atomic_store(&after.last, atomic_load(&port.last));
    atomic_store(&after.count, 1);
    CHECK_OK(machine_resume(loaded, &err), &err);
    wait_for_output(&after);
    CHECK(!atomic_load(&after.has_gap));
    /* the one that was saved goes on, too */
    CHECK_OK(machine_resume(saved, &err), &err);
    wait_for_output(&port);
    CHECK(!atomic_load(&port.has_gap));
    machine_free(saved);
    machine_free(loaded);
    state_file_fini(&file);
    (void)close(config.memory_fd);
}

static unsigned data_pages(int fd)
{
    off_t at = 0;
    unsigned count = 0;

    while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(fd, at, SEEK_HOLE);

        count += (unsigned)((end - at + 4095) / 4096);
        at = end;
    }
    return count;
}

TEST(machine_snapshot, what_changed_is_the_page_that_was_written)
{
    struct port port;
    struct state_file file = {0};
    int fd;
    struct machine *m = make_snapshot(&port, &file, &fd);
    struct err err = {0};
    uint8_t byte = 0;

    CHECK_INT(ftruncate(fd, 0), 0);
    CHECK_OK(machine_save_memory(m, fd, MEMORY_CHANGED, &err), &err);
    CHECK_INT(data_pages(fd), 0);
    CHECK_OK(machine_resume(m, &err), &err);
    wait_for_output(&port);
    CHECK_INT(machine_pause(m, NULL), 0);
    for (unsigned i = 0; i < 2; i++) { /* nothing is forgotten before that is asked for */
        CHECK_INT(ftruncate(fd, 0), 0);
        CHECK_OK(machine_save_memory(m, fd, MEMORY_CHANGED, &err), &err);
        CHECK(data_pages(fd) >= 1 && data_pages(fd) < 16);
        CHECK_INT(pread(fd, &byte, 1, 0x400000), 1);
        CHECK(byte == atomic_load(&port.last) || byte == (uint8_t)(atomic_load(&port.last) - 1));
    }
    machine_forget_changes(m);
    CHECK_INT(ftruncate(fd, 0), 0);
    CHECK_OK(machine_save_memory(m, fd, MEMORY_CHANGED, &err), &err);
    CHECK_INT(data_pages(fd), 0);
    machine_free(m);
    state_file_fini(&file);
    (void)close(fd);
}

/* Every section cut off by one byte, and each with every bit of a byte in its middle flipped, under
 * a right checksum: refused or taken, never more. */
TEST(machine_snapshot, damaged_sections_do_no_harm)
{
    struct port port;
    struct port other;
    struct state_file file = {0};
    struct vm_config config = {.restored = &file};
    struct machine *saved = make_snapshot(&port, &file, &config.memory_fd);
    size_t step = file.end / 199;
    unsigned refused = 0;

    machine_free(saved);
    port_init(&other);
    for (size_t at = 16; at < file.end; at += step) {
        struct machine *m = build(&other, &config);
        struct err err = {0};

        file.bytes.data[at] ^= (uint8_t)(1u << at % 8);
        refused += machine_load(m, &file, false, &err) < 0;
        file.bytes.data[at] ^= (uint8_t)(1u << at % 8);
        machine_free(m);
    }
    CHECK(refused > 0);
    state_file_fini(&file);
    (void)close(config.memory_fd);
}

TEST(machine_snapshot, a_machine_of_another_shape_is_refused)
{
    struct port port;
    struct port other;
    struct state_file file = {0};
    struct vm_config config = {.restored = &file, .has_pci = true};
    struct machine *saved = make_snapshot(&port, &file, &config.memory_fd);
    struct machine *m;
    struct err err = {0};

    port_init(&other);
    m = build(&other, &config);
    CHECK_INT(machine_load(m, &file, false, &err), -EBADMSG);
    CHECK_HAS(err.text, "section 'machine': machine: 1 vCPUs instead of 1 and PCI");
    machine_free(m);
    machine_free(saved);
    state_file_fini(&file);
    (void)close(config.memory_fd);
}

TEST(machine_snapshot, memory_of_a_device_goes_where_it_was_or_is_refused)
{
    static const struct {
        uint64_t gpa, len;
        int result;
    } tries[] = {
        {LAYOUT_EXTRA_START + 8 * MIB, 4 * MIB, 0},
        {LAYOUT_EXTRA_START + 10 * MIB, 4 * MIB, -EINVAL}, /* taken */
        {LAYOUT_EXTRA_START + 1 * MIB, 2 * MIB, -EINVAL},  /* not aligned */
        {4 * MIB, 4 * MIB, -EINVAL},                       /* RAM */
        {LAYOUT_EXTRA_START + LAYOUT_EXTRA_LEN - 2 * MIB, 4 * MIB, -EINVAL},
        {UINT64_MAX - 2 * MIB + 1, 2 * MIB, -EINVAL},
        {0, LAYOUT_EXTRA_LEN + 2 * MIB, -ENOSPC},
        {0, 8 * MIB, 0}, /* before the first: there is room */
    };
    static uint8_t memory[8 * MIB] __attribute__((aligned(2 * MIB)));
    struct port port;
    struct vm_config config = {0};
    struct machine *m;
    struct err err = {0};
    unsigned index = 0;

    port_init(&port);
    m = build(&port, &config);
    for (unsigned i = 0; i < ARRAY_LEN(tries); i++) {
        struct mem_range range = {.gpa = GPA(tries[i].gpa), .len = tries[i].len, .host = memory};

        CHECK_INT(machine_add_extra(m, &range, &index, &err), tries[i].result);
    }
    CHECK(mem_extra_at(m->mem, index)->gpa.v == LAYOUT_EXTRA_START);
    machine_free(m);
}
