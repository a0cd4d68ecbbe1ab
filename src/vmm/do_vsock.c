/* do_vsock.c — vsock: its Unix socket is there as soon as it is configured; and entropy. */
#include <errno.h>

#include "base/os_error.h"
#include "dev/port/stream_port.h"
#include "host/vsock_uds.h"
#include "vmm/microvm_int.h"

int microvm_open_vsock(struct microvm *vm, struct err *err)
{
    char text[OS_ERROR_MAX];
    int r = vsock_uds_new(vm->resources.vsock.uds_path, &vm->vsock_port, NULL);

    if (r == 0) {
        return 0;
    }
    return err_set(err, r,
                   "Cannot create backend for vsock device: Error binding to the host-side Unix "
                   "socket: %s",
                   r == -ENAMETOOLONG ? "path must be shorter than SUN_LEN" : os_error(r, text));
}

/* The earlier device and its socket go first: they are gone also when the new one fails. */
int do_put_vsock(struct microvm *vm, const struct action *action, struct err *err)
{
    struct microvm_resources *res = &vm->resources;
    int r;

    stream_port_free(vm->vsock_port);
    vm->vsock_port = NULL;
    res->has_vsock = false;
    RESOURCE_TAKE(vsock, &res->vsock, action->vsock);
    r = microvm_open_vsock(vm, err);
    if (r < 0) {
        resource_vsock_fini(&res->vsock);
        return r;
    }
    res->has_vsock = true;
    return 0;
}

int do_put_entropy(struct microvm *vm, const struct action *action, struct err *err)
{
    (void)err;
    vm->resources.entropy = *action->entropy;
    vm->resources.has_entropy = true;
    return 0;
}
