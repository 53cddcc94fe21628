/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overrides.h owns what a load and a fork alike may say of a guest's devices: the names that they
 * have on this host from now on.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_API_SNAPSHOTS_OVERRIDES_H
#define MAYFLY_API_SNAPSHOTS_OVERRIDES_H

#include "api/body_tables.h"

/* Rows of a table of members: `member` of `type` is a struct overrides_body. */
#define OVERRIDE_NET(type, member)                                                                 \
    {                                                                                              \
        "network_overrides", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(type, member),                  \
            .read = overrides_read_net                                                             \
    }
#define OVERRIDE_VSOCK(type, member)                                                               \
    {                                                                                              \
        "vsock_override", SCHEMA_OBJECT, SCHEMA_TAIL | SCHEMA_NULLABLE,                            \
            SCHEMA_AT_GIVEN(type, member.vsock, member.has_vsock),                                 \
            .object = &vsock_override_schema                                                       \
    }
#define OVERRIDE_DRIVES(type, member)                                                              \
    {                                                                                              \
        "drive_overrides", SCHEMA_CUSTOM, SCHEMA_HIDDEN, SCHEMA_AT(type, member),                  \
            .read = overrides_read_drives                                                          \
    }
#define OVERRIDE_PMEM(type, member)                                                                \
    {                                                                                              \
        "pmem_overrides", SCHEMA_CUSTOM, SCHEMA_HIDDEN, SCHEMA_AT(type, member),                   \
            .read = overrides_read_pmem                                                            \
    }

/* The readers of the lists; `member` is a struct overrides_body. */
int overrides_read_net(struct json_cursor *c, void *member) __must_check;
int overrides_read_drives(struct json_cursor *c, void *member) __must_check;
int overrides_read_pmem(struct json_cursor *c, void *member) __must_check;

/* Frees the arrays. */
void overrides_release(struct overrides_body *body);

/* What the machine is told; it points into the body. */
struct saved_overrides overrides_of(const struct overrides_body *body,
                                    const struct mmds_service *mmds);

#endif
