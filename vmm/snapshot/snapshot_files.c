/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_files.c: see snapshot_files.h. */
#include "vmm/snapshot/snapshot_files.h"

#include "vmm/snapshot/mem_file.h"
#include "vmm/snapshot/merge_mark.h"
#include "vmm/snapshot/page_sums.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

/* ---- a state that waits for its name --------------------------------------------------------- */

/*
 * What the state that goes to `path` is called until its memory file, of which `st` tells, has its
 * name. Inode and time of the last write stay what they are when that is given, and are nobody
 * else's.
 */
static char *name_for(const char *path, const struct stat *st)
{
    uint64_t written = (uint64_t)st->st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st->st_mtim.tv_nsec;
    char *name;

    if (asprintf(&name, "%s" STATE_FOR "%" PRIx64 "-%" PRIx64, path, (uint64_t)st->st_ino,
                 written) < 0)
        return NULL;
    return name;
}

/* The same for the file at `mem_path`; NULL also when there is none. */
static char *name_for_file(const char *path, const char *mem_path)
{
    struct stat st;

    return stat(mem_path, &st) ? NULL : name_for(path, &st);
}

char *snapshot_find_state(const struct snapshot_files *files)
{
    char *real = new_file_resolve(files->state_path);
    char *name = real ? name_for_file(real, files->mem_path) : NULL;

    free(real);
    if (name && access(name, F_OK) == 0)
        return name;
    free(name);
    return strdup(files->state_path);
}

/*
 * What a process left that died between the two renames is brought to its end, and what one left
 * that died before them is removed: its memory file, still beside the old one, is about to be
 * written over. A name that is too long for either is no error here, nor is a directory that cannot
 * be written to: opening the new files says so.
 */
static void sweep(const struct snapshot_files *files)
{
    char *state = new_file_resolve(files->state_path), *mem = new_file_resolve(files->mem_path);
    char *beside = mem ? new_file_beside(mem) : NULL;
    char *name = state ? name_for_file(state, files->mem_path) : NULL;

    if (name)
        (void)rename(name, state);
    free(name);
    name = state && beside ? name_for_file(state, beside) : NULL;
    if (name)
        (void)unlink(name);
    free(name);
    free(beside);
    free(mem);
    free(state);
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int open_in_place(struct snapshot_writer *w, struct err *e)
{
    const struct snapshot_job *job = &w->job;
    struct stat ours, st;
    bool own;
    int rc = new_file_open_in_place(&w->mem, job->files.mem_path, e);

    if (rc)
        return err_prefix(e, "Cannot perform open on the memory backing file: ");
    w->in_place = true;
    own = job->mem->fd >= 0 && fstat(job->mem->fd, &ours) == 0 && fstat(w->mem.fd, &st) == 0 &&
          is_same(&ours, &st);
    rc = file_lock_alone(w->mem.fd, own ? job->mem_lock : NULL);
    if (rc == -EAGAIN)
        return err_set(e, -EBUSY,
                       "Cannot merge into %s: another process runs from it, or writes to it.",
                       w->mem.path);
    if (rc)
        return err_set(e, rc, "Cannot merge into %s, which cannot be locked: %s", w->mem.path,
                       err_os(rc));
    return merge_mark_check(w->mem.path, w->mem.fd, e);
}

/* Whether a Diff finds a file that it can be merged into. */
static bool has_base(const struct snapshot_job *job)
{
    struct stat st;

    return job->type == SNAPSHOT_DIFF && stat(job->files.mem_path, &st) == 0 &&
           S_ISREG(st.st_mode) && (uint64_t)st.st_size == mem_file_size(job->mem);
}

static int open_mem(struct snapshot_writer *w, struct err *e)
{
    if (has_base(&w->job))
        return open_in_place(w, e);
    if (new_file_open(&w->mem, w->job.files.mem_path, e))
        return err_prefix(e, "Cannot perform open on the memory backing file: ");
    return 0;
}

/* Whether both would be one file: what is written beside them, or the state that is replaced and
 * the memory that is merged into. */
static bool is_one_file(const struct snapshot_writer *w)
{
    struct stat mem, state;

    if (fstat(w->mem.fd, &mem))
        return false;
    return (fstat(w->state.fd, &state) == 0 && is_same(&mem, &state)) ||
           (stat(w->state.path, &state) == 0 && is_same(&mem, &state));
}

/* Whether the one that is in the way of the memory's new file is the state's. */
static bool is_in_own_way(const struct snapshot_writer *w)
{
    char *mem = new_file_resolve(w->job.files.mem_path);
    char *beside = mem ? new_file_beside(mem) : NULL;
    struct stat there, state;
    bool same = beside && stat(beside, &there) == 0 && fstat(w->state.fd, &state) == 0 &&
                is_same(&there, &state);

    free(beside);
    free(mem);
    return same;
}

static int open_files(struct snapshot_writer *w, struct err *e)
{
    int rc;

    if (new_file_open(&w->state, w->job.files.state_path, e))
        return err_prefix(e, "Cannot perform open on the snapshot backing file: ");
    rc = open_mem(w, e);
    if ((rc == 0 && is_one_file(w)) || (rc == -EBUSY && is_in_own_way(w)))
        rc = err_set(e, -EINVAL, "The state and the memory cannot be one file.");
    return rc;
}

int snapshot_writer_open(struct snapshot_writer *w, const struct snapshot_job *job, struct err *e)
{
    int rc;

    *w = (struct snapshot_writer){.job = *job, .state.fd = -1, .mem.fd = -1};
    sweep(&job->files);
    rc = open_files(w, e);
    if (rc)
        snapshot_writer_close(w);
    w->state.lazy = w->mem.lazy = job->lazy;
    return rc;
}

void snapshot_writer_close(struct snapshot_writer *w)
{
    new_file_close(&w->state);
    new_file_close(&w->mem);
}

void snapshot_writer_hand_over(struct snapshot_writer *w)
{
    free(w->state.beside);
    free(w->mem.beside);
    w->state.beside = w->mem.beside = NULL;
    snapshot_writer_close(w);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_mem(struct snapshot_writer *w, struct err *e)
{
    const struct snapshot_job *job = &w->job;
    enum mem_file_pages pages = job->type == SNAPSHOT_DIFF ? MEM_FILE_CHANGED : MEM_FILE_ALL;
    int rc = w->in_place ? merge_mark_set(&w->mem, e)
                         : new_file_resize(&w->mem, mem_file_size(job->mem), e);

    return rc ? rc : mem_file_write(&w->mem, job->mem, pages, e);
}

/* Gives the new state the name under which it belongs to the new memory. */
static int name_state(struct snapshot_writer *w, struct err *e)
{
    struct stat st;
    char *name = fstat(w->mem.fd, &st) ? NULL : name_for(w->state.path, &st);
    int rc;

    if (!name)
        return err_set(e, -errno, "Cannot replace %s: %s", w->state.path, err_os(-errno));
    rc = new_file_move_beside(&w->state, name, e);
    free(name);
    return rc;
}

static int commit_new(struct snapshot_writer *w, struct err *e)
{
    int rc = name_state(w, e);

    if (rc == 0)
        rc = new_file_commit(&w->mem, e);
    if (rc == 0)
        rc = new_file_commit(&w->state, e);
    if (rc == 0) {
        merge_mark_forget(&w->mem);
    } else if (!w->mem.beside) {
        /* The new memory has its name already: a load has to find the state that belongs to it. */
        free(w->state.beside);
        w->state.beside = NULL;
    }
    return rc;
}

static int commit_in_place(struct snapshot_writer *w, struct err *e)
{
    int rc = new_file_commit(&w->state, e);

    return rc ? rc : merge_mark_clear(&w->mem, e);
}

static int write_state(struct snapshot_writer *w, struct state_writer *state, struct err *e)
{
    size_t len = 0;
    int rc = 0;

    if (w->job.sums)
        rc = page_sums_write(state, w->mem.fd, mem_file_size(w->job.mem), e);
    if (rc == 0)
        rc = state_writer_end(state, &len, e);
    return rc ? rc : new_file_write(&w->state, state->to, len, 0, e);
}

int snapshot_writer_run(struct snapshot_writer *w, struct state_writer *state, struct err *e)
{
    int rc = write_mem(w, e);

    if (rc == 0)
        rc = write_state(w, state, e);
    if (rc == 0)
        rc = new_file_sync(&w->mem, e);
    if (rc == 0)
        rc = new_file_sync(&w->state, e);
    if (rc)
        return rc;
    return w->in_place ? commit_in_place(w, e) : commit_new(w, e);
}
