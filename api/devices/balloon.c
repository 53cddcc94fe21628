/* SPDX-License-Identifier: Apache-2.0 */
/* balloon.c: requests about the balloon. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

#include <errno.h>

static const struct schema_member balloon_members[] = {
    {"amount_mib", SCHEMA_U32, SCHEMA_REQUIRED, SCHEMA_AT(struct balloon_config, amount_mib)},
    {"deflate_on_oom", SCHEMA_BOOL, SCHEMA_REQUIRED,
     SCHEMA_AT(struct balloon_config, deflate_on_oom)},
    {"stats_polling_interval_s", SCHEMA_U16, SCHEMA_TAIL,
     SCHEMA_AT(struct balloon_config, stats_interval_s)},
    {"free_page_hinting", SCHEMA_BOOL, SCHEMA_TAIL,
     SCHEMA_AT(struct balloon_config, free_page_hinting)},
    {"free_page_reporting", SCHEMA_BOOL, SCHEMA_TAIL,
     SCHEMA_AT(struct balloon_config, free_page_reporting)},
};
const struct schema balloon_schema =
    SCHEMA("struct BalloonDeviceConfig", balloon_members, .lets_unknown = false);

static const struct schema_member amount_members[] = {
    {"amount_mib", SCHEMA_U32, SCHEMA_REQUIRED, SCHEMA_AT(struct balloon_config, amount_mib)},
};
const struct schema balloon_amount_schema =
    SCHEMA("struct BalloonUpdateConfig", amount_members, .lets_unknown = false);

static const struct schema_member interval_members[] = {
    {"stats_polling_interval_s", SCHEMA_U16, SCHEMA_REQUIRED,
     SCHEMA_AT(struct balloon_config, stats_interval_s)},
};
const struct schema balloon_interval_schema =
    SCHEMA("struct BalloonUpdateStatsConfig", interval_members, .lets_unknown = false);

static const struct schema_member hinting_members[] = {
    {"acknowledge_on_stop", SCHEMA_BOOL, SCHEMA_TAIL,
     SCHEMA_AT(struct hinting_body, acknowledge_on_stop)},
};
const struct schema hinting_schema =
    SCHEMA("struct StartHintingCmd", hinting_members, .lets_unknown = true);

/* ---- the device ------------------------------------------------------------------------------ */

/* The balloon of a machine that has been started, or the words for there being none. */
static int find(struct call *call, struct balloon **balloon, struct err *e)
{
    *balloon = machine_devices(call->api->machine)->balloon;
    if (!*balloon)
        return err_set(e, -ENODEV, "Failed perform action on device: Device not found");
    return 0;
}

static void write_config(struct json_writer *w, const struct balloon_config *config)
{
    json_write_begin(w, '{');
    json_member_unsigned(w, "amount_mib", config->amount_mib);
    json_member_bool(w, "deflate_on_oom", config->deflate_on_oom);
    json_member_unsigned(w, "stats_polling_interval_s", config->stats_interval_s);
    json_member_bool(w, "free_page_hinting", config->free_page_hinting);
    json_member_bool(w, "free_page_reporting", config->free_page_reporting);
    json_write_end(w, '}');
}

void balloon_write(struct json_writer *w, const struct devices *devices)
{
    if (devices->balloon)
        write_config(w, balloon_config(devices->balloon));
    else
        json_write_null(w);
}

/* Before the start it is a question about the configuration, after it one to the device. */
static int no_balloon(const struct call *call, struct err *e)
{
    if (machine_state(call->api->machine) == MACHINE_NOT_STARTED)
        return err_set(e, -ENODEV, "Balloon config error: No balloon device found.");
    return err_set(e, -ENODEV,
                   "Internal VMM error: Failed perform action on device: Device not found");
}

int act_balloon_get(struct call *call, struct err *e)
{
    const struct devices *devices = machine_devices(call->api->machine);
    struct json_writer w;

    if (!devices->balloon)
        return no_balloon(call, e);
    json_writer_open(&w);
    balloon_write(&w, devices);
    return call_answer(call, &w, e);
}

int act_balloon(struct call *call, struct err *e)
{
    return machine_set_balloon(call->api->machine, &call->body.balloon, e);
}

int act_balloon_patch(struct call *call, struct err *e)
{
    struct balloon *balloon;
    int ret = find(call, &balloon, e);

    return ret ? ret : balloon_update(balloon, call->body.balloon.amount_mib, e);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static const char *const stat_names[BALLOON_STATS] = {
    [BALLOON_SWAP_IN] = "swap_in",
    [BALLOON_SWAP_OUT] = "swap_out",
    [BALLOON_MAJOR_FAULTS] = "major_faults",
    [BALLOON_MINOR_FAULTS] = "minor_faults",
    [BALLOON_FREE_MEMORY] = "free_memory",
    [BALLOON_TOTAL_MEMORY] = "total_memory",
    [BALLOON_AVAILABLE_MEMORY] = "available_memory",
    [BALLOON_DISK_CACHES] = "disk_caches",
    [BALLOON_HUGETLB_ALLOCATIONS] = "hugetlb_allocations",
    [BALLOON_HUGETLB_FAILURES] = "hugetlb_failures",
    [BALLOON_OOM_KILL] = "oom_kill",
    [BALLOON_ALLOC_STALL] = "alloc_stall",
    [BALLOON_ASYNC_SCAN] = "async_scan",
    [BALLOON_DIRECT_SCAN] = "direct_scan",
    [BALLOON_ASYNC_RECLAIM] = "async_reclaim",
    [BALLOON_DIRECT_RECLAIM] = "direct_reclaim",
};

/* What the guest has not sent is left out. */
static void write_stats(struct json_writer *w, const struct balloon_stats *stats)
{
    json_write_begin(w, '{');
    json_member_unsigned(w, "target_pages", stats->target_pages);
    json_member_unsigned(w, "actual_pages", stats->actual_pages);
    json_member_unsigned(w, "target_mib", stats->target_mib);
    json_member_unsigned(w, "actual_mib", stats->actual_mib);
    for (size_t i = 0; i < BALLOON_STATS; i++) {
        if (!stats->has[i])
            continue;
        json_write_key(w, stat_names[i]);
        json_write_unsigned(w, stats->value[i]);
    }
    json_write_end(w, '}');
}

int act_balloon_stats(struct call *call, struct err *e)
{
    struct balloon_stats stats;
    struct balloon *balloon;
    struct json_writer w;
    int ret = find(call, &balloon, e);

    if (ret == 0)
        ret = balloon_stats(balloon, &stats, e);
    if (ret)
        return ret;
    json_writer_open(&w);
    write_stats(&w, &stats);
    return call_answer(call, &w, e);
}

int act_balloon_stats_patch(struct call *call, struct err *e)
{
    struct balloon *balloon;
    int ret = find(call, &balloon, e);

    return ret ? ret : balloon_update_stats(balloon, call->body.balloon.stats_interval_s, e);
}

/* ---- hinting --------------------------------------------------------------------------------- */

void prepare_hinting(struct call *call)
{
    call->body.hinting.acknowledge_on_stop = true;
}

int act_hinting_start(struct call *call, struct err *e)
{
    struct balloon *balloon;
    int ret = find(call, &balloon, e);

    return ret ? ret : balloon_hinting_start(balloon, call->body.hinting.acknowledge_on_stop, e);
}

int act_hinting_stop(struct call *call, struct err *e)
{
    struct balloon *balloon;
    int ret = find(call, &balloon, e);

    return ret ? ret : balloon_hinting_stop(balloon, e);
}

int act_hinting_status(struct call *call, struct err *e)
{
    struct balloon_hinting_status status;
    struct balloon *balloon;
    struct json_writer w;
    int ret = find(call, &balloon, e);

    if (ret == 0)
        ret = balloon_hinting_status(balloon, &status, e);
    if (ret)
        return ret;
    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_member_unsigned(&w, "host_cmd", status.host_cmd);
    json_write_key(&w, "guest_cmd");
    if (status.has_guest_cmd)
        json_write_unsigned(&w, status.guest_cmd);
    else
        json_write_null(&w);
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}
