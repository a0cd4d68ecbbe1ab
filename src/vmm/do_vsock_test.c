/* do_vsock_test.c — the socket is there as long as it is configured. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmm/microvm.h"

#define FIRST  "/tmp/ec1-test-do-vsock-1.sock"
#define SECOND "/tmp/ec1-test-do-vsock-2.sock"

static int put(struct microvm *vm, const char *path, struct err *err)
{
    struct resource_vsock vsock = {.guest_cid = 3, .uds_path = strdup(path)};
    struct action action = {.kind = ACTION_PUT_VSOCK, .vsock = &vsock};
    int r = microvm_do(vm, &action, err);

    resource_vsock_fini(&vsock);
    return r;
}

TEST(do_vsock, a_new_one_replaces_the_old_even_when_it_fails)
{
    struct microvm_options options = {.id = "test", .version = "1", .engine = ENGINE_SOFT};
    struct microvm *vm = NULL;
    struct err err = {0};

    (void)unlink(FIRST);
    (void)unlink(SECOND);
    CHECK_OK(microvm_new(&options, &vm, &err), &err);
    CHECK_OK(put(vm, FIRST, &err), &err);
    CHECK_INT(access(FIRST, F_OK), 0);
    CHECK_OK(put(vm, SECOND, &err), &err);
    CHECK(access(FIRST, F_OK) < 0);
    CHECK_INT(access(SECOND, F_OK), 0);
    CHECK_INT(put(vm, "/tmp", &err), -EADDRINUSE);
    CHECK_STR(err.text, "Vsock config error: Cannot create backend for vsock device: Error binding "
                        "to the host-side Unix socket: Address in use (os error 98)");
    CHECK(access(SECOND, F_OK) < 0);
    CHECK(!microvm_resources(vm)->has_vsock);
    CHECK_OK(put(vm, FIRST, &err), &err);
    microvm_free(vm);
    CHECK(access(FIRST, F_OK) < 0);
}
