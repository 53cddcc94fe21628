/* SPDX-License-Identifier: Apache-2.0 */
/* fork.c: PUT /snapshot/fork, which makes further machines out of a running one. */
#include "api/api.h"
#include "api/snapshots/overrides.h"

#include <errno.h>
#include <stdlib.h>

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
};
const struct schema fork_child_schema =
    SCHEMA("struct ForkChild", child_members, .lets_unknown = false);

static int read_children(struct json_cursor *c, void *member)
{
    struct snapshot_fork_body *body = container_of(member, struct snapshot_fork_body, child);

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        struct fork_child_body *more = reallocarray(body->child, body->count + 1, sizeof(*more));

        if (!more) {
            json_fail(c, "out of memory");
            break;
        }
        body->child = more;
        more[body->count] = (struct fork_child_body){.resume = true};
        /* Counted first: what it owns is freed even when it is read halfway. */
        if (schema_read(c, &fork_child_schema, &more[body->count++]))
            break;
    }
    return json_leave(c);
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
