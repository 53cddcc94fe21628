/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_file.h owns the file behind a drive: opening it, its size, its identity, and reading from it
 * what is already in memory. Private to the block device.
 */
#ifndef MAYFLY_BLOCK_BLK_FILE_H
#define MAYFLY_BLOCK_BLK_FILE_H

#include "vmm/base/err.h"

#include <sys/types.h>
#include <sys/uio.h>

#define SECTOR_SIZE   512u
#define BLK_ID_LENGTH 20

struct blk_file {
    int fd;
    uint64_t size;          /* bytes */
    char id[BLK_ID_LENGTH]; /* what GET_ID answers; padded with zeros, not terminated */
    uint32_t block_size;    /* of the file system, bytes: the best alignment of a discard */
    bool nowait_refused;    /* reading with RWF_NOWAIT is not implemented for this file */
    const uint8_t *map;     /* then: a mapping, only ever asked what is in memory; or NULL */
    uint64_t map_size;
};

/*
 * Opens a regular file or block device. The sentence in *e begins "Error manipulating the backing
 * file: " and names the path: -ENOENT, -EACCES, -EISDIR, -EINVAL (neither file nor block device)
 * and so on.
 */
int blk_file_open(struct blk_file *file, const char *path, bool read_only,
                  struct err *e) __must_check;
void blk_file_close(struct blk_file *file);

/*
 * Reads as much from `offset` as is in the page cache, without waiting for the disk: the bytes
 * read, fewer than asked for (perhaps 0) where the rest has to be read in another way.
 */
size_t blk_file_read_cached(struct blk_file *file, const struct iovec *iov, unsigned count,
                            uint64_t offset, size_t len);

#endif
