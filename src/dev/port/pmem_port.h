/* pmem_port.h — what a persistent-memory device needs from the host: a file that is mapped, and to
 * be told that what was written to it is on disk.
 *
 * The mapping is the port's, which outlives the device and the guest's use of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pmem_port;

struct pmem_port_ops {
    /* Everything written up to now is on disk after return: 0, else negative errno. */
    int (*sync)(struct pmem_port *port);
    void (*free)(struct pmem_port *port);
};

struct pmem_port {
    const struct pmem_port_ops *ops;
    void *host;
    uint64_t len;        /* of the mapping: whole 2 MiB */
    uint64_t file_bytes; /* what of it is the file's; the rest is memory, and forgotten */
    bool is_read_only;
};

static inline void pmem_port_free(struct pmem_port *port)
{
    if (port) {
        port->ops->free(port);
    }
}
