/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_lock.h owns the locks on memory files, which keep our own programs from writing to a file
 * that somebody runs from.
 *
 * Whoever has a memory file mapped holds it shared; whoever writes into one holds it alone. The
 * locks are those of open file descriptions (fcntl(2), F_OFD_SETLK): they end when the last
 * descriptor of the description is closed, so with the process, however it ends. They are advisory:
 * programs that do not ask are not kept out.
 *
 * A shared lock is on a byte of its own far behind the data, so that whoever wants the file alone
 * can leave out one holder, itself, without letting go of anything. Programs that lock a whole file
 * meet every one of these locks.
 *
 * Any thread; no call waits.
 */
#ifndef MAYFLY_SNAPSHOT_FILE_LOCK_H
#define MAYFLY_SNAPSHOT_FILE_LOCK_H

#include "vmm/base/err.h"

/* A shared lock that is held: where its byte is; 0 = none. */
struct file_lock {
    uint64_t byte;
};

/*
 * Takes a shared lock on the description of `fd`, which is open for reading. -EAGAIN when somebody
 * writes into the file. A file system without locks is no error: then nothing is held (byte 0), and
 * nobody can have the file alone either.
 */
int file_lock_share(struct file_lock *lock, int fd) __must_check;

/*
 * The same for a process that was forked: its descriptors have their descriptions, and so the
 * locks, in common with its parent's. Opens anew, for reading, the file that `fd` is open on, and
 * locks that; `path` is where it was found, for a process that cannot see /proc. The new
 * descriptor, which takes the place of the inherited one, or -errno; -ENOENT when the file can no
 * longer be found.
 */
int file_lock_share_anew(struct file_lock *lock, int fd, const char *path) __must_check;

/*
 * Takes the file of `fd`, open for writing, alone, until the description of `fd` is closed. `own` =
 * a shared lock of ours that does not count, NULL = none. -EAGAIN when anybody else holds it, and
 * the system's -errno where there are no locks.
 */
int file_lock_alone(int fd, const struct file_lock *own) __must_check;

#endif
