/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the host to a guest's vsock ports, through the device's Unix socket. */
#ifndef MAYFLY_TESTS_E2E_GUEST_SOCKET_H
#define MAYFLY_TESTS_E2E_GUEST_SOCKET_H

struct sockaddr_un;

/* The address of a socket in the test's directory. */
struct sockaddr_un guest_socket(const char *name);

/* A connection through the socket of that name to a port of the guest: the stream behind OK, or -1
 * when it was closed instead. */
int guest_try_connect(const char *name, unsigned port);

/* The same; one that is refused ends the test. */
int guest_connect(const char *name, unsigned port);

/* What test-init's agent at the other end (guest/README.md) answers to a line, up to OK or ERR. */
const char *guest_ask(int fd, const char *line);

#endif
