/* SPDX-License-Identifier: Apache-2.0 */
/* injector.c: see injector.h. A process of its own, since whoever debugs has to wait for each stop
 * while the test waits for its answer. */
#include "tests/support/injector.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)

static bool is_counted(uint64_t nr)
{
    return nr == SYS_openat || nr == SYS_pwrite64 || nr == SYS_ftruncate || nr == SYS_fsync ||
           nr == SYS_rename || nr == SYS_unlink;
}

struct injection {
    pid_t target;
    unsigned call, seen;
    int code;
    int reports;
    bool failing; /* the call is under way, and its result will be ours */
};

static void set_register(pid_t target, bool entry, int code)
{
    struct user_regs_struct regs;

    ptrace(PTRACE_GETREGS, target, NULL, &regs);
    if (entry)
        regs.orig_rax = ~0ull; /* a call that there is not */
    else
        regs.rax = (unsigned long long)-(long long)code;
    ptrace(PTRACE_SETREGS, target, NULL, &regs);
}

static void at_syscall(struct injection *i)
{
    struct __ptrace_syscall_info info;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, i->target, sizeof(info), &info) <= 0)
        return;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && i->failing) {
        set_register(i->target, false, i->code);
        i->failing = false;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !is_counted(info.entry.nr) || ++i->seen != i->call)
        return;
    (void)!write(i->reports, "x", 1);
    if (i->code == INJECT_DEATH) {
        kill(i->target, SIGKILL);
        return;
    }
    set_register(i->target, true, 0);
    i->failing = true;
}

static _Noreturn void debug(struct injection *i)
{
    int status, signal;

    while (waitpid(i->target, &status, 0) == i->target && WIFSTOPPED(status)) {
        signal = WSTOPSIG(status);
        if (signal == SYSCALL_STOP) {
            at_syscall(i);
            signal = 0;
        } else if (status >> 16 == PTRACE_EVENT_STOP) {
            signal = 0;
        }
        ptrace(PTRACE_SYSCALL, i->target, NULL, (void *)(uintptr_t)signal);
    }
    _exit(0);
}

static _Noreturn void run(struct injection *i)
{
    char attached = 'a';

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ptrace(PTRACE_SEIZE, i->target, NULL, (void *)PTRACE_O_TRACESYSGOOD) ||
        ptrace(PTRACE_INTERRUPT, i->target, NULL, NULL) || write(i->reports, &attached, 1) != 1)
        _exit(1);
    debug(i);
}

int injector_start(struct injector *injector, pid_t target, unsigned call, int code)
{
    struct injection i = {.target = target, .call = call, .code = code};
    int pipes[2];
    char attached;

    if (pipe2(pipes, O_CLOEXEC))
        return -errno;
    i.reports = pipes[1];
    injector->reports = pipes[0];
    injector->pid = fork();
    if (injector->pid == 0)
        run(&i);
    close(pipes[1]);
    if (injector->pid > 0 && read(pipes[0], &attached, 1) == 1)
        return 0;
    injector_stop(injector);
    return -EPERM;
}

bool injector_stop(struct injector *injector)
{
    char report;
    bool happened;

    if (injector->pid > 0) {
        kill(injector->pid, SIGKILL);
        waitpid(injector->pid, NULL, 0);
    }
    happened = read(injector->reports, &report, 1) == 1;
    close(injector->reports);
    return happened;
}
