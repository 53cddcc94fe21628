/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary directories and small file chores of the test programs. */
#ifndef MAYFLY_TESTS_SUPPORT_FILES_H
#define MAYFLY_TESTS_SUPPORT_FILES_H

#include <stddef.h>
#include <stdint.h>

/*
 * A fresh directory under $TMPDIR or /tmp with `stem` in its name, short enough for socket paths.
 * The caller frees the name; NULL with errno when there is none to be had.
 */
char *files_make_temporary(const char *stem);

/* Removes a directory and all below it, without following links. */
void files_remove_tree(const char *path);

/* For a test that has a directory to itself: makes one and goes there, or ends the program. Until
 * files_leave, which goes back to / and removes it, by the name that was returned. */
char *files_enter_temporary(const char *stem);
void files_leave(char *directory);

/* Writes a whole file, replacing an old one. 0 or -errno. */
int files_write(const char *path, const void *data, size_t len);

/* A file of `size` bytes whose contents are holes. 0 or -errno. */
int files_make_sparse(const char *path, uint64_t size);

/* Copies a file with its holes. 0 or -errno. */
int files_copy(const char *from, const char *to);

#endif
