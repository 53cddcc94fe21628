/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jails and cgroups, with whatever hierarchies this host has; a version 1 hierarchy is mounted
 * where none is and the kernel gives one. Cgroups are the whole host's, so each test's have names
 * of their own, and what it makes it removes.
 */
#include "tests/e2e/e2e.h"
#include "tests/e2e/jail.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/stat.h>

/* ---- hierarchies ---- */

static const char *read_text(const char *path)
{
    struct text text = {0};
    int ret = text_read_file(&text, path);
    if (ret)
        FAIL("cannot read %s: %s", path, strerror(-ret));
    return text_str(&text);
}

static bool has_word(const char *list, const char *word, const char *separators)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += len)
        if ((at == list || strchr(separators, at[-1])) && (!at[len] || strchr(separators, at[len])))
            return true;
    return false;
}

/* Where /proc/mounts says that such a hierarchy is, or NULL. */
static const char *find_mount(unsigned version, const char *controller)
{
    static char path[512];
    char type[64], options[512];
    const char *line = read_text("/proc/mounts");
    for (; *line; line += strcspn(line, "\n") + 1) {
        if (sscanf(line, "%*s %511s %63s %511s", path, type, options) != 3)
            continue;
        if (version == 2 ? !strcmp(type, "cgroup2")
                         : !strcmp(type, "cgroup") && has_word(options, controller, ","))
            return strdup(path);
    }
    return NULL;
}

/* A version 1 hierarchy with the controller; skips the test where there can be none. */
static const char *v1(const char *controller)
{
    const char *found = find_mount(1, controller);
    if (found)
        return found;
    const char *path = e2e_path(text_format("v1-%s", controller));
    CHECK_INT(mkdir(path, 0755), 0);
    if (mount("cgroup", path, "cgroup", 0, controller) < 0)
        e2e_skip("there is no version 1 hierarchy with %s here, and none to be had: %s", controller,
                 strerror(errno));
    return path;
}

/* The version 2 hierarchy, and a setting that its controllers allow. */
struct v2 {
    const char *dir;
    const char *controller, *file, *value;
    bool enabled; /* in its root, before */
};

static struct v2 v2(void)
{
    static const char *const settings[][3] = {{"pids", "pids.max", "77"},
                                              {"memory", "memory.high", "1073741824"},
                                              {"hugetlb", "hugetlb.2MB.max", "4194304"}};
    struct v2 v2 = {.dir = find_mount(2, NULL)};
    if (!v2.dir)
        e2e_skip("there is no version 2 hierarchy here");
    const char *all = read_text(text_format("%s/cgroup.controllers", v2.dir));
    for (unsigned i = 0; i < 3 && !v2.file; i++)
        if (has_word(all, settings[i][0], " \n")) {
            v2.controller = settings[i][0];
            v2.file = settings[i][1];
            v2.value = settings[i][2];
        }
    if (!v2.file)
        e2e_skip("the version 2 hierarchy here has none of the controllers that this test knows");
    v2.enabled =
        has_word(read_text(text_format("%s/cgroup.subtree_control", v2.dir)), v2.controller, " \n");
    return v2;
}

/* The root's controllers are the host's: as they were. */
static void put_back(const struct v2 *v2)
{
    char *word = text_format("-%s", v2->controller);
    if (!v2->enabled)
        CHECK_INT(
            files_write(text_format("%s/cgroup.subtree_control", v2->dir), word, strlen(word)), 0);
}

static void remove_cgroup(const char *path)
{
    int64_t deadline = clock_ms() + e2e_ms(VM_MS);
    while (rmdir(path) < 0) {
        if (errno != EBUSY || !clock_left(deadline))
            FAIL("cannot remove %s: %s", path, strerror(errno));
        usleep(1000);
    }
}

static void check_gone(const char *path)
{
    if (access(path, F_OK) == 0)
        FAIL("%s is left", path);
}

static void check_file(const char *cgroup, const char *file, const char *value)
{
    const char *text = read_text(text_format("%s/%s", cgroup, file));
    if (strncmp(text, value, strlen(value)) != 0 || text[strlen(value)] != '\n')
        FAIL("%s/%s holds %s, not %s", cgroup, file, text, value);
}

/* A jail whose executable, and so whose cgroup, has a name that no other test has. */
static struct jail *new_jail(struct jail *(*make)(const char *))
{
    return make(text_format("e2e%d", getpid()));
}

/* ---- version 1 ---- */

E2E(cgroups_of_version_1_hold_the_monitor_and_the_values_before_it_starts, HOST | JAIL)
{
    struct jail *jail = new_jail(jail_new_running);
    const char *cpu = text_format("%s/%s", v1("cpu"), jail->name);
    const char *pids = text_format("%s/%s", v1("pids"), jail->name);
    const char *options[] = {"--cgroup",    "cpu.shares=33", "--cgroup",
                             "pids.max=44", "--cgroup",      "cpu.cfs_period_us=200000",
                             NULL};
    struct vm *vm = jail_start(jail, options, NULL);
    const char *pid = text_format("%d", vm->monitor.process.pid);
    check_file(text_format("%s/x", cpu), "cpu.shares", "33");
    check_file(text_format("%s/x", cpu), "cpu.cfs_period_us", "200000");
    check_file(text_format("%s/x", pids), "pids.max", "44");
    check_file(text_format("%s/x", cpu), "cgroup.procs", pid);
    check_file(text_format("%s/x", pids), "cgroup.procs", pid);
    jail_kill(vm->monitor.process.pid);
    remove_cgroup(text_format("%s/x", cpu));
    remove_cgroup(text_format("%s/x", pids));
    remove_cgroup(cpu);
    remove_cgroup(pids);
}

E2E(a_cpuset_inherits_what_was_not_given_from_above_level_by_level, HOST | JAIL)
{
    struct jail *jail = new_jail(jail_new_running);
    const char *root = v1("cpuset");
    const char *parent = text_format("%s-a/b", jail->name);
    const char *options[] = {"--cgroup",         "cpuset.cpus=0",
                             "--parent-cgroup",  parent,
                             "--cgroup-version", "1",
                             "--new-pid-ns",     NULL};
    CHECK_INT(jail_run(jail, options, NULL)->status, 0);
    const char *leaf = text_format("%s/%s/x", root, parent);
    int pid = jail_pid(jail);
    check_file(leaf, "cpuset.cpus", "0");
    CHECK(!strcmp(read_text(text_format("%s/cpuset.mems", leaf)),
                  read_text(text_format("%s/cpuset.mems", root))));
    check_file(leaf, "tasks", text_format("%d", pid));
    jail_kill(pid);
    remove_cgroup(leaf);
    remove_cgroup(text_format("%s/%s", root, parent));
    remove_cgroup(text_format("%s/%s-a", root, jail->name));
}

E2E(cgroup_values_of_version_1_that_the_kernel_refuses_leave_no_cgroup_behind,
    HOST | JAIL | SANITIZER)
{
    static const char *const cases[][2] = {
        {"pids.max=many", "Failed to write many to "},
        {"pids.nothing=1", "Cgroup invalid file: pids.nothing: "},
        {"nothing.at_all=1", "Controller nothing is unavailable"},
    };
    struct jail *jail = new_jail(jail_new);
    const char *pids = text_format("%s/%s", v1("pids"), jail->name);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *options[] = {"--cgroup", "pids.max=40", "--cgroup", cases[i][0], NULL};
        jail_fails(jail, options, cases[i][1]);
        check_gone(pids);
        CHECK(!strcmp(names_in(jail->base), ""));
    }
}

/* The exec fails, which is found out last, by a process that is in the cgroup. */
static void check_nothing_left(struct jail *jail, const char *cgroup, const char *const *options)
{
    const char *own = proc_text(getpid(), "cgroup");
    CHECK_INT(chmod(jail->exec, 0644), 0);
    jail_fails(jail, options, "Failed to exec into Firecracker: Permission denied");
    check_gone(cgroup);
    CHECK(!strcmp(names_in(jail->base), ""));
    CHECK(!strcmp(proc_text(getpid(), "cgroup"), own));
}

E2E(a_failing_exec_leaves_no_cgroup_of_version_1_behind, HOST | JAIL | SANITIZER)
{
    struct jail *jail = new_jail(jail_new);
    const char *cgroup = text_format("%s/%s", v1("pids"), jail->name);
    const char *options[] = {"--cgroup", "pids.max=40", "--daemonize", "--new-pid-ns", NULL};
    check_nothing_left(jail, cgroup, options);
    options[2] = NULL;
    check_nothing_left(jail, cgroup, options);
}

E2E(a_cgroup_that_others_use_stays_after_a_failure, HOST | JAIL | SANITIZER)
{
    struct jail *jail = new_jail(jail_new);
    const char *cgroup = text_format("%s/%s", v1("pids"), jail->name);
    const char *options[] = {"--cgroup", "pids.max=many", NULL};
    CHECK_INT(mkdir(cgroup, 0755), 0);
    jail_fails(jail, options, "Failed to write many to ");
    check_gone(text_format("%s/x", cgroup));
    remove_cgroup(cgroup);
}

/* ---- version 2 ---- */

E2E(a_cgroup_of_version_2_holds_the_monitor_and_the_values, HOST | JAIL)
{
    struct jail *jail = new_jail(jail_new_running);
    struct v2 tree = v2();
    const char *parent = text_format("%s/%s", tree.dir, jail->name);
    const char *leaf = text_format("%s/x", parent);
    const char *options[] = {"--cgroup-version", "2", "--cgroup",
                             text_format("%s=%s", tree.file, tree.value), NULL};
    struct vm *vm = jail_start(jail, options, NULL);
    int pid = vm->monitor.process.pid;
    check_file(leaf, tree.file, tree.value);
    check_file(leaf, "cgroup.procs", text_format("%d", pid));
    CHECK_HAS(proc_text(pid, "cgroup"), text_format("0::/%s/x\n", jail->name));
    CHECK(has_word(read_text(text_format("%s/cgroup.subtree_control", parent)), tree.controller,
                   " \n"));
    jail_kill(pid);
    remove_cgroup(leaf);
    remove_cgroup(parent);
    put_back(&tree);
}

E2E(a_parent_cgroup_of_version_2_may_be_deep_and_a_daemons, HOST | JAIL)
{
    struct jail *jail = new_jail(jail_new_running);
    struct v2 tree = v2();
    const char *top = text_format("%s-top", jail->name);
    const char *options[] = {"--cgroup-version", "2",
                             "--cgroup",         text_format("%s=%s", tree.file, tree.value),
                             "--parent-cgroup",  text_format("%s//b/", top),
                             "--daemonize",      NULL};
    CHECK_INT(jail_run(jail, options, NULL)->status, 0);
    const char *leaf = text_format("%s/%s/b/x", tree.dir, top);
    int pid = jail_pid(jail);
    check_file(leaf, tree.file, tree.value);
    check_file(leaf, "cgroup.procs", text_format("%d", pid));
    jail_kill(pid);
    remove_cgroup(leaf);
    remove_cgroup(text_format("%s/%s/b", tree.dir, top));
    remove_cgroup(text_format("%s/%s", tree.dir, top));
    put_back(&tree);
}

E2E(cgroup_values_of_version_2_that_the_kernel_refuses_leave_no_cgroup_behind,
    HOST | JAIL | SANITIZER)
{
    struct jail *jail = new_jail(jail_new);
    struct v2 tree = v2();
    const char *cases[][2] = {
        {text_format("%s=many", tree.file), "Failed to write many to "},
        {text_format("%s.nothing=1", tree.controller), "Cgroup invalid file: "},
        {"nothing.at_all=1", "Controller nothing is unavailable"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *options[] = {"--cgroup-version", "2", "--cgroup", cases[i][0], NULL};
        jail_fails(jail, options, cases[i][1]);
        check_gone(text_format("%s/%s", tree.dir, jail->name));
        CHECK(!strcmp(names_in(jail->base), ""));
    }
    put_back(&tree);
}

E2E(a_failing_exec_leaves_no_cgroup_of_version_2_behind, HOST | JAIL | SANITIZER)
{
    struct jail *jail = new_jail(jail_new);
    struct v2 tree = v2();
    const char *cgroup = text_format("%s/%s", tree.dir, jail->name);
    const char *options[] = {"--cgroup-version",
                             "2",
                             "--cgroup",
                             text_format("%s=%s", tree.file, tree.value),
                             "--daemonize",
                             "--new-pid-ns",
                             NULL};
    check_nothing_left(jail, cgroup, options);
    options[4] = NULL;
    check_nothing_left(jail, cgroup, options);
    put_back(&tree);
}

E2E(a_parent_cgroup_alone_is_joined_when_it_exists, HOST | JAIL)
{
    struct jail *jail = new_jail(jail_new_running);
    struct v2 tree = v2();
    const char *parent = text_format("%s/%s-p", tree.dir, jail->name);
    const char *options[] = {"--cgroup-version", "2", "--parent-cgroup",
                             text_format("%s-p", jail->name), NULL};
    CHECK_INT(mkdir(parent, 0755), 0);
    int pid = jail_start(jail, options, NULL)->monitor.process.pid;
    check_file(parent, "cgroup.procs", text_format("%d", pid));
    jail_kill(pid);
    remove_cgroup(parent);
}

E2E(a_parent_cgroup_alone_that_is_missing_changes_nothing, HOST | JAIL)
{
    struct jail *jail = new_jail(jail_new_running);
    struct v2 tree = v2();
    const char *options[] = {"--cgroup-version", "2", "--parent-cgroup",
                             text_format("%s-p", jail->name), NULL};
    int pid = jail_start(jail, options, NULL)->monitor.process.pid;
    CHECK(!strcmp(proc_text(pid, "cgroup"), proc_text(getpid(), "cgroup")));
    check_gone(text_format("%s/%s-p", tree.dir, jail->name));
}

E2E(a_parent_cgroup_that_takes_no_process_is_told, HOST | JAIL | SANITIZER)
{
    struct jail *jail = new_jail(jail_new);
    struct v2 tree = v2();
    const char *parent = text_format("%s/%s-p", tree.dir, jail->name);
    const char *options[] = {"--cgroup-version", "2", "--parent-cgroup",
                             text_format("%s-p", jail->name), NULL};
    const char *word = text_format("+%s", tree.controller);
    const char *levels[] = {tree.dir, parent};
    CHECK_INT(mkdir(parent, 0755), 0);
    for (unsigned i = 0; i < 2; i++)
        CHECK_INT(
            files_write(text_format("%s/cgroup.subtree_control", levels[i]), word, strlen(word)),
            0);
    jail_fails(jail, options, "Device or resource busy (os error 16)");
    CHECK(!strcmp(names_in(jail->base), ""));
    remove_cgroup(parent);
    put_back(&tree);
}
