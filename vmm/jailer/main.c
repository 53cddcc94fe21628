/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c: the jailer's program: a clean process, options, then the jail in the order in which it
 * closes. A failure at any point removes what was made, says one sentence and ends with 1. By
 * _exit(): nothing is buffered, and a leak checker would want the /proc that is gone.
 */
#include "vmm/jailer/cgroup.h"
#include "vmm/jailer/isolate.h"
#include "vmm/jailer/launch.h"
#include "vmm/jailer/options.h"
#include "vmm/jailer/tree.h"
#include "vmm/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/close_range.h>

static void print(int fd, const char *text)
{
    (void)!write(fd, text, strlen(text)); /* nobody to tell of a failure */
}

/* What there is to take back when the jailer fails. */
static struct undo undo;
static int outside = -1; /* the mount namespace of before */

/* Says why and ends, having removed what there was. */
static _Noreturn void fail(const struct err *e)
{
    isolate_leave_root(outside);
    undo_all(&undo);
    print(STDERR_FILENO, "Jailer error: ");
    print(STDERR_FILENO, e->text);
    print(STDERR_FILENO, "\n");
    _exit(1);
}

/*
 * The starter's files end here, but for the standard streams: each of the three is open from now
 * on, since whoever opens a file later would else get it as one of these.
 */
static int clean_descriptors(struct err *e)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDWR | O_NOCTTY); /* the lowest free one: fd */
    }
    if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_UNSHARE) < 0)
        return err_set(e, -errno, "Failed to call close range syscall: %s", err_os(-errno));
    return 0;
}

/*
 * A terminal that nobody reads makes whoever writes to it wait, unless its description is one that
 * does not; and that one is shared with the starter. The monitor opens one of its own by /proc, of
 * which the jail has none: so it gets one from here. Where that fails it lives with what there is.
 */
static void open_own_terminals(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        int access = fcntl(fd, F_GETFL) & O_ACCMODE, own;
        char path[32];

        if (!isatty(fd))
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        own = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own < 0)
            continue;
        dup2(own, fd);
        close(own);
    }
}

static int open_null(struct launch *l, struct err *e)
{
    l->null_fd = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (l->null_fd < 0)
        return err_set(e, -errno, "Failed to open /dev/null: %s", err_os(-errno));
    return 0;
}

/* Everything that needs the host's files, then the door. */
static int build(struct launch *l, struct tree *t, struct err *e)
{
    const struct jailer_options *o = l->o;
    int ret = o->netns ? isolate_join_netns(o->netns, e) : 0;

    open_own_terminals();
    if (ret == 0 && o->daemonize)
        ret = open_null(l, e);
    if (ret == 0)
        ret = tree_create(t, o, &undo, e);
    if (ret == 0)
        ret = cgroup_join(o, t->name, &undo, e);
    return ret ? ret : isolate_enter_root(t->root, &outside, e);
}

int main(int argc, char **argv)
{
    static struct jailer_options options;
    static struct tree tree;
    static struct err e;
    struct launch l = {
        .o = &options, .tree = &tree, .null_fd = -1, .start_us = now_ns() / NSEC_PER_USEC};

    if (clean_descriptors(&e) || jailer_options_parse(&options, argc, argv, &e))
        fail(&e);
    if (options.action == JAILER_SHOW_HELP) {
        print(STDOUT_FILENO, jailer_options_help());
        _exit(0);
    }
    if (options.action == JAILER_SHOW_VERSION) {
        print(STDOUT_FILENO, "Jailer v" FIRECRACKER_VERSION "\nMayfly v" MAYFLY_VERSION "\n");
        _exit(0);
    }
    if (build(&l, &tree, &e) || launch(&l, &e))
        fail(&e);
    _exit(0);
}
