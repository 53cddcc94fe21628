/* SPDX-License-Identifier: Apache-2.0 */
/* whole_file.h owns the reading of a state file into memory. Any thread. */
#ifndef MAYFLY_SNAPSHOT_WHOLE_FILE_H
#define MAYFLY_SNAPSHOT_WHOLE_FILE_H

#include "vmm/base/err.h"

/*
 * All of the regular file at `path`, in malloc'ed memory. One that is longer than a state file may
 * be is read as far as that shows. -errno of open or read, -EINVAL for what is no regular file,
 * -ENOMEM; the sentence begins as clients know it and does not name the path.
 */
int whole_file_read(const char *path, uint8_t **bytes, size_t *len, struct err *e) __must_check;

#endif
