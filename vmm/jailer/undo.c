/* SPDX-License-Identifier: Apache-2.0 */
/* undo.c: a stack of what was made, and its way back. */
#include "vmm/jailer/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

enum { LEAVE_TRIES = 500 }; /* of a millisecond each */

struct undo_step {
    struct undo_step *before;
    enum undo_kind kind;
    int dir_fd;
    char path[];
};

int undo_push(struct undo *u, enum undo_kind kind, int dir_fd, const char *path)
{
    size_t size = strlen(path) + 1;
    struct undo_step *step = malloc(sizeof(*step) + size);

    if (!step)
        return -ENOMEM;
    *step = (struct undo_step){.before = u->last, .kind = kind, .dir_fd = dir_fd};
    memcpy(step->path, path, size);
    u->last = step;
    return 0;
}

void undo_pop(struct undo *u)
{
    struct undo_step *step = u->last;

    u->last = step->before;
    free(step);
}

int undo_make_directory(struct undo *u, enum undo_kind kind, int dir_fd, const char *path,
                        mode_t mode)
{
    int ret = undo_push(u, kind, dir_fd, path);

    if (ret == 0 && mkdirat(dir_fd, path, mode) < 0) {
        ret = errno == EEXIST ? 0 : -errno;
        undo_pop(u);
    }
    return ret;
}

/* A process counts as a member until some moments after its end can be seen. */
static void remove_cgroup(int dir_fd, const char *path)
{
    for (int i = 0; i < LEAVE_TRIES; i++) {
        if (unlinkat(dir_fd, path, AT_REMOVEDIR) == 0 || errno != EBUSY)
            return;
        nanosleep(&(struct timespec){.tv_nsec = (long)NSEC_PER_MSEC}, NULL);
    }
}

static void join(int dir_fd, const char *path)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    /* Where it fails, remove_cgroup() fails too, and nobody else's work. */
    (void)!write(fd, "0", 1);
    close(fd);
}

void undo_all(struct undo *u)
{
    while (u->last) {
        const struct undo_step *step = u->last;

        switch (step->kind) {
        case UNDO_FILE:
            (void)unlinkat(step->dir_fd, step->path, 0);
            break;
        case UNDO_DIRECTORY:
            (void)unlinkat(step->dir_fd, step->path, AT_REMOVEDIR);
            break;
        case UNDO_CGROUP:
            remove_cgroup(step->dir_fd, step->path);
            break;
        case UNDO_MEMBER:
            join(step->dir_fd, step->path);
            break;
        }
        undo_pop(u);
    }
}
