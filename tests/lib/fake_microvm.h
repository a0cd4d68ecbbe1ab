/* fake_microvm.h — a microVM that runs, on the software engine, with a kernel that does nothing. */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/fake_kernel.h"
#include "tests/lib/test.h"
#include "vmm/microvm.h"

/* Give `vm` the kernel and start it. */
static inline void fake_microvm_start(struct microvm *vm)
{
    struct resource_boot boot = {0};
    struct action put = {.kind = ACTION_PUT_BOOT, .boot = &boot};
    struct action start = {.kind = ACTION_START};
    struct buf elf = {0};
    struct err err = {0};
    char path[64];
    int fd;

    fake_elf(&elf);
    memcpy(elf.data + 4096 + (FAKE_ENTRY - FAKE_TEXT_GPA), "\xf4\xeb\xfd", 3); /* hlt, for ever */
    fd = fake_file(&elf, path);
    buf_fini(&elf);
    boot.kernel_image_path = strdup(path);
    CHECK_OK(microvm_do(vm, &put, &err), &err);
    resource_boot_fini(&boot);
    CHECK_OK(microvm_do(vm, &start, &err), &err);
    CHECK_INT(microvm_state(vm), MICROVM_RUNNING);
    (void)close(fd);
}

static inline struct microvm *fake_microvm(bool enable_pci)
{
    struct microvm_options options = {
        .id = "test", .version = "1", .engine = ENGINE_SOFT, .enable_pci = enable_pci};
    struct microvm *vm = NULL;
    struct err err = {0};

    CHECK_OK(microvm_new(&options, &vm, &err), &err);
    return vm;
}
