/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bodies.h owns what each request body and each part of the config file looks like: a plain struct
 * with its defaults, and the table (schema.h) by which it is read. Strings live as long as the
 * cursor that they were read with.
 */
#ifndef MAYFLY_API_BODIES_H
#define MAYFLY_API_BODIES_H

#include "api/schema.h"
#include "vmm/base/log.h"
#include "vmm/machine.h"

/* The two forms of limits, for the tables of devices. */
extern const struct schema token_bucket_schema, rate_limiter_schema;

/* /machine-config, PUT (two members required) and PATCH (none); begins as what is to be changed. */
struct machine_body {
    struct machine_config config;
    bool has_vcpu_count, has_mem_size, has_smt, has_track_dirty, has_huge_pages, has_template;
};
extern const struct schema machine_put_schema, machine_patch_schema;

/* What PUT /machine-config gives to members that are not there. */
extern const struct machine_config machine_config_defaults;

extern const struct schema boot_source_schema; /* struct boot_source */

struct drive_body {
    struct blk_config config;
    char *socket; /* of a vhost-user backend; NULL = none */
    bool has_read_only, has_engine;
};
extern const struct schema drive_schema, overlay_schema;

struct drive_patch_body {
    char *id, *path; /* path NULL = stays */
    bool has_limiter;
    struct rate_limiter_config limiter;
};
extern const struct schema drive_patch_schema;

extern const struct schema net_schema, net_patch_schema; /* struct net_config */
extern const struct schema vsock_schema;                 /* struct vsock_config */
extern const struct schema pmem_schema;                  /* struct pmem_config */
extern const struct schema entropy_schema;               /* struct rng_config */
extern const struct schema serial_schema;                /* struct serial_config */

/* PUT /balloon, and PATCH of its amount or of the interval of its statistics. */
extern const struct schema balloon_schema, balloon_amount_schema,
    balloon_interval_schema; /* struct balloon_config */

struct hinting_body {
    bool acknowledge_on_stop;
};
extern const struct schema hinting_schema;

struct pmem_patch_body {
    char *id;
    bool has_limiter;
    struct rate_limiter_config limiter;
};
extern const struct schema pmem_patch_schema;

extern const struct schema hotplug_schema; /* struct hotplug_config, begins as the defaults */
extern const struct hotplug_config hotplug_config_defaults;

struct hotplug_patch_body {
    uint32_t requested_size_mib;
};
extern const struct schema hotplug_patch_schema;

enum action { ACTION_FLUSH_METRICS, ACTION_INSTANCE_START, ACTION_SEND_CTRL_ALT_DEL };
struct action_body {
    enum action action;
};
extern const struct schema action_schema;

enum wanted_state { WANTED_PAUSED, WANTED_RESUMED };
struct vm_body {
    enum wanted_state state;
};
extern const struct schema vm_schema;

struct logger_body {
    char *log_path, *module; /* NULL = not given */
    enum log_level level;    /* begins as LOG_INFO: a logger without a level is reset to it */
    bool show_level, show_log_origin, has_level, has_show_level, has_show_log_origin;
};
extern const struct schema logger_schema;

struct metrics_body {
    char *path;
    bool emit_id;
    char *properties; /* JSON text of an object, malloc'ed, freed by whoever read it; or NULL */
};
extern const struct schema metrics_schema;

/* struct mmds_config; its array of interfaces is malloc'ed, freed by whoever read it. */
extern const struct schema mmds_config_schema;

/* PUT /snapshot/create. */
struct snapshot_create_body {
    enum snapshot_type type;
    struct {
        char *state_path, *mem_path;
    } files;
    bool sync, background, checksums;
};

/* Other names on this host than those that a guest's devices have; the arrays are malloc'ed
 * (overrides_release). */
struct vsock_override_body {
    char *uds_path;
};

struct overrides_body {
    struct net_override *net;
    size_t net_count;
    struct drive_override *drive;
    size_t drive_count;
    struct pmem_override *pmem;
    size_t pmem_count;
    bool has_vsock;
    struct vsock_override_body vsock;
};
extern const struct schema net_override_schema, vsock_override_schema, drive_override_schema,
    pmem_override_schema;

/* PUT /snapshot/load. */
struct mem_backend_body {
    char *path;
    enum mem_backend type;
};

struct metrics_override_body {
    char *path;
};

enum load_pages {
    LOAD_PAGES_AS_SAVED,
    LOAD_PAGES_NONE,
    LOAD_PAGES_TRANSPARENT,
    LOAD_PAGES_2M,
};

struct snapshot_load_body {
    char *state_path, *mem_path; /* mem_path NULL = the backend's */
    struct mem_backend_body backend;
    struct overrides_body overrides;
    struct metrics_override_body metrics;
    enum load_pages pages;
    char *record, *prefetch; /* working sets; NULL = not given */
    bool has_backend, has_metrics, has_enable_diff, enable_diff, track_dirty, resume, wall_clock;
};
extern const struct schema snapshot_create_schema, snapshot_load_schema, mem_backend_schema,
    metrics_override_schema;

/* PUT /snapshot/fork; the array is malloc'ed (release_snapshot_fork). Paths NULL = not given. */
struct fork_child_body {
    char *api_sock, *id, *cgroup, *serial_path, *log_path, *metrics_path;
    struct overrides_body overrides;
    bool resume; /* begins as true */
};

struct snapshot_fork_body {
    struct fork_child_body *child;
    size_t count;
};
extern const struct schema snapshot_fork_schema, fork_child_schema;

/* The names of enums in the order in which they are numbered, for printing. */
extern const char *const huge_pages_names[], *const cache_names[];
const char *engine_name(enum blk_engine engine);
const char *cpu_template_name(enum cpu_template_name name);

#endif
