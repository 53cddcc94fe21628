/* SPDX-License-Identifier: Apache-2.0 */
/* virtqueue.h owns the split virtqueue (virtio 1.3, section 2.7): pure over guest memory. */
#ifndef MAYFLY_VIRTIO_VIRTQUEUE_H
#define MAYFLY_VIRTIO_VIRTQUEUE_H

#include "vmm/base/mem.h"

#endif
