/* SPDX-License-Identifier: Apache-2.0 */
/* fake_machine.c: see fake_machine.h. */
#include "tests/unit/fake_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const struct machine *machine, struct err *e)
{
    return machine->refusal ? err_set(e, -EINVAL, "%s", machine->refusal) : 0;
}

static char *copy(const char *s)
{
    return s ? strdup(s) : NULL;
}

int machine_create(struct machine **machine, struct loop *loop,
                   const struct machine_options *options, struct err *e)
{
    static struct mem mem;
    struct machine *m = calloc(1, sizeof(*m));

    (void)options;
    if (!m)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    m->env = (struct virtio_env){.mem = &mem, .loop = loop};
    devices_init(&m->devices, &m->env);
    m->config = (struct machine_config){.vcpu_count = 1, .mem_size_mib = 128};
    *machine = m;
    return 0;
}

static void free_boot_source(struct boot_source *source)
{
    free(source->kernel_path);
    free(source->initrd_path);
    free(source->boot_args);
}

void machine_destroy(struct machine *machine)
{
    devices_destroy(&machine->devices);
    machine_set_cpu_template(machine, NULL);
    free_boot_source(&machine->boot_source);
    free(machine->serial_path);
    free(machine->state_path);
    free(machine->mem_path);
    free(machine);
}

enum machine_state machine_state(const struct machine *machine)
{
    return machine->state;
}

int machine_set_config(struct machine *machine, const struct machine_config *config, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    machine->config = *config;
    return 0;
}

const struct machine_config *machine_config(const struct machine *machine)
{
    return &machine->config;
}

int machine_set_boot_source(struct machine *machine, const struct boot_source *source,
                            struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    free_boot_source(&machine->boot_source);
    machine->boot_source = (struct boot_source){
        .kernel_path = copy(source->kernel_path),
        .initrd_path = copy(source->initrd_path),
        .boot_args = copy(source->boot_args),
    };
    return 0;
}

const struct boot_source *machine_boot_source(const struct machine *machine)
{
    return &machine->boot_source;
}

void machine_set_cpu_template(struct machine *machine, struct cpu_template *cpu_template)
{
    struct cpu_template *old = machine->cpu_template;

    machine->cpu_template = cpu_template;
    if (!old)
        return;
    free(old->capability);
    free(old->cpuid);
    free(old->msr);
    free(old);
}

struct devices *machine_devices(struct machine *machine)
{
    return &machine->devices;
}

int machine_set_balloon(struct machine *machine, const struct balloon_config *config, struct err *e)
{
    if (refuse(machine, e))
        return -EINVAL;
    return devices_set_balloon(&machine->devices, config, e);
}

int machine_set_serial(struct machine *machine, const struct serial_config *config, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    free(machine->serial_path);
    machine->serial_path = copy(config->out_path);
    machine->serial_sets++;
    return 0;
}

int machine_start(struct machine *machine, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    machine->starts++;
    machine->state = MACHINE_RUNNING;
    return 0;
}

int machine_pause(struct machine *machine, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    machine->pauses++;
    machine->state = MACHINE_PAUSED;
    return 0;
}

int machine_resume(struct machine *machine, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    machine->resumes++;
    machine->state = MACHINE_RUNNING;
    return 0;
}

static void note_files(struct machine *machine, const struct snapshot_files *files)
{
    free(machine->state_path);
    free(machine->mem_path);
    machine->state_path = copy(files->state_path);
    machine->mem_path = copy(files->mem_path);
}

int machine_save(struct machine *machine, const struct machine_save *save, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    note_files(machine, &save->files);
    machine->saves++;
    machine->save = *save;
    return 0;
}

int machine_load(struct machine *machine, const struct machine_load *load, struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    note_files(machine, &load->files);
    machine->load = *load;
    machine->loads++;
    machine->state = MACHINE_PAUSED;
    return 0;
}

void machine_give_up(struct machine *machine)
{
    machine->state = MACHINE_STOPPED;
    machine->exit_code = 1;
}

void machine_ctrl_alt_del(struct machine *machine)
{
    machine->ctrl_alt_dels++;
}

int machine_exit_code(const struct machine *machine)
{
    return machine->exit_code;
}

void machine_save_report(const struct machine *machine, struct save_report *report)
{
    *report = machine->report;
}

int machine_fork(struct machine *machine, const struct machine_fork *fork, pid_t *pid,
                 struct err *e)
{
    if (refuse(machine, e))
        return e->code;
    machine->forks++;
    for (unsigned i = 0; i < fork->count; i++)
        pid[i] = (pid_t)(100 + i);
    return 0;
}

/* What only a child does. */
void fork_let_go(const struct inheritance *of, int listener)
{
    (void)of, (void)listener;
    abort();
}

int machine_inherit(struct machine *machine, const struct inheritance *of,
                    const struct saved_overrides *overrides, struct err *e)
{
    (void)machine, (void)of, (void)overrides, (void)e;
    abort();
}
