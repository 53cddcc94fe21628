/* SPDX-License-Identifier: Apache-2.0 */
/* fork.c: PUT /snapshot/fork, which makes further machines out of a running one. */
#include "api/api.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "api/snapshots/overrides.h"
#include "vmm/base/timeline.h"
#include "vmm/machine_fork.h"
#include "vmm/name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the body -------------------------------------------------------------------------------- */

static const struct schema_member child_members[] = {
    {"api_sock", SCHEMA_PATH, SCHEMA_REQUIRED, SCHEMA_AT(struct fork_child_body, api_sock)},
    {"id", SCHEMA_STRING, SCHEMA_TAIL, SCHEMA_AT(struct fork_child_body, id)},
    {"resume_vm", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct fork_child_body, resume)},
    {"cgroup", SCHEMA_PATH, SCHEMA_TAIL, SCHEMA_AT(struct fork_child_body, cgroup)},
    {"serial_out_path", SCHEMA_PATH, SCHEMA_TAIL, SCHEMA_AT(struct fork_child_body, serial_path)},
    {"log_path", SCHEMA_PATH, SCHEMA_TAIL, SCHEMA_AT(struct fork_child_body, log_path)},
    {"metrics_path", SCHEMA_PATH, SCHEMA_TAIL, SCHEMA_AT(struct fork_child_body, metrics_path)},
    OVERRIDE_NET(struct fork_child_body, overrides),
    OVERRIDE_VSOCK(struct fork_child_body, overrides),
    OVERRIDE_DRIVES(struct fork_child_body, overrides),
};
const struct schema fork_child_schema =
    SCHEMA("struct ForkChild", child_members, .lets_unknown = false);

static int read_children(struct json_cursor *c, void *member)
{
    static const struct fork_child_body blank = {.resume = true};
    struct snapshot_fork_body *body = container_of(member, struct snapshot_fork_body, child);
    void *list = body->child;
    int ret = schema_read_list(c, &fork_child_schema, &blank, sizeof(blank), &list, &body->count);

    body->child = list;
    return ret;
}

static const struct schema_member fork_members[] = {
    {"children", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct snapshot_fork_body, child),
     .read = read_children},
};
const struct schema snapshot_fork_schema =
    SCHEMA("struct ForkParams", fork_members, .lets_unknown = false);

void release_snapshot_fork(struct call *call)
{
    struct snapshot_fork_body *body = &call->body.snapshot_fork;

    for (size_t i = 0; i < body->count; i++)
        overrides_release(&body->child[i].overrides);
    free(body->child);
}

int check_snapshot_fork(struct call *call, struct err *e)
{
    const struct snapshot_fork_body *body = &call->body.snapshot_fork;

    if (body->count == 0 || body->count > FORK_CHILDREN_MAX)
        return err_set(e, -EINVAL, "Fork error: A fork makes 1 to %d children, not %zu.",
                       FORK_CHILDREN_MAX, body->count);
    for (size_t i = 0; i < body->count; i++) {
        const char *id = body->child[i].id;

        if (id && instance_id_check(id, "Fork error: id", e))
            return -EINVAL;
    }
    return 0;
}

/* ---- what each child must be given ----------------------------------------------------------- */

static bool has_tap(const struct overrides_body *overrides, const char *id)
{
    for (size_t i = 0; i < overrides->net_count; i++) {
        if (strcmp(overrides->net[i].id, id) == 0)
            return true;
    }
    return false;
}

static int lacks(const struct fork_child_body *child, const char *what, struct err *e)
{
    return err_set(e, -EINVAL, "%s: it needs %s: the one of this machine stays this machine's.",
                   child->api_sock, what);
}

/* Two processes at one tap or one file would take each other's part. */
static int check_names(struct api *api, const struct fork_child_body *child, struct err *e)
{
    struct devices *devices = machine_devices(api->machine);
    const struct overrides_body *overrides = &child->overrides;

    for (unsigned i = 0; i < devices->net_count; i++) {
        if (!has_tap(overrides, net_config(devices->net[i])->id))
            return lacks(child, "network_overrides for every interface", e);
    }
    for (size_t i = 0; i < overrides->net_count; i++) {
        if (!devices_find_net(devices, overrides->net[i].id))
            return err_set(e, -ENOENT, "%s: there is no interface %s.", child->api_sock,
                           overrides->net[i].id);
    }
    for (size_t i = 0; i < overrides->drive_count; i++) {
        if (!devices_find_drive(devices, overrides->drive[i].id))
            return err_set(e, -ENOENT, "%s: there is no drive %s.", child->api_sock,
                           overrides->drive[i].id);
    }
    if (devices->vsock && !overrides->has_vsock)
        return lacks(child, "a vsock_override", e);
    if (!devices->vsock && overrides->has_vsock)
        return err_set(e, -ENOENT, "%s: there is no vsock device.", child->api_sock);
    if (api->has_serial && api->serial.out_path && !child->serial_path)
        return lacks(child, "a serial_out_path", e);
    if (log_has_path() && !child->log_path)
        return lacks(child, "a log_path", e);
    if (metrics_have_file() && !child->metrics_path)
        return lacks(child, "a metrics_path", e);
    return 0;
}

/* ---- the request ----------------------------------------------------------------------------- */

/* A request under way: what was made before the guest stands still. */
struct forking {
    struct api *api;
    const struct snapshot_fork_body *body;
    size_t listening; /* sockets that were made */
    int listener[FORK_CHILDREN_MAX];
    struct birthplace place[FORK_CHILDREN_MAX];
    pid_t pid[FORK_CHILDREN_MAX];
};

static int open_cgroup(const struct fork_child_body *child, int *fd, struct err *e)
{
    *fd = -1;
    if (!child->cgroup)
        return 0;
    *fd = open(child->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? err_set(e, -errno, "%s: the cgroup %s cannot be opened: %s", child->api_sock,
                             child->cgroup, err_os(-errno))
                   : 0;
}

/* Clients find a child's socket before it answers, and nothing in the way of one is found too late.
 */
static int prepare(struct forking *forking, struct err *e)
{
    const struct snapshot_fork_body *body = forking->body;
    int rc = 0;

    for (size_t i = 0; i < body->count && rc == 0; i++)
        rc = check_names(forking->api, &body->child[i], e);
    for (size_t i = 0; i < body->count && rc == 0; i++) {
        forking->place[i].name = body->child[i].api_sock;
        rc = api_server_listen(body->child[i].api_sock, &forking->listener[i], e);
        if (rc)
            break;
        forking->listening++;
        rc = open_cgroup(&body->child[i], &forking->place[i].cgroup, e);
    }
    return rc;
}

/* The children have their own by now; without them nobody listens behind the files. */
static void tidy_up(struct forking *forking, bool failed)
{
    for (size_t i = 0; i < forking->listening; i++) {
        close(forking->listener[i]);
        if (forking->place[i].cgroup >= 0)
            close(forking->place[i].cgroup);
        if (failed)
            (void)unlink(forking->body->child[i].api_sock); /* or the child has done so */
    }
}

static int answer(struct call *call, const struct forking *forking, struct err *e)
{
    struct json_writer w;

    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_write_key(&w, "children");
    json_write_begin(&w, '[');
    for (size_t i = 0; i < forking->body->count; i++) {
        json_write_begin(&w, '{');
        json_member_unsigned(&w, "pid", (uint64_t)forking->pid[i]);
        json_member_string(&w, "api_sock", forking->body->child[i].api_sock);
        json_write_end(&w, '}');
    }
    json_write_end(&w, ']');
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}

static void become(void *owner, unsigned index, const struct inheritance *of);

int act_snapshot_fork(struct call *call, struct err *e)
{
    struct forking *forking = calloc(1, sizeof(*forking));
    struct machine_fork fork = {.become = become, .owner = forking};
    uint64_t begin = now_ns();
    int rc;

    if (!forking)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    forking->api = call->api;
    forking->body = &call->body.snapshot_fork;
    fork.place = forking->place;
    fork.count = (unsigned)forking->body->count;
    rc = prepare(forking, e);
    if (rc == 0)
        rc = machine_fork(call->api->machine, &fork, forking->pid, e);
    tidy_up(forking, rc != 0);
    if (rc == 0)
        rc = answer(call, forking, e);
    free(forking);
    if (rc)
        return rc;
    log_api(LOG_INFO, "'fork' API request took %llu us.",
            (unsigned long long)((now_ns() - begin) / NSEC_PER_USEC));
    return 0;
}

/* ---- the child ------------------------------------------------------------------------------- */

/*
 * From here on we are another process. What was the parent's stays where it lies and is not touched
 * again: nothing is freed or ended that is not ours, and the request is not answered by us.
 */

/* The process's own things, anew. */
static int renew_process(struct api *api, const struct fork_child_body *child, struct err *e)
{
    log_forget_path();
    if (child->id)
        api->id = child->id;
    log_set_id(api->id);
    if (log_set_path(child->log_path, e))
        return err_prefix(e, "log_path %s: ", child->log_path);
    if (child->metrics_path && metrics_inherit(child->metrics_path, api->id, e))
        return err_prefix(e, "metrics_path %s: ", child->metrics_path);
    return 0;
}

/* Its output goes where the child was told; its limits are the parent's. */
static int renew_serial(struct api *api, const struct fork_child_body *child, struct err *e)
{
    api->serial.out_path = child->serial_path;
    api->has_serial |= child->serial_path != NULL;
    return api->has_serial ? machine_set_serial(api->machine, &api->serial, e) : 0;
}

/* Tokens of the parent's metadata service are none of ours. The metadata stays: it is memory of the
 * process that was forked. */
static int renew_mmds(struct api *api, struct mmds_service *service, struct err *e)
{
    mmds_tokens_destroy(api->mmds_http.tokens);
    api->mmds_http.tokens = NULL;
    return api_prepare_mmds(api, service, e);
}

static int make_monitor(struct forking *forking, unsigned index, const struct inheritance *of,
                        struct api_server **server, struct err *e)
{
    /* Neither its terminal nor its boot timer's page is known yet to this one. */
    static const struct machine_options options;
    const struct fork_child_body *child = &forking->body->child[index];
    struct api *api = forking->api;
    struct saved_overrides overrides;
    struct mmds_service mmds;
    int rc = renew_process(api, child, e);

    if (rc == 0)
        rc = loop_create(&api->loop, e);
    if (rc)
        return rc;
    loop_lock(api->loop);
    rc = machine_create(&api->machine, api->loop, &options, e);
    if (rc == 0)
        rc = renew_serial(api, child, e);
    if (rc == 0)
        rc = renew_mmds(api, &mmds, e);
    if (rc)
        return rc;
    overrides = overrides_of(&child->overrides, &mmds);
    rc = machine_inherit(api->machine, of, &overrides, e);
    if (rc)
        return rc;
    api_adopt_mmds(api);
    metrics_start(api->loop, api->machine);
    timeline_stamp(TIMELINE_API);
    return api_server_create(server, api->loop, forking->listener[index], api->payload_max,
                             routes_handle, api, e);
}

/* Nobody is to know of us: what was made for this child goes with it. */
static _Noreturn void vanish(const struct forking *forking, unsigned index,
                             const struct inheritance *of)
{
    struct machine *machine = forking->api->machine;

    (void)unlink(forking->body->child[index].api_sock);
    if (machine && machine != of->parent && machine_devices(machine)->vsock)
        (void)unlink(vsock_config(machine_devices(machine)->vsock)->uds_path);
    _exit(1);
}

static void become(void *owner, unsigned index, const struct inheritance *of)
{
    struct forking *forking = owner;
    const struct fork_child_body *child = &forking->body->child[index];
    pid_t parent = getppid();
    struct api_server *server;
    static struct err e;

    timeline_restart();
    metrics_forget(); /* before its descriptor is somebody else's: a signal would have them written
                       */
    fork_let_go(of, forking->listener[index]);
    if (make_monitor(forking, index, of, &server, &e)) {
        child_say(of->self, &e);
        vanish(forking, index, of);
    }
    child_say(of->self, NULL);
    if (!child_wait(of->self))
        vanish(forking, index, of);
    child_part(of->self);
    log_info("This microVM was forked from that of process %d.", parent);
    BUG_ON(child->resume && machine_resume(forking->api->machine, &e)); /* it is paused */
    forking->api->live(forking->api, server);
}
