/* SPDX-License-Identifier: Apache-2.0 */
/* create.c: PUT /snapshot/create, which writes a machine into files. */
#include "api/api.h"
#include "api/body_tables.h"
#include "vmm/base/metrics.h"

#include <errno.h>

static const char *const type_names[] = {"Diff", "Full"};
_Static_assert(SNAPSHOT_DIFF == 0 && SNAPSHOT_FULL == 1, "numbered as named");

static const struct schema_member create_members[] = {
    {"snapshot_type", SCHEMA_NAMES, SCHEMA_TAIL, SCHEMA_AT(struct snapshot_create_body, type),
     .names = NAMES(type_names, NULL)},
    {"snapshot_path", SCHEMA_PATH, SCHEMA_REQUIRED,
     SCHEMA_AT(struct snapshot_create_body, files.state_path)},
    {"mem_file_path", SCHEMA_PATH, SCHEMA_REQUIRED,
     SCHEMA_AT(struct snapshot_create_body, files.mem_path)},
};
const struct schema snapshot_create_schema =
    SCHEMA("struct CreateSnapshotParams", create_members, .lets_unknown = false);

void prepare_snapshot_create(struct call *call)
{
    call->body.snapshot_create.type = SNAPSHOT_FULL;
}

int act_snapshot_create(struct call *call, struct err *e)
{
    const struct snapshot_create_body *body = &call->body.snapshot_create;
    const struct machine_save save = {
        .files = {body->files.state_path, body->files.mem_path},
        .type = body->type,
    };
    uint64_t begin = now_ns(), us;

    if (body->type == SNAPSHOT_DIFF && machine_state(call->api->machine) == MACHINE_PAUSED)
        return err_set(e, -ENOTSUP,
                       "Diff snapshots are not supported yet by this version of Mayfly.");
    if (machine_save(call->api->machine, &save, e))
        return -EINVAL;
    us = (now_ns() - begin) / NSEC_PER_USEC;
    metrics.latencies_us.full_create_snapshot = metrics.latencies_us.vmm_full_create_snapshot = us;
    log_api(LOG_INFO, "'create full snapshot' API request took %llu us.", (unsigned long long)us);
    return 0;
}
