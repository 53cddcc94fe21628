/* SPDX-License-Identifier: Apache-2.0 */
/* What the targets of virtio devices share: the surroundings of a device for one input, and its
 * pauses. */
#ifndef MAYFLY_TESTS_FUZZ_FUZZ_DEVICE_H
#define MAYFLY_TESTS_FUZZ_FUZZ_DEVICE_H

#include "tests/fuzz/fuzz_input.h"
#include "virtio/virtio.h"
#include "vmm/base/log.h"

#include <sys/mman.h>

/* A loop of its own, and guest memory of `ram` bytes, which is made for the first input and reads
 * as zeroes at the start of each. Nothing is logged. */
static inline struct virtio_env fuzz_env(struct mem *mem, uint64_t ram)
{
    struct virtio_env env = {.mem = mem};

    log_set_options(&(struct log_options){.level = LOG_OFF});
    if (mem->count == 0)
        BUG_ON(mem_create(mem, ram, MEM_PAGES_DEFAULT, true, NULL) < 0);
    madvise(mem->region[0].hva, ram, MADV_DONTNEED);
    BUG_ON(loop_create(&env.loop, NULL) < 0);
    return env;
}

/* Pauses the device, or lets one go on that is paused; *held counts the calls. */
static inline void fuzz_pause_or_resume(struct virtio_dev *dev, unsigned *held)
{
    if ((*held)++ % 2 == 0)
        virtio_dev_quiesce(dev);
    else
        virtio_dev_resume(dev);
}

#endif
