/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.h owns the file of a layer: blocks of 4 KiB that lie over the file of a drive (the base),
 * or over another layer, which both stay as they are. In the file, all integers little-endian:
 *
 *      at 0     8  "MAYLAY", 0x1a, line feed
 *         8     4  version: 1
 *        12     4  bytes in a block: 4096
 *        16     8  size of the drive in bytes
 *        24     8  the base: a hash of how it begins (layer_hash_base)
 *        32    16  id: random bytes, not all zero
 *        48    16  id of the layer below; zero = this one lies on the base
 *        64     4  flags: 1 = complete, it is only read from now on
 *        68  4020  zero
 *      4088     8  FNV-1a over the 4088 bytes before, taken as words of 8 bytes
 *      4096        bitmap: a bit a block, 1 = it is here; least significant bit first; zeros up to
 *                  a multiple of 4096
 *      data        block b at data + 4096 * b, data being the bitmap's end; a hole is zeros
 *
 * The file has its full length from the start and is sparse. What lies in it without its bit has
 * never been: so a bit is written when the whole block is, and a file that was left at any moment
 * shows no block that was not written (overlay.h says what a flush adds to that).
 *
 * A layer names the one below by its id, and the base by its hash, so a stack in the wrong order,
 * or over the wrong file, is refused. That the base was changed further inside is not noticed.
 *
 * Locks: whoever writes to a layer has an exclusive lock on the file (of its open file description,
 * fcntl(2)), whoever reads it a shared one. Where the file system has no locks, there are none.
 *
 * Files are hostile: what is read is checked first. Blocking calls. Any thread; a layer is its
 * caller's.
 */
#ifndef MAYFLY_BLOCK_LAYER_H
#define MAYFLY_BLOCK_LAYER_H

#include "virtio/block/blk_file.h"

#define LAYER_BLOCK 4096u

/* Blocks whose bits are in one page of the bitmap. */
#define LAYER_PAGE_BLOCKS (8 * UINT64_C(4096))

struct layer_id {
    uint64_t word[2];
};

/* What a layer says of itself. */
struct layer_head {
    uint64_t size; /* of the drive, bytes */
    uint64_t base;
    struct layer_id id, below;
    bool complete;
};

struct layer {
    struct blk_file file; /* fd -1 = not open */
    struct layer_head head;
};

static inline bool layer_id_is(const struct layer_id *a, const struct layer_id *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

static inline bool layer_id_is_none(const struct layer_id *id)
{
    return id->word[0] == 0 && id->word[1] == 0;
}

/* -ENOSYS and the like where the kernel gives no random numbers. */
int layer_id_make(struct layer_id *id) __must_check;

/* How many blocks a drive has, the last one perhaps not whole. */
static inline uint64_t layer_blocks(uint64_t size)
{
    return size / LAYER_BLOCK + (size % LAYER_BLOCK > 0);
}

/* Bytes of the bitmap in the file; where block 0 is; the length of the file. */
static inline uint64_t layer_bits_size(uint64_t size)
{
    return align_up(align_up(layer_blocks(size), 8) / 8, LAYER_BLOCK);
}

static inline uint64_t layer_data(uint64_t size)
{
    return LAYER_BLOCK + layer_bits_size(size);
}

static inline uint64_t layer_length(uint64_t size)
{
    return layer_data(size) + layer_blocks(size) * LAYER_BLOCK;
}

/*
 * How a base begins: FNV-1a over its first 4096 bytes and the 4096 at 64 KiB, with zeros behind its
 * end. There the usual file systems and partition tables keep an identity of their own. -EINVAL for
 * a file that is a layer itself. The sentence names the path.
 */
int layer_hash_base(int fd, const char *path, uint64_t *hash, struct err *e) __must_check;

/* Opens a layer for reading, under a shared lock: one that is complete, or that nobody writes to
 * now. Errors are those of blk_file_open; -EINVAL for what is no layer, or a damaged one; -EBUSY.
 * Sentences name the path. */
int layer_open(struct layer *layer, const char *path, struct err *e) __must_check;

/*
 * Opens a layer for writing, under an exclusive lock. A file that is missing or all hole is made
 * one with the head that is given (which is not complete); one that is there must have that head,
 * but for its id, and is gone on with. *fresh: it was made. Errors as above, and -EEXIST when
 * `only_new` and the file is there.
 */
int layer_open_top(struct layer *layer, const char *path, const struct layer_head *head,
                   bool only_new, bool *fresh, struct err *e) __must_check;

/* Makes an empty file a layer: its length and head, no block. */
int layer_begin(int fd, const struct layer_head *head) __must_check;

/* Reads the bitmap into layer_bits_size(size) bytes. */
int layer_read_bits(const struct layer *layer, uint8_t *bits) __must_check;

/* Gives the blocks of a bitmap to `number` in `owner`, a byte a block: how many they are. */
uint64_t layer_mark(uint64_t size, const uint8_t *bits, uint8_t *owner, uint8_t number);

/* Writes one page of 4096 bytes of the bitmap, from a whole bitmap. */
int layer_write_bits(int fd, const uint8_t *bits, uint64_t page) __must_check;

/* Writes all of them. */
int layer_write_at(int fd, const void *from, size_t len, uint64_t offset) __must_check;

/* Copies bytes from one file to the same place in another, within the kernel where it can. */
int layer_copy_range(int from, int to, uint64_t offset, uint64_t len) __must_check;

/* Makes an empty file the same layer; shares its blocks where the file system can. */
int layer_copy(const struct layer *from, int to) __must_check;

/* No writer any more: the file is complete, on the disk, and its lock shared. After an error it may
 * be written to as before. */
int layer_complete(struct layer *layer) __must_check;

/* Accepts one that is not open. */
void layer_close(struct layer *layer);

/* Takes a shared or exclusive lock on a whole file. -EBUSY = another one has it; 0 where the file
 * system knows no locks. */
int layer_lock(int fd, bool exclusive) __must_check;
void layer_unlock(int fd);

#endif
