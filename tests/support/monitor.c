/* SPDX-License-Identifier: Apache-2.0 */
/* A monitor under test: start, speak to its socket, read its guest's console. */
#include "tests/support/monitor.h"

#include "tests/support/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool accepts(const char *socket_path)
{
    int fd = api_connect(socket_path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int wait_for_socket(struct monitor *m, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    while (!accepts(m->socket)) {
        if (m->process.ended)
            return -ECHILD;
        if (!clock_left(deadline))
            return -ETIMEDOUT;
        process_wait(&m->process, 2);
    }
    return 0;
}

int monitor_start(struct monitor *m, const struct monitor_spec *spec, int timeout_ms)
{
    const char *argv[MONITOR_ARGS_MAX + 4] = {spec->program};
    unsigned n = 1;
    bool socket = !spec->no_socket;
    *m = (struct monitor){.socket = text_format("%s/api.sock", spec->dir)};
    if (socket) {
        argv[n++] = "--api-sock";
        argv[n++] = m->socket;
    }
    for (unsigned i = 0; spec->args && spec->args[i] && i < MONITOR_ARGS_MAX; i++)
        argv[n++] = spec->args[i];
    struct process_spec process = {.argv = argv,
                                   .cwd = spec->dir,
                                   .in = spec->in,
                                   .out = spec->out,
                                   .err = spec->err,
                                   .prepare = spec->prepare,
                                   .prepare_arg = spec->prepare_arg};
    int ret = process_start(&m->process, &process);
    if (!ret && socket)
        ret = wait_for_socket(m, timeout_ms);
    return ret;
}

int monitor_launch(struct monitor *m, const struct process_spec *command, const char *socket,
                   int timeout_ms)
{
    *m = (struct monitor){.socket = text_format("%s", socket)};
    int ret = process_start(&m->process, command);
    return ret ? ret : wait_for_socket(m, timeout_ms);
}

void monitor_end(struct monitor *m)
{
    process_end(&m->process);
    free(m->socket);
    *m = (struct monitor){0};
}

enum api_outcome monitor_call(struct monitor *m, struct api_answer *a, const char *method,
                              const char *path, const char *body, int timeout_ms)
{
    return api_request(m->socket, method, path, body, a, timeout_ms);
}

const char *monitor_unseen(const struct monitor *m)
{
    return text_str(&m->process.out_text) + m->seen;
}

/* Marks everything up to the end of `text` as seen, if it is there. */
static bool match(struct monitor *m, const char *text)
{
    size_t rest = m->process.out_text.len - m->seen;
    size_t length = strlen(text);
    const char *hit = memmem(monitor_unseen(m), rest, text, length);
    if (!hit)
        return false;
    m->seen = (size_t)(hit - text_str(&m->process.out_text)) + length;
    return true;
}

bool monitor_expect(struct monitor *m, const char *text, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    while (!match(m, text)) {
        if (m->process.ended) {
            process_wait(&m->process, 0);
            return match(m, text);
        }
        if (!clock_left(deadline))
            return false;
        process_pump(&m->process, clock_left(deadline));
    }
    return true;
}

int monitor_type(struct monitor *m, const char *text)
{
    return process_write(&m->process, text, strlen(text));
}
