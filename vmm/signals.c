/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c: see signals.h. */
#include "vmm/signals.h"

#include "vmm/base/late_write.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"
#include "vmm/legacy/console.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static void (*flush_metrics)(void);

static const struct fate {
    int signal;
    int exit_code; /* 0 = dies by the signal; -1 = lives on */
    uint64_t *count;
} fates[] = {
    {SIGTERM, 0, NULL},
    {SIGINT, 0, NULL},
    {SIGQUIT, 0, NULL},
    {SIGABRT, 0, &metrics.vmm.panic_count}, /* BUG_ON */
    {SIGSYS, 148, &metrics.seccomp.num_faults},
    {SIGBUS, 149, &metrics.signals.sigbus},
    {SIGSEGV, 150, &metrics.signals.sigsegv},
    {SIGXFSZ, 151, &metrics.signals.sigxfsz},
    {SIGXCPU, 154, &metrics.signals.sigxcpu},
    {SIGHUP, 156, &metrics.signals.sighup},
    {SIGILL, 157, &metrics.signals.sigill},
    {SIGPIPE, -1, &metrics.signals.sigpipe},
};

static const struct fate *find(int signal)
{
    for (size_t i = 0; i < ARRAY_SIZE(fates); i++) {
        if (fates[i].signal == signal)
            return &fates[i];
    }
    return NULL;
}

/* What a user can do something about. */
static const char *explain(int signal, const siginfo_t *info)
{
    if (signal == SIGBUS && info->si_code == BUS_ADRERR)
        return ": a file behind the guest's memory has been cut short, or the host has no page for "
               "it";
    return "";
}

static void handle(int signal, siginfo_t *info, void *context)
{
    const struct fate *fate = find(signal);
    int error = errno;

    (void)context;
    if (!fate)
        return;
    if (signal == SIGSEGV && late_write_allow(info->si_addr)) {
        errno = error;
        return;
    }
    if (fate->count)
        metric_add(fate->count, 1);
    if (fate->exit_code < 0) {
        errno = error;
        return;
    }
    console_restore();
    if (fate->exit_code)
        log_in_signal(LOG_ERROR, "Shutting down VM after intercepting signal %d, code %d%s.",
                      signal, info->si_code, explain(signal, info));
    flush_metrics();
    if (fate->exit_code)
        _exit(fate->exit_code);
    raise(signal); /* SA_RESETHAND: its default is in force when we return */
}

/* Whoever started us may have asked that a signal do nothing (nohup, a shell's background jobs). */
static bool is_ignored(int signal)
{
    struct sigaction now;

    return sigaction(signal, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

int signals_install(void (*flush)(void), struct err *e)
{
    flush_metrics = flush;
    for (size_t i = 0; i < ARRAY_SIZE(fates); i++) {
        struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART};

        /* A handler that faults itself must not come back; SIGSEGV alone is also mended, and may
         * come again then. */
        if (fates[i].exit_code >= 0 && fates[i].signal != SIGSEGV)
            action.sa_flags |= (int)SA_RESETHAND;
        sigemptyset(&action.sa_mask);
        if (fates[i].exit_code == 0 && is_ignored(fates[i].signal))
            continue;
        if (sigaction(fates[i].signal, &action, NULL))
            return err_set(e, -errno, "Cannot handle signal %d: %s", fates[i].signal,
                           err_os(-errno));
    }
    return 0;
}

void signals_forget(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(fates); i++) {
        if (!is_ignored(fates[i].signal))
            signal(fates[i].signal, SIG_DFL);
    }
}

void signals_restore_terminal(void)
{
    console_restore();
}
