/* SPDX-License-Identifier: Apache-2.0 */
/* Jails in tests: set up, run, look inside. */
#include "tests/e2e/jail.h"

#include "tests/e2e/e2e.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { ARGS_MAX = 48 };

/* ---- the host ---- */

static const char *file_text(const char *path)
{
    struct text text = {0};
    int ret = text_read_file(&text, path);
    if (ret)
        FAIL("cannot read %s: %s", path, strerror(-ret));
    return text_str(&text);
}

/* Whether our root is the first mount of all, an initramfs: it has no parent. */
static bool root_is_rootfs(void)
{
    int id, parent;
    return sscanf(file_text("/proc/self/mountinfo"), "%d %d", &id, &parent) == 2 && id == parent;
}

/*
 * pivot_root(2) wants a root that is mounted on something. An initramfs is not; the same files
 * bound over it are, as on any host that has switched to its root.
 */
static void take_mount_namespace(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        FAIL("cannot take a mount namespace: %s", strerror(errno));
    if (!root_is_rootfs())
        return;
    const char *over = e2e_path("over");
    if (mkdir(over, 0755) < 0 || mount("/", over, NULL, MS_BIND | MS_REC, NULL) < 0 ||
        chdir(over) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir(e2e_dir) < 0)
        FAIL("cannot make a root to pivot from: %s", strerror(errno));
}

static bool is_static(const char *path)
{
    Elf64_Ehdr header;
    FILE *f = fopen(path, "rb");
    bool found = false;
    if (!f || fread(&header, sizeof(header), 1, f) != 1)
        FAIL("cannot read %s", path);
    fseek(f, (long)header.e_phoff, SEEK_SET);
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr part;
        found |= fread(&part, sizeof(part), 1, f) == 1 && part.p_type == PT_INTERP;
    }
    fclose(f);
    return !found;
}

/* ---- jails ---- */

struct jail *jail_new(const char *name)
{
    if (geteuid() != 0)
        e2e_skip("needs root, to make a jail");
    take_mount_namespace();
    struct jail *jail = calloc(1, sizeof(*jail));
    jail->id = "x";
    jail->name = name;
    jail->base = e2e_path("j");
    jail->exec = e2e_path(name);
    jail->root = text_format("%s/%s/%s/root", jail->base, name, jail->id);
    jail->socket = text_format("%s/run/firecracker.socket", jail->root);
    if (mkdir(jail->base, 0755) < 0)
        FAIL("cannot make %s", jail->base);
    CHECK_INT(files_copy(e2e.monitor, jail->exec), 0);
    CHECK_INT(chmod(jail->exec, 0755), 0);
    return jail;
}

struct jail *jail_new_running(const char *name)
{
    if (!is_static(e2e.monitor))
        e2e_skip("the monitor is not static: its libraries are not in the jail");
    return jail_new(name);
}

void jail_make_root(const struct jail *jail)
{
    char *path = text_format("%s", jail->root);
    for (char *slash = path + strlen(jail->base) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        FAIL("cannot make %s: %s", path, strerror(errno));
    free(path);
}

const char *jail_place(const struct jail *jail, const char *file)
{
    const char *name = strrchr(file, '/');
    const char *inside = text_format("%s%s", jail->root, name);
    jail_make_root(jail);
    if (link(file, inside) < 0)
        CHECK_INT(files_copy(file, inside), 0);
    CHECK_INT(chown(inside, JAIL_UID, JAIL_GID), 0);
    return name;
}

const char *const *jail_command(const struct jail *jail, const char *const *options,
                                const char *const *monitor_args)
{
    static const char *numbers[2];
    const char **argv = calloc(ARGS_MAX, sizeof(*argv));
    numbers[0] = text_format("%d", JAIL_UID);
    numbers[1] = text_format("%d", JAIL_GID);
    const char *usual[] = {e2e.jailer, "--id",     jail->id, "--exec-file", jail->exec,
                           "--uid",    numbers[0], "--gid",  numbers[1],    "--chroot-base-dir",
                           jail->base};
    unsigned n = sizeof(usual) / sizeof(*usual);
    memcpy(argv, usual, sizeof(usual));
    for (; options && *options && n < ARGS_MAX - 2; options++)
        argv[n++] = *options;
    argv[n++] = "--";
    for (; monitor_args && *monitor_args && n < ARGS_MAX - 1; monitor_args++)
        argv[n++] = *monitor_args;
    return argv;
}

struct vm *jail_start(const struct jail *jail, const char *const *options,
                      const char *const *monitor_args)
{
    struct process_spec spec = {.argv = jail_command(jail, options, monitor_args),
                                .in = PROCESS_PIPE,
                                .out = PROCESS_PIPE,
                                .err = PROCESS_PIPE};
    return vm_launch(&spec, jail->socket);
}

struct process *jail_run(const struct jail *jail, const char *const *options,
                         const char *const *monitor_args)
{
    struct process_spec spec = {.argv = jail_command(jail, options, monitor_args),
                                .in = PROCESS_NULL,
                                .out = PROCESS_PIPE,
                                .err = PROCESS_PIPE};
    struct process *p = calloc(1, sizeof(*p));
    int ret = process_start(p, &spec);
    if (ret)
        FAIL("cannot start the jailer: %s", strerror(-ret));
    if (!process_wait(p, e2e_ms(VM_MS)))
        FAIL("the jailer still runs");
    return p;
}

void jail_fails(const struct jail *jail, const char *const *options, const char *part)
{
    struct process *p = jail_run(jail, options, NULL);
    const char *said = text_str(&p->err_text);
    if (!WIFEXITED(p->status) || WEXITSTATUS(p->status) != 1)
        FAIL("expected exit 1, came %s: %s", process_how(p), said);
    CHECK_HAS(said, part);
    if (strncmp(said, "Jailer error: ", 14) != 0 || strchr(said, '\n') != said + strlen(said) - 1)
        FAIL("not one sentence: %s", said);
}

int jail_pid(const struct jail *jail)
{
    const char *text = file_text(text_format("%s/%s.pid", jail->root, jail->name));
    char *end;
    long pid = strtol(text, &end, 10);
    if (pid <= 0 || *end)
        FAIL("the PID file holds \"%s\"", text);
    return (int)pid;
}

void jail_wait_for_socket(const struct jail *jail)
{
    int64_t deadline = clock_ms() + e2e_ms(VM_MS);
    for (;;) {
        int fd = api_connect(jail->socket);
        if (fd >= 0) {
            close(fd);
            return;
        }
        if (!clock_left(deadline))
            FAIL("%s does not accept", jail->socket);
        usleep(2000);
    }
}

void jail_kill(int pid)
{
    int64_t deadline = clock_ms() + e2e_ms(VM_MS);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, WNOHANG) == 0 || kill(pid, 0) == 0) {
        if (!clock_left(deadline))
            FAIL("process %d does not die", pid);
        usleep(1000);
    }
}

/* ---- /proc ---- */

const char *proc_text(int pid, const char *file)
{
    return file_text(text_format("/proc/%d/%s", pid, file));
}

const char *proc_status(int pid, const char *key)
{
    char *pattern = text_format("\n%s:\t", key);
    const char *hit = strstr(proc_text(pid, "status"), pattern);
    if (!hit)
        FAIL("no %s in the status of process %d", key, pid);
    hit += strlen(pattern);
    free(pattern);
    return strndup(hit, strcspn(hit, "\n"));
}

const char *proc_link(int pid, const char *file)
{
    char *path = text_format("/proc/%d/%s", pid, file);
    char target[4096];
    ssize_t n = readlink(path, target, sizeof(target));
    if (n < 0)
        FAIL("cannot read the link %s: %s", path, strerror(errno));
    free(path);
    return strndup(target, (size_t)n);
}

const char *names_in(const char *path)
{
    struct dirent **entries;
    struct text text = {0};
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0)
        FAIL("cannot list %s: %s", path, strerror(errno));
    for (int i = 0; i < n; i++)
        if (entries[i]->d_name[0] != '.')
            text_printf(&text, "%s ", entries[i]->d_name);
    return text_str(&text);
}
