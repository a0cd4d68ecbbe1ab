/* microvm_test.c — phases, prefixes, and the resources that need no device. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "tests/lib/test.h"
#include "vmm/microvm.h"

static struct microvm *fresh(void)
{
    struct microvm_options options = {.id = "test", .version = "1", .engine = ENGINE_SOFT};
    struct microvm *vm = NULL;
    struct err err = {0};

    CHECK_OK(microvm_new(&options, &vm, &err), &err);
    return vm;
}

static int machine(struct microvm *vm, struct resource_machine config, struct err *err)
{
    struct action action = {.kind = ACTION_PUT_MACHINE, .machine = &config};

    return microvm_do(vm, &action, err);
}

static int boot(struct microvm *vm, const char *kernel, const char *initrd, const char *args,
                struct err *err)
{
    struct resource_boot config = {.kernel_image_path = strdup(kernel),
                                   .initrd_path = initrd ? strdup(initrd) : NULL,
                                   .boot_args = args ? strdup(args) : NULL};
    struct action action = {.kind = ACTION_PUT_BOOT, .boot = &config};
    int r = microvm_do(vm, &action, err);

    resource_boot_fini(&config);
    return r;
}

TEST(microvm, starts_with_defaults_and_not_started)
{
    struct microvm *vm = fresh();
    const struct resource_machine *config = &microvm_resources(vm)->machine;

    CHECK_INT(config->vcpu_count, 1);
    CHECK_INT(config->mem_size_mib, 128);
    CHECK_INT(microvm_state(vm), MICROVM_NOT_STARTED);
    CHECK_STR(microvm_state_name(microvm_state(vm)), "Not started");
    CHECK_INT(microvm_exit_code(vm), -1);
    microvm_free(vm);
}

TEST(microvm, vcpu_counts_and_sizes_are_checked)
{
    static const struct {
        struct resource_machine config;
        const char *problem; /* NULL: good */
    } cases[] = {
        {{.vcpu_count = 1, .mem_size_mib = 1}, NULL},
        {{.vcpu_count = 32, .mem_size_mib = 128}, NULL},
        {{.vcpu_count = 0, .mem_size_mib = 128}, "Machine config error: The number of vCPUs"},
        {{.vcpu_count = 33, .mem_size_mib = 128}, "less than 32"},
        {{.vcpu_count = 3, .mem_size_mib = 128, .smt = true}, "even number if SMT"},
        {{.vcpu_count = 1, .mem_size_mib = 128, .smt = true}, NULL},
        {{.vcpu_count = 4, .mem_size_mib = 128, .smt = true}, NULL},
        {{.vcpu_count = 1, .mem_size_mib = 0}, "is either 0, or not a multiple"},
        {{.vcpu_count = 1, .mem_size_mib = 3, .huge_pages = PAGES_2M}, "is either 0"},
        {{.vcpu_count = 1, .mem_size_mib = 4, .huge_pages = PAGES_2M}, NULL},
    };
    struct microvm *vm = fresh();

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {0};
        int r = machine(vm, cases[i].config, &err);

        if (cases[i].problem) {
            CHECK_INT(r, -EINVAL);
            CHECK_HAS(err.text, cases[i].problem);
        } else {
            CHECK_OK(r, &err);
        }
    }
    microvm_free(vm);
}

TEST(microvm, put_machine_keeps_the_template_that_it_does_not_name)
{
    struct microvm *vm = fresh();
    struct err err = {0};
    struct resource_machine with = {
        .vcpu_count = 1, .mem_size_mib = 64, .cpu_template = TEMPLATE_T2, .has_cpu_template = true};
    struct resource_machine without = {.vcpu_count = 2, .mem_size_mib = 64};

    CHECK_OK(machine(vm, with, &err), &err);
    CHECK_OK(machine(vm, without, &err), &err);
    CHECK_INT(microvm_resources(vm)->machine.cpu_template, TEMPLATE_T2);
    CHECK_INT(microvm_resources(vm)->machine.vcpu_count, 2);
    microvm_free(vm);
}

TEST(microvm, patch_machine_changes_what_it_names_and_refuses_to_change_nothing)
{
    struct microvm *vm = fresh();
    struct resource_machine patch = {.mem_size_mib = 256, .has_mem_size_mib = true};
    struct action action = {.kind = ACTION_PATCH_MACHINE, .machine = &patch};
    struct err err = {0};

    CHECK_OK(microvm_do(vm, &action, &err), &err);
    CHECK_INT(microvm_resources(vm)->machine.mem_size_mib, 256);
    CHECK_INT(microvm_resources(vm)->machine.vcpu_count, 1);
    patch = (struct resource_machine){0};
    CHECK_INT(microvm_do(vm, &action, &err), -EINVAL);
    CHECK_STR(err.text, "Empty PATCH request.");
    microvm_free(vm);
}

TEST(microvm, boot_files_are_opened_when_they_are_named)
{
    struct microvm *vm = fresh();
    char longest[2049];
    struct err err = {0};

    CHECK_INT(boot(vm, "/no/such", NULL, NULL, &err), -ENOENT);
    CHECK_STR(err.text, "Boot source error: The kernel file cannot be opened: No such file or "
                        "directory (os error 2)");
    CHECK_INT(boot(vm, "/dev/null", "", NULL, &err), -ENOENT);
    CHECK_STR(err.text, "Boot source error: The initrd file cannot be opened due to invalid path "
                        "or invalid permissions. No such file or directory (os error 2)");
    memset(longest, 'a', sizeof(longest));
    longest[2048] = 0;
    CHECK_INT(boot(vm, "/dev/null", NULL, longest, &err), -E2BIG);
    CHECK_STR(err.text, "Boot source error: The kernel command line is invalid: Invalid cmdline "
                        "capacity provided.");
    CHECK(!microvm_resources(vm)->has_boot);
    longest[2047] = 0;
    CHECK_OK(boot(vm, "/dev/null", NULL, longest, &err), &err);
    CHECK(microvm_resources(vm)->has_boot);
    /* a failed one leaves what was there */
    CHECK_INT(boot(vm, "/no/such", NULL, NULL, &err), -ENOENT);
    CHECK_STR(microvm_resources(vm)->boot.kernel_image_path, "/dev/null");
    microvm_free(vm);
}

TEST(microvm, what_is_for_a_running_machine_is_refused_before_the_start)
{
    struct microvm *vm = fresh();
    struct action action = {.kind = ACTION_PATCH_VM};
    struct err err = {0};

    CHECK_INT(microvm_do(vm, &action, &err), -EBUSY);
    CHECK_STR(err.text, "The requested operation is not supported before starting the microVM.");
    microvm_free(vm);
}

TEST(microvm, a_start_without_kernel_is_refused_and_can_be_retried)
{
    struct microvm *vm = fresh();
    struct action action = {.kind = ACTION_START};
    struct err err = {0};

    CHECK_INT(microvm_do(vm, &action, &err), -ENOENT);
    CHECK_STR(err.text, "Start microvm error: Cannot start microvm without kernel configuration.");
    CHECK_OK(boot(vm, "/dev/null", NULL, NULL, &err), &err);
    CHECK(microvm_do(vm, &action, &err) < 0);
    CHECK_HAS(err.text, "Start microvm error: ");
    CHECK_INT(microvm_state(vm), MICROVM_NOT_STARTED);
    microvm_free(vm);
}
