/* virtio_int.h — what the files of this room share: the driver's view of a device, behind whatever
 * registers a transport has.  All functions here are called with the device's lock held. */
#pragma once

#include "dev/virtio/virtio.h"

#define VIRTIO_ISR_QUEUE  1u
#define VIRTIO_ISR_CONFIG 2u

/* Features come and go in two halves of 32 bits; other halves are empty. */
uint32_t virtio_features_offered(const struct virtio_dev *dev, uint32_t half);
void virtio_features_accept(struct virtio_dev *dev, uint32_t half, uint32_t bits);

uint32_t virtio_status_get(const struct virtio_dev *dev);
/* The driver wrote `value` to the status register: carry out what that means. */
void virtio_status_set(struct virtio_dev *dev, uint32_t value);

/* Queues may be configured until DRIVER_OK. */
bool virtio_queue_is_open(const struct virtio_dev *dev, unsigned index);
/* The driver wrote QueueReady.  A bad ring leaves the queue not ready. */
void virtio_queue_set_ready(struct virtio_dev *dev, unsigned index, bool ready);
/* The driver notified without a doorbell. */
void virtio_queue_kick(struct virtio_dev *dev, uint32_t index);

/* Start a device that was loaded with DRIVER_OK; nothing otherwise. */
void virtio_start_loaded(struct virtio_dev *dev);

/* Take the status of the interrupt line / clear bits of it. */
uint32_t virtio_isr_get(const struct virtio_dev *dev);
void virtio_isr_ack(struct virtio_dev *dev, uint32_t bits);
