/* SPDX-License-Identifier: Apache-2.0 */
/* layer.c: see layer.h. */
#include "virtio/block/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>

#define VERSION  1u
#define COMPLETE 1u

/* A drive may be as large as file offsets allow, and its layer's file too. */
#define SIZE_MAX_BYTES (UINT64_C(1) << 62)

static const uint8_t magic[8] = {'M', 'A', 'Y', 'L', 'A', 'Y', 0x1a, '\n'};

struct header {
    uint8_t magic[8];
    uint32_t version, block;
    uint64_t size, base;
    struct layer_id id, below;
    uint32_t flags, zero;
    uint64_t zeros[502];
    uint64_t checksum;
};
_Static_assert(sizeof(struct header) == LAYER_BLOCK, "a block of its own");

/* FNV-1a with words in place of bytes. */
#define FNV_START UINT64_C(0xcbf29ce484222325)
static uint64_t fnv(uint64_t hash, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t word;

        memcpy(&word, at + i, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash;
}

int layer_id_make(struct layer_id *id)
{
    do {
        if (getrandom(id, sizeof(*id), 0) != sizeof(*id))
            return errno ? -errno : -EIO;
    } while (layer_id_is_none(id));
    return 0;
}

int layer_lock(int fd, bool exclusive)
{
    struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : 0;
}

void layer_unlock(int fd)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    (void)fcntl(fd, F_OFD_SETLK, &lock); /* without locks there is none to give up */
}

/* ---- whole reads and writes ------------------------------------------------------------------ */

/* The bytes read, fewer than asked for at the end of the file. */
static ssize_t read_at(int fd, void *to, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *)to + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int layer_write_at(int fd, const void *from, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(fd, (const uint8_t *)from + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

int layer_read_bits(const struct layer *layer, uint8_t *bits)
{
    size_t len = layer_bits_size(layer->head.size);
    ssize_t n = read_at(layer->file.fd, bits, len, LAYER_BLOCK);

    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -EIO;
}

int layer_write_bits(int fd, const uint8_t *bits, uint64_t page)
{
    return layer_write_at(fd, bits + page * LAYER_BLOCK, LAYER_BLOCK, (page + 1) * LAYER_BLOCK);
}

uint64_t layer_mark(uint64_t size, const uint8_t *bits, uint8_t *owner, uint8_t number)
{
    uint64_t blocks = layer_blocks(size), count = 0;

    for (uint64_t at = 0; at < blocks; at += 64) {
        uint64_t word;

        memcpy(&word, bits + at / 8, sizeof(word));
        for (; word; word &= word - 1) {
            uint64_t block = at + (uint64_t)__builtin_ctzll(word);

            if (block >= blocks)
                break;
            owner[block] = number;
            count++;
        }
    }
    return count;
}

/* ---- copies ---------------------------------------------------------------------------------- */

int layer_copy_range(int from, int to, uint64_t offset, uint64_t len)
{
    uint8_t buffer[64 * KIB];

    while (len > 0) {
        off_t in = (off_t)offset, out = (off_t)offset;
        ssize_t n = copy_file_range(from, &in, to, &out, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
            n = read_at(from, buffer, MIN(len, sizeof(buffer)), offset);
            if (n > 0) {
                int rc = layer_write_at(to, buffer, (size_t)n, offset);

                if (rc)
                    return rc;
            }
        } else if (n < 0) {
            n = -errno;
        }
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int layer_copy(const struct layer *from, int to)
{
    int fd = from->file.fd;
    off_t size = (off_t)from->file.size;

    if (ioctl(to, FICLONE, fd) == 0)
        return 0;
    for (off_t start = 0, end; start < size; start = end) {
        int rc;

        start = lseek(fd, start, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break;
        end = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
        if (end < 0)
            return -errno;
        rc = layer_copy_range(fd, to, (uint64_t)start, (uint64_t)(end - start));
        if (rc)
            return rc;
    }
    return ftruncate(to, size) < 0 ? -errno : 0;
}

/* ---- the base -------------------------------------------------------------------------------- */

int layer_hash_base(int fd, const char *path, uint64_t *hash, struct err *e)
{
    static const uint64_t places[] = {0, 64 * KIB};

    *hash = FNV_START;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        uint8_t bytes[LAYER_BLOCK] = {0};
        ssize_t n = read_at(fd, bytes, sizeof(bytes), places[i]);

        if (n < 0)
            return err_set(e, (int)n, "Cannot read %s: %s", path, err_os((int)n));
        if (i == 0 && memcmp(bytes, magic, sizeof(magic)) == 0)
            return err_set(e, -EINVAL,
                           "%s is a layer, and no image: it belongs to the layers of an overlay.",
                           path);
        *hash = fnv(*hash, bytes, sizeof(bytes));
    }
    return 0;
}

/* ---- the header ------------------------------------------------------------------------------ */

static int write_header(int fd, const struct layer_head *head)
{
    struct header header = {
        .version = VERSION,
        .block = LAYER_BLOCK,
        .size = head->size,
        .base = head->base,
        .id = head->id,
        .below = head->below,
        .flags = head->complete ? COMPLETE : 0,
    };

    memcpy(header.magic, magic, sizeof(magic));
    header.checksum = fnv(FNV_START, &header, offsetof(struct header, checksum));
    return layer_write_at(fd, &header, sizeof(header), 0);
}

static int refuse(const char *path, const char *why, struct err *e)
{
    return err_set(e, -EINVAL, "%s %s", path, why);
}

static int read_header(struct layer *layer, const char *path, struct err *e)
{
    struct header header;
    ssize_t n = read_at(layer->file.fd, &header, sizeof(header), 0);

    if (n < 0)
        return err_set(e, (int)n, "Cannot read %s: %s", path, err_os((int)n));
    if ((size_t)n < sizeof(header) || memcmp(header.magic, magic, sizeof(magic)) != 0)
        return refuse(path, "is no layer of a drive.", e);
    if (header.checksum != fnv(FNV_START, &header, offsetof(struct header, checksum)))
        return refuse(path, "is a damaged layer: the checksum of its header is wrong.", e);
    if (header.version != VERSION || header.block != LAYER_BLOCK || header.flags & ~COMPLETE)
        return refuse(path, "is a layer of a version that this version of Mayfly cannot read.", e);
    if (header.size == 0 || header.size > SIZE_MAX_BYTES || header.size % SECTOR_SIZE > 0 ||
        layer_id_is_none(&header.id))
        return refuse(path, "is a damaged layer: its header says what cannot be.", e);
    if (layer->file.size != layer_length(header.size))
        return refuse(path, "is a damaged layer: it has another length than its header says.", e);
    layer->head = (struct layer_head){
        .size = header.size,
        .base = header.base,
        .id = header.id,
        .below = header.below,
        .complete = header.flags & COMPLETE,
    };
    return 0;
}

/* Whether a file may be that long: to try it would be a signal that ends the process. */
static bool may_have(uint64_t length)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) < 0 || length <= limit.rlim_cur;
}

int layer_begin(int fd, const struct layer_head *head)
{
    if (!may_have(layer_length(head->size)))
        return -EFBIG;
    if (ftruncate(fd, (off_t)layer_length(head->size)) < 0)
        return -errno;
    return write_header(fd, head);
}

/* ---- opening and closing --------------------------------------------------------------------- */

int layer_open(struct layer *layer, const char *path, struct err *e)
{
    int rc = blk_file_open(&layer->file, path, true, e);

    if (rc)
        return rc;
    rc = layer_lock(layer->file.fd, false);
    if (rc)
        rc = err_set(e, rc, "%s is being written to by another process.", path);
    else
        rc = read_header(layer, path, e);
    if (rc)
        layer_close(layer);
    return rc;
}

/* Opens what must be a regular file, or makes one. *made: it was not there. */
static int open_or_make(const char *path, bool only_new, bool *made, struct blk_file *file,
                        struct err *e)
{
    int fd;

    *made = false;
    if (!only_new) {
        int rc = blk_file_open(file, path, false, e);

        if (rc != -ENOENT)
            return rc;
    }
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set(e, -errno, "Cannot make the overlay %s: %s", path, err_os(-errno));
    *made = true;
    close(fd);
    return blk_file_open(file, path, false, e);
}

/* Whether nothing has ever been written to it. Its size is looked at again: the lock is ours only
 * now. */
static bool is_all_hole(struct blk_file *file)
{
    off_t end = lseek(file->fd, 0, SEEK_END);

    file->size = end < 0 ? 0 : (uint64_t)end;
    return end == 0 || (lseek(file->fd, 0, SEEK_DATA) < 0 && errno == ENXIO);
}

/* What has been found must be what is gone on with. */
static int compare_heads(const struct layer_head *found, const struct layer_head *wanted,
                         const char *path, struct err *e)
{
    if (found->complete)
        return refuse(path,
                      "is complete, part of a snapshot or a fork: name another file as the "
                      "overlay, and this one among its layers.",
                      e);
    if (found->size != wanted->size || found->base != wanted->base)
        return refuse(path, "is an overlay of another file.", e);
    if (!layer_id_is(&found->below, &wanted->below))
        return refuse(path, "is an overlay of other layers.", e);
    return 0;
}

static int begin(struct layer *layer, const char *path, const struct layer_head *head,
                 struct err *e)
{
    int rc;

    layer->head = *head;
    rc = layer_id_make(&layer->head.id);
    if (rc == 0)
        rc = layer_begin(layer->file.fd, &layer->head);
    if (rc)
        return err_set(e, rc, "Cannot write to the overlay %s: %s", path, err_os(rc));
    layer->file.size = layer_length(head->size);
    return 0;
}

int layer_open_top(struct layer *layer, const char *path, const struct layer_head *head,
                   bool only_new, bool *fresh, struct err *e)
{
    bool made;
    int rc = open_or_make(path, only_new, &made, &layer->file, e);

    if (rc)
        return rc;
    rc = layer_lock(layer->file.fd, true);
    *fresh = rc == 0 && is_all_hole(&layer->file);
    if (rc)
        rc = err_set(e, rc, "The overlay %s is in use by another drive or process.", path);
    else if (*fresh)
        rc = begin(layer, path, head, e);
    else
        rc = read_header(layer, path, e);
    if (rc == 0 && !*fresh)
        rc = compare_heads(&layer->head, head, path, e);
    if (rc == 0)
        return 0;
    if (made)
        (void)unlink(path); /* nobody can have begun to need it */
    layer_close(layer);
    return rc;
}

int layer_complete(struct layer *layer)
{
    int rc;

    if (fdatasync(layer->file.fd) < 0)
        return -errno;
    layer->head.complete = true;
    rc = write_header(layer->file.fd, &layer->head);
    if (rc == 0 && fdatasync(layer->file.fd) < 0)
        rc = -errno;
    if (rc == 0)
        return layer_lock(layer->file.fd, false);
    layer->head.complete = false;
    (void)write_header(layer->file.fd, &layer->head); /* what fails now failed before */
    return rc;
}

void layer_close(struct layer *layer)
{
    blk_file_close(&layer->file);
}
