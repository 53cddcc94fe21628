/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h owns what signals do to the process; exit codes are those that clients of Firecracker
 * know. Handlers, not a signalfd: they must work while the loop is blocked or busy.
 *
 *      SIGTERM, SIGINT, SIGQUIT, SIGABRT
 *                        the terminal is restored, metrics are flushed; the process then dies by
 *                        that signal; not touched where it was ignored when we were started
 *      SIGHUP, SIGXCPU, SIGXFSZ, SIGBUS, SIGSEGV, SIGILL, SIGSYS
 *                        the same and a line in the log; an exit code for each
 *      SIGPIPE           counted; the write that caused it fails with EPIPE
 */
#ifndef MAYFLY_VMM_SIGNALS_H
#define MAYFLY_VMM_SIGNALS_H

#include "vmm/base/err.h"

/* flush: writes the metrics; async-signal-safe. Main thread, before there are others. */
int signals_install(void (*flush)(void), struct err *e) __must_check;

/* In a forked process that is no monitor: signals do what they do by default. */
void signals_forget(void);

/* For the ordinary end of the process: the terminal as it was. */
void signals_restore_terminal(void);

#endif
