/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c: the table of requests, and the dispatcher. */
#include "api/routes.h"

#include "api/api.h"
#include "api/cpu_template_json.h"
#include "api/json_writer.h"
#include "api/logger.h"
#include "vmm/base/metrics.h"
#include "vmm/name.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Row by row: what it is, when it may come, and the rest by name. */
/* clang-format off */
#define AT(...)       .path = {__VA_ARGS__}
#define ANY_TIME      .phase = PHASE_ANY
#define BEFORE_START  .phase = PHASE_BEFORE_START
#define AFTER_START   .phase = PHASE_AFTER_START
#define PLUG          .phase = PHASE_CONFIGURE_OR_PLUG
#define UNPLUG        .phase = PHASE_UNPLUG
#define WITH_ID       .has_id = true
#define ALONE         .alone = true
#define BOOTS         .boots = true
#define BODY(table)   .schema = &table##_schema
#define ERROR(words)  .prefix = words ": "
#define GETS(name)    .count = &metrics.get_api_requests.name##_count
#define PUTS(name)    .count = &metrics.put_api_requests.name##_count, \
                      .fails = &metrics.put_api_requests.name##_fails
#define PATCHES(name) .count = &metrics.patch_api_requests.name##_count, \
                      .fails = &metrics.patch_api_requests.name##_fails

const struct route routes[] = {
    {GET, AT(NULL),             ANY_TIME, ALONE, .act = act_instance_info, GETS(instance_info)},
    {GET, AT("version"),        ANY_TIME, .act = act_version, GETS(vmm_version)},
    {GET, AT("vm", "config"),   ANY_TIME, .act = act_vm_config},
    {GET, AT("machine-config"), ANY_TIME, .act = act_machine_get, GETS(machine_cfg)},
    {GET, AT("mmds"),           ANY_TIME, .act = act_mmds_get, GETS(mmds)},
    {GET, AT("timeline"),       ANY_TIME, .act = act_timeline},
    {GET, AT("snapshot", "background"), ANY_TIME, .act = act_snapshot_background},
    {GET, AT("balloon"),        ANY_TIME, ALONE, .act = act_balloon_get},
    {GET, AT("balloon", "statistics"),        AFTER_START, .act = act_balloon_stats,
                                              ERROR("Internal VMM error")},
    {GET, AT("balloon", "hinting", "status"), AFTER_START, .act = act_hinting_status,
                                              ERROR("Balloon update error")},
    {GET, AT("hotplug", "memory"),            AFTER_START, .act = act_hotplug_get,
                                ERROR("Internal VMM error"), GETS(hotplug_memory)},

    {PUT, AT("actions"),        ANY_TIME, BODY(action), .check = check_action, .act = act_action,
                                PUTS(actions)},
    {PUT, AT("boot-source"),    BEFORE_START, BOOTS, BODY(boot_source), .act = act_boot_source,
                                ERROR("Boot source error"), PUTS(boot_source)},
    {PUT, AT("cpu-config"),     BEFORE_START, BODY(cpu_template), .act = act_cpu_config,
                                .release = release_cpu_config, ERROR("Configure CPU error"),
                                PUTS(cpu_cfg)},
    {PUT, AT("drives"),         PLUG, BOOTS, WITH_ID, BODY(drive), .prepare = prepare_drive,
                                .check = check_drive, .act = act_drive,
                                ERROR("Drive config error"), PUTS(drive)},
    {PUT, AT("entropy"),        BEFORE_START, BOOTS, BODY(entropy), .act = act_entropy,
                                ERROR("Entropy config error")},
    {PUT, AT("logger"),         BEFORE_START, BODY(logger), .prepare = prepare_logger,
                                .act = act_logger, ERROR("Logger error"), PUTS(logger)},
    {PUT, AT("machine-config"), BEFORE_START, BOOTS, BODY(machine_put), .prepare = prepare_machine_put,
                                .check = check_machine_put, .act = act_machine_set,
                                ERROR("Machine config error"), PUTS(machine_cfg)},
    {PUT, AT("metrics"),        BEFORE_START, BODY(metrics), .act = act_metrics,
                                .release = release_metrics, ERROR("Metrics error"), PUTS(metrics)},
    {PUT, AT("mmds"),           ANY_TIME, ALONE, .act = act_mmds_put, PUTS(mmds)},
    {PUT, AT("mmds", "config"), BEFORE_START, BOOTS, BODY(mmds_config), .check = check_mmds_config,
                                .act = act_mmds_config, .release = release_mmds_config,
                                ERROR("MMMDS config error"), PUTS(mmds)},
    {PUT, AT("serial"),         BEFORE_START, BODY(serial), .act = act_serial,
                                ERROR("Serial config error"), PUTS(serial)},
    {PUT, AT("balloon"),        BEFORE_START, BOOTS, BODY(balloon), .act = act_balloon,
                                ERROR("Balloon config error")},
    {PUT, AT("network-interfaces"),   PLUG, BOOTS, WITH_ID, BODY(net), .check = check_net,
                                .act = act_net, ERROR("Network config error"), PUTS(network)},
    {PUT, AT("pmem"),                 PLUG, BOOTS, WITH_ID, BODY(pmem), .check = check_pmem,
                                .act = act_pmem, ERROR("Pmem config error"), PUTS(pmem)},
    {PUT, AT("vsock"),                BEFORE_START, BOOTS, BODY(vsock), .check = check_vsock,
                                .act = act_vsock, ERROR("Vsock config error"), PUTS(vsock)},
    {PUT, AT("hotplug", "memory"),    BEFORE_START, BOOTS, BODY(hotplug), .prepare = prepare_hotplug,
                                .act = act_hotplug, ERROR("Memory hotplug config error"),
                                PUTS(hotplug_memory)},
    {PUT, AT("snapshot", "create"),   AFTER_START, BODY(snapshot_create),
                                .prepare = prepare_snapshot_create, .act = act_snapshot_create,
                                ERROR("Create snapshot error")},
    {PUT, AT("snapshot", "load"),     BEFORE_START, BODY(snapshot_load),
                                .check = check_snapshot_load, .act = act_snapshot_load,
                                .release = release_snapshot_load, ERROR("Load snapshot error")},
    {PUT, AT("snapshot", "fork"),     AFTER_START, BODY(snapshot_fork),
                                .check = check_snapshot_fork, .act = act_snapshot_fork,
                                .release = release_snapshot_fork, ERROR("Fork error")},

    {PATCH, AT("drives"),         AFTER_START, WITH_ID, BODY(drive_patch),
                                  .check = check_drive_patch, .act = act_drive_patch,
                                  ERROR("Drive config error"), PATCHES(drive)},
    {PATCH, AT("machine-config"), BEFORE_START, BOOTS, BODY(machine_patch),
                                  .prepare = prepare_machine_patch, .check = check_machine_patch,
                                  .act = act_machine_set, ERROR("Machine config error"),
                                  PATCHES(machine_cfg)},
    {PATCH, AT("mmds"),           ANY_TIME, .act = act_mmds_patch, PATCHES(mmds)},
    {PATCH, AT("vm"),             AFTER_START, BODY(vm), .act = act_vm,
                                  ERROR("Internal VMM error")},
    {PATCH, AT("balloon", "statistics"),       AFTER_START, BODY(balloon_interval),
                                  .act = act_balloon_stats_patch, ERROR("Balloon update error")},
    {PATCH, AT("balloon", "hinting", "start"), AFTER_START, BODY(hinting),
                                  .prepare = prepare_hinting, .act = act_hinting_start,
                                  ERROR("Balloon update error")},
    {PATCH, AT("balloon", "hinting", "stop"),  AFTER_START, .act = act_hinting_stop,
                                  ERROR("Balloon update error")},
    {PATCH, AT("balloon"),        AFTER_START, BODY(balloon_amount), .act = act_balloon_patch,
                                  ERROR("Balloon update error")},
    {PATCH, AT("network-interfaces"), AFTER_START, WITH_ID, BODY(net_patch),
                                  .check = check_net, .act = act_net_patch,
                                  ERROR("Network config error"), PATCHES(network)},
    {PATCH, AT("pmem"),           AFTER_START, WITH_ID, BODY(pmem_patch),
                                  .check = check_pmem_patch, .act = act_pmem_patch,
                                  ERROR("Pmem config error"), PATCHES(pmem)},
    {PATCH, AT("hotplug", "memory"), AFTER_START, BODY(hotplug_patch),
                                  .act = act_hotplug_patch, ERROR("Memory hotplug update error"),
                                  PATCHES(hotplug_memory)},

    {DELETE, AT("drives"),             UNPLUG, WITH_ID},
    {DELETE, AT("network-interfaces"), UNPLUG, WITH_ID},
    {DELETE, AT("pmem"),               UNPLUG, WITH_ID},
};
/* clang-format on */

const size_t routes_count = ARRAY_SIZE(routes);

/* ---- answers ---- */

static const char *status_words(int status)
{
    switch (status) {
    case 200:
        return "200 OK";
    case 204:
        return "204 No Content";
    case 413:
        return "413 Payload Too Large";
    default:
        return "400 Bad Request";
    }
}

static int fail(struct call *call, int status, const char *fmt, ...) __printf(3, 4);

/* {"fault_message":"..."} and the line in the log. Always -EINVAL. */
static int fail(struct call *call, int status, const char *fmt, ...)
{
    struct api_response *response = call->response;
    struct json_writer w;
    char *message;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&message, fmt, args);
    va_end(args);
    if (n < 0)
        message = NULL;
    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_member_string(&w, "fault_message", message ? message : "Out of memory.");
    json_write_end(&w, '}');
    response->status = status;
    response->body = json_writer_finish(&w, &response->body_len);
    log_api(LOG_ERROR, "Received Error. Status code: %s. Message: %s", status_words(status),
            message ? message : "Out of memory.");
    free(message);
    return -EINVAL;
}

int call_answer(struct call *call, struct json_writer *w, struct err *e)
{
    call->response->body = json_writer_finish(w, &call->response->body_len);
    if (!call->response->body)
        return err_set(e, -ENOMEM, "Out of memory.");
    call->response->status = 200;
    return 0;
}

void call_note_deprecated(struct call *call, const char *what)
{
    call->response->deprecated = true;
    metric_add(&metrics.deprecated_api.deprecated_http_api_calls, 1);
    log_api(LOG_WARN, "%s", what);
}

int call_check_id(const struct call *call, const char *body_id, struct err *e)
{
    if (strcmp(call->id, body_id) != 0)
        return err_set(e, -EINVAL, "The id from the path does not match the id from the body!");
    return 0;
}

/* ---- paths ---- */

#define SEGMENTS 4

/* Cut into segments, in place; those that are not there are NULL. A slash at the end is
 * no segment. */
static void split(char *path, const char *segment[SEGMENTS])
{
    path += strspn(path, "/");
    for (size_t i = 0; i < SEGMENTS; i++)
        segment[i] = path && *path ? strsep(&path, "/") : NULL;
}

static bool is(const char *segment, const char *word)
{
    return segment && strcmp(segment, word) == 0;
}

/* The one subtree whose requests may lack a body, and whose names are checked one deeper. */
static bool is_hinting(const char *const segment[SEGMENTS])
{
    return is(segment[0], "balloon") && is(segment[1], "hinting");
}

static bool fits(const struct route *route, const char *const segment[SEGMENTS])
{
    size_t i = 0;

    for (; i < ARRAY_SIZE(route->path) && route->path[i]; i++) {
        if (!is(segment[i], route->path[i]))
            return false;
    }
    if (is_hinting(segment) && i < 3)
        return false;
    return !route->alone || !segment[i];
}

static const struct route *find_route(enum method method, const char *const segment[SEGMENTS])
{
    for (size_t i = 0; i < routes_count; i++) {
        if (routes[i].method == method && fits(&routes[i], segment))
            return &routes[i];
    }
    return NULL;
}

static int fail_no_route(struct call *call, const char *const segment[SEGMENTS])
{
    const char *method = call->request->method;
    const char *second = segment[1];

    if (is_hinting(segment) && strcmp(method, "PUT") != 0)
        return fail(call, 400, "Unrecognized %s request path `/hinting/%s`.", method,
                    segment[2] ? segment[2] : "");
    if (is(segment[0], "balloon") && second && strcmp(method, "GET") == 0)
        return fail(call, 400, "Unrecognized GET request path `%s`.", second);
    if (is(segment[0], "mmds") && second && strcmp(method, "PUT") == 0)
        return fail(call, 400, "Unrecognized PUT request path `%s`.", second);
    if (is(segment[0], "snapshot") && !second && strcmp(method, "PUT") == 0)
        return fail(call, 400, "Missing snapshot operation type.");
    if (is(segment[0], "snapshot") && strcmp(method, "PUT") == 0)
        return fail(call, 400, "Invalid request method and/or path: PUT /snapshot/%s.", second);
    return fail(call, 400, "Invalid request method and/or path: %s %s.", method,
                segment[0] ? segment[0] : "");
}

/* ---- the steps of a request ---- */

static const char *const method_names[METHOD_COUNT] = {"GET", "PUT", "PATCH", "DELETE"};

static enum method find_method(const char *name)
{
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        if (strcmp(name, method_names[i]) == 0)
            return (enum method)i;
    }
    return METHOD_COUNT; /* the server lets nothing else through; it would have no route */
}

static int check_body_presence(struct call *call, enum method method,
                               const char *const segment[SEGMENTS])
{
    bool has_body = call->request->has_body;

    if (method == GET && has_body)
        return fail(call, 400, "GET request cannot have a body.");
    if (method == PUT && !has_body)
        return fail(call, 400, "Empty PUT request.");
    if (method == PATCH && !has_body && !is_hinting(segment))
        return fail(call, 400, "Empty PATCH request.");
    if (method == DELETE && has_body)
        return fail(call, 400, "Empty Delete request.");
    return 0;
}

static int check_path_id(struct call *call)
{
    if (!call->id || !*call->id)
        return fail(call, 400, "The ID cannot be empty.");
    if (name_first_odd(call->id, '_', NULL) >= 0)
        return fail(call, 400,
                    "API Resource IDs can only contain alphanumeric characters and underscores.");
    return 0;
}

static int fail_json(struct call *call, const struct json_cursor *c)
{
    char *why = json_error(c);

    fail(call, 400, "An error occurred when deserializing the json body of a request: %s.",
         why ? why : "out of memory");
    free(why);
    return -EINVAL;
}

static int read_body(struct call *call, const struct route *route, struct json_cursor *c)
{
    /* Where a body has to be there, that has been judged; one that may be left out is as if empty.
     */
    if (!route->schema || !call->request->has_body)
        return 0;
    if (schema_read(c, route->schema, &call->body) || json_finish(c))
        return fail_json(call, c);
    return 0;
}

static int check_phase(struct call *call)
{
    bool started = machine_state(call->api->machine) != MACHINE_NOT_STARTED;
    bool plugs = call->phase == PHASE_CONFIGURE_OR_PLUG || call->phase == PHASE_UNPLUG;

    if (!started && (call->phase == PHASE_AFTER_START || call->phase == PHASE_UNPLUG))
        return fail(call, 400,
                    "The requested operation is not supported before starting the microVM.");
    if (started && call->phase == PHASE_BEFORE_START)
        return fail(call, 400,
                    "The requested operation is not supported after starting the microVM.");
    if (started && plugs)
        return fail(call, 400, "PCI is not enabled");
    return 0;
}

static int act(struct call *call, const struct route *route, struct err *e)
{
    static const char *const slash[] = {"", "/"};

    if (!route->act)
        return fail(call, 400, "%s /%s%s%s%s%s is not supported yet by this version of Mayfly.",
                    method_names[route->method], route->path[0], slash[route->path[1] != NULL],
                    route->path[1] ? route->path[1] : "", slash[route->path[2] != NULL],
                    route->path[2] ? route->path[2] : "");
    if (route->act(call, e)) /* other files may be too large, too: that of the metrics */
        return fail(call, e->code == -EFBIG && is(route->path[0], "mmds") ? 413 : 400, "%s%s",
                    route->prefix ? route->prefix : "", e->text);
    log_api(LOG_INFO, "The request was executed successfully. Status code: %s.",
            status_words(call->response->status));
    return 0;
}

static int serve(struct call *call, const struct route *route)
{
    struct json_cursor c;
    struct err e;
    int ret;

    if (route->has_id && check_path_id(call))
        return -EINVAL;
    if (route->prepare)
        route->prepare(call);
    json_open(&c, call->request->body, call->request->body_len);
    ret = read_body(call, route, &c);
    if (ret == 0 && route->check && route->check(call, &e))
        ret = fail(call, 400, "%s", e.text);
    if (ret == 0)
        ret = check_phase(call);
    if (ret == 0) {
        call->api->boot_specific |= route->boots;
        ret = act(call, route, &e);
    }
    if (route->release)
        route->release(call);
    json_close(&c);
    return ret;
}

static void dispatch(struct call *call, char *path)
{
    enum method method = find_method(call->request->method);
    const char *segment[SEGMENTS];
    const struct route *route;

    split(path, segment);
    if (check_body_presence(call, method, segment))
        return;
    route = find_route(method, segment);
    if (!route) {
        fail_no_route(call, segment);
        return;
    }
    call->phase = route->phase;
    call->id = route->has_id ? segment[1] : NULL;
    if (route->count)
        metric_add(route->count, 1);
    if (serve(call, route) && route->fails)
        metric_add(route->fails, 1);
}

/* ---- the log, and the way in ---- */

static void log_request(const struct api_request *request)
{
    static const char *const shown[METHOD_COUNT + 1] = {"Get", "Put", "Patch", "Delete", "?"};
    bool with_body = request->has_body && strcmp(request->path, "/mmds") != 0;
    char *path, *body = NULL;

    if (!logger_wants(LOG_INFO))
        return;
    path = json_quote(request->path, strlen(request->path));
    if (with_body)
        body = json_quote(request->body, request->body_len);
    log_api(LOG_INFO, "The API server received a %s request on %s%s%s.",
            shown[find_method(request->method)], path ? path : "?", body ? " with body " : "",
            body ? body : "");
    free(path);
    free(body);
}

void routes_handle(void *owner, const struct api_request *request, struct api_response *response)
{
    struct call call = {.api = owner, .request = request, .response = response};
    uint64_t begin = now_ns();
    char *path = strdup(request->path);

    log_request(request);
    if (path)
        dispatch(&call, path);
    else
        fail(&call, 400, "Out of memory.");
    free(path);
    log_api(LOG_DEBUG, "Total previous API call duration: %llu us.",
            (unsigned long long)((now_ns() - begin) / NSEC_PER_USEC));
}
