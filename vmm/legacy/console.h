/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console.h owns the mode of the terminal on standard input: raw while a guest's console is on it,
 * so that each key goes to the guest, Ctrl-C too, and as it was when the process ends, whichever
 * way. Output is left alone: the monitor's own lines go to the same terminal.
 */
#ifndef MAYFLY_LEGACY_CONSOLE_H
#define MAYFLY_LEGACY_CONSOLE_H

#include "vmm/base/util.h"

/*
 * Turns off line editing, echo and signals by keys if `fd` is a terminal of which we are the
 * foreground; else does nothing. Remembers the first mode. Main thread.
 */
void console_enter_raw(int fd);

/* Restores the mode, once; harmless when it was never changed. Async-signal-safe: for
 * handlers too. */
void console_restore(void);

/* In a forked child: the terminal is the parent's to restore. */
void console_forget(void);

#endif
