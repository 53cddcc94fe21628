/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h owns the metrics file: one JSON object a line, with the counters of
 * vmm/base/metrics.h as increases since the line before. A line is written when the machine starts,
 * every minute, on request and at the end. The file may be a FIFO without a reader: nothing waits
 * for it, a line that does not fit is dropped and counted.
 *
 * Main thread; metrics_flush also from a signal handler.
 */
#ifndef MAYFLY_API_METRICS_H
#define MAYFLY_API_METRICS_H

#include "vmm/base/metrics.h"
#include "vmm/machine.h"

/*
 * Opens the file, once in the life of the process; -EEXIST the second time. id (NULL = not wanted)
 * and properties (JSON text of an object, copied; NULL = none) stand in every line; id must outlive
 * us.
 */
int metrics_open(const char *path, const char *id, const char *properties,
                 struct err *e) __must_check;

/* Whether there is a file. */
bool metrics_have_file(void);

/* In a forked child: the file is the parent's and is not written to again; every counter begins at
 * 0, and no machine is known. */
void metrics_forget(void);

/* After that: lines go to `path`, with the parent's properties, and with `id` if it had its own in
 * them. The errors of metrics_open. */
int metrics_inherit(const char *path, const char *id, struct err *e) __must_check;

/* The machine runs: its devices have groups of their own from now on. Writes the first line and
 * starts the minutes. machine NULL (tests): it is gone, and the loop goes. */
void metrics_start(struct loop *loop, struct machine *machine);

/*
 * Writes a line. Success without a file, and where another flush is under way (this one is then in
 * a signal handler). Async-signal-safe with e == NULL.
 */
int metrics_flush(struct err *e);

#endif
