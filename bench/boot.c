/* boot.c — boot a kernel with an initramfs in ec1's machine and wait for its end: what
 * `qemu-system-x86_64 -M microvm` does, for comparing the two.
 *
 * Usage: boot ENGINE KERNEL INITRD CMDLINE MIB CACHE_DIR [VCPUS]
 *
 * With BENCH_COUNTERS in the environment it prints at the end what the engine counted.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "machine/machine.h"

static void console_write(void *owner, const void *data, size_t len)
{
    (void)owner;
    (void)!write(STDERR_FILENO, data, len);
}

static void console_has_room(void *owner)
{
    (void)owner;
}

static const void *map_file(const char *path, size_t *ret_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *data = MAP_FAILED;

    if (fd >= 0 && fstat(fd, &st) == 0) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        *ret_len = (size_t)st.st_size;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return data == MAP_FAILED ? NULL : data;
}

static int run(const struct vm_config *config, struct err *err)
{
    const struct tty_port console = {.write = console_write, .has_room = console_has_room};
    struct machine *machine = NULL;
    struct pollfd end = {.events = POLLIN};
    int r = machine_new(config, &console, &machine, err);

    if (r == 0) {
        r = machine_start(machine, err);
    }
    if (r == 0) {
        end.fd = machine_end_fd(machine);
        while (poll(&end, 1, -1) < 0) {
        }
        if (machine_end(machine) == MACHINE_BROKEN) {
            r = err_set(err, -1, "%s", machine_why(machine));
        }
    }
    if (r == 0 && config->count_all) {
        struct buf text = {0};

        machine_counters(machine, &text);
        (void)fputs(buf_str(&text), stderr);
        buf_fini(&text);
    }
    machine_free(machine);
    return r;
}

int main(int argc, char **argv)
{
    struct vm_config config = {
        .vcpu_count = 1, .vsock_cid = 3, .count_all = getenv("BENCH_COUNTERS") != NULL};
    struct err err = {0};

    if (argc != 7 && argc != 8) {
        (void)fprintf(stderr, "usage: boot ENGINE KERNEL INITRD CMDLINE MIB CACHE_DIR [VCPUS]\n");
        return 2;
    }
    if (argc == 8) {
        config.vcpu_count = (unsigned)strtoul(argv[7], NULL, 10);
    }
    config.kernel = argv[2];
    config.initrd = map_file(argv[3], &config.initrd_len);
    config.cmdline = argv[4];
    config.mem_bytes = strtoul(argv[5], NULL, 10) * MIB;
    config.cache_dir = argv[6];
    if (!config.initrd) {
        perror(argv[3]);
        return 1;
    }
    if (config_engine_parse(argv[1], &config.engine, &err) < 0 || run(&config, &err) < 0) {
        (void)fprintf(stderr, "boot: %s\n", err_text(&err));
        return 1;
    }
    return 0;
}
