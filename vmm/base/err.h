/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h owns the error of an operation that a user asked for: a negative errno for the program and
 * one sentence for the person. The sentence is written where the knowledge is; callers prefix it
 * with context and the last one shows it (API body, log line or stderr). A function that fills an
 * err never logs it.
 */
#ifndef MAYFLY_BASE_ERR_H
#define MAYFLY_BASE_ERR_H

#include "vmm/base/util.h"

#include <limits.h>

struct err {
    int code;                  /* 0, or the negative errno that the function returned */
    char text[PATH_MAX + 512]; /* one sentence; long enough to name any path whole */
};

/*
 * Records `code` (a negative errno) and the sentence in *e, and returns `code`, so that a failure
 * is one line: `return err_set(e, -ENOENT, "...", ...)`. e may be NULL when the caller wants only
 * the code.
 */
int err_set(struct err *e, int code, const char *fmt, ...) __printf(3, 4);

/* Puts the formatted words before the sentence that *e already has; returns e's code. */
int err_prefix(struct err *e, const char *fmt, ...) __printf(2, 3);

/*
 * The words "No such file or directory (os error 2)" for -ENOENT and so on: the form in which
 * clients of Firecracker see system errors. The result is valid until the next call on the same
 * thread.
 */
const char *err_os(int code);

#endif
