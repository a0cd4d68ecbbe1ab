/* do_serial.c — the serial port, and the keyboard with its one chord. */
#include <errno.h>

#include "base/log.h"
#include "base/os_error.h"
#include "host/serial.h"
#include "machine/machine.h"
#include "vmm/microvm_int.h"

/* The file is opened with the machine. */
int do_put_serial(struct microvm *vm, const struct action *action, struct err *err)
{
    (void)err;
    RESOURCE_TAKE(serial, &vm->serial_config, action->serial);
    return 0;
}

int microvm_open_serial(struct microvm *vm, struct err *err)
{
    const struct resource_serial *config = &vm->serial_config;
    const struct resource_bucket *limit = &config->rate_limiter;
    struct serial_config serial = {.path = config->serial_out_path, .loop = vm->options.loop};

    if (config->has_rate_limiter) {
        serial.limit = (struct bucket_config){
            .size = limit->size, .refill_ms = limit->refill_time, .burst = limit->one_time_burst};
    }
    return serial_new(&serial, &vm->serial, err);
}

static size_t type(void *owner, const void *data, size_t len)
{
    return machine_type(owner, data, len);
}

void microvm_connect_serial(struct microvm *vm)
{
    char text[OS_ERROR_MAX];
    int r = serial_connect(vm->serial, type, vm->machine);

    if (r < 0) {
        log_warn("Could not watch stdin for the serial port: %s", os_error(r, text));
    }
}

void microvm_close_serial(struct microvm *vm)
{
    serial_free(vm->serial);
    vm->serial = NULL;
}

int do_send_ctrl_alt_del(struct microvm *vm, const struct action *action, struct err *err)
{
    int r = machine_ctrl_alt_del(vm->machine);

    (void)action;
    if (r < 0) {
        return err_set(err, r, "I8042 error: i8042 internal buffer full.");
    }
    if (r == 0) {
        log_warn("Failed to trigger i8042 kbd interrupt (disabled by guest OS)");
    }
    return 0;
}
