/* SPDX-License-Identifier: Apache-2.0 */
/* machine_fork.c: see machine_fork.h. */
#include "vmm/machine_fork.h"

#include "vmm/background_save.h"
#include "vmm/base/dirty.h"
#include "vmm/base/timeline.h"
#include "vmm/legacy/console.h"
#include "vmm/saved_machine.h"
#include "vmm/snapshot/state_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

/* How long a child may take to be ready: it makes a VM, which takes milliseconds. */
#define READY_LIMIT_NS (30 * NSEC_PER_SEC)

/* ---- what cannot be forked ------------------------------------------------------------------- */

static int check_drives(const struct devices *devices, struct err *e)
{
    for (unsigned i = 0; i < devices->drive_count; i++) {
        const struct drive *drive = &devices->drive[i];

        if (drive->vhost)
            return err_set(e, -ENOTSUP,
                           "The drive %s is served by another process, which shares the memory: "
                           "such a guest cannot be forked.",
                           drive_id(drive));
        if (!blk_config(drive->blk)->read_only && !blk_overlay(drive->blk))
            return err_set(e, -ENOTSUP,
                           "The drive %s is writable and has no overlay: parent and child would "
                           "both write to %s.",
                           drive_id(drive), blk_config(drive->blk)->path);
    }
    return 0;
}

static int check_pmem(const struct devices *devices, struct err *e)
{
    for (unsigned i = 0; i < devices->pmem_count; i++) {
        const struct pmem_config *pmem = pmem_config(devices->pmem[i]);

        if (!pmem->read_only)
            return err_set(e, -ENOTSUP,
                           "The persistent memory %s is writable: parent and child would both "
                           "write to %s.",
                           pmem->id, pmem->path);
    }
    return 0;
}

/*
 * Each page of the pool that is written to next wants another one, and where there is none its
 * process is killed. Asked by a reservation, which is given back at once.
 */
static int check_pool(const struct machine *machine, unsigned processes, struct err *e)
{
    struct hotplug_status plugged = {0};
    uint64_t size;
    void *probe;

    if (machine->mem.pages != MEM_PAGES_HUGETLB_2M)
        return 0;
    if (machine->devices.hotplug)
        hotplug_status(machine->devices.hotplug, &plugged);
    size = align_up(mem_size(&machine->mem) + plugged.plugged_size_mib * MIB, 2 * MIB) * processes;
    probe = mmap(NULL, size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
    if (probe == MAP_FAILED)
        return err_set(e, -ENOMEM,
                       "The host has not the %llu free huge pages of 2 MiB that copies of the "
                       "guest's may want (see the sysctl vm.nr_hugepages).",
                       (unsigned long long)(size / (2 * MIB)));
    munmap(probe, size);
    return 0;
}

int machine_check_shareable(const struct machine *machine, unsigned processes, struct err *e)
{
    if (mem_is_served(&machine->mem))
        return err_set(e, -ENOTSUP,
                       "The guest's memory is served by another process (Uffd), which knows "
                       "nothing of a copy.");
    if (machine->mem.shared)
        return err_set(e, -ENOTSUP,
                       "The guest's memory is shared with another process: it cannot be copied "
                       "on write.");
    return check_pool(machine, processes, e);
}

static int check_can_fork(const struct machine *machine, const struct machine_fork *fork,
                          struct err *e)
{
    int rc;

    if (machine->state != MACHINE_RUNNING && machine->state != MACHINE_PAUSED)
        return err_set(e, -EBUSY, "The guest does not run.");
    if (fork->count == 0 || fork->count > FORK_CHILDREN_MAX)
        return err_set(e, -EINVAL, "A fork makes 1 to %d children, not %u.", FORK_CHILDREN_MAX,
                       fork->count);
    rc = background_save_check(machine, e);
    if (rc == 0)
        rc = check_drives(&machine->devices, e);
    if (rc == 0)
        rc = check_pmem(&machine->devices, e);
    return rc ? rc : machine_check_shareable(machine, fork->count, e);
}

/* ---- the parent ------------------------------------------------------------------------------ */

/* A fork under way. */
struct forking {
    struct loop_timer timer;
    bool too_late;
    void *state; /* room for a state file's bytes; only what is written takes memory */
    unsigned born;
    struct child *child[FORK_CHILDREN_MAX];
    pid_t pid[FORK_CHILDREN_MAX];
};

static int give_birth(struct machine *machine, const struct machine_fork *fork,
                      struct forking *forking, const struct inheritance *of, struct err *e)
{
    for (unsigned i = 0; i < fork->count; i++) {
        struct inheritance own = *of;
        pid_t pid = child_fork(&own.self, machine->loop, fork->place[i].cgroup, e);

        if (pid < 0)
            return err_prefix(e, "%s: ", fork->place[i].name);
        if (pid == 0) {
            fork->become(fork->owner, i, &own);
            BUG_ON(true); /* it never returns */
        }
        forking->child[i] = own.self;
        forking->pid[i] = pid;
        forking->born++;
    }
    return 0;
}

/* The guest stands still. */
static int fork_paused(struct machine *machine, const struct machine_fork *fork,
                       struct forking *forking, struct err *e)
{
    struct inheritance of = {.parent = machine, .state = forking->state};
    /* All go on from the same last snapshot: what is dirty now is dirty in each. */
    int rc = dirty_take(&machine->mem, &machine->kvm, e);

    dirty_settle(&machine->mem, false);
    if (rc == 0)
        rc = devices_split_overlays(&machine->devices, e);
    if (rc == 0)
        rc = machine_save_state(machine, forking->state, STATE_FILE_MAX, &of.state_len, e);
    return rc ? rc : give_birth(machine, fork, forking, &of, e);
}

/* Stops the guest for as long as it must, if it runs. */
static int fork_stopped(struct machine *machine, const struct machine_fork *fork,
                        struct forking *forking, struct err *e)
{
    bool ran = machine->state == MACHINE_RUNNING;
    int rc = machine_pause(machine, e);
    struct err ignored;

    if (rc == 0 && machine->state != MACHINE_PAUSED)
        rc = err_set(e, -EBUSY, "The guest has ended.");
    if (rc)
        return rc;
    rc = fork_paused(machine, fork, forking, e);
    BUG_ON(ran && machine_resume(machine, &ignored)); /* it is paused: nothing can be in the way */
    return rc;
}

static void timer_done(struct op *op, int res, bool more)
{
    struct forking *forking = container_of(op, struct forking, timer.op);

    (void)more;
    forking->timer.armed = false;
    forking->too_late = res != -ECANCELED;
}

static bool all_are_heard(void *arg)
{
    const struct forking *forking = arg;
    unsigned heard = 0;

    for (unsigned i = 0; i < forking->born; i++)
        heard += child_is_heard(forking->child[i]);
    return heard == forking->born || forking->too_late;
}

static bool timer_is_over(void *arg)
{
    return !((struct forking *)arg)->timer.armed;
}

static int hear_all(struct machine *machine, const struct machine_fork *fork,
                    struct forking *forking, struct err *e)
{
    forking->timer.op.done = timer_done;
    loop_timer_start(machine->loop, &forking->timer, READY_LIMIT_NS);
    loop_wait(machine->loop, all_are_heard, forking);
    if (forking->timer.armed)
        loop_cancel(machine->loop, &forking->timer.op);
    loop_wait(machine->loop, timer_is_over, forking);
    for (unsigned i = 0; i < forking->born; i++) {
        if (!child_is_heard(forking->child[i]))
            return err_set(e, -ETIMEDOUT, "%s: it was not ready in time.", fork->place[i].name);
        if (child_word(forking->child[i], e))
            return err_prefix(e, "%s: ", fork->place[i].name);
    }
    return 0;
}

static struct forking *begin(struct err *e)
{
    struct forking *forking = calloc(1, sizeof(*forking));
    int rc = -ENOMEM;

    if (forking) {
        forking->state =
            mmap(NULL, STATE_FILE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (forking->state != MAP_FAILED)
            return forking;
        rc = -errno;
        free(forking);
    }
    err_set(e, rc, "There is no memory to save the machine's state in: %s", err_os(rc));
    return NULL;
}

int machine_fork(struct machine *machine, const struct machine_fork *fork, pid_t *pid,
                 struct err *e)
{
    struct forking *forking;
    int rc = check_can_fork(machine, fork, e);

    if (rc)
        return rc;
    forking = begin(e);
    if (!forking)
        return e->code;
    rc = fork_stopped(machine, fork, forking, e);
    if (rc == 0)
        rc = hear_all(machine, fork, forking, e);
    for (unsigned i = 0; i < forking->born; i++) {
        pid[i] = forking->pid[i];
        if (rc)
            child_dismiss(forking->child[i]);
        else
            child_let_go(forking->child[i]);
    }
    munmap(forking->state, STATE_FILE_MAX);
    free(forking);
    return rc;
}

/* ---- the child ------------------------------------------------------------------------------- */

void machine_leave_vm(struct machine *machine)
{
    vcpus_destroy(&machine->vcpus);
    if (machine->registers)
        munmap(machine->registers, machine->registers_size);
}

/* Of the parent's descriptors only those of drives with an overlay are taken over. */
static void close_others(const struct inheritance *of, const int *keep, unsigned count)
{
    int kept[CHILD_KEEP_MAX];

    BUG_ON(count > ARRAY_SIZE(kept));
    memcpy(kept, keep, count * sizeof(keep[0]));
    count += devices_overlay_fds(&of->parent->devices, kept + count, CHILD_KEEP_MAX - count);
    child_close_others(of->self, kept, count);
}

void fork_let_go(const struct inheritance *of, int listener)
{
    struct machine *parent = of->parent;
    const int keep[] = {listener, parent->mem.fd};

    machine_leave_vm(parent);
    for (unsigned i = 0; i < parent->devices.pmem_count; i++)
        pmem_unmap(parent->devices.pmem[i]);
    console_forget();
    loop_forget(parent->loop);
    close_others(of, keep, ARRAY_SIZE(keep));
}

/* A lock on the memory file is the parent's description's, which may end before us. */
static int lock_file(struct machine *machine, const struct machine *parent, struct err *e)
{
    int fd = machine->mem.fd;

    if (fd < 0)
        return 0;
    machine->mem.fd = file_lock_share_anew(&machine->mem_lock, fd, parent->mem_path);
    if (machine->mem.fd < 0)
        return err_set(e, machine->mem.fd, "The memory file %s cannot be locked: %s",
                       parent->mem_path, err_os(machine->mem.fd));
    close(fd);
    return 0;
}

/* What no state file has: it is the same guest on the same host. */
static int take_over(struct machine *machine, const struct machine *parent, struct err *e)
{
    machine->options.boot_timer = parent->options.boot_timer;
    machine->cpu_template = parent->cpu_template;
    shell_inherit(&machine->shell, &parent->shell);
    machine->mem_path = parent->mem_path;
    machine->mem = parent->mem;
    machine->mem.device_count = 0; /* devices add what is theirs again */
    return lock_file(machine, parent, e);
}

int machine_inherit(struct machine *machine, const struct inheritance *of,
                    const struct saved_overrides *overrides, struct err *e)
{
    struct machine *parent = of->parent;
    struct machine_load load = {
        .track_dirty = parent->config.track_dirty_pages,
        .any_pages = true,
        .overrides = *overrides,
    };
    int rc;

    load.overrides.forked_from = &parent->devices;
    timeline_stamp(TIMELINE_CONFIG);
    rc = take_over(machine, parent, e);
    if (rc == 0)
        rc = machine_load_state(machine, &load, of->state, of->state_len, e);
    if (rc == 0)
        machine->state = MACHINE_PAUSED;
    return rc;
}
