/* kvm_test.c — what the KVM backend says where it cannot run.  What it does where it can is in
 * tests/vm. */
#include "hv/kvm/kvm.h"
#include "mem/map.h"
#include "tests/lib/test.h"

static void nothing(void *owner, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    (void)owner, (void)gpa, (void)data, (void)len, (void)is_write;
}

TEST(kvm, probe_says_why_not_and_a_vm_says_the_same)
{
    struct err probe_err = {0};
    struct err err = {0};
    int probe = hv_kvm_ops.probe(&probe_err);
    const struct hv_client client = {.mmio = nothing};
    struct hv_config config = {.mem = mem_map_new(), .vcpu_count = 1, .client = &client};
    struct hv_vm *vm = NULL;
    int r = hv_vm_new(&hv_kvm_ops, &config, &vm, &err);

    CHECK_INT(r, probe);
    if (r == 0) {
        hv_vm_free(vm);
    } else {
        CHECK(vm == NULL);
        CHECK_HAS(err_text(&probe_err), "/dev/kvm");
        CHECK_STR(err_text(&err), err_text(&probe_err));
    }
    mem_map_free(config.mem);
}
