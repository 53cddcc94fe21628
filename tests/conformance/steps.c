/* SPDX-License-Identifier: Apache-2.0 */
/* The step kinds that touch the monitor: request, raw, hold, exit, restart, and files. */
#include "tests/conformance/steps.h"

#include "tests/conformance/inspect.h"
#include "tests/support/api_client.h"
#include "tests/support/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/wait.h>

enum { START_MS = 10000, ANSWER_MS = 10000, RAW_FIRST_MS = 1500, RAW_SILENCE_MS = 250 };

/* Redirects the monitor's standard error to the file whose path is `arg`, in the child. */
static int errors_to_file(void *arg)
{
    int fd = open(arg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : dup2(fd, 2);
}

static bool accepts(const char *socket_path)
{
    int fd = api_connect(socket_path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int stage_start_monitor(struct stage *stage)
{
    const char *argv[24] = {stage->monitor, "--api-sock", stage->places.socket};
    char *expanded[16];
    size_t n = json_array_size(stage->args);
    for (size_t i = 0; i < n && i < 16; i++) {
        const char *arg = json_string_value(json_array_get(stage->args, i));
        argv[3 + i] = expanded[i] = places_expand(&stage->places, arg);
    }
    struct process_spec spec = {.argv = argv,
                                .cwd = stage->places.dir,
                                .prepare = errors_to_file,
                                .prepare_arg = stage->errors};
    int ret = process_start(&stage->vmm, &spec);
    for (size_t i = 0; i < n && i < 16; i++)
        free(expanded[i]);
    int64_t deadline = clock_ms() + START_MS;
    while (!ret && !stage->vmm.ended && !accepts(stage->places.socket) && clock_left(deadline))
        process_wait(&stage->vmm, 2);
    return ret;
}

static void drop_connections(struct stage *stage)
{
    for (unsigned i = 0; i < stage->n_connections; i++) {
        close(stage->connections[i].fd);
        text_free(&stage->connections[i].pending);
    }
    stage->n_connections = 0;
}

void stage_clear(struct stage *stage)
{
    drop_connections(stage);
    process_end(&stage->vmm);
}

/* A connection to keep, or NULL when it is refused. */
static struct connection *add_connection(struct stage *stage, const char *name)
{
    int fd = api_connect(stage->places.socket);
    if (fd < 0 || stage->n_connections == STEPS_CONNECTIONS_MAX)
        return NULL;
    struct connection *c = &stage->connections[stage->n_connections++];
    *c = (struct connection){.name = name, .fd = fd};
    return c;
}

static struct connection *named_connection(struct stage *stage, const char *name)
{
    for (unsigned i = 0; i < stage->n_connections; i++)
        if (stage->connections[i].name && !strcmp(stage->connections[i].name, name))
            return &stage->connections[i];
    return add_connection(stage, name);
}

/* How the monitor has ended, or that it still runs, waiting a moment for an end under way. */
static json_t *describe_end(struct stage *stage, int within_ms)
{
    if (!process_wait(&stage->vmm, within_ms))
        return json_pack("{s:b}", "running", 1);
    return inspect_end(&stage->vmm);
}

/* What there is instead of an answer. */
static json_t *describe_failure(struct stage *stage, const char *word)
{
    json_t *answer = json_pack("{s:b}", word, 1);
    if (strcmp(word, "silent"))
        json_object_set_new(answer, "vmm", describe_end(stage, 1000));
    return answer;
}

static json_t *describe_outcome(struct stage *stage, enum api_outcome outcome, struct api_answer *a)
{
    switch (outcome) {
    case API_ANSWERED:
        return inspect_answer(a, &stage->places);
    case API_CLOSED:
        return describe_failure(stage, "closed");
    case API_REFUSED:
        return describe_failure(stage, "refused");
    case API_SILENT:
        return describe_failure(stage, "silent");
    case API_GARBAGE:
        break;
    }
    return json_pack("{s:b}", "not_http", 1);
}

/* The body to send, or false when the request has none. */
static bool request_body(const struct stage *stage, const json_t *request, struct text *body)
{
    const json_t *json = json_object_get(request, "body");
    const json_t *plain = json_object_get(request, "body_text");
    if (json) {
        char *dump = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        text_puts(body, dump);
        free(dump);
    } else if (plain) {
        places_join(body, plain);
    }
    places_fill(&stage->places, body);
    return json || plain;
}

static json_t *run_request(struct stage *stage, const json_t *step)
{
    const json_t *request = json_object_get(step, "request");
    const char *kept = json_string_value(json_object_get(step, "connection"));
    struct text body = {0}, message = {0};
    bool has_body = request_body(stage, request, &body);
    api_format(&message, json_string_value(json_object_get(request, "method")),
               json_string_value(json_object_get(request, "path")),
               has_body ? text_str(&body) : NULL, body.len);
    struct connection *c = kept ? named_connection(stage, kept) : add_connection(stage, NULL);
    struct api_answer answer = {0};
    enum api_outcome outcome = API_REFUSED;
    if (c) {
        api_send(c->fd, message.data, message.len);
        outcome = api_receive(c->fd, &c->pending, &answer, ANSWER_MS);
    }
    json_t *result = describe_outcome(stage, outcome, &answer);
    if (c && !kept) {
        close(c->fd);
        text_free(&c->pending);
        stage->n_connections--; /* it was the last one added */
    }
    api_answer_free(&answer);
    text_free(&body);
    text_free(&message);
    return result;
}

/* Sends recorded bytes, one for each character, with their pauses. */
static void send_raw(int fd, const json_t *value)
{
    if (json_is_array(value)) {
        size_t i;
        json_t *item;
        json_array_foreach (value, i, item) {
            json_int_t pause = json_integer_value(json_object_get(item, "pause_ms"));
            if (pause)
                clock_sleep(pause);
            else
                send_raw(fd, item);
        }
        return;
    }
    struct text utf8 = {0}, latin1 = {0};
    if (json_is_object(value)) {
        json_t *list = json_pack("[O]", value);
        places_join(&utf8, list);
        json_decref(list);
    } else {
        places_join(&utf8, value);
    }
    inspect_latin1(&latin1, &utf8);
    api_send(fd, text_str(&latin1), latin1.len);
    text_free(&utf8);
    text_free(&latin1);
}

/* Gathers all that arrives until a silence. True when the peer closed the connection. */
static bool gather(int fd, struct text *got, int first_ms)
{
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char part[16384];
        if (poll(&wait, 1, got->len ? RAW_SILENCE_MS : first_ms) <= 0)
            return false;
        ssize_t n = recv(fd, part, sizeof(part), 0);
        if (n <= 0)
            return true;
        text_append(got, part, (size_t)n);
    }
}

static json_t *run_raw(struct stage *stage, const json_t *step)
{
    int fd = api_connect(stage->places.socket);
    if (fd < 0)
        return describe_failure(stage, "refused");
    json_int_t limit = json_integer_value(json_object_get(step, "timeout_ms"));
    bool first_only = json_is_true(json_object_get(step, "first_answer_only"));
    struct text got = {0};
    send_raw(fd, json_object_get(step, "raw"));
    bool closed = gather(fd, &got, limit ? (int)limit : RAW_FIRST_MS);
    close(fd);
    json_t *answer = inspect_stream(&got, &stage->places, first_only);
    if (!first_only)
        json_object_set_new(answer, "then", json_string(closed ? "closed" : "open"));
    text_free(&got);
    return answer;
}

static json_t *run_hold(struct stage *stage, const json_t *step)
{
    json_int_t wanted = json_integer_value(json_object_get(step, "hold"));
    json_int_t held = 0;
    while (held < wanted && add_connection(stage, NULL))
        held++;
    clock_sleep(20); /* let the monitor accept them before the next step counts on it */
    return json_pack("{s:I}", "held", held);
}

static json_t *run_restart(struct stage *stage)
{
    stage_clear(stage);
    unlink(stage->places.socket);
    stage_start_monitor(stage);
    return json_pack("{s:b}", "done", 1);
}

/* Inverts the byte at `at`. */
static int corrupt(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = pread(fd, &byte, 1, at) == 1 ? 0 : -EIO;
    byte = (unsigned char)~byte;
    if (!ret && pwrite(fd, &byte, 1, at) != 1)
        ret = -EIO;
    close(fd);
    return ret;
}

static json_t *run_file_step(struct stage *stage, const json_t *step, const char *kind)
{
    char *path = places_expand(&stage->places, json_string_value(json_object_get(step, kind)));
    int ret;
    if (!strcmp(kind, "remove"))
        ret = unlink(path);
    else if (!strcmp(kind, "truncate"))
        ret = truncate(path, json_integer_value(json_object_get(step, "size")));
    else
        ret = corrupt(path, json_integer_value(json_object_get(step, "at")));
    free(path);
    return json_pack("{s:b}", "done", ret == 0);
}

static json_t *run_exit(struct stage *stage, const json_t *step)
{
    const json_t *within = json_object_get(json_object_get(step, "exit"), "within_ms");
    return describe_end(stage, (int)json_integer_value(within));
}

json_t *step_run(struct stage *stage, const json_t *step)
{
    clock_sleep(json_integer_value(json_object_get(step, "wait_ms")));
    if (json_object_get(step, "request"))
        return run_request(stage, step);
    if (json_object_get(step, "raw"))
        return run_raw(stage, step);
    if (json_object_get(step, "hold"))
        return run_hold(stage, step);
    if (json_object_get(step, "exit"))
        return run_exit(stage, step);
    if (json_object_get(step, "restart"))
        return run_restart(stage);
    if (json_object_get(step, "check"))
        return inspect_file(json_object_get(step, "check"), &stage->places);
    if (json_object_get(step, "run"))
        return inspect_run(json_object_get(step, "run"), stage->monitor, &stage->places);
    static const char *const file_steps[] = {"remove", "truncate", "corrupt"};
    for (unsigned i = 0; i < sizeof(file_steps) / sizeof(*file_steps); i++)
        if (json_object_get(step, file_steps[i]))
            return run_file_step(stage, step, file_steps[i]);
    return NULL;
}

/* The words of a command line. */
static void title_of_run(struct text *out, const json_t *run)
{
    size_t i;
    json_t *arg;
    text_puts(out, "run");
    json_array_foreach (json_object_get(run, "args"), i, arg) {
        text_printf(out, " %s", json_string_value(arg));
    }
}

void step_title(struct text *out, const json_t *step)
{
    static const char *const kinds[] = {"raw",    "hold",     "exit",    "restart",
                                        "remove", "truncate", "corrupt", "check"};
    const json_t *name = json_object_get(step, "name");
    const json_t *request = json_object_get(step, "request");
    if (request)
        text_printf(out, "%s %s", json_string_value(json_object_get(request, "method")),
                    json_string_value(json_object_get(request, "path")));
    else if (json_object_get(step, "run"))
        title_of_run(out, json_object_get(step, "run"));
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        if (json_object_get(step, kinds[i]))
            text_puts(out, kinds[i]);
    const json_t *file = json_object_get(json_object_get(step, "check"), "file");
    if (file)
        text_printf(out, " %s", json_string_value(file));
    if (name)
        text_printf(out, ", %s", json_string_value(name));
}
