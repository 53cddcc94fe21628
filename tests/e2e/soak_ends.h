/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's ends of the connections of a soaked guest: listeners of TCP and vsock that take and
 * give streams, and a client that connects to the guest's echo, each a process of its own that
 * checks all it reads.
 */
#ifndef MAYFLY_TESTS_E2E_SOAK_ENDS_H
#define MAYFLY_TESTS_E2E_SOAK_ENDS_H

#include <stdint.h>

/* A monitor waits two seconds for the guest to take a connection, which it may well need on a busy
 * host. Who is sent away sooner has been refused. */
enum { ANSWER_MS = 1900 };

enum { TCP_SINK, TCP_SOURCE, VSOCK_SINK, VSOCK_SOURCE, VSOCK_ECHO, ENDS };

/* What they tell, in memory that they share with the test. */
struct ends {
    uint64_t rounds[ENDS];
    uint64_t broken[ENDS]; /* connections of vsock that ended early, with a monitor */
    int failed, which;     /* the errno of the first that went wrong, and which it was */
    unsigned moves;        /* odd while no monitor listens; half of it is the number in its name */
};
extern struct ends *ends;

/* Starts the listeners, those of TCP at this address. */
void ends_listen(const char *address);

/* Has the client connect again and again, to the socket ends_socket() of the moment. */
void ends_connect(void);

/* The name of the present monitor's vsock socket, in the test's directory. */
const char *ends_socket(void);

/* Makes the listeners those of one more vsock socket of that name, too. */
void ends_serve_too(const char *name);

/* The monitor goes; and again, when another has come: in between nobody listens. */
void ends_move(void);

/* Ends the test if an end has failed, or if more connections broke than `ended` monitors explain.
 */
void ends_check(unsigned ended);

#endif
