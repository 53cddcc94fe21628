/* SPDX-License-Identifier: Apache-2.0 */
/* overlay.c: see overlay.h. */
#include "virtio/block/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

/* ---- memory ---------------------------------------------------------------------------------- */

/* Zeros that cost nothing until they are touched, and then a page each. */
static int map_zeros(uint8_t **to, uint64_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED)
        return -errno;
    madvise(map, size, MADV_NOHUGEPAGE); /* a refusal does not matter */
    *to = map;
    return 0;
}

static void unmap(uint8_t **map, uint64_t size)
{
    if (*map)
        munmap(*map, size);
    *map = NULL;
}

static uint64_t owner_size(const struct overlay *overlay)
{
    return align_up(layer_blocks(overlay->size), PAGE_SIZE);
}

static uint64_t memory_size(const struct overlay *overlay)
{
    return layer_blocks(overlay->size) * LAYER_BLOCK;
}

/* ---- the stack ------------------------------------------------------------------------------- */

struct layer_id overlay_below(const struct overlay *overlay)
{
    if (overlay->count == 0)
        return (struct layer_id){{0, 0}};
    return overlay->layer[overlay->count - 1].head.id;
}

/* Whether a layer lies on what is there. */
static int check_layer(const struct overlay *overlay, const struct layer *layer, const char *path,
                       struct err *e)
{
    struct layer_id below = overlay_below(overlay);

    if (!layer->head.complete)
        return err_set(e, -EINVAL,
                       "%s is not complete: it is the overlay of a drive, and no layer that a "
                       "snapshot or a fork has left.",
                       path);
    if (layer->head.size != overlay->size || layer->head.base != overlay->base)
        return err_set(e, -EINVAL,
                       "%s lies over another file, or over one that has been changed since.", path);
    if (!layer_id_is(&layer->head.below, &below))
        return err_set(e, -EINVAL, "%s does not lie on the layer before it.", path);
    return 0;
}

static int add_layer(struct overlay *overlay, const char *path, uint8_t *bits, struct err *e)
{
    struct layer *layer = &overlay->layer[overlay->count];
    int rc = layer_open(layer, path, e);

    if (rc)
        return rc;
    rc = check_layer(overlay, layer, path, e);
    if (rc == 0) {
        rc = layer_read_bits(layer, bits);
        if (rc)
            err_set(e, rc, "Cannot read %s: %s", path, err_os(rc));
    }
    if (rc) {
        layer_close(layer);
        return rc;
    }
    overlay->count++;
    (void)layer_mark(overlay->size, bits, overlay->owner, (uint8_t)overlay->count);
    return 0;
}

static int add_layers(struct overlay *overlay, const struct blk_overlay_config *config,
                      struct err *e)
{
    struct layer_id topmost = {{config->topmost[0], config->topmost[1]}}, found;
    uint8_t *bits = NULL;
    int rc = 0;

    if (config->layer_count > 0) {
        rc = map_zeros(&bits, layer_bits_size(overlay->size));
        if (rc)
            return err_set(e, rc, "%s", err_os(rc));
        for (unsigned i = 0; i < config->layer_count && rc == 0; i++)
            rc = add_layer(overlay, config->layer[i], bits, e);
        unmap(&bits, layer_bits_size(overlay->size));
    }
    if (rc)
        return rc;
    found = overlay_below(overlay);
    if (!layer_id_is_none(&topmost) && !layer_id_is(&topmost, &found))
        return err_set(e, -EINVAL,
                       "The topmost layer is another one than the snapshot was made with%s%s.",
                       config->layer_count ? ": " : "",
                       config->layer_count ? config->layer[config->layer_count - 1] : "");
    return 0;
}

/* ---- the top --------------------------------------------------------------------------------- */

static int prepare_bits(struct overlay *overlay)
{
    uint64_t size = layer_bits_size(overlay->size);
    int rc = map_zeros(&overlay->bits, size);

    if (rc == 0 && overlay->bits_wait)
        rc = map_zeros(&overlay->bits_flushed, size);
    overlay->page_is_dirty = calloc(2, overlay_bits_pages(overlay));
    if (!overlay->page_is_dirty)
        return -ENOMEM;
    overlay->page_is_flushed = overlay->page_is_dirty + overlay_bits_pages(overlay);
    return rc;
}

static int open_file(struct overlay *overlay, const char *path, bool only_new, struct err *e)
{
    const struct layer_head head = {
        .size = overlay->size,
        .base = overlay->base,
        .below = overlay_below(overlay),
    };
    bool fresh;
    int rc = layer_open_top(&overlay->file, path, &head, only_new, &fresh, e);

    if (rc)
        return rc;
    rc = prepare_bits(overlay);
    if (rc == 0 && !fresh)
        rc = layer_read_bits(&overlay->file, overlay->bits);
    if (rc)
        return err_set(e, rc, "Cannot use the overlay %s: %s", path, err_os(rc));
    overlay->written =
        fresh ? 0 : layer_mark(overlay->size, overlay->bits, overlay->owner, overlay->top);
    return 0;
}

/* What another guest has written would lie over the disk as this one knows it. */
static int check_empty(const struct overlay *overlay, const struct blk_overlay_config *config,
                       struct err *e)
{
    if (!config->must_be_empty || overlay->written == 0)
        return 0;
    return err_set(e, -EEXIST,
                   "The overlay %s has been written to by another guest, or by this one later: "
                   "name a file that does not exist yet.",
                   config->path);
}

static int open_top(struct overlay *overlay, const struct blk_config *config, struct err *e)
{
    int rc;

    overlay->type = config->overlay.type;
    overlay->bits_wait = config->cache == BLK_CACHE_WRITEBACK;
    overlay->top = (uint8_t)(overlay->count + 1);
    overlay->written = 0;
    if (overlay->type == BLK_OVERLAY_FILE) {
        rc = open_file(overlay, config->overlay.path, false, e);
        return rc ? rc : check_empty(overlay, &config->overlay, e);
    }
    rc = map_zeros(&overlay->memory, memory_size(overlay));
    if (rc)
        return err_set(e, rc, "Cannot reserve %llu bytes for an overlay in memory: %s",
                       (unsigned long long)memory_size(overlay), err_os(rc));
    return 0;
}

static void close_top(struct overlay *overlay)
{
    unmap(&overlay->memory, memory_size(overlay));
    unmap(&overlay->bits, layer_bits_size(overlay->size));
    unmap(&overlay->bits_flushed, layer_bits_size(overlay->size));
    free(overlay->page_is_dirty);
    overlay->page_is_dirty = overlay->page_is_flushed = NULL;
    layer_close(&overlay->file);
}

/* ---- making and ending ----------------------------------------------------------------------- */

static int set_up(struct overlay *overlay, const struct blk_config *config, struct blk_file *base,
                  struct err *e)
{
    int rc = layer_hash_base(base->fd, config->path, &overlay->base, e);

    if (rc)
        return rc;
    if (layer_lock(base->fd, false) < 0)
        return err_set(e, -EBUSY, "%s is being written to by another process.", config->path);
    overlay->base_file = base;
    overlay->size = align_down(base->size, SECTOR_SIZE);
    if (overlay->size == 0)
        return err_set(e, -EINVAL, "%s is empty: there is nothing to lay anything over.",
                       config->path);
    rc = map_zeros(&overlay->owner, owner_size(overlay));
    if (rc)
        return err_set(e, rc, "%s", err_os(rc));
    rc = add_layers(overlay, &config->overlay, e);
    return rc ? rc : open_top(overlay, config, e);
}

int overlay_create(struct overlay **out, const struct blk_config *config, struct blk_file *base,
                   struct err *e)
{
    struct overlay *overlay = calloc(1, sizeof(*overlay));
    int rc;

    if (!overlay)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    overlay->file.file.fd = -1;
    rc = set_up(overlay, config, base, e);
    if (rc) {
        overlay_destroy(overlay);
        return rc;
    }
    *out = overlay;
    return 0;
}

void overlay_destroy(struct overlay *overlay)
{
    if (!overlay)
        return;
    close_top(overlay);
    for (unsigned i = 0; i < overlay->count; i++)
        layer_close(&overlay->layer[i]);
    unmap(&overlay->owner, owner_size(overlay));
    free(overlay);
}

int overlay_inherit(struct overlay **out, const struct blk_config *config, struct overlay **from,
                    struct blk_file *base, struct err *e)
{
    struct overlay *overlay = *from;
    int rc;

    if (overlay->type == BLK_OVERLAY_MEMORY && config->overlay.type == BLK_OVERLAY_FILE)
        return err_set(e, -EINVAL,
                       "Its overlay is in memory, and stays so in a fork: a file cannot be named "
                       "for it.");
    BUG_ON(overlay->type == BLK_OVERLAY_FILE && overlay->written > 0); /* split, then forked */
    *base = *overlay->base_file;
    *overlay->base_file = (struct blk_file){.fd = -1};
    overlay->base_file = base;
    *from = NULL;
    *out = overlay;
    if (overlay->type == BLK_OVERLAY_MEMORY)
        return 0;
    close_top(overlay);
    rc = open_top(overlay, config, e);
    if (rc) {
        overlay_destroy(overlay);
        *out = NULL;
    }
    return rc;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

struct overlay_place overlay_top(struct overlay *overlay, uint64_t offset, uint64_t len)
{
    struct overlay_place place = {.len = len};

    if (overlay->memory) {
        place.memory = overlay->memory + offset;
    } else {
        place.file = &overlay->file.file;
        place.offset = layer_data(overlay->size) + offset;
    }
    return place;
}

struct overlay_place overlay_find(const struct overlay *overlay, uint64_t offset, uint64_t len)
{
    struct overlay *mine = (struct overlay *)(uintptr_t)overlay;
    uint64_t first = offset / LAYER_BLOCK, end = layer_blocks(offset + len);
    uint8_t owner = overlay->owner[first];

    len = MIN(len, overlay_run_end(overlay, first, end) * LAYER_BLOCK - offset);
    if (owner == overlay->top)
        return overlay_top(mine, offset, len);
    if (owner == 0)
        return (struct overlay_place){.file = overlay->base_file, .offset = offset, .len = len};
    return (struct overlay_place){
        .file = &mine->layer[owner - 1].file,
        .offset = layer_data(overlay->size) + offset,
        .len = len,
    };
}

bool overlay_has(const struct overlay *overlay, uint64_t first, uint64_t last)
{
    return overlay->owner[first] == overlay->top &&
           overlay_run_end(overlay, first, last + 1) == last + 1;
}

/* Sets the bits of blocks that the file at the top has now. */
static int record(struct overlay *overlay, uint64_t first, uint64_t last)
{
    int rc = 0;

    for (uint64_t block = first; block <= last; block++)
        overlay->bits[block / 8] |= (uint8_t)(1u << block % 8);
    for (uint64_t page = first / LAYER_PAGE_BLOCKS; page <= last / LAYER_PAGE_BLOCKS && rc == 0;
         page++) {
        if (overlay->bits_wait)
            overlay->page_is_dirty[page] = 1;
        else
            rc = layer_write_bits(overlay->file.file.fd, overlay->bits, page);
    }
    return rc;
}

int overlay_take(struct overlay *overlay, uint64_t first, uint64_t last)
{
    int rc = 0;

    if (overlay->type == BLK_OVERLAY_FILE)
        rc = record(overlay, first, last);
    if (rc)
        return rc;
    for (uint64_t block = first; block <= last; block++)
        overlay->written += overlay->owner[block] != overlay->top;
    memset(overlay->owner + first, overlay->top, last - first + 1);
    return 0;
}

/* ---- flushes of a file ----------------------------------------------------------------------- */

bool overlay_flush_begin(struct overlay *overlay)
{
    bool any = false;

    for (uint64_t page = 0; page < overlay_bits_pages(overlay); page++) {
        if (!overlay->page_is_dirty[page])
            continue;
        any = true;
        memcpy(overlay->bits_flushed + page * LAYER_BLOCK, overlay->bits + page * LAYER_BLOCK,
               LAYER_BLOCK);
        overlay->page_is_dirty[page] = 0;
        overlay->page_is_flushed[page] = 1;
    }
    return any;
}

int overlay_flush_write(struct overlay *overlay)
{
    int rc = 0;

    for (uint64_t page = 0; page < overlay_bits_pages(overlay) && rc == 0; page++) {
        if (overlay->page_is_flushed[page])
            rc = layer_write_bits(overlay->file.file.fd, overlay->bits_flushed, page);
    }
    return rc;
}

void overlay_flush_end(struct overlay *overlay, int rc)
{
    for (uint64_t page = 0; page < overlay_bits_pages(overlay); page++) {
        if (rc)
            overlay->page_is_dirty[page] |= overlay->page_is_flushed[page];
        overlay->page_is_flushed[page] = 0;
    }
}

int overlay_check_depth(const struct overlay *overlay, struct err *e)
{
    if (overlay->count < BLK_LAYERS_MAX)
        return 0;
    return err_set(e, -EMLINK,
                   "It lies on %u layers, and more there cannot be: make one of them with "
                   "`mayflyctl image commit`, and go on from that.",
                   BLK_LAYERS_MAX);
}

/* ---- forks ----------------------------------------------------------------------------------- */

int overlay_split(struct overlay *overlay, const char *path, struct err *e)
{
    struct overlay next = *overlay;
    int rc;

    rc = overlay_check_depth(overlay, e);
    if (rc)
        return rc;
    (void)overlay_flush_begin(overlay);
    rc = fdatasync(overlay->file.file.fd) < 0 ? -errno : 0;
    if (rc == 0)
        rc = overlay_flush_write(overlay);
    overlay_flush_end(overlay, rc);
    if (rc)
        return err_set(e, rc, "Cannot write to its overlay: %s", err_os(rc));

    next.layer[next.count++] = overlay->file;
    next.top++;
    next.bits = next.bits_flushed = NULL;
    next.page_is_dirty = NULL;
    next.file = (struct layer){.file.fd = -1};
    rc = open_file(&next, path, true, e);
    if (rc == 0) {
        rc = layer_complete(&next.layer[next.count - 1]);
        if (rc)
            err_set(e, rc, "Cannot complete its overlay: %s", err_os(rc));
    }
    if (rc) {
        if (next.file.file.fd >= 0)
            (void)unlink(path);
        close_top(&next);
        return rc;
    }
    overlay->file = (struct layer){.file.fd = -1}; /* it is a layer now */
    close_top(overlay);
    *overlay = next;
    return 0;
}
