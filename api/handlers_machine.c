/* SPDX-License-Identifier: Apache-2.0 */
/* handlers_machine.c: requests about the machine as a whole: what it is, its start and pauses. */
#include "api/api.h"
#include "api/cpu_template_json.h"
#include "api/metrics.h"
#include "api/vm_config.h"
#include "vmm/base/timeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- questions ---- */

static const char *state_name(enum machine_state state)
{
    switch (state) {
    case MACHINE_NOT_STARTED:
        return "Not started";
    case MACHINE_PAUSED:
        return "Paused";
    case MACHINE_RUNNING:
    case MACHINE_STOPPED:
        break;
    }
    return "Running";
}

int act_instance_info(struct call *call, struct err *e)
{
    struct json_writer w;

    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_member_string(&w, "id", call->api->id);
    json_member_string(&w, "state", state_name(machine_state(call->api->machine)));
    json_member_string(&w, "vmm_version", FIRECRACKER_VERSION);
    json_member_string(&w, "app_name", "Firecracker");
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}

int act_version(struct call *call, struct err *e)
{
    struct json_writer w;

    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_member_string(&w, "firecracker_version", FIRECRACKER_VERSION);
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}

int act_vm_config(struct call *call, struct err *e)
{
    struct json_writer w;

    json_writer_open(&w);
    vm_config_write(&w, call->api->machine);
    return call_answer(call, &w, e);
}

int act_machine_get(struct call *call, struct err *e)
{
    struct json_writer w;

    json_writer_open(&w);
    machine_config_write(&w, machine_config(call->api->machine));
    return call_answer(call, &w, e);
}

static void write_stage(struct json_writer *w, const char *name, uint64_t ns)
{
    json_write_begin(w, '{');
    json_member_string(w, "name", name);
    json_member_unsigned(w, "us", (ns - timeline_ns(TIMELINE_EXEC)) / NSEC_PER_USEC);
    json_write_end(w, '}');
}

/*
 * An addition to Firecracker's API: the stages of the start that have been reached, then the
 * guest's own stamps.
 */
int act_timeline(struct call *call, struct err *e)
{
    const struct timeline_guest *stamp;
    struct json_writer w;

    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_write_key(&w, "stages");
    json_write_begin(&w, '[');
    for (enum timeline_stage stage = 0; stage < TIMELINE_COUNT; stage++) {
        if (timeline_ns(stage))
            write_stage(&w, timeline_name(stage), timeline_ns(stage));
    }
    for (unsigned i = 0; (stamp = timeline_guest(i)); i++) {
        char name[16];

        snprintf(name, sizeof(name), "guest_%u", stamp->value);
        write_stage(&w, name, stamp->ns);
    }
    json_write_end(&w, ']');
    if (timeline_shell())
        json_member_string(&w, "shell", timeline_shell());
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}

/* ---- configuration ---- */

/* A PUT resets what it leaves out, but for the template. */
void prepare_machine_put(struct call *call)
{
    call->body.machine.config = machine_config_defaults;
    call->body.machine.config.cpu_template = machine_config(call->api->machine)->cpu_template;
}

void prepare_machine_patch(struct call *call)
{
    call->body.machine.config = *machine_config(call->api->machine);
}

int check_machine_put(struct call *call, struct err *e)
{
    (void)e;
    if (call->body.machine.has_template)
        call_note_deprecated(call, "PUT /machine-config: cpu_template field is deprecated.");
    return 0;
}

int check_machine_patch(struct call *call, struct err *e)
{
    const struct machine_body *b = &call->body.machine;

    if (!b->has_vcpu_count && !b->has_mem_size && !b->has_smt && !b->has_track_dirty &&
        !b->has_huge_pages && !b->has_template)
        return err_set(e, -EINVAL, "Empty PATCH request.");
    if (b->has_template)
        call_note_deprecated(call, "PATCH /machine-config: cpu_template field is deprecated.");
    return 0;
}

int act_machine_set(struct call *call, struct err *e)
{
    int ret = machine_set_config(call->api->machine, &call->body.machine.config, e);

    /* Of a static template and a custom one the later counts. */
    if (ret == 0 && call->body.machine.has_template)
        machine_set_cpu_template(call->api->machine, NULL);
    return ret;
}

int act_boot_source(struct call *call, struct err *e)
{
    return machine_set_boot_source(call->api->machine, &call->body.boot_source, e);
}

int act_cpu_config(struct call *call, struct err *e)
{
    return api_set_cpu_template(call->api, &call->body.cpu_template, e);
}

int api_set_cpu_template(struct api *api, struct cpu_template *from, struct err *e)
{
    struct machine_config config = *machine_config(api->machine);
    struct cpu_template *custom = cpu_template_move(from);
    int ret;

    if (!custom)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    config.cpu_template = CPU_TEMPLATE_NONE;
    ret = machine_set_config(api->machine, &config, e);
    if (ret) {
        cpu_template_release(custom);
        free(custom);
        return ret;
    }
    machine_set_cpu_template(api->machine, custom);
    return 0;
}

void release_cpu_config(struct call *call)
{
    cpu_template_release(&call->body.cpu_template);
}

/* ---- life ---- */

int api_start_machine(struct api *api, struct err *e)
{
    int ret = api->has_serial ? machine_set_serial(api->machine, &api->serial, e) : 0;

    if (ret == 0)
        ret = machine_start(api->machine, e);
    if (ret)
        return err_prefix(e, "Start microvm error: ");
    metrics_start(api->loop, api->machine);
    return 0;
}

int check_action(struct call *call, struct err *e)
{
    (void)e;
    call->phase =
        call->body.action.action == ACTION_INSTANCE_START ? PHASE_BEFORE_START : PHASE_AFTER_START;
    return 0;
}

int act_action(struct call *call, struct err *e)
{
    switch (call->body.action.action) {
    case ACTION_INSTANCE_START:
        return api_start_machine(call->api, e);
    case ACTION_SEND_CTRL_ALT_DEL:
        machine_ctrl_alt_del(call->api->machine);
        return 0;
    case ACTION_FLUSH_METRICS:
        break;
    }
    if (metrics_flush(e))
        return err_prefix(e, "Internal VMM error: ");
    return 0;
}

int act_vm(struct call *call, struct err *e)
{
    bool pause = call->body.vm.state == WANTED_PAUSED;
    uint64_t begin = now_ns(), us;
    int ret = pause ? machine_pause(call->api->machine, e) : machine_resume(call->api->machine, e);

    if (ret)
        return ret;
    us = (now_ns() - begin) / NSEC_PER_USEC;
    if (pause)
        metrics.latencies_us.pause_vm = metrics.latencies_us.vmm_pause_vm = us;
    else
        metrics.latencies_us.resume_vm = metrics.latencies_us.vmm_resume_vm = us;
    log_api(LOG_INFO, "'%s vm' API request took %llu us.", pause ? "pause" : "resume",
            (unsigned long long)us);
    return 0;
}
