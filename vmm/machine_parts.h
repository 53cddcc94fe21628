/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_parts.h owns struct machine itself, and what machine.c (what it is told, and its life),
 * machine_build.c (from configuration to a VM that can run), machine_save.c, machine_load.c,
 * machine_fork.c and background_save.c have of each other. Nobody else includes it.
 */
#ifndef MAYFLY_VMM_MACHINE_PARTS_H
#define MAYFLY_VMM_MACHINE_PARTS_H

#include "virtio/mmio.h"
#include "vmm/generation.h"
#include "vmm/legacy/boot_timer.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/pit.h"
#include "vmm/legacy/power.h"
#include "vmm/legacy/serial.h"
#include "vmm/machine.h"
#include "vmm/shell.h"
#include "vmm/snapshot/file_lock.h"
#include "vmm/vcpu.h"

/* Interrupt lines for devices: above the legacy ones, below those of VMGenID and VMClock. */
#define DEVICE_GSI_FIRST   5
#define DEVICE_GSI_LAST    21
#define MACHINE_VIRTIO_MAX (DEVICE_GSI_LAST - DEVICE_GSI_FIRST + 1)

/* A virtio device in its place. The device is somebody else's; the place is made at the start. */
struct virtio_slot {
    struct virtio_dev *dev;
    struct virtio_mmio *mmio;
    struct irq_line irq;
    gpa_t base;
};

/* A snapshot that is written by another process (background_save.h). */
struct background_save {
    enum save_status status;
    char *state_path, *fault; /* NULL = none */
    uint64_t begin_ns;
    struct child *writer; /* NULL = not under way */
    struct loop_timer head_start;
};

struct machine {
    struct loop *loop;
    struct machine_options options;
    enum machine_state state;
    int exit_code;

    /* What it was told. */
    struct machine_config config;
    struct boot_source boot_source;
    int kernel_fd, initrd_fd;          /* opened when configured; -1 = none */
    struct cpu_template *cpu_template; /* NULL = none */
    struct devices devices;

    /* What it is made of, from the start on; some of it by the shell before. */
    struct shell shell;
    struct virtio_env env; /* what devices know of us: &mem and loop */
    struct mem mem;
    struct recording *recording; /* of a load's working set, until the first pause; or NULL */
    struct file_lock mem_lock;   /* on the memory file that mem.fd is, if any */
    char *mem_path;              /* where that was found; NULL = none */
    struct kvm kvm;
    struct vcpus vcpus;
    struct bus ports, mmio;
    uint8_t *registers; /* the devices' windows as the guest reads them, a page each */
    uint64_t registers_size;
    struct virtio_slot slot[MACHINE_VIRTIO_MAX];
    unsigned slot_count;

    struct irq_line serial_irq, keyboard_irq, timer_irq;
    struct serial serial;
    struct i8042 keyboard;
    struct pit pit;
    struct boot_timer boot_timer;
    struct power power;
    struct generation generation;

    struct background_save background;
};

/* Says whose the vCPUs are, and who may make some ahead: before all that follows. */
void machine_build_init(struct machine *machine);

/*
 * Builds everything that a start needs, down to the vCPUs' registers, without running anything. On
 * error all of it is gone again and the machine is as it was.
 */
int machine_build(struct machine *machine, struct err *e) __must_check;

/*
 * The same for a guest that was saved: the memory is there already, `load` gives devices and vCPUs
 * what they had, and the vCPUs' threads park before their first instruction. On error what there is
 * stays until the process's end: devices that were restored already have work in the loop.
 */
int machine_rebuild(struct machine *machine,
                    int (*load)(struct machine *machine, void *arg, struct err *e), void *arg,
                    struct err *e) __must_check;

/* The state file's bytes of a paused machine into a buffer, without any file (machine_save.c). */
int machine_save_state(struct machine *machine, void *bytes, size_t room, size_t *len,
                       struct err *e) __must_check;

/*
 * What machine_load makes of such bytes, for a machine that has its memory already
 * (machine_load.c). The same errors; of `load` the files and the backend are not looked at.
 */
int machine_load_state(struct machine *machine, const struct machine_load *load, const void *bytes,
                       size_t len, struct err *e) __must_check;

/* Whether so many forked processes can have the memory copy-on-write (machine_fork.c). -ENOTSUP;
 * -ENOMEM where huge pages of the pool are short. */
int machine_check_shareable(const struct machine *machine, unsigned processes,
                            struct err *e) __must_check;

/* In a forked process: drops the mappings that would keep the parent's VM alive behind its end. */
void machine_leave_vm(struct machine *machine);

/* The end of a load's record of touched pages, if there is one: the file is written. */
void machine_end_recording(struct machine *machine);

/* Gives the guest our standard input, if it is to have it. */
void machine_take_console(struct machine *machine);

/* The guest's end, from any device or vCPU: the exit code of the process. */
void machine_end(struct machine *machine, int exit_code);

#endif
