/* SPDX-License-Identifier: Apache-2.0 */
/* pmem.c: persistent memory. */
#include "virtio/memory/pmem.h"

#include <errno.h>

int pmem_create(struct pmem **out, const struct virtio_env *env, const struct pmem_config *config,
                struct err *e)
{
    (void)out;
    (void)env;
    (void)config;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct virtio_dev *pmem_dev(struct pmem *pmem)
{
    (void)pmem;
    return NULL;
}
const struct pmem_config *pmem_config(const struct pmem *pmem)
{
    (void)pmem;
    return NULL;
}
struct metrics_pmem *pmem_metrics(struct pmem *pmem)
{
    (void)pmem;
    return NULL;
}
