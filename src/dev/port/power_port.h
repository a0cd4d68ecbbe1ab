/* power_port.h — what the guest can ask of the machine as a whole.
 *
 * Called on a vCPU's thread, which runs on afterwards until somebody stops it; may come repeatedly.
 * Both calls must be there.
 */
#pragma once

struct power_port {
    void (*poweroff)(void *owner);
    void (*reset)(void *owner);
    void *owner;
};
