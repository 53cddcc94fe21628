/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeline.h owns the boot timeline: one clock reading a stage, first one wins, so that anyone can
 * see where each millisecond of a start went. A stamp costs one vDSO clock read.
 *
 * Under the machine lock or before there are threads, except TIMELINE_FIRST_RUN (the first vCPU's
 * thread).
 */
#ifndef MAYFLY_BASE_TIMELINE_H
#define MAYFLY_BASE_TIMELINE_H

#include "vmm/base/util.h"

enum timeline_stage {
    TIMELINE_EXEC,      /* main() entered, or the process forked */
    TIMELINE_API,       /* the API socket listens (absent with --no-api) */
    TIMELINE_CONFIG,    /* the start, load or fork was asked for */
    TIMELINE_VM,        /* VM, irqchip and vCPUs exist */
    TIMELINE_MEMORY,    /* guest memory is mapped and registered */
    TIMELINE_KERNEL,    /* kernel, initrd and tables are in it */
    TIMELINE_DEVICES,   /* devices are attached */
    TIMELINE_FIRST_RUN, /* first KVM_RUN: the first guest instruction */
    TIMELINE_INIT,      /* the guest's PID 1 wrote 123 to the boot timer */
    TIMELINE_COUNT,
};

/* What a start or a load found prepared (vmm/shell.h). */
enum timeline_shell {
    TIMELINE_SHELL_UNKNOWN, /* there was none yet */
    TIMELINE_SHELL_NONE,    /* nothing: all of it was made then */
    TIMELINE_SHELL_VM,      /* the VM */
    TIMELINE_SHELL_VCPU,    /* the interrupt controllers and the first vCPU too */
    TIMELINE_SHELL_LEFT,    /* those, but too young: another VM was made in its place */
};

void timeline_stamp(enum timeline_stage stage);

/* A stamp of the guest's own (boot_timer.h). So many are kept; as with stages, the first of each
 * value counts. */
#define TIMELINE_GUEST_MAX 16
void timeline_stamp_guest(uint8_t value);

struct timeline_guest {
    uint64_t ns; /* CLOCK_MONOTONIC */
    uint8_t value;
};

/* The guest's stamps in the order in which they came; NULL behind the last. */
const struct timeline_guest *timeline_guest(unsigned index);

/* Forgets a stage and all that follow it: a start that failed may be tried again. */
void timeline_forget(enum timeline_stage first);

/* In a forked child: its own begins now, as if by exec. */
void timeline_restart(void);

/* CLOCK_MONOTONIC ns of the stage, 0 = not reached. */
uint64_t timeline_ns(enum timeline_stage stage);

void timeline_set_shell(enum timeline_shell shell);

/* "none", "vm", "vcpu" or "left": what GET /timeline says of it; NULL as long as nobody knows. */
const char *timeline_shell(void);

/* "exec" and so on: the names in GET /timeline. */
const char *timeline_name(enum timeline_stage stage);

#endif
