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
    {"sync_snapshot_files", SCHEMA_BOOL, SCHEMA_HIDDEN,
     SCHEMA_AT(struct snapshot_create_body, sync)},
    {"background", SCHEMA_BOOL, SCHEMA_HIDDEN, SCHEMA_AT(struct snapshot_create_body, background)},
    {"checksums", SCHEMA_BOOL, SCHEMA_HIDDEN, SCHEMA_AT(struct snapshot_create_body, checksums)},
};
const struct schema snapshot_create_schema =
    SCHEMA("struct CreateSnapshotParams", create_members, .lets_unknown = false);

void prepare_snapshot_create(struct call *call)
{
    call->body.snapshot_create.type = SNAPSHOT_FULL;
    call->body.snapshot_create.sync = true;
}

/* How long it took, where clients look for it. */
static void tell(enum snapshot_type type, uint64_t us)
{
    struct metrics_latencies_us *took = &metrics.latencies_us;

    if (type == SNAPSHOT_FULL)
        took->full_create_snapshot = took->vmm_full_create_snapshot = us;
    else
        took->diff_create_snapshot = took->vmm_diff_create_snapshot = us;
    log_api(LOG_INFO, "'create %s snapshot' API request took %llu us.",
            type == SNAPSHOT_FULL ? "full" : "diff", (unsigned long long)us);
}

int act_snapshot_create(struct call *call, struct err *e)
{
    const struct snapshot_create_body *body = &call->body.snapshot_create;
    const struct machine_save save = {
        .files = {body->files.state_path, body->files.mem_path},
        .type = body->type,
        .background = body->background,
        .lazy = !body->sync,
        .sums = body->checksums,
    };
    uint64_t begin = now_ns();

    if (machine_save(call->api->machine, &save, e))
        return -EINVAL;
    tell(body->type, (now_ns() - begin) / NSEC_PER_USEC);
    return 0;
}

static const char *const status_names[] = {
    [SAVE_NONE] = "None",
    [SAVE_WRITING] = "Writing",
    [SAVE_DONE] = "Done",
    [SAVE_FAILED] = "Failed",
};

int act_snapshot_background(struct call *call, struct err *e)
{
    struct save_report report;
    struct json_writer w;

    machine_save_report(call->api->machine, &report);
    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_member_string(&w, "state", status_names[report.status]);
    if (report.state_path)
        json_member_string(&w, "snapshot_path", report.state_path);
    if (report.fault)
        json_member_string(&w, "fault_message", report.fault);
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}
