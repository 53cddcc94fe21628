/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h owns the microVM: everything it is made of, its lifecycle, and the calls by which the
 * API, the config file and the command line shape and steer it.
 *
 *      NOT_STARTED --start--> RUNNING <--pause, resume--> PAUSED
 *      RUNNING, PAUSED --the guest ends or fails--> STOPPED
 *
 * Every function: loop thread (or the main thread before loop_run), machine lock held.
 * Configuration calls copy what they are given, open files at once, and on error change nothing.
 * Sentences in *e are what the API shows after its prefix, word for word what clients of
 * Firecracker know.
 */
#ifndef MAYFLY_VMM_MACHINE_H
#define MAYFLY_VMM_MACHINE_H

#include "vmm/base/loop.h"
#include "vmm/config.h"
#include "vmm/devices.h"
#include "vmm/saved_devices.h"
#include "vmm/snapshot/snapshot_files.h"

enum machine_state { MACHINE_NOT_STARTED, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_STOPPED };

/* What the command line fixes for the life of the process. */
struct machine_options {
    bool boot_timer;    /* --boot-timer */
    bool console_input; /* feed standard input to the serial port */
    /* The guest's memory is lost: the last words, and the process's end with the exit code of a
     * failure. Any thread, without the lock, which may be held for ever. Does not return. */
    void (*lost)(const struct err *e);
};

struct machine;

/* Makes a machine with the default configuration; `loop` is borrowed. -ENOMEM. */
int machine_create(struct machine **machine, struct loop *loop,
                   const struct machine_options *options, struct err *e) __must_check;
/* Before the start only (tests): a machine that has run ends with the process. NULL is accepted. */
void machine_destroy(struct machine *machine);

/* Has what a start or a load will need made ahead, while the loop waits for a first request
 * (shell.h). Delays nobody who asks meanwhile, and cannot fail. */
void machine_prepare(struct machine *machine);

enum machine_state machine_state(const struct machine *machine);

/* Configuration, before the start. Getters return what was configured (defaults before that). */
/* -EINVAL when the numbers do not go together. */
int machine_set_config(struct machine *machine, const struct machine_config *config,
                       struct err *e) __must_check;
const struct machine_config *machine_config(const struct machine *machine);

/* Opens kernel and initrd; what is in them is judged at the start. */
int machine_set_boot_source(struct machine *machine, const struct boot_source *source,
                            struct err *e) __must_check;
/* kernel_path == NULL: not configured yet. */
const struct boot_source *machine_boot_source(const struct machine *machine);

/* Takes the template over (its arrays were malloc'ed); replaces a static one and the other way
 * round. */
void machine_set_cpu_template(struct machine *machine, struct cpu_template *cpu_template);

/* The virtio devices, for the calls of devices.h. Never NULL. */
struct devices *machine_devices(struct machine *machine);

/* Adds the balloon or replaces it. -EINVAL for more than the memory. */
int machine_set_balloon(struct machine *machine, const struct balloon_config *config,
                        struct err *e) __must_check;

/* Where the console's output goes, and its limit; the errors are those of stream_open. */
int machine_set_serial(struct machine *machine, const struct serial_config *config,
                       struct err *e) __must_check;

/* Lifecycle. A failed start changes nothing and may be tried again. */
int machine_start(struct machine *machine, struct err *e) __must_check;
/* Idempotent; returns when every vCPU is parked and no device has anything in flight. */
int machine_pause(struct machine *machine, struct err *e) __must_check;
int machine_resume(struct machine *machine, struct err *e) __must_check;

/* Sends Ctrl-Alt-Del through the keyboard controller. */
void machine_ctrl_alt_del(struct machine *machine);

struct machine_save {
    struct snapshot_files files;
    enum snapshot_type type;
    bool background; /* by another process, while the guest goes on: machine_save_report */
    bool lazy;       /* the answer does not promise that the files are on the disk */
    bool sums;       /* checksums of the memory file are recorded */
};

/*
 * Writes a snapshot of a paused machine, which may go on afterwards; what is dirty begins anew.
 * Whatever fails, and whenever the process dies, there is a complete snapshot at files, the former
 * one or this; only a Diff that is merged into the memory file in place costs the former, and no
 * load takes what it leaves (snapshot_files.h). After an error no page has been forgotten.
 */
int machine_save(struct machine *machine, const struct machine_save *save,
                 struct err *e) __must_check;

/* What has become of the last snapshot that was to be written in the background. */
enum save_status { SAVE_NONE, SAVE_WRITING, SAVE_DONE, SAVE_FAILED };

struct save_report {
    enum save_status status;
    const char *state_path; /* valid until the next save; NULL = there was none */
    const char *fault;      /* why it failed; NULL = it has not */
};

void machine_save_report(const struct machine *machine, struct save_report *report);

/* Returns when nothing is being written any more; the loop turns meanwhile. For the process's end:
 * who waits for that then has the snapshot or its failure. */
void machine_finish_save(struct machine *machine);

/* Who fills a loaded guest's memory. */
enum mem_backend {
    MEM_BACKEND_FILE, /* the kernel, from the memory file */
    MEM_BACKEND_UFFD, /* another process, over the socket that files.mem_path names */
};

struct machine_load {
    struct snapshot_files files;
    enum mem_backend backend;
    bool track_dirty;
    bool wall_clock; /* put the guest's clock forward by the time that has passed */
    bool any_pages;  /* `pages` is not given: as saved */
    enum mem_pages pages;
    struct saved_overrides overrides;
    const char *record;   /* write here which pages were touched, at the first pause or the end */
    const char *prefetch; /* such a file: fetch those pages now; NULL each = no */
};

/*
 * Makes a machine that was told nothing yet the one that was saved, paused. An error leaves a
 * machine that is good for nothing: the process ends (machine_give_up).
 */
int machine_load(struct machine *machine, const struct machine_load *load,
                 struct err *e) __must_check;

/* Ends it, and loop_run, with the exit code of a failure, whatever its state. */
void machine_give_up(struct machine *machine);

/*
 * How the machine ended, once loop_run has returned with MACHINE_STOPPED: the process's exit code
 * (0 = the guest asked for it).
 */
int machine_exit_code(const struct machine *machine);

#endif
