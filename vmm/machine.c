/* SPDX-License-Identifier: Apache-2.0 */
/* machine.c: what a machine is told before it starts, and its life from then on. */
#include "vmm/machine.h"

#include "vmm/base/log.h"
#include "vmm/base/metrics.h"
#include "vmm/base/timeline.h"
#include "vmm/legacy/console.h"
#include "vmm/machine_parts.h"
#include "vmm/snapshot/touched.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int machine_create(struct machine **out, struct loop *loop, const struct machine_options *options,
                   struct err *e)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    int rc;

    if (!machine)
        return err_set(e, -ENOMEM, "Cannot create the machine: %s", err_os(-ENOMEM));
    machine->loop = loop;
    machine->options = *options;
    machine->config = (struct machine_config)MACHINE_CONFIG_DEFAULTS;
    machine->kernel_fd = machine->initrd_fd = -1;
    machine->kvm.fd = machine->kvm.vm_fd = -1;
    machine->env = (struct virtio_env){.mem = &machine->mem, .loop = loop};
    machine_build_init(machine);
    devices_init(&machine->devices, &machine->env);
    serial_init(&machine->serial, loop, &machine->serial_irq);
    rc = serial_set_output(&machine->serial, NULL, e);
    if (rc) {
        free(machine);
        return rc;
    }
    *out = machine;
    return 0;
}

static void free_cpu_template(struct cpu_template *cpu_template)
{
    if (!cpu_template)
        return;
    free(cpu_template->capability);
    free(cpu_template->cpuid);
    free(cpu_template->msr);
    free(cpu_template);
}

static void close_boot_source(struct machine *machine)
{
    free(machine->boot_source.kernel_path);
    free(machine->boot_source.initrd_path);
    free(machine->boot_source.boot_args);
    if (machine->kernel_fd >= 0)
        close(machine->kernel_fd);
    if (machine->initrd_fd >= 0)
        close(machine->initrd_fd);
}

void machine_destroy(struct machine *machine)
{
    if (!machine)
        return;
    close_boot_source(machine);
    shell_destroy(&machine->shell);
    vcpus_destroy(&machine->vcpus);
    kvm_close(&machine->kvm);
    devices_destroy(&machine->devices);
    free_cpu_template(machine->cpu_template);
    serial_destroy(&machine->serial);
    free(machine);
}

void machine_prepare(struct machine *machine)
{
    shell_prepare(&machine->shell);
}

enum machine_state machine_state(const struct machine *machine)
{
    return machine->state;
}

/* ---- configuration --------------------------------------------------------------------------- */

int machine_set_config(struct machine *machine, const struct machine_config *config, struct err *e)
{
    const struct balloon *balloon = machine->devices.balloon;
    uint32_t n = config->vcpu_count;
    uint64_t mib = config->mem_size_mib;

    if (n == 0 || n > MACHINE_VCPUS_MAX || (config->smt && n != 1 && n % 2 != 0))
        return err_set(
            e, -EINVAL,
            "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
            "number if SMT is enabled.");
    if (mib == 0 || (config->huge_pages != MEM_PAGES_DEFAULT && mib % 2 != 0))
        return err_set(
            e, -EINVAL,
            "The memory size (MiB) is either 0, or not a multiple of the configured page size.");
    if (balloon && mib < balloon_config(balloon)->amount_mib)
        return err_set(e, -EINVAL,
                       "The memory size (MiB) is smaller than the previously set balloon device "
                       "target size.");
    machine->config = *config;
    return 0;
}

const struct machine_config *machine_config(const struct machine *machine)
{
    return &machine->config;
}

/* O_NONBLOCK: a FIFO must not hang us here; what is no regular file is refused when it
 * is loaded. */
static int open_image(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    return fd < 0 ? -errno : fd;
}

static char *copy_string(const char *s)
{
    char *copy = s ? strdup(s) : NULL;

    BUG_ON(s && !copy); /* a path's worth of memory: there is no machine without it */
    return copy;
}

int machine_set_boot_source(struct machine *machine, const struct boot_source *source,
                            struct err *e)
{
    int kernel_fd, initrd_fd = -1, rc;

    rc = boot_args_check(source->boot_args ? source->boot_args : BOOT_ARGS_DEFAULT, e);
    if (rc)
        return rc;
    kernel_fd = open_image(source->kernel_path);
    if (kernel_fd < 0)
        return err_set(e, kernel_fd, "The kernel file cannot be opened: %s", err_os(kernel_fd));
    if (source->initrd_path) {
        initrd_fd = open_image(source->initrd_path);
        if (initrd_fd < 0) {
            close(kernel_fd);
            return err_set(e, initrd_fd,
                           "The initrd file cannot be opened due to invalid path or invalid "
                           "permissions. %s",
                           err_os(initrd_fd));
        }
    }
    close_boot_source(machine);
    machine->kernel_fd = kernel_fd;
    machine->initrd_fd = initrd_fd;
    machine->boot_source = (struct boot_source){
        .kernel_path = copy_string(source->kernel_path),
        .initrd_path = copy_string(source->initrd_path),
        .boot_args = copy_string(source->boot_args),
    };
    return 0;
}

const struct boot_source *machine_boot_source(const struct machine *machine)
{
    return &machine->boot_source;
}

void machine_set_cpu_template(struct machine *machine, struct cpu_template *cpu_template)
{
    free_cpu_template(machine->cpu_template);
    machine->cpu_template = cpu_template;
}

struct devices *machine_devices(struct machine *machine)
{
    return &machine->devices;
}

int machine_set_balloon(struct machine *machine, const struct balloon_config *config, struct err *e)
{
    if (config->amount_mib > machine->config.mem_size_mib)
        return err_set(e, -EINVAL, "Amount of pages requested is too large.");
    return devices_set_balloon(&machine->devices, config, e);
}

int machine_set_serial(struct machine *machine, const struct serial_config *config, struct err *e)
{
    int rc = serial_set_output(&machine->serial, config->out_path, e);

    if (rc)
        return rc;
    serial_set_limiter(&machine->serial, &config->limiter, now_ns());
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

void machine_take_console(struct machine *machine)
{
    if (!machine->options.console_input)
        return;
    console_enter_raw(STDIN_FILENO);
    serial_set_input(&machine->serial, STDIN_FILENO);
}

int machine_start(struct machine *machine, struct err *e)
{
    int rc;

    if (machine->state != MACHINE_NOT_STARTED)
        return err_set(e, -EALREADY, "The machine has been started already.");
    if (!machine->boot_source.kernel_path)
        return err_set(e, -EINVAL, "Cannot start microvm without kernel configuration.");
    timeline_stamp(TIMELINE_CONFIG);
    rc = machine_build(machine, e);
    if (rc) {
        timeline_forget(TIMELINE_CONFIG);
        return rc;
    }
    machine->state = MACHINE_RUNNING;
    machine_take_console(machine);
    return 0;
}

void machine_end_recording(struct machine *machine)
{
    struct err e;

    if (machine->recording && recording_end(machine->recording, &e))
        log_warn("%s", e.text);
    machine->recording = NULL;
}

void machine_end(struct machine *machine, int exit_code)
{
    if (machine->state == MACHINE_STOPPED)
        return;
    machine_end_recording(machine);
    machine->state = MACHINE_STOPPED;
    machine->exit_code = exit_code;
    vcpus_end(&machine->vcpus);
    loop_stop(machine->loop);
}

static bool all_devices_idle(void *arg)
{
    const struct machine *machine = arg;

    for (unsigned i = 0; i < machine->slot_count; i++) {
        if (!virtio_dev_is_idle(machine->slot[i].dev))
            return false;
    }
    return true;
}

int machine_pause(struct machine *machine, struct err *e)
{
    if (machine->state == MACHINE_PAUSED)
        return 0;
    if (machine->state != MACHINE_RUNNING)
        return err_set(e, -EINVAL, "The machine is not running.");
    mem_wait_begins(
        &machine->mem); /* a vCPU may be waiting for a page, which not every signal ends */
    vcpus_park(&machine->vcpus);
    mem_wait_is_over(&machine->mem);
    vcpus_flush_posted(&machine->vcpus);
    serial_quiesce(&machine->serial);
    pit_quiesce(&machine->pit);
    for (unsigned i = 0; i < machine->slot_count; i++)
        virtio_dev_quiesce(machine->slot[i].dev);
    loop_wait(machine->loop, all_devices_idle, machine);
    /* A guest that ended meanwhile stays ended: the loop is about to say so. */
    if (machine->state == MACHINE_RUNNING)
        machine->state = MACHINE_PAUSED;
    machine_end_recording(machine);
    return 0;
}

int machine_resume(struct machine *machine, struct err *e)
{
    if (machine->state == MACHINE_RUNNING)
        return 0;
    if (machine->state != MACHINE_PAUSED)
        return err_set(e, -EINVAL, "The machine is not running.");
    for (unsigned i = 0; i < machine->slot_count; i++)
        virtio_dev_resume(machine->slot[i].dev);
    pit_resume(&machine->pit);
    serial_resume(&machine->serial);
    vcpus_resume(&machine->vcpus);
    machine->state = MACHINE_RUNNING;
    return 0;
}

void machine_ctrl_alt_del(struct machine *machine)
{
    i8042_ctrl_alt_del(&machine->keyboard);
}

int machine_exit_code(const struct machine *machine)
{
    return machine->exit_code;
}
