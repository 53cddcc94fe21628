/* SPDX-License-Identifier: Apache-2.0 */
/* tree.c: directories, the copy of the executable, device nodes, the PID file. */
#include "vmm/jailer/tree.h"

#include "vmm/jailer/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { MISC_MAJOR = 10, TUN_MINOR = 200, KVM_MINOR = 232, MEM_MAJOR = 1, URANDOM_MINOR = 9 };

enum { COPY_CHUNK = 1 << 20, PID_NAME_MAX = NAME_MAX + sizeof(".pid") };

/* ---- names ---- */

static int resolve_exec_file(struct tree *t, const char *path, struct err *e)
{
    struct stat st;

    if (!realpath(path, t->exec_file) || stat(t->exec_file, &st) < 0)
        return err_set(e, -errno, "Failed to canonicalize path %s: %s", path, err_os(-errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "%s is not a file", t->exec_file);
    t->name = strrchr(t->exec_file, '/') + 1;
    return 0;
}

static int open_base(struct tree *t, const struct jailer_options *o, struct err *e)
{
    char base[PATH_MAX];
    int len;

    if (!realpath(o->base_dir, base))
        return err_set(e, -errno, "Failed to canonicalize path %s: %s", o->base_dir,
                       err_os(-errno));
    t->base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->base_fd < 0 && errno == ENOTDIR)
        return err_set(e, -ENOTDIR, "%s is not a directory", base);
    if (t->base_fd < 0)
        return err_set(e, -errno, "Failed to open directory %s: %s", base, err_os(-errno));
    len = snprintf(t->root, sizeof(t->root), "%s/%s/%s/root", strcmp(base, "/") ? base : "",
                   t->name, o->id);
    if (len >= (int)sizeof(t->root))
        return err_set(e, -ENAMETOOLONG, "Failed to create directory %s: %s", t->root,
                       err_os(-ENAMETOOLONG));
    return 0;
}

static void name_pid_file(const struct tree *t, char name[PID_NAME_MAX])
{
    snprintf(name, PID_NAME_MAX, "%s.pid", t->name);
}

/* ---- directories ---- */

/* NAME, NAME/ID and NAME/ID/root. */
static int make_root(struct tree *t, const struct jailer_options *o, struct undo *u, struct err *e)
{
    const char *parts[] = {t->name, o->id, "root"};
    char path[PATH_MAX] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        int ret;

        /* Shorter than t->root, which fitted. */
        len += (size_t)snprintf(path + len, sizeof(path) - len, "%s%s", i ? "/" : "", parts[i]);
        ret = undo_make_directory(u, UNDO_DIRECTORY, t->base_fd, path, 0777);
        if (ret)
            return err_set(e, ret, "Failed to create directory %s: %s", t->root, err_os(ret));
    }
    t->root_fd = openat(t->base_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (t->root_fd < 0)
        return err_set(e, -errno, "Failed to open directory %s: %s", t->root, err_os(-errno));
    return 0;
}

/* Gives an open directory to the jail's user alone. */
static int own_directory(int fd, const char *path, const struct jailer_options *o, struct err *e)
{
    if (fchmod(fd, 0700) < 0)
        return err_set(e, -errno, "Failed to change permissions on /%s: %s", path, err_os(-errno));
    if (fchown(fd, o->uid, o->gid) < 0)
        return err_set(e, -errno, "Failed to change owner for /%s: %s", path, err_os(-errno));
    return 0;
}

static int make_directory(const struct tree *t, const char *path, const struct jailer_options *o,
                          struct undo *u, struct err *e)
{
    int fd, ret = undo_make_directory(u, UNDO_DIRECTORY, t->root_fd, path, 0700);

    if (ret)
        return err_set(e, ret, "Failed to create directory /%s: %s", path, err_os(ret));
    fd = openat(t->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, -errno, "Failed to create directory /%s: %s", path, err_os(-errno));
    ret = own_directory(fd, path, o, e);
    close(fd);
    return ret;
}

/* ---- the copy ---- */

/* A file in the jail to write the copy to: never through a link, of whatever kind, to another. */
static int open_copy(const struct tree *t, struct undo *u)
{
    const int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    struct stat st;
    int ret = undo_push(u, UNDO_FILE, t->root_fd, t->name), fd;

    if (ret)
        return ret;
    fd = openat(t->root_fd, t->name, flags | O_CREAT | O_EXCL, 0700);
    if (fd >= 0)
        return fd;
    ret = -errno;
    undo_pop(u);
    if (ret != -EEXIST)
        return ret;
    fd = openat(t->root_fd, t->name, flags);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        ret = -EEXIST;
    else if (st.st_nlink > 1)
        ret = -EMLINK;
    else
        ret = ftruncate(fd, 0) < 0 ? -errno : fd;
    if (ret < 0)
        close(fd);
    return ret;
}

/* Copies all that is left of `from`. 0 or -errno. */
static int copy_bytes(int from, int to)
{
    ssize_t n;

    do {
        n = sendfile(to, from, NULL, COPY_CHUNK);
    } while (n > 0);
    return n < 0 ? -errno : 0;
}

static int copy_owned(int from, int to, const struct jailer_options *o)
{
    struct stat st;
    int ret = copy_bytes(from, to);

    if (ret)
        return ret;
    if (fstat(from, &st) < 0 || fchown(to, o->uid, o->gid) < 0)
        return -errno;
    return fchmod(to, st.st_mode & 0777) < 0 ? -errno : 0;
}

/* A copy, not a link: monitors share no page of their program with each other. */
static int copy_exec_file(const struct tree *t, const struct jailer_options *o, struct undo *u,
                          struct err *e)
{
    int from = open(t->exec_file, O_RDONLY | O_CLOEXEC);
    int to = from < 0 ? -errno : open_copy(t, u);
    int ret = to < 0 ? to : copy_owned(from, to, o);

    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    if (ret == -EMLINK)
        return err_set(e, ret,
                       "Failed to copy %s to %s/%s: the file there has other names (hard "
                       "links), which would change with it",
                       t->exec_file, t->root, t->name);
    if (ret)
        return err_set(e, ret, "Failed to copy %s to %s/%s: %s", t->exec_file, t->root, t->name,
                       err_os(ret));
    return 0;
}

/* ---- device nodes ---- */

int tree_find_misc_minor(const char *misc, const char *name)
{
    size_t len = strlen(name);

    while (*misc) {
        char *end;
        long minor = strtol(misc, &end, 10);

        if (end != misc && *end == ' ' && strncmp(end + 1, name, len) == 0 &&
            (end[1 + len] == '\n' || !end[1 + len]))
            return (int)minor;
        misc += strcspn(misc, "\n");
        misc += *misc == '\n';
    }
    return -1;
}

static int make_node(const struct tree *t, const char *path, dev_t device,
                     const struct jailer_options *o, struct undo *u, struct err *e)
{
    int ret = undo_push(u, UNDO_FILE, t->root_fd, path);

    if (ret == 0 && mknodat(t->root_fd, path, S_IFCHR | 0600, device) < 0) {
        ret = -errno;
        undo_pop(u);
    }
    if (ret)
        return err_set(e, ret, "Failed to create /%s via mknod inside the jail: %s", path,
                       err_os(ret));
    if (fchownat(t->root_fd, path, o->uid, o->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(e, -errno, "Failed to change owner for /%s: %s", path, err_os(-errno));
    return 0;
}

/* Where the kernel has it, so that a monitor without privileges can restore lazily. */
static int make_userfaultfd(const struct tree *t, const struct jailer_options *o, struct undo *u,
                            struct err *e)
{
    char *misc = text_file_read(AT_FDCWD, "/proc/misc");
    int minor = misc ? tree_find_misc_minor(misc, "userfaultfd") : -1;

    free(misc);
    if (minor < 0)
        return 0;
    return make_node(t, "dev/userfaultfd", makedev(MISC_MAJOR, (unsigned)minor), o, u, e);
}

static int make_nodes(const struct tree *t, const struct jailer_options *o, struct undo *u,
                      struct err *e)
{
    struct err warning;
    int ret = make_node(t, "dev/net/tun", makedev(MISC_MAJOR, TUN_MINOR), o, u, e);

    if (ret == 0)
        ret = make_node(t, "dev/kvm", makedev(MISC_MAJOR, KVM_MINOR), o, u, e);
    if (ret)
        return ret;
    if (make_node(t, "dev/urandom", makedev(MEM_MAJOR, URANDOM_MINOR), o, u, &warning))
        dprintf(STDOUT_FILENO, "Warning! %s\n", warning.text);
    return make_userfaultfd(t, o, u, e);
}

/* ---- all of it ---- */

static bool is_there(const struct tree *t, const char *path)
{
    struct stat st;

    return fstatat(t->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Another monitor may run in there: nothing of its may change owner. */
static int refuse_used(const struct tree *t, struct err *e)
{
    const char *nodes[] = {"dev/net/tun", "dev/kvm"};
    char pid_file[PID_NAME_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        if (is_there(t, nodes[i]))
            return err_set(e, -EEXIST,
                           "Failed to create /%s via mknod inside the jail: %s; %s is the jail of "
                           "an earlier monitor",
                           nodes[i], err_os(-EEXIST), t->root);
    }
    name_pid_file(t, pid_file);
    if (is_there(t, pid_file))
        return err_set(e, -EEXIST,
                       "Failed to open file /%s: %s; %s is the jail of an earlier monitor",
                       pid_file, err_os(-EEXIST), t->root);
    return 0;
}

int tree_create(struct tree *t, const struct jailer_options *o, struct undo *u, struct err *e)
{
    const char *directories[] = {"dev", "dev/net", "run"};
    int ret = resolve_exec_file(t, o->exec_file, e);

    if (ret == 0)
        ret = open_base(t, o, e);
    if (ret == 0)
        ret = make_root(t, o, u, e);
    if (ret == 0)
        ret = refuse_used(t, e);
    if (ret == 0)
        ret = copy_exec_file(t, o, u, e);
    if (ret == 0)
        ret = own_directory(t->root_fd, "", o, e);
    for (size_t i = 0; i < ARRAY_SIZE(directories) && ret == 0; i++)
        ret = make_directory(t, directories[i], o, u, e);
    return ret ? ret : make_nodes(t, o, u, e);
}

int tree_write_pid(const struct tree *t, pid_t pid, struct err *e)
{
    char name[PID_NAME_MAX];
    int fd, ret = 0;

    name_pid_file(t, name);
    fd = openat(t->root_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set(e, -errno, "Failed to open file /%s: %s", name, err_os(-errno));
    if (dprintf(fd, "%d", pid) < 0)
        ret = err_set(e, -errno, "Failed to write to /%s: %s", name, err_os(-errno));
    close(fd);
    if (ret)
        tree_remove_pid(t);
    return ret;
}

void tree_remove_pid(const struct tree *t)
{
    char name[PID_NAME_MAX];

    name_pid_file(t, name);
    (void)unlinkat(t->root_fd, name, 0);
}
