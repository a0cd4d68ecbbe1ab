/* do_boot.c — boot-source: kernel, initrd and command line.  Files are opened when they are named,
 * so that it is these which boot, whatever happens to their names. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/os_error.h"
#include "vmm/microvm_int.h"

/* 2048 bytes with the NUL: the longest command line of an x86 kernel (COMMAND_LINE_SIZE). */
#define BOOT_ARGS_MAX 2047u

void microvm_boot_fini(struct microvm *vm)
{
    auto_close(&vm->kernel_fd);
    auto_close(&vm->initrd_fd);
    vm->kernel_fd = vm->initrd_fd = -1;
}

int do_put_boot(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_boot *boot = action->boot;
    AUTO_CLOSE int kernel_fd = open(boot->kernel_image_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AUTO_CLOSE int initrd_fd = -1;
    char text[OS_ERROR_MAX];

    if (kernel_fd < 0) {
        return err_set(err, -errno, "The kernel file cannot be opened: %s", os_error(errno, text));
    }
    if (boot->initrd_path) {
        initrd_fd = open(boot->initrd_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (initrd_fd < 0) {
            return err_set(err, -errno,
                           "The initrd file cannot be opened due to invalid path or invalid "
                           "permissions. %s",
                           os_error(errno, text));
        }
    }
    if (boot->boot_args && strlen(boot->boot_args) > BOOT_ARGS_MAX) {
        return err_set(err, -E2BIG,
                       "The kernel command line is invalid: Invalid cmdline capacity provided.");
    }
    microvm_boot_fini(vm);
    vm->kernel_fd = take_fd(&kernel_fd);
    vm->initrd_fd = take_fd(&initrd_fd);
    RESOURCE_TAKE(boot, &vm->resources.boot, boot);
    vm->resources.has_boot = true;
    return 0;
}
