/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pmem.h owns persistent memory (virtio 1.3, section 5.19): a file of the host, mapped shared into
 * the guest's physical address space, with a queue whose one request is to flush it.
 */
#ifndef MAYFLY_MEMORY_PMEM_H
#define MAYFLY_MEMORY_PMEM_H

#include "virtio/virtio.h"
#include "vmm/base/metrics.h"
#include "vmm/base/rate_limiter.h"

/* What a user says of the device; strings belong to whoever holds the struct. */
struct pmem_config {
    char *id;
    char *path;
    bool is_root, read_only;
    bool has_limiter;
    struct rate_limiter_config limiter;
};

/* Of regions of persistent memory and their sizes: host and guest can map them by huge pages. */
#define PMEM_ALIGNMENT (2 * MIB)

struct pmem;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc pmem_state_desc;

/* Makes the device; the file is opened by pmem_map. The config is copied. -ENOMEM. */
int pmem_create(struct pmem **out, const struct virtio_env *env, const struct pmem_config *config,
                struct err *e) __must_check;

/*
 * Opens and maps the file as a region of env->mem at `gpa` (a multiple of PMEM_ALIGNMENT), before
 * the VM is made; *size is what it takes there, the file's length rounded up to PMEM_ALIGNMENT. The
 * errors of open and mmap, -EINVAL for an empty file, those of mem_add_region. pmem_unmap undoes it
 * (a failed start).
 */
int pmem_map(struct pmem *pmem, gpa_t gpa, uint64_t *size, struct err *e) __must_check;
void pmem_unmap(struct pmem *pmem);

struct virtio_dev *pmem_dev(struct pmem *pmem);
const struct pmem_config *pmem_config(const struct pmem *pmem);
struct metrics_pmem *pmem_metrics(struct pmem *pmem);

/* A PATCH: replaces the buckets that it names. What pmem_config shows stays as it was put: so
 * clients of Firecracker know it. */
void pmem_update(struct pmem *pmem, const struct rate_limiter_config *limiter);

#endif
