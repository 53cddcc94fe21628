/* SPDX-License-Identifier: Apache-2.0 */
/* weak.c: what net/ needs of the endpoint until it is here; goes with its coming. */
#include "virtio/mmds/mmds.h"
__attribute__((weak)) bool mmds_endpoint_wants(const struct mmds_endpoint *e, const uint8_t *h,
                                               size_t l)
{
    (void)e;
    (void)h;
    (void)l;
    return false;
}
__attribute__((weak)) void mmds_endpoint_input(struct mmds_endpoint *e, const uint8_t *f, size_t l)
{
    (void)e;
    (void)f;
    (void)l;
}
__attribute__((weak)) size_t mmds_endpoint_output(struct mmds_endpoint *e, uint8_t *f, size_t r)
{
    (void)e;
    (void)f;
    (void)r;
    return 0;
}
__attribute__((weak)) void mmds_endpoint_quiesce(struct mmds_endpoint *e)
{
    (void)e;
}
__attribute__((weak)) void mmds_endpoint_resume(struct mmds_endpoint *e)
{
    (void)e;
}
__attribute__((weak)) void mmds_endpoint_attach(struct mmds_endpoint *e, const struct mmds_wire *w)
{
    (void)e;
    (void)w;
}
