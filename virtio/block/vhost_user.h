/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_user.h owns the vhost-user protocol as its front end speaks it: the form of the messages,
 * and a connection to a back end, the process that serves a device's queues. No device, no loop.
 *
 *      u32 request, u32 flags (version 1, 4 = a reply), u32 size of what follows
 *      payload: one of union vhost_user_payload
 *      beside it, where a request says so, descriptors (SCM_RIGHTS)
 *
 * Numbers are in the host's byte order. Answers come in the order of the questions, so a connection
 * keeps the questions in a list and gives each answer to the first. Nothing here waits but
 * vhost_user_connect and vhost_user_wait, and these no longer than they are told.
 *
 * The back end is believed nothing: a message must be the answer to the first question, of exactly
 * the size that was asked for, or the connection is over. Descriptors it sends are dropped by the
 * kernel. (What it does to guest memory is another matter: all of it is in its hands.)
 *
 * Any thread, under the machine lock; vhost_user_wait holds the lock, so it is for the time before
 * the machine runs.
 */
#ifndef MAYFLY_BLOCK_VHOST_USER_H
#define MAYFLY_BLOCK_VHOST_USER_H

#include "vmm/base/err.h"
#include "vmm/base/mem.h"

enum vhost_user_request {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_GET_CONFIG = 24,
};

/* Among the feature bits: the back end knows GET_PROTOCOL_FEATURES. With it rings start disabled.
 */
#define VHOST_USER_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

/* Among the protocol's own: the back end keeps the configuration space. */
#define VHOST_USER_PROTOCOL_F_CONFIG (UINT64_C(1) << 9)

#define VHOST_USER_CONFIG_MAX  256
#define VHOST_USER_REGIONS_MAX 8

struct vhost_user_vring {
    uint32_t index, num;
};

/* Addresses are ours: the back end finds them by the table of memory. */
struct vhost_user_vring_addr {
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
};

struct vhost_user_region {
    uint64_t gpa, size;
    uint64_t hva;         /* in our address space */
    uint64_t file_offset; /* of the region's start in its descriptor's file */
};

struct vhost_user_memory {
    uint32_t count, padding;
    struct vhost_user_region region[VHOST_USER_REGIONS_MAX];
};

struct vhost_user_config_space {
    uint32_t offset, size, flags;
    uint8_t bytes[VHOST_USER_CONFIG_MAX]; /* `size` of them are sent */
};
#define VHOST_USER_CONFIG_HEAD offsetof(struct vhost_user_config_space, bytes)

union vhost_user_payload {
    uint64_t u64;
    struct vhost_user_vring vring;
    struct vhost_user_vring_addr addr;
    struct vhost_user_memory memory;
    struct vhost_user_config_space config;
};

struct vhost_user_header {
    uint32_t request, flags, size;
};

/* A question that waits for its answer; belongs to whoever asks and lives until `done`. */
struct vhost_user_call {
    /* rc 0 and the answer in `reply`; or the connection's end, or -EREMOTEIO: the back end could
     * not answer, and the connection goes on. NULL = nobody is called. */
    void (*done)(struct vhost_user_call *call, int rc);
    uint64_t deadline_ns; /* CLOCK_MONOTONIC: by then the answer should be here */
    union vhost_user_payload reply;
    bool pending;
    int rc; /* once it is not pending any more */

    struct vhost_user_call *next;
    uint32_t request, size;
};

/* A connection. */
struct vhost_user {
    int fd; /* -1 = never connected */
    bool over;
    struct vhost_user_call *calls; /* the oldest first */
    size_t received;               /* bytes of the message that is on its way */
    struct vhost_user_header header;
    union vhost_user_payload payload;
};

/* Connects to the socket at `path`, waiting until deadline_ns at most while its backlog is full.
 * The error is in the words that clients of Firecracker know. */
int vhost_user_connect(struct vhost_user *conn, const char *path, uint64_t deadline_ns,
                       struct err *e) __must_check;

/* The same on a connected socket, which becomes the connection's. */
void vhost_user_open(struct vhost_user *conn, int fd);

/* Ends a connection: each call that waits is told rc, and nothing can be sent any more. Its
 * descriptor stays open, at its end for whoever polls it. */
void vhost_user_end(struct vhost_user *conn, int rc);

/* Ends it if it has not ended, and closes the descriptor. Accepts one that was never connected. */
void vhost_user_close(struct vhost_user *conn);

/* What an error of a connection, or of a call, means, for a sentence that begins "the back end". */
const char *vhost_user_fault(int rc);

/*
 * Sends one message, with descriptors. -EPIPE and so on when the back end is gone, -EAGAIN when it
 * does not read what it was sent before; either way the connection is of no use any more, which the
 * caller has to say with vhost_user_end.
 */
int vhost_user_send(struct vhost_user *conn, enum vhost_user_request request, const void *payload,
                    size_t size, const int *fds, unsigned fd_count) __must_check;

/* The messages of which the payload is a number, or a number of vring 0, and those with a
 * descriptor for vring 0. */
int vhost_user_send_u64(struct vhost_user *conn, enum vhost_user_request request,
                        uint64_t value) __must_check;
int vhost_user_send_vring(struct vhost_user *conn, enum vhost_user_request request,
                          uint32_t value) __must_check;
int vhost_user_send_vring_fd(struct vhost_user *conn, enum vhost_user_request request,
                             int fd) __must_check;

/* Guest memory, which is shared (mem_create_shared): RAM, and of the regions that devices bring
 * those that are a writable file, as far as it reaches and the table has room. -EINVAL if RAM is
 * not shared. */
int vhost_user_send_memory(struct vhost_user *conn, const struct mem *mem) __must_check;

/* Asks; `call` has its `done` and deadline set. Errors as of vhost_user_send: then nothing waits.
 */
int vhost_user_ask_u64(struct vhost_user *conn, struct vhost_user_call *call,
                       enum vhost_user_request request) __must_check;
int vhost_user_ask_vring_base(struct vhost_user *conn, struct vhost_user_call *call) __must_check;
int vhost_user_ask_config(struct vhost_user *conn, struct vhost_user_call *call,
                          uint32_t size) __must_check;

/*
 * Takes in what has come and hands out the answers. -ECONNRESET when the back end has closed the
 * connection, -EPROTO when it sends what was not asked for, or another error of the socket: what is
 * left to do then is vhost_user_end.
 */
int vhost_user_receive(struct vhost_user *conn) __must_check;

/* Waits for one answer and returns its rc. Without one, -ETIMEDOUT after its deadline for example,
 * the connection has ended: the call is over in any case. */
int vhost_user_wait(struct vhost_user *conn, struct vhost_user_call *call) __must_check;

#endif
