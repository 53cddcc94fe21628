/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_server.h owns a vhost-user-blk back end for tests: a disk image served to whoever connects
 * to a socket. It is written from the specification alone and shares no code with the monitor. A
 * test forks vhost_server_run, or drives a server of its own step by step.
 */
#ifndef MAYFLY_TESTS_SUPPORT_VHOST_SERVER_H
#define MAYFLY_TESTS_SUPPORT_VHOST_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/types.h>

enum { VHOST_SERVER_REGIONS = 8, VHOST_SERVER_REQUESTS = 28 };

/* Feature bits, as numbers. */
enum {
    VHOST_SERVER_SEG_MAX = 2,
    VHOST_SERVER_RO = 5,
    VHOST_SERVER_FLUSH = 9,
    VHOST_SERVER_INDIRECT = 28,
    VHOST_SERVER_EVENT_IDX = 29,
    VHOST_SERVER_PROTOCOL = 30,
    VHOST_SERVER_VERSION_1 = 32,
};

struct vhost_server_options {
    const char *disk; /* its image */
    bool read_only;
    uint64_t without; /* feature bits (a mask) that are not offered */
    bool no_config;   /* the protocol feature CONFIG is not offered */
};

struct vhost_server_region {
    uint64_t gpa, size, front; /* front: its address in the front end's memory */
    uint8_t *at;
    void *map;
    uint64_t map_size;
};

struct vhost_server {
    struct vhost_server_options options;
    int fd, disk; /* the connection, the image */
    uint64_t features;
    struct vhost_server_region region[VHOST_SERVER_REGIONS];
    unsigned region_count;

    /* the ring */
    int kick, call;
    bool started, enabled;
    uint32_t size;
    uint64_t desc, avail, used; /* addresses of the front end */
    uint16_t next_avail, next_used;

    /* for a test to look at, or to set */
    bool mute;                             /* answer no question */
    bool hold;                             /* take requests and do not return them ... */
    uint16_t held[256];                    /* ... these */
    unsigned held_count;                   /* until vhost_server_release */
    unsigned served, flushes, calls;       /* requests returned, flushes, interrupts */
    unsigned count[VHOST_SERVER_REQUESTS]; /* messages by request */
};

/* A server of one connected socket, which becomes its own. 0 or -errno. */
int vhost_server_open(struct vhost_server *s, const struct vhost_server_options *options, int fd);
void vhost_server_close(struct vhost_server *s);

/*
 * Waits at most timeout_ms for a message or a kick and does what it wants: 1, 0 when nothing came,
 * or -errno when the connection is over (-EPROTO: the front end broke the protocol).
 */
int vhost_server_step(struct vhost_server *s, int timeout_ms);

/* Returns the requests held back. */
void vhost_server_release(struct vhost_server *s);

/* A listening socket at `path`, or -errno. */
int vhost_server_listen(const char *path);

/* Serves one connection after another, for ever. */
_Noreturn void vhost_server_run(int listener, const struct vhost_server_options *options);

/* The same in a process of its own, which dies with this one; it listens when this returns. */
pid_t vhost_server_fork(const char *path, const struct vhost_server_options *options);

#endif
