/* machine_test.c — small kernels that end in every way a machine can end, on the software engine.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "boot/fake_kernel.h"
#include "dev/misc/rng.h"
#include "host/console.h"
#include "machine/backend.h"
#include "machine/layout.h"
#include "machine/machine_int.h"
#include "tests/lib/test.h"

/* What the console's watcher needs: a test's machine. */
static struct machine *g_machine;

static void on_panic(void *owner, const char *text)
{
    (void)owner;
    (void)text;
    machine_note_panic(g_machine);
}

/* A console that takes "panic" for one, and a machine whose kernel is `code`. */
struct rig {
    struct console *console;
    char path[64];
    int fd;
    bool has_pci;
};

static int build(struct rig *rig, const void *code, size_t len, struct err *err)
{
    struct console_config quiet = {.log_fd = -1, .echo_fd = -1};
    struct vm_config config = {
        .engine = ENGINE_SOFT, .vcpu_count = 1, .mem_bytes = 64 * MIB, .cmdline = "test"};
    struct buf elf = {0};

    fake_elf(&elf);
    memcpy(elf.data + 4096 + (FAKE_ENTRY - FAKE_TEXT_GPA), code, len);
    rig->fd = fake_file(&elf, rig->path);
    buf_fini(&elf);
    CHECK_OK(console_new(&quiet, &rig->console, err), err);
    CHECK_INT(console_watch(rig->console, "panic", on_panic, NULL), 0);
    config.kernel = rig->path;
    config.has_pci = rig->has_pci;
    config.has_entropy = true;
    return machine_new(&config, console_port(rig->console), &g_machine, err);
}

static void tear_down(struct rig *rig)
{
    machine_free(g_machine);
    console_free(rig->console);
    (void)close(rig->fd);
}

static void check_end(const void *code, size_t len, enum machine_end want)
{
    struct rig rig = {0};
    struct err err = {0};
    struct pollfd end = {.events = POLLIN};

    CHECK_OK(build(&rig, code, len, &err), &err);
    CHECK_STR(machine_engine(g_machine), "soft");
    CHECK_INT(machine_end(g_machine), MACHINE_RUNS);
    CHECK_OK(machine_start(g_machine, &err), &err);
    end.fd = machine_end_fd(g_machine);
    CHECK_INT(poll(&end, 1, 20000), 1);
    CHECK_STR(machine_end_name(machine_end(g_machine)), machine_end_name(want));
    machine_stop(g_machine); /* too late: the first cause stays */
    CHECK_INT(machine_end(g_machine), want);
    tear_down(&rig);
}

#define CHECK_END(code, want) check_end(code, sizeof(code) - 1, want)

TEST(machine, the_sleep_register_powers_off)
{
    /* mov dx, 600h; mov al, 5 << 2 | 1 << 5; out dx, al; hlt */
    CHECK_END("\x66\xba\x00\x06\xb0\x34\xee\xf4", MACHINE_POWEROFF);
}

TEST(machine, the_keyboard_controller_reboots)
{
    /* mov al, 0feh; out 64h, al; hlt */
    CHECK_END("\xb0\xfe\xe6\x64\xf4", MACHINE_REBOOT);
}

TEST(machine, the_reset_register_reboots)
{
    /* mov dx, 604h; mov al, 1; out dx, al; hlt */
    CHECK_END("\x66\xba\x04\x06\xb0\x01\xee\xf4", MACHINE_REBOOT);
}

TEST(machine, a_fault_without_handlers_is_a_triple_fault)
{
    /* an IDT of no length, then ud2 */
    CHECK_END("\x6a\x00\x6a\x00\x0f\x01\x1c\x24\x0f\x0b", MACHINE_TRIPLE_FAULT);
}

TEST(machine, a_reset_after_a_panic_on_the_console_is_a_panic)
{
    /* mov dx, 3f8h; for each byte of "panic\n": mov al, byte; out dx, al; then the reset */
    CHECK_END("\x66\xba\xf8\x03"
              "\xb0p\xee\xb0"
              "a\xee\xb0n\xee\xb0i\xee\xb0"
              "c\xee\xb0\n\xee"
              "\xb0\xfe\xe6\x64\xf4",
              MACHINE_PANIC);
}

TEST(machine, a_machine_that_runs_for_ever_is_stopped)
{
    struct rig rig = {0};
    struct err err = {0};

    CHECK_OK(build(&rig, "\xeb\xfe", 2, &err), &err); /* jmp $ */
    CHECK_OK(machine_start(g_machine, &err), &err);
    (void)usleep(20000);
    CHECK_INT(machine_end(g_machine), MACHINE_RUNS);
    machine_stop(g_machine);
    CHECK_INT(machine_end(g_machine), MACHINE_STOPPED);
    CHECK_STR(machine_why(g_machine), "");
    tear_down(&rig);
}

static uint32_t pci_id(unsigned slot)
{
    uint32_t id = 0;

    bus_access(&g_machine->mmio, LAYOUT_PCI_MMCONFIG + (slot << 15), &id, sizeof(id), false);
    return id;
}

TEST(machine, devices_come_to_a_running_machine_and_go)
{
    struct rig rig = {.has_pci = true};
    struct virtio_dev *vdev = NULL;
    struct err err = {0};
    unsigned first;

    CHECK_OK(build(&rig, "\xeb\xfe", 2, &err), &err); /* jmp $ */
    CHECK_OK(machine_start(g_machine, &err), &err);
    first = g_machine->slot_count;
    CHECK_INT(pci_id(first), 0x10441af4); /* the machine's own entropy device is the last one */
    for (unsigned i = first; i < MACHINE_PCI_MAX; i++) {
        char id[8];

        (void)snprintf(id, sizeof(id), "%u", i);
        CHECK_OK(rng_new(g_machine->mem, g_machine->loops[0], NULL, &vdev, &err), &err);
        CHECK_OK(machine_add_virtio(g_machine, vdev, id, &err), &err);
    }
    CHECK_OK(rng_new(g_machine->mem, g_machine->loops[0], NULL, &vdev, &err), &err);
    CHECK_INT(machine_add_virtio(g_machine, vdev, "more", &err), -ENOSPC);
    CHECK_STR(err_text(&err), "Could not find an available device slot on the PCI bus.");
    CHECK_INT(pci_id(10), 0x10441af4);
    CHECK_INT(machine_unplug(g_machine, "virtio-rng", "9"), 0);
    CHECK_INT(pci_id(10), UINT32_MAX);
    CHECK(machine_find_virtio(g_machine, "virtio-rng", "9") == NULL);
    CHECK(machine_find_virtio(g_machine, "virtio-rng", "10") != NULL);
    CHECK_INT(machine_unplug(g_machine, "virtio-rng", "9"), -ENOENT);
    CHECK_OK(rng_new(g_machine->mem, g_machine->loops[0], NULL, &vdev, &err), &err);
    CHECK_OK(machine_add_virtio(g_machine, vdev, "again", &err), &err);
    CHECK_INT(pci_id(10), 0x10441af4);
    CHECK_INT(machine_end(g_machine), MACHINE_RUNS);
    tear_down(&rig);
}

/* It reads as ones, which are no instruction; here nobody handles that. */
TEST(machine, code_outside_memory_ends_the_machine_as_a_cpu_would)
{
    struct rig rig = {0};
    struct err err = {0};
    struct pollfd end = {.events = POLLIN};

    /* mov eax, 0c0001000h; jmp rax: into the window of a device */
    CHECK_OK(build(&rig, "\xb8\x00\x10\x00\xc0\xff\xe0", 7, &err), &err);
    CHECK_OK(machine_start(g_machine, &err), &err);
    end.fd = machine_end_fd(g_machine);
    CHECK_INT(poll(&end, 1, 20000), 1);
    CHECK_INT(machine_end(g_machine), MACHINE_TRIPLE_FAULT);
    tear_down(&rig);
}

TEST(machine, what_cannot_be_built_is_refused_and_leaves_nothing)
{
    struct vm_config config = {.engine = ENGINE_SOFT,
                               .vcpu_count = 1,
                               .mem_bytes = 64 * MIB,
                               .kernel = "/nonexistent",
                               .cmdline = ""};
    struct console_config quiet = {.log_fd = -1, .echo_fd = -1};
    struct console *console = NULL;
    struct machine *m = NULL;
    struct err err = {0};

    CHECK_OK(console_new(&quiet, &console, &err), &err);
    CHECK_INT(machine_new(&config, console_port(console), &m, &err), -ENOENT);
    CHECK_HAS(err.text, "/nonexistent");
    config.share_count = 1;
    config.shares[0] = (struct config_share){.tag = "x", .path = "/nonexistent-share"};
    CHECK(machine_new(&config, console_port(console), &m, &err) < 0);
    CHECK_HAS(err.text, "/nonexistent-share");
    config.vcpu_count = 99;
    CHECK_INT(machine_new(&config, console_port(console), &m, &err), -ERANGE);
    CHECK(m == NULL);
    machine_free(NULL);
    console_free(console);
}

TEST(machine, engines_are_chosen_by_name)
{
    struct backend_choice choice;
    struct err err = {0};

    CHECK_OK(backend_choose(ENGINE_SOFT, 1, &choice, &err), &err);
    CHECK_INT(backend_probe(ENGINE_SOFT, &err), 0);
    if (backend_probe(ENGINE_KVM, &err) < 0) {
        CHECK(backend_choose(ENGINE_KVM, 1, &choice, &err) < 0);
        CHECK_HAS(err.text, "engine 'kvm'");
        CHECK_OK(backend_choose(ENGINE_AUTO, 1, &choice, &err), &err);
    }
    CHECK(backend_choose(ENGINE_SOFT, 1000, &choice, &err) < 0);
    CHECK_HAS(err.text, "vcpu count 1000");
}
