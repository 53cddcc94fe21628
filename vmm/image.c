/* SPDX-License-Identifier: Apache-2.0 */
/* image.c: see image.h. */
#include "vmm/image.h"

#include "vmm/snapshot/new_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* What is copied in one go. */
#define CHUNK (1 * MIB)

struct committing {
    const struct image_commit *commit;
    struct blk_file base; /* fd -1 = there is none */
    struct layer *layer;
    unsigned count;  /* that are open */
    uint64_t size;   /* of the drive */
    uint8_t *owner;  /* of each block: 0 = the base, or nobody; i = layer[i - 1] */
    bool base_is_in; /* the output began as a clone of the base */
    uint8_t *chunk;
    struct new_file output;
};

/* There is always something to make room for: layer_open takes no drive of size 0. */
static uint8_t *make_zeros(uint64_t len)
{
    return calloc(1, MAX(len, 1u));
}

/* ---- what goes in ---------------------------------------------------------------------------- */

static int open_base(struct committing *c, uint64_t *hash, struct err *e)
{
    const char *path = c->commit->base;
    int rc = blk_file_open(&c->base, path, true, e);

    if (rc == 0)
        rc = layer_hash_base(c->base.fd, path, hash, e);
    if (rc == 0 && layer_lock(c->base.fd, false))
        rc = err_set(e, -EBUSY, "%s is being written to by another process.", path);
    return rc;
}

/* Whether layer `i` lies on what is before it. */
static int check_layer(const struct committing *c, unsigned i, uint64_t hash, struct err *e)
{
    const struct layer_head *head = &c->layer[i].head, *first = &c->layer[0].head;
    const char *path = c->commit->layer[i];
    struct layer_id below = {{0, 0}};

    if (i > 0)
        below = c->layer[i - 1].head.id;
    else if (!c->commit->base)
        below = head->below;
    if (i > 0 ? head->size != first->size || head->base != first->base
              : c->commit->base &&
                    (head->base != hash || head->size != align_down(c->base.size, SECTOR_SIZE)))
        return err_set(e, -EINVAL, "%s lies over another file, or over one that has been changed.",
                       path);
    if (!layer_id_is(&head->below, &below))
        return err_set(e, -EINVAL, "%s does not lie on %s.", path,
                       i > 0 ? c->commit->layer[i - 1] : c->commit->base);
    return 0;
}

static int open_layers(struct committing *c, uint64_t hash, struct err *e)
{
    int rc = 0;

    c->layer = calloc(c->commit->count, sizeof(*c->layer));
    if (!c->layer)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    while (c->count < c->commit->count && rc == 0) {
        rc = layer_open(&c->layer[c->count], c->commit->layer[c->count], e);
        if (rc)
            return rc;
        rc = check_layer(c, c->count++, hash, e);
    }
    c->size = c->layer[0].head.size;
    return rc;
}

static int read_owners(struct committing *c, struct err *e)
{
    uint8_t *bits = make_zeros(layer_bits_size(c->size));
    int rc = 0;

    c->owner = make_zeros(layer_blocks(c->size));
    c->chunk = malloc(CHUNK);
    if (!bits || !c->owner || !c->chunk)
        rc = err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    for (unsigned i = 0; i < c->count && rc == 0; i++) {
        rc = layer_read_bits(&c->layer[i], bits);
        if (rc)
            err_set(e, rc, "Cannot read %s: %s", c->commit->layer[i], err_os(rc));
        else
            (void)layer_mark(c->size, bits, c->owner, (uint8_t)(i + 1));
    }
    free(bits);
    return rc;
}

/* ---- what comes out -------------------------------------------------------------------------- */

/* Writes what is not zeros, block by block; unless there is something below that they hide. */
static int write_chunk(const struct committing *c, size_t len, uint64_t to, struct err *e)
{
    int rc = 0;

    for (size_t at = 0; at < len && rc == 0;) {
        size_t end = at;

        while (end < len &&
               (c->base_is_in || !is_all_zero(c->chunk + end, MIN(LAYER_BLOCK, len - end))))
            end = MIN(end + LAYER_BLOCK, len);
        if (end > at)
            rc = new_file_write(&c->output, c->chunk + at, end - at, to + at, e);
        at = MAX(end, MIN(at + LAYER_BLOCK, len));
    }
    return rc;
}

/* Copies bytes that lie in one file. */
static int copy(const struct committing *c, const struct blk_file *from, const char *path,
                uint64_t from_at, uint64_t to_at, uint64_t len, struct err *e)
{
    while (len > 0) {
        ssize_t n = pread(from->fd, c->chunk, MIN(len, CHUNK), (off_t)from_at);
        int rc;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, n < 0 ? -errno : -EIO, "Cannot read %s: %s", path,
                           err_os(n < 0 ? -errno : -EIO));
        rc = write_chunk(c, (size_t)n, to_at, e);
        if (rc)
            return rc;
        from_at += (uint64_t)n;
        to_at += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

/* Copies blocks that have one owner: `data` is where block 0 is in the output. */
static int copy_run(const struct committing *c, uint64_t first, uint64_t end, uint64_t data,
                    struct err *e)
{
    uint8_t owner = c->owner[first];
    uint64_t start = first * LAYER_BLOCK, len = MIN(end * LAYER_BLOCK, c->size) - start;
    uint64_t own = layer_data(c->size);

    if (owner > 0)
        return copy(c, &c->layer[owner - 1].file, c->commit->layer[owner - 1], own + start,
                    data + start, len, e);
    if (!c->commit->base || c->base_is_in)
        return 0;
    return copy(c, &c->base, c->commit->base, start, data + start, len, e);
}

static int copy_blocks(const struct committing *c, uint64_t data, struct err *e)
{
    uint64_t blocks = layer_blocks(c->size), end;
    int rc = 0;

    for (uint64_t first = 0; first < blocks && rc == 0; first = end) {
        end = first + 1;
        while (end < blocks && c->owner[end] == c->owner[first] &&
               (end - first) * LAYER_BLOCK < 64 * CHUNK)
            end++;
        rc = copy_run(c, first, end, data, e);
        if (rc == 0 && c->commit->report)
            c->commit->report(MIN(end * LAYER_BLOCK, c->size), c->size);
    }
    return rc;
}

static int explain(const struct committing *c, int rc, struct err *e)
{
    return rc ? err_set(e, rc, "Cannot write %s: %s", c->commit->output, err_os(rc)) : 0;
}

static int write_image(struct committing *c, struct err *e)
{
    int rc;

    c->base_is_in = ioctl(c->output.fd, FICLONE, c->base.fd) == 0;
    rc = new_file_resize(&c->output, c->size, e);
    return rc ? rc : copy_blocks(c, 0, e);
}

/* A layer that anybody may put in place of those: what lay on the last of them lies on it. */
static int write_layer(struct committing *c, struct err *e)
{
    const struct layer_head *last = &c->layer[c->count - 1].head;
    struct layer_head head = c->layer[0].head;
    int rc = new_file_resize(&c->output, layer_length(c->size), e);
    uint8_t *bits;

    if (rc == 0)
        rc = copy_blocks(c, layer_data(c->size), e);
    if (rc)
        return rc;
    head.complete = true;
    head.id = last->id;
    if (!last->complete) /* its file may yet become another one */
        rc = layer_id_make(&head.id);
    bits = make_zeros(layer_bits_size(c->size));
    if (!bits)
        rc = -ENOMEM;
    for (uint64_t block = 0; block < layer_blocks(c->size) && rc == 0; block++) {
        if (c->owner[block])
            bits[block / 8] |= (uint8_t)(1u << block % 8);
    }
    if (rc == 0)
        rc = layer_write_at(c->output.fd, bits, layer_bits_size(c->size), LAYER_BLOCK);
    free(bits);
    return explain(c, rc ? rc : layer_begin(c->output.fd, &head), e);
}

static int open_output(struct committing *c, struct err *e)
{
    const char *path = c->commit->output;
    struct stat st;
    int rc;

    if (lstat(path, &st) == 0)
        return err_set(e, -EEXIST, "%s is there already: name a file that is not.", path);
    rc = new_file_open(&c->output, path, e);
    return rc ? err_prefix(e, "Cannot make %s: ", path) : 0;
}

static int run(struct committing *c, struct err *e)
{
    uint64_t hash = 0;
    int rc = c->commit->base ? open_base(c, &hash, e) : 0;

    if (rc == 0)
        rc = open_layers(c, hash, e);
    if (rc == 0)
        rc = read_owners(c, e);
    if (rc == 0)
        rc = open_output(c, e);
    if (rc == 0)
        rc = c->commit->base ? write_image(c, e) : write_layer(c, e);
    if (rc == 0)
        rc = new_file_sync(&c->output, e);
    return rc ? rc : new_file_commit(&c->output, e);
}

int image_commit(const struct image_commit *commit, struct err *e)
{
    struct committing c = {.commit = commit, .base.fd = -1, .output.fd = -1};
    int rc = run(&c, e);

    new_file_close(&c.output);
    for (unsigned i = 0; i < c.count; i++)
        layer_close(&c.layer[i]);
    blk_file_close(&c.base);
    free(c.layer);
    free(c.owner);
    free(c.chunk);
    return rc;
}

int image_info(const char *path, struct image_info *info, struct err *e)
{
    struct layer layer;
    struct stat st;
    uint8_t *bits;
    int rc = layer_open(&layer, path, e);

    if (rc)
        return rc;
    *info = (struct image_info){.head = layer.head};
    if (fstat(layer.file.fd, &st) == 0)
        info->on_disk = (uint64_t)st.st_blocks * 512;
    bits = make_zeros(layer_bits_size(layer.head.size));
    rc = bits ? layer_read_bits(&layer, bits) : -ENOMEM;
    if (rc)
        err_set(e, rc, "Cannot read %s: %s", path, err_os(rc));
    for (uint64_t i = 0; i < layer_bits_size(layer.head.size) && rc == 0; i++)
        info->blocks += (uint64_t)__builtin_popcount(bits[i]);
    free(bits);
    layer_close(&layer);
    return rc;
}
