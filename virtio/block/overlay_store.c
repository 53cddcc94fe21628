/* SPDX-License-Identifier: Apache-2.0 */
/* overlay_store.c: what is in an overlay, into a layer that a snapshot keeps. */
#include "virtio/block/overlay.h"

#include <string.h>

#include <linux/fs.h>
#include <sys/ioctl.h>

/* Blocks of memory; those of zeros stay holes. */
static int store_memory(const struct overlay *overlay, int fd, uint64_t first, uint64_t end)
{
    int rc = 0;

    for (uint64_t block = first; block < end && rc == 0;) {
        uint64_t run = block;

        while (run < end && !is_all_zero(overlay->memory + run * LAYER_BLOCK, LAYER_BLOCK))
            run++;
        rc = layer_write_at(fd, overlay->memory + block * LAYER_BLOCK, (run - block) * LAYER_BLOCK,
                            layer_data(overlay->size) + block * LAYER_BLOCK);
        block = run + 1;
    }
    return rc;
}

static int store_bits(const struct overlay *overlay, int fd)
{
    uint64_t blocks = layer_blocks(overlay->size);
    uint8_t bits[LAYER_BLOCK];
    int rc = 0;

    for (uint64_t page = 0; page < overlay_bits_pages(overlay) && rc == 0; page++) {
        uint64_t first = page * LAYER_PAGE_BLOCKS, end = MIN(first + LAYER_PAGE_BLOCKS, blocks);
        bool any = false;

        memset(bits, 0, sizeof(bits));
        for (uint64_t block = first; block < end; block++) {
            if (overlay->owner[block] != overlay->top)
                continue;
            bits[(block - first) / 8] |= (uint8_t)(1u << block % 8);
            any = true;
        }
        if (any)
            rc = layer_write_at(fd, bits, sizeof(bits), (page + 1) * LAYER_BLOCK);
    }
    return rc;
}

static int store_blocks(const struct overlay *overlay, int fd)
{
    uint64_t blocks = layer_blocks(overlay->size), data = layer_data(overlay->size), end;
    int rc = 0;

    for (uint64_t block = 0; block < blocks && rc == 0; block = end) {
        end = overlay_run_end(overlay, block, blocks);
        if (overlay->owner[block] != overlay->top)
            continue;
        if (overlay->memory)
            rc = store_memory(overlay, fd, block, end);
        else
            rc = layer_copy_range(overlay->file.file.fd, fd, data + block * LAYER_BLOCK,
                                  (end - block) * LAYER_BLOCK);
    }
    return rc;
}

int overlay_store(const struct overlay *overlay, int fd, const struct layer_id *id)
{
    const struct layer_head head = {
        .size = overlay->size,
        .base = overlay->base,
        .id = *id,
        .below = overlay_below(overlay),
        .complete = true,
    };
    int rc = 0;

    /* A file system that can shares the blocks; then only head and bits are written anew. */
    if (overlay->memory || ioctl(fd, FICLONE, overlay->file.file.fd) < 0)
        rc = store_blocks(overlay, fd);
    if (rc == 0)
        rc = store_bits(overlay, fd);
    return rc ? rc : layer_begin(fd, &head);
}
