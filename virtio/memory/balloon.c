/* SPDX-License-Identifier: Apache-2.0 */
/* balloon.c: the balloon. */
#include "virtio/memory/balloon.h"

#include <errno.h>

int balloon_create(struct balloon **out, const struct virtio_env *env,
                   const struct balloon_config *config, struct err *e)
{
    (void)out;
    (void)env;
    (void)config;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct virtio_dev *balloon_dev(struct balloon *balloon)
{
    (void)balloon;
    return NULL;
}
