/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor under test in a directory of its own: started with chosen arguments and streams, spoken
 * to over its socket, its guest's serial output read by what it is expected to say.
 */
#ifndef MAYFLY_TESTS_SUPPORT_MONITOR_H
#define MAYFLY_TESTS_SUPPORT_MONITOR_H

#include "tests/support/api_client.h"
#include "tests/support/process.h"

enum { MONITOR_ARGS_MAX = 32 };

struct monitor_spec {
    const char *program;
    const char *dir;         /* its working directory; the socket is DIR/api.sock */
    const char *const *args; /* after --api-sock and its value; NULL ends it; NULL: none */
    bool no_socket;          /* leave --api-sock out and wait for nothing */
    enum process_stream in, out, err;
    int (*prepare)(void *arg); /* as in struct process_spec */
    void *prepare_arg;
};

struct monitor {
    struct process process;
    char *socket;
    size_t seen; /* how much of the serial output earlier expectations have used up */
};

/*
 * Starts a monitor and waits until its socket accepts. Returns 0, -ETIMEDOUT, -ECHILD when it ended
 * first (then `m->process` tells how and what it said), or another -errno.
 */
int monitor_start(struct monitor *m, const struct monitor_spec *spec, int timeout_ms);

/* The same by a command of its own, which makes the monitor accept at `socket`. */
int monitor_launch(struct monitor *m, const struct process_spec *command, const char *socket,
                   int timeout_ms);

/* Kills it if it still runs, and frees. */
void monitor_end(struct monitor *m);

/* One request on a connection of its own; the caller frees `a`. */
enum api_outcome monitor_call(struct monitor *m, struct api_answer *a, const char *method,
                              const char *path, const char *body, int timeout_ms);

/*
 * Waits until the serial output (standard output) holds `text` behind what earlier calls matched.
 * False when time ran out or the monitor ended without saying it.
 */
bool monitor_expect(struct monitor *m, const char *text, int timeout_ms);

/* The serial output that no expectation has used up yet. */
const char *monitor_unseen(const struct monitor *m);

/* Types at the guest's console. Returns 0 or -errno. */
int monitor_type(struct monitor *m, const char *text);

#endif
