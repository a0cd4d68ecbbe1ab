/* tty_port.h — what a serial port needs from the host: somewhere to put the guest's bytes.
 *
 * Called on a vCPU's thread with the device's lock held: do not call back into the device.  Both
 * calls must be there.
 */
#pragma once

#include <stddef.h>

struct tty_port {
    /* Take all of it; what cannot be delivered is dropped. */
    void (*write)(void *owner, const void *data, size_t len);
    /* The guest has read since uart16550_input() took less than it was given. */
    void (*has_room)(void *owner);
    void *owner;
};
