/* SPDX-License-Identifier: Apache-2.0 */
/* background_save.c: see background_save.h. */
#include "vmm/background_save.h"

#include "vmm/base/child.h"
#include "vmm/base/dirty.h"
#include "vmm/base/log.h"
#include "vmm/machine_parts.h"
#include "vmm/signals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The answer goes out, and the guest may be let go on, before the writer wants a processor. */
#define HEAD_START_NS (5 * NSEC_PER_MSEC)

int background_save_check(const struct machine *machine, struct err *e)
{
    const struct background_save *save = &machine->background;

    return save->status == SAVE_WRITING
               ? err_set(e, -EBUSY, "The snapshot %s is still being written.", save->state_path)
               : 0;
}

/* ---- the writer ------------------------------------------------------------------------------ */

int save_work_run(struct save_work *work, struct err *e)
{
    struct snapshot_writer *files = work->files;
    /* The drives' layers have their names before a state can name them. */
    int rc = saved_layers_write(work->layers, files->job.lazy, e);

    if (rc == 0)
        rc = snapshot_writer_run(files, work->state, e);
    if (rc == 0)
        saved_layers_sweep(work->layers);
    saved_layers_close(work->layers, !files->state.beside);
    return rc;
}

/* The files that are written, those that are read for it, and the one that memory is a copy of,
 * whose lock that descriptor holds. */
static unsigned list_needed(const struct machine *machine, const struct save_work *work, int *fds)
{
    unsigned count = devices_overlay_fds(&machine->devices, fds, CHILD_KEEP_MAX);

    BUG_ON(count + work->layers->count + 3 > CHILD_KEEP_MAX);
    fds[count++] = work->files->state.fd;
    fds[count++] = work->files->mem.fd;
    fds[count++] = machine->mem.fd;
    for (unsigned i = 0; i < work->layers->count; i++)
        fds[count++] = work->layers->layer[i].file.fd;
    return count;
}

static _Noreturn void write_files(struct machine *machine, struct save_work *work,
                                  struct child *self)
{
    static struct err e;
    static int needed[CHILD_KEEP_MAX];
    int rc;

    signals_forget();
    /* A ring that outlives the monitor keeps its end of the link open, and nobody would be gone. */
    loop_forget(machine->loop);
    (void)!child_wait(self); /* whoever is gone by now still wants the snapshot */
    machine_leave_vm(machine);
    child_close_others(self, needed, list_needed(machine, work, needed));
    rc = save_work_run(work, &e);
    snapshot_writer_close(work->files);
    child_say(self, rc ? &e : NULL);
    _exit(rc ? 1 : 0);
}

/* ---- the monitor ----------------------------------------------------------------------------- */

static void timer_done(struct op *op, int res, bool more)
{
    struct background_save *save = container_of(op, struct background_save, head_start.op);

    (void)res, (void)more;
    save->head_start.armed = false;
    if (save->writer)
        child_go_on(save->writer);
}

static void heard(struct child *child, void *owner)
{
    struct machine *machine = owner;
    struct background_save *save = &machine->background;
    struct err e;
    int rc = child_word(child, &e);

    dirty_settle(&machine->mem, rc == 0);
    save->status = rc ? SAVE_FAILED : SAVE_DONE;
    save->writer = NULL;
    child_let_go(child);
    if (rc == 0) {
        log_info("The snapshot %s was written in the background in %llu us.", save->state_path,
                 (unsigned long long)((now_ns() - save->begin_ns) / NSEC_PER_USEC));
        return;
    }
    save->fault = strdup(e.text);
    log_error("The snapshot %s could not be written: %s", save->state_path, e.text);
}

int background_save_begin(struct machine *machine, struct save_work *work, struct err *e)
{
    struct background_save *save = &machine->background;
    char *path = strdup(work->files->job.files.state_path);
    struct child *child;
    pid_t pid;

    if (!path)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    pid = child_fork(&child, machine->loop, -1, e);
    if (pid == 0)
        write_files(machine, work, child);
    if (pid < 0) {
        free(path);
        return pid;
    }
    free(save->state_path);
    free(save->fault);
    save->status = SAVE_WRITING;
    save->state_path = path;
    save->fault = NULL;
    save->begin_ns = now_ns();
    save->writer = child;
    save->head_start.op.done = timer_done;
    if (!save->head_start.armed) /* of a writer that died at once */
        loop_timer_start(machine->loop, &save->head_start, HEAD_START_NS);
    child_on_word(child, heard, machine);
    snapshot_writer_hand_over(work->files);
    saved_layers_hand_over(work->layers);
    return 0;
}

void machine_save_report(const struct machine *machine, struct save_report *report)
{
    const struct background_save *save = &machine->background;

    *report = (struct save_report){
        .status = save->status,
        .state_path = save->state_path,
        .fault = save->fault,
    };
}

static bool is_over(void *arg)
{
    return ((const struct machine *)arg)->background.status != SAVE_WRITING;
}

void machine_finish_save(struct machine *machine)
{
    loop_wait(machine->loop, is_over, machine);
}
