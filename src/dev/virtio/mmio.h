/* mmio.h — the virtio-mmio transport, version 2 (virtio 1.2, 4.2). */
#pragma once

#include "base/err.h"
#include "dev/bus/device.h"
#include "dev/bus/irq.h"
#include "dev/virtio/virtio.h"

#define VIRTIO_MMIO_BYTES 0x1000u
#define VIRTIO_MMIO_QUEUE_NOTIFY \
    0x050u /* a doorbell here with match = queue index -> notify_fd[index] */

/* Wrap `dev` (ownership moves to the transport; freed with it, also when this fails). */
int virtio_mmio_new(struct virtio_dev *dev, const struct irq_line *irq, struct device **ret_device,
                    struct err *err);
