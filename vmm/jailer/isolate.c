/* SPDX-License-Identifier: Apache-2.0 */
/* isolate.c: setns, unshare, pivot_root. */
#include "vmm/jailer/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/syscall.h>

int isolate_join_netns(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), ret;

    if (fd < 0)
        return err_set(e, -errno, "Failed to open file %s: %s", path, err_os(-errno));
    ret = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
    close(fd);
    if (ret)
        return err_set(e, ret, "Failed to join network namespace: netns: %s: %s", path,
                       err_os(ret));
    return 0;
}

static int failed(struct err *e, const char *what)
{
    return err_set(e, -errno, "Failed to %s: %s", what, err_os(-errno));
}

int isolate_enter_root(const char *root, int *outside, struct err *e)
{
    *outside = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (*outside < 0)
        return err_set(e, -errno, "Failed to open file /proc/self/ns/mnt: %s", err_os(-errno));
    if (unshare(CLONE_NEWNS) < 0)
        return failed(e, "unshare into new mount namespace");
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return failed(e, "change the propagation type to slave");
    /* pivot_root(2) wants a mount; recursive, so that what is mounted inside comes along. */
    if (mount(root, root, NULL, MS_BIND | MS_REC, NULL) < 0)
        return failed(e, "bind mount the jail root directory");
    if (chdir(root) < 0)
        return failed(e, "chdir into chroot directory");
    /* The same directory twice stacks the old root onto the new one: no place for it is needed. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return failed(e, "pivot root");
    if (umount2(".", MNT_DETACH) < 0)
        return failed(e, "unmount the old jail root");
    if (chdir("/") < 0)
        return failed(e, "change current directory");
    return 0;
}

void isolate_leave_root(int outside)
{
    if (outside >= 0)
        (void)setns(outside, CLONE_NEWNS);
}
