/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug.c: virtio-mem. */
#include "virtio/memory/hotplug.h"

#include <errno.h>

int hotplug_create(struct hotplug **out, const struct virtio_env *env,
                   const struct hotplug_config *config, struct err *e)
{
    (void)out;
    (void)env;
    (void)config;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct virtio_dev *hotplug_dev(struct hotplug *hotplug)
{
    (void)hotplug;
    return NULL;
}
