/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_table.h owns which connections there are, how one is found by its two ports, and which
 * ports of the host's side are given to clients of the host: round robin from 2^30 up to 2^31, so
 * that a port is not soon used again, skipping those in use.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VSOCK_TABLE_H
#define MAYFLY_VSOCK_TABLE_H

#include "virtio/vsock/vsock_link.h"

#define VSOCK_CONNS_MAX  1023
#define VSOCK_FIRST_PORT (UINT32_C(1) << 30)
#define VSOCK_BUCKETS    512

struct vsock_conn;

struct vsock_table {
    struct vsock_link all; /* every connection, found by ports or not */
    unsigned count;
    struct vsock_conn *bucket[VSOCK_BUCKETS];
};

void vsock_table_init(struct vsock_table *table);

/* NULL = none. */
struct vsock_conn *vsock_table_find(const struct vsock_table *table, uint32_t host_port,
                                    uint32_t guest_port);

/* Makes a connection known by its ports, which no other has; and unknown again, harmless if it is
 * already. */
void vsock_table_add(struct vsock_table *table, struct vsock_conn *conn);
void vsock_table_remove(struct vsock_table *table, struct vsock_conn *conn);

/* The port after `last` (0 = none yet) that no connection has on the host's side. */
uint32_t vsock_table_next_port(const struct vsock_table *table, uint32_t last);

#endif
