/* SPDX-License-Identifier: Apache-2.0 */
/* What the monitor needs of its host, and what it says where that is missing or in the way. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* Runs the program to its end and returns it. */
static struct vm *run_with(const char *const *args, int (*prepare)(void *), void *arg)
{
    struct vm *vm = vm_spawn((struct monitor_spec){.args = args,
                                                   .no_socket = true,
                                                   .out = PROCESS_PIPE,
                                                   .err = PROCESS_PIPE,
                                                   .prepare = prepare,
                                                   .prepare_arg = arg});
    if (!process_wait(&vm->monitor.process, e2e_ms(VM_MS)))
        FAIL("the monitor still runs");
    return vm;
}

/* What it said on both streams. */
static const char *said(struct vm *vm)
{
    return text_format("%s%s", vm_out(vm), vm_err(vm));
}

E2E(a_socket_path_that_is_taken_ends_with_1_and_stays_as_it_was, HOST | SANITIZER)
{
    const char *path = e2e_path("taken");
    CHECK_INT(files_write(path, "mine", 4), 0);
    const char *args[] = {"--api-sock", path, NULL};
    struct vm *vm = run_with(args, NULL, NULL);
    vm_exits(vm, 1);
    CHECK_HAS(said(vm), path);
    struct stat st;
    CHECK(stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 4);
}

E2E(a_socket_of_a_running_monitor_is_not_taken_over, HOST)
{
    struct vm *first = vm_new(NULL);
    const char *args[] = {"--api-sock", first->monitor.socket, NULL};
    struct vm *second = run_with(args, NULL, NULL);
    vm_exits(second, 1);
    CHECK(!strcmp(vm_state(first), "Not started"));
}

E2E(a_socket_in_a_missing_directory_ends_with_1, HOST)
{
    const char *args[] = {"--api-sock", e2e_path("missing/sock"), NULL};
    struct vm *vm = run_with(args, NULL, NULL);
    vm_exits(vm, 1);
    CHECK_HAS(said(vm), "No such file or directory");
}

E2E(a_socket_path_longer_than_the_system_allows_ends_with_1_and_says_so, HOST)
{
    char name[200];
    memset(name, 's', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    const char *args[] = {"--api-sock", e2e_path(name), NULL};
    struct vm *vm = run_with(args, NULL, NULL);
    vm_exits(vm, 1);
    CHECK(strstr(said(vm), "too long") || strstr(said(vm), "107"));
}

/* An empty /dev but for the harmless devices. */
static int hide_kvm(void *arg)
{
    (void)arg;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    if (mount("none", "/dev", "tmpfs", 0, "mode=755") < 0)
        return -errno;
    if (mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)) < 0 ||
        mknod("/dev/urandom", S_IFCHR | 0666, makedev(1, 9)) < 0)
        return -errno;
    return 0;
}

/* /dev/kvm is there, but the process may not open it. */
static int forbid_kvm(void *arg)
{
    (void)arg;
    if (hide_kvm(NULL) < 0 || mknod("/dev/kvm", S_IFCHR | 0600, makedev(10, 232)) < 0)
        return -errno;
    chmod("/dev/kvm", 0600);
    return setgid(65534) < 0 || setuid(65534) < 0 ? -errno : 0;
}

static const char *config_file(void)
{
    const char *path = e2e_path("config.json");
    char *json = text_format("{\"boot-source\":{\"kernel_image_path\":\"%s\"},\"drives\":[],"
                             "\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":32}}",
                             bare_guest(BARE_RESET));
    CHECK_INT(files_write(path, json, strlen(json)), 0);
    return path;
}

E2E(without_dev_kvm_the_start_fails_and_names_it, HOST)
{
    if (geteuid() != 0)
        e2e_skip("needs root, to hide /dev/kvm");
    const char *args[] = {"--no-api", "--config-file", config_file(), NULL};
    struct vm *vm = run_with(args, hide_kvm, NULL);
    vm_exits(vm, 1);
    CHECK_HAS(said(vm), "/dev/kvm");
}

E2E(without_permission_for_dev_kvm_the_start_fails_and_says_so, HOST)
{
    if (geteuid() != 0)
        e2e_skip("needs root, to become somebody else");
    chmod(e2e_dir, 0755);
    const char *args[] = {"--no-api", "--config-file", config_file(), NULL};
    struct vm *vm = run_with(args, forbid_kvm, NULL);
    vm_exits(vm, 1);
    CHECK_HAS(said(vm), "/dev/kvm");
    CHECK(strstr(said(vm), "ermission"));
}

/* Makes io_uring_setup() fail as it does where the sysctl forbids it. */
static int forbid_io_uring(void *arg)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | *(const unsigned *)arg),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

E2E(a_host_that_forbids_io_uring_is_told_which_sysctl_to_change, HOST | SANITIZER)
{
    unsigned error = EPERM;
    const char *args[] = {"--api-sock", e2e_path("sock"), NULL};
    struct vm *vm = run_with(args, forbid_io_uring, &error);
    vm_exits(vm, 1);
    CHECK_HAS(said(vm), "kernel.io_uring_disabled");
    CHECK(access(e2e_path("sock"), F_OK) < 0); /* clients could connect before that was known */
}

E2E(a_host_without_io_uring_is_told_so, HOST)
{
    unsigned error = ENOSYS;
    const char *args[] = {"--api-sock", e2e_path("sock"), NULL};
    struct vm *vm = run_with(args, forbid_io_uring, &error);
    vm_exits(vm, 1);
    CHECK_HAS(said(vm), "io_uring");
}

/* A KVM that says it lacks the capability whose number is at `arg`. */
static int lack_capability(void *arg)
{
    unsigned capability = *(const unsigned *)arg;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_CHECK_EXTENSION, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, capability, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0), /* the call gives 0: not there */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

E2E(an_old_kvm_fails_the_start_and_the_missing_capability_is_named, TINY)
{
    unsigned capability = KVM_CAP_IRQFD;
    const char *args[] = {"--no-api", "--config-file", config_file(), NULL};
    struct vm *vm = run_with(args, lack_capability, &capability);
    vm_exits(vm, 1);
    CHECK(strstr(said(vm), "0x20") || strstr(said(vm), "IRQFD") || strstr(said(vm), "(32)"));
}

/* Leaves too few addresses for a guest of a GiB. */
static int limit_address_space(void *arg)
{
    struct rlimit limit = {.rlim_cur = *(const rlim_t *)arg, .rlim_max = *(const rlim_t *)arg};
    return setrlimit(RLIMIT_AS, &limit) < 0 ? -errno : 0;
}

E2E(guest_memory_beyond_the_address_space_limit_is_refused_in_a_sentence, TINY)
{
    rlim_t limit = 512 << 20;
    struct vm *vm = vm_spawn((struct monitor_spec){.in = PROCESS_PIPE,
                                                   .out = PROCESS_PIPE,
                                                   .err = PROCESS_PIPE,
                                                   .prepare = limit_address_space,
                                                   .prepare_arg = &limit});
    if (vm->monitor.process.ended)
        e2e_skip("the program itself does not fit into 512 MiB of addresses (a sanitizer build)");
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1024}");
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\"}", bare_guest(BARE_TICK));
    vm_refused(vm, "PUT", "/actions", "emory", "{\"action_type\":\"InstanceStart\"}");
    CHECK(!strcmp(vm_state(vm), "Not started"));
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}");
    vm_boot(vm, bare_guest(BARE_RESET), "x");
    vm_exits(vm, 0);
}

static int close_stdout(void *arg)
{
    (void)arg;
    return close(STDOUT_FILENO) < 0 ? -errno : 0;
}

E2E(a_closed_stdout_does_not_send_log_and_console_into_the_metrics, TINY | SANITIZER)
{
    const char *metrics = e2e_path("metrics");
    const char *args[] = {"--no-api",       "--config-file", config_file(),
                          "--metrics-path", metrics,         NULL};
    struct vm *vm = run_with(args, close_stdout, NULL);
    vm_exits(vm, 0);
    FILE *file = fopen(metrics, "re");
    CHECK(file);
    char *line = NULL;
    size_t room = 0, lines = 0;
    for (; getline(&line, &room, file) > 0; lines++)
        CHECK(!strncmp(line, "{\"utc_timestamp_ms\":", 20));
    CHECK_INT(lines, 2); /* at the start and at the end */
}

E2E(version_names_both_what_clients_expect_and_what_it_is, HOST)
{
    const char *args[] = {"--version", NULL};
    struct vm *vm = run_with(args, NULL, NULL);
    vm_exits(vm, 0);
    CHECK(!strncmp(vm_out(vm), "Firecracker v1.17.0\nMayfly v", 28));
}
