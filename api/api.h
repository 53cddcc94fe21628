/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.h owns what every request works on, and one request's way through: struct call goes from the
 * dispatcher (routes.c) to the function of its row and back.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_API_API_H
#define MAYFLY_API_API_H

#include "api/bodies.h"
#include "api/json_writer.h"
#include "api/mmds_http.h"
#include "api/server.h"
#include "vmm/machine.h"
#include "vmm/version.h"

struct api {
    struct loop *loop; /* these are borrowed */
    struct machine *machine;
    struct mmds_store *mmds;
    const char *id;     /* --id */
    size_t payload_max; /* bytes of a request's body */

    /* The rest of the process's life, with the lock held, when everything has been made: the
     * program's, and what a forked child ends in. `server` NULL = no API. Never returns. */
    void (*live)(struct api *api, struct api_server *server);

    struct mmds_http mmds_http; /* what guests get of the store, as PUT /mmds/config says */

    /* Of PUT /serial: its file is opened (and made) when the machine starts, as clients expect. */
    struct serial_config serial; /* out_path malloc'ed */
    bool has_serial;

    /* A request, even a refused one, was about a machine to be booted: no snapshot is loaded. */
    bool boot_specific;
};

/*
 * When a request may come. The two kinds of hot-plug need the PCI transport, which is not built
 * yet.
 */
enum phase {
    PHASE_ANY,
    PHASE_BEFORE_START,
    PHASE_AFTER_START,
    PHASE_CONFIGURE_OR_PLUG, /* before: configures; after: plugs */
    PHASE_UNPLUG,            /* after only */
};

/* The body as read by the row's schema. */
union body {
    struct machine_body machine;
    struct boot_source boot_source;
    struct drive_body drive;
    struct drive_patch_body drive_patch;
    struct net_config net; /* a PATCH too: limiters only */
    struct vsock_config vsock;
    struct pmem_config pmem;
    struct pmem_patch_body pmem_patch;
    struct hotplug_config hotplug;
    struct hotplug_patch_body hotplug_patch;
    struct balloon_config balloon;
    struct hinting_body hinting;
    struct rng_config entropy;
    struct serial_config serial;
    struct action_body action;
    struct vm_body vm;
    struct logger_body logger;
    struct metrics_body metrics;
    struct snapshot_create_body snapshot_create;
    struct snapshot_load_body snapshot_load; /* its arrays malloc'ed */
    struct snapshot_fork_body snapshot_fork; /* the same */
    struct mmds_config mmds_config;          /* its array malloc'ed */
    struct cpu_template cpu_template;        /* its arrays malloc'ed */
};

struct call {
    struct api *api;
    const struct api_request *request;
    struct api_response *response;
    const char *id;   /* the id in the path; NULL = the row has none */
    enum phase phase; /* the row's; a check may narrow it */
    union body body;
};

/* Answers 200 with the text of the writer, or says that memory is out. 0 or -ENOMEM. */
int call_answer(struct call *call, struct json_writer *w, struct err *e) __must_check;

/* The request uses what is deprecated, which its answer says, and the log: `what`. */
void call_note_deprecated(struct call *call, const char *what);

/* -EINVAL when the id in the body is another than that in the path. */
int call_check_id(const struct call *call, const char *body_id, struct err *e) __must_check;

/* Opens the serial port's file, starts the machine and, when it runs, the metrics. Here and for the
 * config file. */
int api_start_machine(struct api *api, struct err *e) __must_check;

/* What a request and the config file do alike; the first empties *from. */
int api_set_cpu_template(struct api *api, struct cpu_template *from, struct err *e) __must_check;
int api_set_drive(struct api *api, const struct drive_body *drive, struct err *e) __must_check;
int api_set_serial(struct api *api, const struct serial_config *config, struct err *e) __must_check;
int api_set_mmds(struct api *api, const struct mmds_config *config, struct err *e) __must_check;

/* For a machine out of a snapshot: the service that its interfaces are to lead to, ready to answer;
 * and, once there is the machine, its version as it was saved. */
int api_prepare_mmds(struct api *api, struct mmds_service *service, struct err *e) __must_check;
void api_adopt_mmds(struct api *api);

/*
 * The functions of routes.c's rows. `prepare` fills the body with defaults; `check` judges the body
 * before the phase is (its error is answered as it stands); `act` does it (its error is answered
 * behind the row's prefix); `release` frees what the body still owns.
 */
typedef void call_prepare(struct call *call);
typedef int call_check(struct call *call, struct err *e);
typedef int call_act(struct call *call, struct err *e);
typedef void call_release(struct call *call);

/* handlers_machine.c */
call_prepare prepare_machine_put, prepare_machine_patch;
call_check check_machine_put, check_machine_patch, check_action;
call_act act_instance_info, act_version, act_vm_config, act_timeline, act_machine_get,
    act_machine_set, act_boot_source, act_cpu_config, act_action, act_vm;
call_release release_cpu_config;

/* handlers_host.c */
call_prepare prepare_logger;
call_act act_logger, act_metrics;
call_release release_metrics;

/* snapshots/create.c */
call_prepare prepare_snapshot_create;
call_act act_snapshot_create, act_snapshot_background;

/* snapshots/load.c */
call_check check_snapshot_load;
call_act act_snapshot_load;
call_release release_snapshot_load;

/* snapshots/fork.c */
call_check check_snapshot_fork;
call_act act_snapshot_fork;
call_release release_snapshot_fork;

/* mmds_requests.c */
call_check check_mmds_config;
call_act act_mmds_config, act_mmds_get, act_mmds_put, act_mmds_patch;
call_release release_mmds_config;

/* devices/drives.c */
call_prepare prepare_drive;
call_check check_drive, check_drive_patch;
call_act act_drive, act_drive_patch;

/* devices/net.c */
call_check check_net;
call_act act_net, act_net_patch;

/* devices/vsock.c */
call_check check_vsock;
call_act act_vsock;

/* devices/pmem.c */
call_check check_pmem, check_pmem_patch;
call_act act_pmem, act_pmem_patch;

/* devices/hotplug.c */
call_prepare prepare_hotplug;
call_act act_hotplug, act_hotplug_patch, act_hotplug_get;

/* devices/entropy.c */
call_act act_entropy;

/* devices/serial.c */
call_act act_serial;

/* devices/balloon.c */
call_prepare prepare_hinting;
call_act act_balloon_get, act_balloon, act_balloon_patch, act_balloon_stats,
    act_balloon_stats_patch, act_hinting_start, act_hinting_stop, act_hinting_status;

#endif
