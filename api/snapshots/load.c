/* SPDX-License-Identifier: Apache-2.0 */
/* load.c: PUT /snapshot/load, which makes a machine out of files. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/metrics.h"
#include "api/snapshots/overrides.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the body -------------------------------------------------------------------------------- */

static const char *const backend_names[] = {"File", "Uffd"};
_Static_assert(MEM_BACKEND_FILE == 0 && MEM_BACKEND_UFFD == 1, "numbered as named");

static const struct schema_member backend_members[] = {
    {"backend_path", SCHEMA_PATH, SCHEMA_REQUIRED, SCHEMA_AT(struct mem_backend_body, path)},
    {"backend_type", SCHEMA_NAMES, SCHEMA_REQUIRED, SCHEMA_AT(struct mem_backend_body, type),
     .names = NAMES(backend_names, NULL)},
};
const struct schema mem_backend_schema =
    SCHEMA("struct MemBackendConfig", backend_members, .lets_unknown = false);

static const struct schema_member metrics_override_members[] = {
    {"metrics_path", SCHEMA_PATH, SCHEMA_REQUIRED, SCHEMA_AT(struct metrics_override_body, path)},
};
const struct schema metrics_override_schema =
    SCHEMA("struct MetricsOverride", metrics_override_members, .lets_unknown = false);

static const char *const load_pages_names[] = {"Snapshot", "None", "Transparent", "2M"};
_Static_assert(LOAD_PAGES_AS_SAVED == 0 && LOAD_PAGES_NONE == MEM_PAGES_DEFAULT + 1 &&
                   LOAD_PAGES_2M == MEM_PAGES_HUGETLB_2M + 1,
               "numbered as named, and one behind mem.h");

static const struct schema_member load_members[] = {
    {"snapshot_path", SCHEMA_PATH, SCHEMA_REQUIRED,
     SCHEMA_AT(struct snapshot_load_body, state_path)},
    {"mem_file_path", SCHEMA_PATH, SCHEMA_NULLABLE, SCHEMA_AT(struct snapshot_load_body, mem_path)},
    {"mem_backend", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct snapshot_load_body, backend, has_backend),
     .object = &mem_backend_schema},
    {"enable_diff_snapshots", SCHEMA_BOOL, SCHEMA_TAIL,
     SCHEMA_AT_GIVEN(struct snapshot_load_body, enable_diff, has_enable_diff)},
    {"track_dirty_pages", SCHEMA_BOOL, SCHEMA_TAIL,
     SCHEMA_AT(struct snapshot_load_body, track_dirty)},
    {"resume_vm", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct snapshot_load_body, resume)},
    OVERRIDE_NET(struct snapshot_load_body, overrides),
    OVERRIDE_VSOCK(struct snapshot_load_body, overrides),
    {"clock_realtime", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct snapshot_load_body, wall_clock)},
    {"huge_pages", SCHEMA_NAMES, SCHEMA_TAIL, SCHEMA_AT(struct snapshot_load_body, pages),
     .names = NAMES(load_pages_names, NULL)},
    OVERRIDE_DRIVES(struct snapshot_load_body, overrides),
    OVERRIDE_PMEM(struct snapshot_load_body, overrides),
    {"metrics_override", SCHEMA_OBJECT, SCHEMA_NULLABLE | SCHEMA_HIDDEN,
     SCHEMA_AT_GIVEN(struct snapshot_load_body, metrics, has_metrics),
     .object = &metrics_override_schema},
    {"record_working_set", SCHEMA_PATH, SCHEMA_NULLABLE | SCHEMA_HIDDEN,
     SCHEMA_AT(struct snapshot_load_body, record)},
    {"prefetch", SCHEMA_PATH, SCHEMA_NULLABLE | SCHEMA_HIDDEN,
     SCHEMA_AT(struct snapshot_load_body, prefetch)},
};
const struct schema snapshot_load_schema =
    SCHEMA("struct LoadSnapshotConfig", load_members, .lets_unknown = false);

/* ---- the request ----------------------------------------------------------------------------- */

int check_snapshot_load(struct call *call, struct err *e)
{
    const struct snapshot_load_body *body = &call->body.snapshot_load;

    if (!body->has_backend && !body->mem_path)
        return err_set(e, -EINVAL,
                       "An error occurred when deserializing the json body of a request: missing "
                       "field: either `mem_backend` or `mem_file_path` is required.");
    if (body->has_backend && body->mem_path)
        return err_set(e, -EINVAL,
                       "An error occurred when deserializing the json body of a request: too many "
                       "fields: either `mem_backend` or `mem_file_path` exclusively is required.");
    if (body->mem_path || body->has_enable_diff)
        call_note_deprecated(call, "PUT /snapshot/load: mem_file_path and enable_diff_snapshots "
                                   "fields are deprecated.");
    return 0;
}

void release_snapshot_load(struct call *call)
{
    overrides_release(&call->body.snapshot_load.overrides);
}

static struct machine_load load_of(const struct snapshot_load_body *body,
                                   const struct mmds_service *mmds)
{
    return (struct machine_load){
        .files = {body->state_path, body->mem_path ? body->mem_path : body->backend.path},
        .backend = body->has_backend ? body->backend.type : MEM_BACKEND_FILE,
        .track_dirty = body->track_dirty || body->enable_diff,
        .wall_clock = body->wall_clock,
        .any_pages = body->pages == LOAD_PAGES_AS_SAVED,
        .pages = body->pages == LOAD_PAGES_AS_SAVED ? MEM_PAGES_DEFAULT
                                                    : (enum mem_pages)(body->pages - 1),
        .overrides = overrides_of(&body->overrides, mmds),
        .record = body->record,
        .prefetch = body->prefetch,
    };
}

static int load(struct api *api, const struct snapshot_load_body *body, struct err *e)
{
    struct mmds_service mmds;
    struct machine_load how;
    int rc = api->has_serial ? machine_set_serial(api->machine, &api->serial, e) : 0;

    if (rc == 0 && body->has_metrics)
        rc = metrics_open(body->metrics.path, NULL, NULL, e);
    if (rc == 0)
        rc = api_prepare_mmds(api, &mmds, e);
    if (rc)
        return rc;
    how = load_of(body, &mmds);
    rc = machine_load(api->machine, &how, e);
    if (rc)
        return rc;
    api_adopt_mmds(api);
    metrics_start(api->loop, api->machine);
    return body->resume ? machine_resume(api->machine, e) : 0;
}

int act_snapshot_load(struct call *call, struct err *e)
{
    const struct snapshot_load_body *body = &call->body.snapshot_load;
    uint64_t begin = now_ns(), us;

    if (call->api->boot_specific)
        return err_set(e, -EPERM,
                       "Loading a microVM snapshot not allowed after configuring boot-specific "
                       "resources.");
    /* What is half made of somebody else's machine can become no other one. */
    if (load(call->api, body, e)) {
        machine_give_up(call->api->machine);
        return -EINVAL;
    }
    us = (now_ns() - begin) / NSEC_PER_USEC;
    metrics.latencies_us.load_snapshot = metrics.latencies_us.vmm_load_snapshot = us;
    log_api(LOG_INFO, "'load snapshot' API request took %llu us.", (unsigned long long)us);
    return 0;
}
