/* SPDX-License-Identifier: Apache-2.0 */
/* What a jailed monitor can do, and what it can no longer do. */
#include "tests/e2e/bare.h"
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/jail.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/pace.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

/* ---- what it can do ---- */

E2E(a_jailed_monitor_runs_a_guest_with_a_disk_that_it_is_told_of_from_outside, TINY | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *disk = disk_new("disk", 4);
    const char *kernel = jail_place(jail, e2e_guest("tiny.elf"));
    jail_place(jail, disk);
    struct vm *vm = jail_start(jail, NULL, NULL);
    linux_drive(vm, "d", "/disk", "");
    vm_boot(vm, kernel, "tiny=blk dev=0 seed=5");
    vm_expect(vm, "BLK ok capacity=8192 sectors=8192 readonly=0\n");
    vm_exits(vm, 0);
    disk_holds(disk, 0, 4 * SECTORS_PER_MIB, 5); /* placed by a hard link: it is the same file */
}

/* A jail has no /proc by which the memory file could be found again, to be locked by the fork. */
E2E(a_jailed_monitor_that_was_loaded_is_forked, TINY | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    struct vm *vm = pacing("", NULL);
    snap_take(vm, "s");
    unsigned long stood = pace_of(vm);
    jail_place(jail, e2e_path("s.state"));
    jail_place(jail, e2e_path("s.mem"));
    vm = jail_start(jail, NULL, NULL);
    vm_put(vm, "/snapshot/load",
           "{\"snapshot_path\":\"/s.state\",\"mem_file_path\":\"/s.mem\",\"resume_vm\":true}");
    vm_put_answered(
        vm, "/snapshot/fork",
        "{\"children\":[{\"api_sock\":\"/a.sock\",\"serial_out_path\":\"/a.console\"}]}");
    monitor_end(&vm->monitor);
    counts_beyond_in(text_format("%s/a.console", jail->root), stood + 2);
    CHECK(!strcmp(vm_state(vm_adopt(text_format("%s/a.sock", jail->root))), "Running"));
}

E2E(a_jail_has_the_name_of_the_executable_whatever_that_is, HOST | JAIL)
{
    struct jail *jail = jail_new_running("monitor-1.2_x");
    struct vm *vm = jail_start(jail, NULL, NULL);
    CHECK_INT(jail_pid(jail), vm->monitor.process.pid);
    CHECK(!strcmp(names_in(jail->root), "dev monitor-1.2_x monitor-1.2_x.pid run "));
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(an_executable_named_by_a_link_has_the_name_of_the_file, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *alias = e2e_path("alias");
    CHECK_INT(symlink(jail->exec, alias), 0);
    jail->exec = alias;
    jail_start(jail, NULL, NULL);
    CHECK_HAS(names_in(jail->root), "firecracker firecracker.pid ");
}

static void check_node(const struct jail *jail, const char *path, mode_t mode, uid_t uid, gid_t gid,
                       dev_t device)
{
    struct stat st;
    const char *full = text_format("%s%s", jail->root, path);
    if (lstat(full, &st) < 0)
        FAIL("%s is missing", full);
    if (st.st_mode != mode || st.st_uid != uid || st.st_gid != gid ||
        (S_ISCHR(mode) && st.st_rdev != device))
        FAIL("%s: mode %o, owner %u:%u, device %x", path, st.st_mode, st.st_uid, st.st_gid,
             (unsigned)st.st_rdev);
}

E2E(what_is_in_a_jail_belongs_to_its_user_alone, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *directories[] = {"", "/dev", "/dev/net", "/run"};
    chmod(jail->exec, 0751);
    jail_start(jail, NULL, NULL);
    for (unsigned i = 0; i < 4; i++)
        check_node(jail, directories[i], S_IFDIR | 0700, JAIL_UID, JAIL_GID, 0);
    check_node(jail, "/dev/kvm", S_IFCHR | 0600, JAIL_UID, JAIL_GID, makedev(10, 232));
    check_node(jail, "/dev/net/tun", S_IFCHR | 0600, JAIL_UID, JAIL_GID, makedev(10, 200));
    check_node(jail, "/dev/urandom", S_IFCHR | 0600, JAIL_UID, JAIL_GID, makedev(1, 9));
    check_node(jail, "/firecracker", S_IFREG | 0751, JAIL_UID, JAIL_GID, 0);
    check_node(jail, "/firecracker.pid", S_IFREG | 0644, 0, 0, 0);
    struct stat host, inside;
    if (stat("/dev/userfaultfd", &host) == 0) {
        CHECK_INT(stat(text_format("%s/dev/userfaultfd", jail->root), &inside), 0);
        CHECK(inside.st_rdev == host.st_rdev && inside.st_uid == JAIL_UID);
    }
    CHECK(stat(jail->exec, &host) == 0 &&
          stat(text_format("%s/firecracker", jail->root), &inside) == 0);
    CHECK(host.st_ino != inside.st_ino && host.st_uid == 0);
}

E2E(what_was_mounted_in_a_jail_before_is_seen_inside, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    jail_make_root(jail);
    const char *dir = text_format("%s/disks", jail->root);
    CHECK_INT(mkdir(dir, 0755), 0);
    CHECK_INT(mount("none", "/", NULL, MS_REC | MS_SHARED, NULL), 0); /* as systemd has it */
    CHECK_INT(mount("none", dir, "tmpfs", 0, NULL), 0);
    CHECK_INT(files_make_sparse(text_format("%s/a", dir), 4096), 0);
    struct vm *vm = jail_start(jail, NULL, NULL);
    linux_drive(vm, "a", "/disks/a", ",\"is_read_only\":true");
    /* And it leaves when the host unmounts it, which the open file does not hinder. */
    CHECK_INT(umount2(dir, MNT_DETACH), 0);
    vm_refused(vm, "PUT", "/drives/b", "No such file",
               "{\"drive_id\":\"b\",\"is_root_device\":false,\"path_on_host\":\"/disks/a\"}");
    CHECK_HAS(names_in(jail->root), "disks ");
}

E2E(the_monitor_counts_its_start_from_the_jailers, TINY | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *args[] = {"--metrics-path", "/metrics", NULL};
    const char *kernel = jail_place(jail, bare_guest(BARE_RESET));
    struct vm *vm = jail_start(jail, NULL, args);
    vm_boot(vm, kernel, "");
    vm_exits(vm, 0);
    struct text lines = {0};
    CHECK_INT(text_read_file(&lines, text_format("%s/metrics", jail->root)), 0);
    json_t *first = json_loads(text_str(&lines), JSON_DISABLE_EOF_CHECK, NULL);
    json_t *server = json_object_get(first, "api_server");
    json_int_t wall = json_integer_value(json_object_get(server, "process_startup_time_us"));
    json_int_t cpu = json_integer_value(json_object_get(server, "process_startup_time_cpu_us"));
    if (wall < 100 || wall > 60000000 || cpu < 100 || cpu > 60000000)
        FAIL("the start took %lld us, of these %lld on the processor", (long long)wall,
             (long long)cpu);
}

/* A guest's 64 KiB on a terminal that has room for a few, and log lines among them. */
E2E(a_terminal_that_nobody_reads_does_not_stop_a_jailed_monitor, TINY | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *kernel = jail_place(jail, bare_guest(BARE_FLOOD));
    const char *options[] = {NULL};
    const char *const *argv = jail_command(jail, options, NULL);
    struct process_spec spec = {
        .argv = argv, .in = PROCESS_TERMINAL, .out = PROCESS_TERMINAL, .err = PROCESS_PIPE};
    struct process p;
    struct api_answer a;
    CHECK_INT(process_start(&p, &spec), 0);
    jail_wait_for_socket(jail);
    CHECK(!(fcntl(p.slave, F_GETFL) & O_NONBLOCK)); /* the starter's stays as it was */
    const char *boot = text_format("{\"kernel_image_path\":\"%s\"}", kernel);
    for (unsigned i = 0; i < 100; i++)
        CHECK_INT(api_request(jail->socket, "GET", "/", NULL, &a, e2e_ms(VM_MS)), API_ANSWERED);
    CHECK_INT(api_request(jail->socket, "PUT", "/boot-source", boot, &a, e2e_ms(VM_MS)),
              API_ANSWERED);
    CHECK_INT(api_request(jail->socket, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}",
                          &a, e2e_ms(VM_MS)),
              API_ANSWERED);
    CHECK_INT(a.status, 204);
    int64_t deadline = clock_ms() + e2e_ms(VM_MS);
    while (proc_status(p.pid, "State")[0] != 'Z' && clock_left(deadline))
        clock_sleep(20);
    CHECK(process_wait(&p, e2e_ms(VM_MS)));
    CHECK_INT(p.status, 0);
}

/* ---- what it has ---- */

/* The number of descriptors from 3 on, each of which must be a thing that the monitor makes, or the
 * device that it opens ahead of a start. */
static unsigned count_own_files(int pid)
{
    unsigned n = 0;
    const char *names = names_in(text_format("/proc/%d/fd", pid));
    for (const char *at = names; *at; at = strchr(at, ' ') + 1) {
        int fd = atoi(at);
        char target[256] = "";
        ssize_t len = readlink(text_format("/proc/%d/fd/%d", pid, fd), target, sizeof(target) - 1);
        if (fd < 3 || len < 0) /* a connection of ours may have been closed meanwhile */
            continue;
        n++;
        if (strncmp(target, "anon_inode:", 11) != 0 && strncmp(target, "socket:", 7) != 0 &&
            strcmp(target, "/dev/kvm") != 0)
            FAIL("descriptor %d is %s", fd, target);
    }
    return n;
}

/* A starter with an open file and a word in its environment. */
static int leave_things_around(void *arg)
{
    (void)arg;
    for (int fd = 20; fd < 24; fd++)
        if (dup2(open("/etc/passwd", O_RDONLY | O_CLOEXEC), fd) < 0)
            return -errno;
    return setenv("SECRET", "word", 1);
}

E2E(a_jailed_monitor_gets_nothing_from_who_started_the_jailer, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *argv[] = {e2e.jailer, "--id", "x",           "--uid",    "1234",
                          "--gid",    "2345", "--exec-file", jail->exec, "--chroot-base-dir",
                          jail->base, NULL};
    struct process_spec spec = {.argv = argv, .prepare = leave_things_around};
    struct vm *vm = vm_launch(&spec, jail->socket);
    int pid = vm->monitor.process.pid;
    CHECK(!strcmp(proc_text(pid, "environ"), ""));
    CHECK(count_own_files(pid) < 16);
}

E2E(a_jailed_monitor_is_its_user_without_any_privilege, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    struct vm *vm = jail_start(jail, NULL, NULL);
    int pid = vm->monitor.process.pid;
    CHECK(!strcmp(proc_status(pid, "Uid"), "1234\t1234\t1234\t1234"));
    CHECK(!strcmp(proc_status(pid, "Gid"), "2345\t2345\t2345\t2345"));
    CHECK_INT(strspn(proc_status(pid, "Groups"), " "), strlen(proc_status(pid, "Groups")));
    const char *sets[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};
    for (unsigned i = 0; i < 4; i++)
        CHECK(!strcmp(proc_status(pid, sets[i]), "0000000000000000"));
}

/* Soft and hard limit, as /proc/PID/limits has them in a line of that name. */
static void check_limit(int pid, const char *name, const char *value)
{
    char soft[32], hard[32];
    const char *line = strstr(proc_text(pid, "limits"), name);
    if (!line || sscanf(line + strlen(name), "%31s %31s", soft, hard) != 2)
        FAIL("no limit \"%s\"", name);
    if (strcmp(soft, value) != 0 || strcmp(hard, value) != 0)
        FAIL("%s: %s %s, not %s", name, soft, hard, value);
}

E2E(a_jailed_monitor_may_open_2048_files_if_nothing_is_said, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    int pid = jail_start(jail, NULL, NULL)->monitor.process.pid;
    check_limit(pid, "Max open files", "2048");
    check_limit(pid, "Max file size", "unlimited");
}

E2E(a_jailed_monitor_has_the_limits_that_were_given_in_a_pid_namespace_too, HOST | JAIL)
{
    const char *options[] = {"--resource-limit", "no-file=1024",  "--new-pid-ns",
                             "--resource-limit", "fsize=2097151", NULL};
    struct jail *jail = jail_new_running("firecracker");
    CHECK_INT(jail_run(jail, options, NULL)->status, 0);
    int pid = jail_pid(jail);
    check_limit(pid, "Max open files", "1024");
    check_limit(pid, "Max file size", "2097151");
    jail_kill(pid);
}

E2E(a_monitor_that_may_open_too_few_files_says_so, HOST | JAIL)
{
    const char *options[] = {"--resource-limit", "no-file=3", NULL};
    struct jail *jail = jail_new_running("firecracker");
    struct process *p = jail_run(jail, options, NULL);
    CHECK(WIFEXITED(p->status) && WEXITSTATUS(p->status) == 1);
    CHECK_HAS(text_str(&p->err_text), "Too many open files (os error 24)");
}

/* ---- what it cannot do ---- */

E2E(a_jailed_monitor_sees_no_file_outside_by_whatever_path, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    jail_make_root(jail);
    CHECK_INT(symlink("/etc/passwd", text_format("%s/absolute", jail->root)), 0);
    CHECK_INT(symlink("../../../../../../../../etc/passwd", text_format("%s/up", jail->root)), 0);
    struct vm *vm = jail_start(jail, NULL, NULL);
    const char *outside[] = {
        "/etc/passwd", "../../../../../../etc/passwd", "/absolute",
        "/up",         "/proc/self/root/etc/passwd",   "/firecracker/../../etc/passwd",
        jail->exec};
    CHECK_INT(access("/etc/passwd", R_OK), 0);
    for (unsigned i = 0; i < sizeof(outside) / sizeof(*outside); i++)
        vm_refused(vm, "PUT", "/drives/d", "os error",
                   "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"%s\"}",
                   outside[i]);
}

E2E(nothing_but_the_jail_is_mounted_in_a_jail, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    int pid = jail_start(jail, NULL, NULL)->monitor.process.pid;
    const char *mounts = proc_text(pid, "mountinfo");
    CHECK(strchr(mounts, '\n') == mounts + strlen(mounts) - 1); /* one line */
    CHECK_HAS(mounts, " / ");                                   /* where it is mounted */
    CHECK(!strcmp(names_in(text_format("/proc/%d/root", pid)),
                  "dev firecracker firecracker.pid run "));
    CHECK(strcmp(proc_link(pid, "ns/mnt"), proc_link(getpid(), "ns/mnt")) != 0);
    struct stat root, inside;
    CHECK(stat(jail->root, &root) == 0 && stat(text_format("/proc/%d/cwd", pid), &inside) == 0);
    CHECK(root.st_dev == inside.st_dev && root.st_ino == inside.st_ino);
}

/* ---- namespaces and daemons ---- */

/* A network namespace with a tap in it that the jail's user may use; bound to a file. */
static const char *new_netns(void)
{
    const char *path = e2e_path("netns");
    CHECK_INT(files_write(path, "", 0), 0);
    pid_t child = fork();
    if (child == 0) {
        struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
        int fd = unshare(CLONE_NEWNET) < 0 ? -1 : open("/dev/net/tun", O_RDWR);
        strcpy(request.ifr_name, "tap7");
        bool good = fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 &&
                    ioctl(fd, TUNSETOWNER, JAIL_UID) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0 &&
                    mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        e2e_skip("cannot make a network namespace with a tap here");
    return path;
}

/* Everything that a monitor opens, at once, as a user who may open nothing else. */
E2E(a_jailed_monitor_boots_linux_with_a_disk_a_tap_and_a_socket, LINUX | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *disk = disk_new("disk", 4);
    const char *kernel = jail_place(jail, e2e_guest(REFERENCE_ELF));
    const char *initrd = jail_place(jail, e2e_guest(TEST_INITRD));
    const char *options[] = {"--netns", new_netns(), "--resource-limit", "no-file=256", NULL};
    const char *args[] = {"--log-path", "/log", "--metrics-path", "/metrics", NULL};
    disk_fill(disk, 0, SECTORS_PER_MIB, 3);
    jail_place(jail, disk);
    struct vm *vm = jail_start(jail, options, args);
    linux_machine(vm, 2, 128);
    linux_drive(vm, "d", "/disk", ",\"io_engine\":\"Async\"");
    vm_put(vm, "/network-interfaces/e", "{\"iface_id\":\"e\",\"host_dev_name\":\"tap7\"}");
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v.sock\"}");
    vm_put(vm, "/boot-source",
           "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\",\"boot_args\":\"" LINUX_ARGS "\"}",
           kernel, initrd);
    vm_start(vm);
    vm_expect(vm, "READY\n");
    CHECK_HAS(ask(vm, "verify vda 2048 3"), "");
    CHECK_HAS(ask(vm, "write vda 2048 4 4096"), "");
    CHECK_HAS(ask(vm, "ls /sys/class/net"), "eth0");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    disk_holds(disk, 4096, SECTORS_PER_MIB, 4);
    CHECK_HAS(names_in(jail->root), "log metrics run v.sock ");
}

E2E(a_jailed_monitor_is_in_the_network_namespace_it_was_given_and_uses_its_tap, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *netns = new_netns(), *alias = e2e_path("alias");
    const char *options[] = {"--netns", alias, NULL};
    CHECK_INT(symlink(netns, alias), 0);
    struct vm *vm = jail_start(jail, options, NULL);
    struct stat given, joined;
    CHECK_INT(stat(netns, &given), 0);
    CHECK_INT(stat(text_format("/proc/%d/ns/net", vm->monitor.process.pid), &joined), 0);
    CHECK(given.st_ino == joined.st_ino && given.st_dev == joined.st_dev);
    vm_put(vm, "/network-interfaces/e", "{\"iface_id\":\"e\",\"host_dev_name\":\"tap7\"}");
    vm_refused(vm, "PUT", "/network-interfaces/f", "os error",
               "{\"iface_id\":\"f\",\"host_dev_name\":\"tap8\"}"); /* it may not make one */
}

E2E(a_monitor_in_a_new_pid_namespace_is_process_1_and_the_jailer_ends_with_0, HOST | JAIL)
{
    const char *options[] = {"--new-pid-ns", NULL};
    struct jail *jail = jail_new_running("firecracker");
    struct process *p = jail_run(jail, options, NULL);
    CHECK_INT(p->status, 0);
    CHECK(!strcmp(text_str(&p->err_text), ""));
    int pid = jail_pid(jail);
    CHECK(!strcmp(proc_status(pid, "NSpid"), text_format("%d\t1", pid)));
    CHECK(strcmp(proc_link(pid, "ns/pid"), proc_link(getpid(), "ns/pid")) != 0);
    CHECK(count_own_files(pid) < 16);
    jail_wait_for_socket(jail);
    jail_kill(pid);
}

static int lead_session(void *arg)
{
    (void)arg;
    return setsid() < 0 ? -errno : 0;
}

E2E(a_jailer_that_leads_a_session_leaves_it_for_a_monitor_in_a_pid_namespace, HOST | JAIL)
{
    struct jail *jail = jail_new_running("firecracker");
    const char *argv[] = {
        e2e.jailer, "--id",         "x",           "--uid",    "1234",
        "--gid",    "2345",         "--exec-file", jail->exec, "--chroot-base-dir",
        jail->base, "--new-pid-ns", NULL};
    struct process_spec spec = {.argv = argv, .prepare = lead_session};
    struct process p;
    CHECK_INT(process_start(&p, &spec), 0);
    CHECK(process_wait(&p, e2e_ms(VM_MS)));
    int pid = jail_pid(jail);
    CHECK_INT(getsid(pid), pid);
    jail_wait_for_socket(jail);
    jail_kill(pid);
}

static void check_daemon(const struct jail *jail, const char *const *options)
{
    struct process *p = jail_run(jail, options, NULL);
    CHECK_INT(p->status, 0);
    int pid = jail_pid(jail);
    CHECK(pid != p->pid);
    CHECK(getsid(pid) != getsid(0) && getsid(pid) != pid);
    for (int fd = 0; fd < 3; fd++)
        CHECK(!strcmp(proc_link(pid, text_format("fd/%d", fd)), "/dev/null"));
    CHECK(count_own_files(pid) < 16);
    CHECK(!strcmp(proc_text(pid, "environ"), ""));
    jail_wait_for_socket(jail);
    jail_kill(pid);
}

E2E(a_daemon_has_a_session_that_nobody_leads_and_no_streams, HOST | JAIL)
{
    const char *options[] = {"--daemonize", NULL};
    check_daemon(jail_new_running("firecracker"), options);
}

E2E(a_daemon_in_a_pid_namespace_is_process_1, HOST | JAIL)
{
    const char *options[] = {"--daemonize", "--new-pid-ns", NULL};
    struct jail *jail = jail_new_running("firecracker");
    check_daemon(jail, options);
}
