/* SPDX-License-Identifier: Apache-2.0 */
/* vsock.c: the socket device. */
#include "virtio/vsock/vsock.h"

#include <errno.h>

int vsock_create(struct vsock **out, const struct virtio_env *env,
                 const struct vsock_config *config, struct err *e)
{
    (void)out;
    (void)env;
    (void)config;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct virtio_dev *vsock_dev(struct vsock *vsock)
{
    (void)vsock;
    return NULL;
}
const struct vsock_config *vsock_config(const struct vsock *vsock)
{
    (void)vsock;
    return NULL;
}
