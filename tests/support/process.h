/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child process under test: started with chosen standard streams, its output gathered while
 * others wait, its end observed by a deadline. Every child dies with the program that started it.
 */
#ifndef MAYFLY_TESTS_SUPPORT_PROCESS_H
#define MAYFLY_TESTS_SUPPORT_PROCESS_H

#include "tests/support/text.h"

#include <stdbool.h>

#include <sys/types.h>

enum process_stream {
    PROCESS_NULL,     /* /dev/null */
    PROCESS_PIPE,     /* a pipe to or from this program */
    PROCESS_TERMINAL, /* one pseudo-terminal shared by every stream that asks for it */
    PROCESS_INHERIT,
};

struct process_spec {
    const char *const *argv; /* argv[0] is the path; NULL ends it */
    const char *cwd;         /* NULL: unchanged */
    enum process_stream in, out, err;
    /* Runs in the child right before exec; a negative return ends it with status 126. May
     * be NULL. */
    int (*prepare)(void *arg);
    void *prepare_arg;
};

struct process {
    pid_t pid;
    int pidfd;
    int in;       /* write side of stdin, or the terminal; -1 when there is none */
    int out, err; /* read sides; -1 when there is none or it has ended */
    int terminal; /* the terminal's controlling side, or -1 */
    int slave;    /* its other side, held so that its modes outlive the child, or -1 */
    struct text out_text, err_text;
    bool ended;
    int status; /* as waitpid() gives it, once `ended` */
};

/* Returns 0 or -errno. A failing exec is seen as an end with status 127. */
int process_start(struct process *p, const struct process_spec *spec);

/* Gathers output for at most `timeout_ms`, returning after the first that came, or at the end. */
void process_pump(struct process *p, int timeout_ms);

/* Gathers output until the process has ended; false when `timeout_ms` passed first. */
bool process_wait(struct process *p, int timeout_ms);

/* Writes all of `data` to the child's stdin. Returns 0 or -errno. */
int process_write(struct process *p, const void *data, size_t len);

/* SIGKILL, reap, close, free. Safe at any time, also twice and on a zeroed struct. */
void process_end(struct process *p);

/* "exit 1", "SIGABRT", "running": for messages. Points to static memory. */
const char *process_how(const struct process *p);

/* "SIGTERM" for 15, and so on. Points to static memory. */
const char *signal_word(int number);

#endif
