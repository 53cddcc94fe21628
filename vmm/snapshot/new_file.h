/* SPDX-License-Identifier: Apache-2.0 */
/*
 * new_file.h owns the replacement of a file as one step: the new one is written beside the old, and
 * takes its name when it is complete and on the disk. Until then, and after any failure or the
 * death of the process, the old one is as it was, and whoever has it mapped keeps what it had.
 *
 * It may be read and written by whom the old one could be, or else by whom the umask lets. A name
 * that is a symbolic link stays one: what it leads to is replaced. What is left behind by a
 * process that died has the name with NEW_FILE_SUFFIX, and is overwritten by the next.
 *
 * Of two processes that replace one file at once, the second is refused.
 *
 * Blocking calls, by the loop thread while nothing runs, or by a forked process.
 */
#ifndef MAYFLY_SNAPSHOT_NEW_FILE_H
#define MAYFLY_SNAPSHOT_NEW_FILE_H

#include "vmm/base/err.h"

#define NEW_FILE_SUFFIX ".mayfly-new"

struct new_file {
    int fd;         /* open for reading and writing; -1 = not open */
    char *path;     /* what is replaced: no link */
    char *beside;   /* where it is meanwhile; NULL = in its place */
    uint64_t limit; /* bytes that a file may have (RLIMIT_FSIZE) */
    bool lazy;      /* set by who does not need it on the disk: nothing is flushed */
};

/* Creates the file beside `path`. Something there that is not a regular file is refused, and
 * (-EBUSY) one that another process is replacing. The sentence is only the system's: callers say
 * what the file is. */
int new_file_open(struct new_file *file, const char *path, struct err *e) __must_check;

/* Opens the file that is at `path`, to be written to in place: nothing of the above holds for it.
 * Only new_file_write, new_file_sync and new_file_close follow. */
int new_file_open_in_place(struct new_file *file, const char *path, struct err *e) __must_check;

/* Where `path` leads if it is a link, and else itself. malloc'ed; NULL and errno. */
char *new_file_resolve(const char *path) __must_check;

/* Where the new file is meanwhile, of one at `path`, which is no link. malloc'ed; NULL without
 * memory. */
char *new_file_beside(const char *path) __must_check;

/* Makes the file `size` bytes long. A limit on sizes is an error (-EFBIG), here and in
 * new_file_write, and never the signal that ends a process. */
int new_file_resize(const struct new_file *file, uint64_t size, struct err *e) __must_check;

/* Writes `len` bytes at `offset`, all of them. Sentences name the path. */
int new_file_write(const struct new_file *file, const void *bytes, size_t len, uint64_t offset,
                   struct err *e) __must_check;

/* The contents are complete: on to the disk. */
int new_file_sync(const struct new_file *file, struct err *e) __must_check;

/* Another name for it while it is beside the old one. */
int new_file_move_beside(struct new_file *file, const char *beside, struct err *e) __must_check;

/* Takes the name, for good. */
int new_file_commit(struct new_file *file, struct err *e) __must_check;

/* Removes the file at `path`, for good unless `lazy`. What is not there is no error; -errno. */
int new_file_remove(const char *path, bool lazy) __must_check;

/* Removes it, unless it was committed, and frees everything. Accepts a zeroed one, and twice. */
void new_file_close(struct new_file *file);

#endif
