/* SPDX-License-Identifier: Apache-2.0 */
/* What the jailer refuses: exit code 1, one sentence, and everything as it was. */
#include "tests/e2e/e2e.h"
#include "tests/e2e/jail.h"
#include "tests/support/files.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A jailer that must fail and leave nothing where jails are made. */
static void fails_cleanly(const struct jail *jail, const char *const *options, const char *part)
{
    jail_fails(jail, options, part);
    CHECK(!strcmp(names_in(jail->base), ""));
}

/* ---- the command line ---- */

/* By a command line of its own, which no jail gets as far as. */
static void refused(const char *const *argv, const char *part)
{
    struct process p;
    struct process_spec spec = {.argv = argv, .out = PROCESS_PIPE, .err = PROCESS_PIPE};
    CHECK_INT(process_start(&p, &spec), 0);
    CHECK(process_wait(&p, e2e_ms(VM_MS)));
    CHECK(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 1);
    CHECK_HAS(text_str(&p.err_text), part);
    process_end(&p);
}

E2E(a_jailer_without_what_it_must_have_names_it, HOST | JAIL | SANITIZER)
{
    const char *none[] = {e2e.jailer, NULL};
    const char *no_exec[] = {e2e.jailer, "--id", "a", NULL};
    const char *no_uid[] = {e2e.jailer, "--id", "a", "--exec-file", "/x", NULL};
    const char *no_gid[] = {e2e.jailer, "--id", "a", "--exec-file", "/x", "--uid", "1", NULL};
    refused(none,
            "Jailer error: Failed to parse arguments: Argument 'id' required, but not found.");
    refused(no_exec, "Argument 'exec-file' required, but not found.");
    refused(no_uid, "Argument 'uid' required, but not found.");
    refused(no_gid, "Argument 'gid' required, but not found.");
}

E2E(the_jailers_version_is_on_its_first_line_and_help_names_every_option, HOST | JAIL | SANITIZER)
{
    const char *words[] = {"--version", "--help"};
    const char *parts[] = {"Jailer v", "--resource-limit"};
    for (unsigned i = 0; i < 2; i++) {
        const char *argv[] = {e2e.jailer, words[i], NULL};
        struct process p;
        struct process_spec spec = {.argv = argv, .out = PROCESS_PIPE, .err = PROCESS_PIPE};
        CHECK_INT(process_start(&p, &spec), 0);
        CHECK(process_wait(&p, e2e_ms(VM_MS)));
        CHECK_INT(p.status, 0);
        CHECK_HAS(text_str(&p.out_text), parts[i]);
        process_end(&p);
    }
}

E2E(a_bad_id_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    jail->id = "";
    fails_cleanly(jail, NULL,
                  "Jailer error: Invalid instance ID: Invalid len (0);  the length must be between "
                  "1 and 64");
    jail->id = "../up";
    fails_cleanly(jail, NULL, "Invalid instance ID: Invalid char (.) at position 0");
    jail->id = "a/b";
    fails_cleanly(jail, NULL, "Invalid instance ID: Invalid char (/) at position 1");
}

/* ---- executables ---- */

E2E(an_executable_that_is_none_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    jail->exec = e2e_path("missing");
    fails_cleanly(jail, NULL,
                  text_format("Jailer error: Failed to canonicalize path %s: No such file or "
                              "directory (os error 2)",
                              jail->exec));
    jail->exec = e2e_dir;
    fails_cleanly(jail, NULL, text_format("Jailer error: %s is not a file", e2e_dir));
}

/* An executable that cannot be: found out last of all, inside, when everything is made. */
static struct jail *jail_without_exec_permission(void)
{
    struct jail *jail = jail_new("firecracker");
    CHECK_INT(chmod(jail->exec, 0644), 0);
    return jail;
}

static const char why_not[] = "Failed to exec into Firecracker: Permission denied (os error 13)";

E2E(a_failing_exec_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    fails_cleanly(jail_without_exec_permission(), NULL, why_not);
}

E2E(a_failing_exec_in_a_pid_namespace_is_told_and_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    const char *options[] = {"--new-pid-ns", NULL};
    fails_cleanly(jail_without_exec_permission(), options, why_not);
}

E2E(a_failing_exec_of_a_daemon_is_told_and_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    const char *options[] = {"--daemonize", NULL};
    fails_cleanly(jail_without_exec_permission(), options, why_not);
}

E2E(a_failing_exec_of_a_daemon_in_a_pid_namespace_is_told_and_leaves_nothing_behind,
    HOST | JAIL | SANITIZER)
{
    const char *options[] = {"--daemonize", "--new-pid-ns", NULL};
    fails_cleanly(jail_without_exec_permission(), options, why_not);
}

E2E(a_failing_exec_leaves_what_the_user_had_placed, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_without_exec_permission();
    const char *disk = e2e_path("disk");
    CHECK_INT(files_make_sparse(disk, 4096), 0);
    jail_place(jail, disk);
    jail_fails(jail, NULL, why_not);
    CHECK(!strcmp(names_in(jail->root), "disk "));
}

E2E(a_file_that_is_no_program_is_told, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    CHECK_INT(files_write(jail->exec, "no program", 10), 0);
    fails_cleanly(jail, NULL, "Failed to exec into Firecracker: Exec format error (os error 8)");
}

/* Makes one system call fail, for the program and all its children. Of limits only that of
 * descriptors: a sanitizer's start asks for others. */
static int forbid(void *arg)
{
    unsigned number = *(const unsigned *)arg;
    bool limits = number == SYS_prlimit64;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | (limits ? BPF_JEQ : BPF_JGE) | BPF_K, limits ? RLIMIT_NOFILE : 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

E2E(whichever_system_call_fails_it_is_told_in_a_sentence_and_nothing_is_left, HOST | JAIL)
{
    static const struct {
        unsigned number;
        const char *part;
    } calls[] = {
        {SYS_close_range, "Failed to call close range syscall"},
        {SYS_setns, "Failed to join network namespace"},
        {SYS_mkdirat, "Failed to create directory "},
        {SYS_sendfile, "Failed to copy "},
        {SYS_fchown, "Failed to copy "},
        {SYS_fchmod, "Failed to copy "},
        {SYS_mknodat, "Failed to create /dev/net/tun via mknod inside the jail"},
        {SYS_fchownat, "Failed to change owner for /dev/net/tun"},
        {SYS_unshare, "Failed to unshare into new mount namespace"},
        {SYS_mount, "Failed to change the propagation type to slave"},
        {SYS_chdir, "Failed to chdir into chroot directory"},
        {SYS_pivot_root, "Failed to pivot root"},
        {SYS_umount2, "Failed to unmount the old jail root"},
        {SYS_pipe2, "Failed to daemonize"},
        {SYS_clone, "Failed to daemonize"},
        {SYS_dup2, "Failed to duplicate fd"},
        {SYS_prlimit64, "Failed to set limit for resource: number of file descriptors"},
        {SYS_setgroups, "Failed to become group 2345"},
        {SYS_setresgid, "Failed to become group 2345"},
        {SYS_setresuid, "Failed to become user 1234"},
    };
    struct jail *jail = jail_new("firecracker");
    const char *options[] = {"--daemonize", "--new-pid-ns", "--netns", "/proc/self/ns/net", NULL};
    for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        unsigned number = calls[i].number;
        struct process_spec spec = {.argv = jail_command(jail, options, NULL),
                                    .out = PROCESS_PIPE,
                                    .err = PROCESS_PIPE,
                                    .prepare = forbid,
                                    .prepare_arg = &number};
        struct process p;
        CHECK_INT(process_start(&p, &spec), 0);
        CHECK(process_wait(&p, e2e_ms(VM_MS)));
        if (!WIFEXITED(p.status) || WEXITSTATUS(p.status) != 1)
            FAIL("system call %u: %s", number, process_how(&p));
        CHECK_HAS(text_str(&p.err_text), calls[i].part);
        CHECK_HAS(text_str(&p.err_text), ": Operation not permitted (os error 1)\n");
        if (*names_in(jail->base))
            FAIL("system call %u: left %s", number, names_in(jail->base));
        process_end(&p);
    }
}

/* ---- jails ---- */

E2E(a_missing_base_directory_is_told, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    CHECK_INT(rmdir(jail->base), 0);
    jail_fails(jail, NULL, text_format("Failed to canonicalize path %s: No such file", jail->base));
    CHECK_INT(files_write(jail->base, "", 0), 0);
    jail_fails(jail, NULL, text_format("%s is not a directory", jail->base));
}

E2E(a_jail_in_which_a_monitor_runs_is_refused_and_stays_as_it_is, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    struct vm *vm = jail_start(jail, NULL, NULL);
    const char *before = names_in(jail->root);
    struct stat root;
    jail_fails(jail, NULL, "Failed to create /dev/net/tun via mknod inside the jail: File exists");
    CHECK(!strcmp(names_in(jail->root), before));
    CHECK(stat(jail->root, &root) == 0 && root.st_uid == JAIL_UID);
    CHECK(!strcmp(vm_state(vm), "Not started"));
    CHECK_INT(jail_pid(jail), vm->monitor.process.pid);
}

E2E(a_pid_file_that_is_there_is_refused_and_stays, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    jail_make_root(jail);
    CHECK_INT(files_write(text_format("%s/firecracker.pid", jail->root), "77", 2), 0);
    jail_fails(jail, NULL, "Failed to open file /firecracker.pid: File exists (os error 17)");
    CHECK_INT(jail_pid(jail), 77);
    CHECK(!strcmp(names_in(jail->root), "firecracker.pid "));
}

/* The file that a link in the jail leads to must stay as it was. */
static void check_victim(const struct jail *jail, const char *victim, const char *part)
{
    struct text text = {0};
    struct stat st;
    jail_fails(jail, NULL, part);
    CHECK_INT(text_read_file(&text, victim), 0);
    CHECK(!strcmp(text_str(&text), "victim"));
    CHECK(stat(victim, &st) == 0 && st.st_uid == 0 && (st.st_mode & 07777) == 0600);
    CHECK(!strcmp(names_in(jail->root), "firecracker "));
}

static const char *new_victim(void)
{
    const char *victim = e2e_path("victim");
    CHECK_INT(files_write(victim, "victim", 6), 0);
    CHECK_INT(chmod(victim, 0600), 0);
    return victim;
}

E2E(a_symbolic_link_where_the_copy_should_be_is_not_followed, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    const char *victim = new_victim();
    jail_make_root(jail);
    CHECK_INT(symlink(victim, text_format("%s/firecracker", jail->root)), 0);
    check_victim(jail, victim, "Too many levels of symbolic links (os error 40)");
}

E2E(a_hard_link_where_the_copy_should_be_is_not_written_to, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    const char *victim = new_victim();
    jail_make_root(jail);
    CHECK_INT(link(victim, text_format("%s/firecracker", jail->root)), 0);
    check_victim(jail, victim, "hard links");
}

E2E(links_where_directories_should_be_are_not_followed, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    const char *victim = e2e_path("victim");
    struct stat st;
    CHECK_INT(mkdir(victim, 0755), 0);
    jail_make_root(jail);
    CHECK_INT(symlink(victim, text_format("%s/dev", jail->root)), 0);
    jail_fails(jail, NULL, "Failed to create directory /dev: ");
    CHECK(!strcmp(names_in(victim), ""));
    CHECK(stat(victim, &st) == 0 && st.st_uid == 0 && (st.st_mode & 07777) == 0755);
    CHECK(!strcmp(names_in(jail->root), "dev "));
}

E2E(a_full_file_system_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    CHECK_INT(mount("none", jail->base, "tmpfs", 0, "size=64k"), 0);
    fails_cleanly(jail, NULL, "No space left on device (os error 28)");
}

/* ---- values ---- */

E2E(a_network_namespace_that_is_none_leaves_nothing_behind, HOST | JAIL | SANITIZER)
{
    struct jail *jail = jail_new("firecracker");
    const char *missing[] = {"--netns", "/nonexistent", NULL};
    const char *wrong[] = {"--netns", "/proc/self/ns/uts", NULL};
    fails_cleanly(jail, missing, "Failed to open file /nonexistent: No such file or directory");
    fails_cleanly(jail, wrong,
                  "Failed to join network namespace: netns: /proc/self/ns/uts: "
                  "Invalid argument (os error 22)");
}

E2E(bad_values_of_options_leave_nothing_behind, HOST | JAIL | SANITIZER)
{
    static const struct {
        const char *option, *value, *part;
    } cases[] = {
        {"--resource-limit", "no-file", "Invalid format for resources limits: no-file"},
        {"--resource-limit", "no-file=x", "Invalid limit value for resource: x"},
        {"--resource-limit", "as=1", "Invalid resource argument: as"},
        {"--cgroup", "cpu.shares", "Invalid format for cgroups: cpu.shares"},
        {"--cgroup", "cpu.shares=", "Invalid format for cgroups: cpu.shares="},
        {"--cgroup", "shares=1", "Cgroup invalid file: shares"},
        {"--cgroup", "../x.y=1", "Cgroup invalid file: ../x.y"},
        {"--cgroup-version", "3", "3 is an invalid cgroup version specifier"},
        {"--parent-cgroup", "/a", "Parent cgroup path is invalid."},
        {"--parent-cgroup", "a/../b", "Parent cgroup path is invalid."},
    };
    struct jail *jail = jail_new("firecracker");
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *options[] = {cases[i].option, cases[i].value, NULL};
        fails_cleanly(jail, options, cases[i].part);
    }
}

static int become_nobody(void *arg)
{
    (void)arg;
    return setgid(65534) < 0 || setuid(65534) < 0 ? -errno : 0;
}

E2E(a_jailer_that_is_not_root_says_what_it_may_not, HOST | JAIL)
{
    struct jail *jail = jail_new("firecracker");
    const char *program = e2e_path("jailer");
    const char *argv[] = {program,    "--id", "x",           "--uid",    "1",
                          "--gid",    "1",    "--exec-file", jail->exec, "--chroot-base-dir",
                          jail->base, NULL};
    struct process_spec spec = {.argv = argv, .err = PROCESS_PIPE, .prepare = become_nobody};
    struct process p;
    CHECK_INT(files_copy(e2e.jailer, program), 0);
    chmod(program, 0755);
    chmod(e2e_dir, 0755);
    chmod(jail->base, 0777);
    CHECK_INT(process_start(&p, &spec), 0);
    CHECK(process_wait(&p, e2e_ms(VM_MS)));
    CHECK(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 1);
    CHECK_HAS(text_str(&p.err_text), "Operation not permitted (os error 1)");
    CHECK(!strcmp(names_in(jail->base), ""));
}
