/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_table.c: the connections by their ports. */
#include "virtio/vsock/vsock_table.h"

#include "virtio/vsock/vsock_conn.h"

void vsock_table_init(struct vsock_table *table)
{
    *table = (struct vsock_table){0};
    link_init(&table->all);
}

/* Ports come in sequences on both sides, and one of the two is often the same for all. */
static unsigned bucket_of(uint32_t host_port, uint32_t guest_port)
{
    return (host_port * 31 + guest_port) % VSOCK_BUCKETS;
}

struct vsock_conn *vsock_table_find(const struct vsock_table *table, uint32_t host_port,
                                    uint32_t guest_port)
{
    struct vsock_conn *conn = table->bucket[bucket_of(host_port, guest_port)];

    while (conn && (conn->host_port != host_port || conn->guest_port != guest_port))
        conn = conn->hash_next;
    return conn;
}

void vsock_table_add(struct vsock_table *table, struct vsock_conn *conn)
{
    struct vsock_conn **bucket = &table->bucket[bucket_of(conn->host_port, conn->guest_port)];

    BUG_ON(conn->known);
    conn->known = true;
    conn->hash_next = *bucket;
    *bucket = conn;
}

void vsock_table_remove(struct vsock_table *table, struct vsock_conn *conn)
{
    struct vsock_conn **at = &table->bucket[bucket_of(conn->host_port, conn->guest_port)];

    if (!conn->known)
        return;
    while (*at != conn)
        at = &(*at)->hash_next;
    *at = conn->hash_next;
    conn->known = false;
}

static bool is_used(const struct vsock_table *table, uint32_t host_port)
{
    for (const struct vsock_link *link = table->all.next; link != &table->all; link = link->next) {
        const struct vsock_conn *conn =
            container_of((struct vsock_link *)(uintptr_t)link, struct vsock_conn, all);

        if (conn->known && conn->host_port == host_port)
            return true;
    }
    return false;
}

uint32_t vsock_table_next_port(const struct vsock_table *table, uint32_t last)
{
    uint32_t port = last;

    do /* ends: there are more ports than connections */
        port = VSOCK_FIRST_PORT + (port < VSOCK_FIRST_PORT ? 0 : (port + 1) % VSOCK_FIRST_PORT);
    while (is_used(table, port));
    return port;
}
