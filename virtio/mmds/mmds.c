/* SPDX-License-Identifier: Apache-2.0 */
/* mmds.c: the endpoint. */
#include "virtio/mmds/mmds.h"

#include <errno.h>

int mmds_endpoint_create(struct mmds_endpoint **out, struct loop *loop, uint32_t address,
                         uint16_t mtu, const struct mmds_service *service, struct err *e)
{
    (void)out;
    (void)loop;
    (void)address;
    (void)mtu;
    (void)service;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
void mmds_endpoint_destroy(struct mmds_endpoint *endpoint)
{
    (void)endpoint;
}
