/* SPDX-License-Identifier: Apache-2.0 */
/* text_file.h owns reading and writing the small files by which a kernel is asked and told. */
#ifndef MAYFLY_JAILER_TEXT_FILE_H
#define MAYFLY_JAILER_TEXT_FILE_H

#include "vmm/base/util.h"

/* All of a file, in malloc'ed memory with a NUL behind it; NULL with errno. */
char *text_file_read(int dir_fd, const char *path);

/* Writes the text to a file that is there, in one call: cgroup files take one value a call. 0 or
 * -errno. */
int text_file_write(int dir_fd, const char *path, const char *text) __must_check;

#endif
