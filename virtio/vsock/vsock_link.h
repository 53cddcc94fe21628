/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_link.h owns the doubly linked lists on which connections stand: a head and its members are
 * links in one circle, a link that is on no list points to itself.
 */
#ifndef MAYFLY_VSOCK_LINK_H
#define MAYFLY_VSOCK_LINK_H

#include "vmm/base/util.h"

struct vsock_link {
    struct vsock_link *prev, *next;
};

static inline void link_init(struct vsock_link *link)
{
    link->prev = link->next = link;
}

/* Whether a member is on a list; of a head, whether its list has members. */
static inline bool link_is_used(const struct vsock_link *link)
{
    return link->next != link;
}

/* At the end of the list; `link` is on none. */
static inline void link_append(struct vsock_link *head, struct vsock_link *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

/* Harmless for a link that is on no list. */
static inline void link_remove(struct vsock_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link_init(link);
}

#endif
