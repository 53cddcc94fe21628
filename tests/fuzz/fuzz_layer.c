/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_layer: the input is the file of a layer, first as it is, then with a header that fits the
 * drive, a right checksum and the right length. It is opened as a stored layer and gone on with as
 * an overlay; what is accepted is read to its end.
 */
#include "tests/fuzz/fuzz_device.h"
#include "tests/support/fake_loop.h"
#include "virtio/block/overlay.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define DISK (256 * KIB)

static char base_path[64], layer_path[64];
static struct blk_file base;

static void open_base(void)
{
    int fd = memfd_create("base", MFD_CLOEXEC);

    BUG_ON(fd < 0 || ftruncate(fd, DISK) < 0);
    snprintf(base_path, sizeof(base_path), "/proc/self/fd/%d", fd);
    BUG_ON(blk_file_open(&base, base_path, true, NULL));
}

/* Every block is somewhere. */
static void walk(const struct overlay *overlay)
{
    for (uint64_t at = 0; at < overlay->size;) {
        struct overlay_place place = overlay_find(overlay, at, overlay->size - at);

        BUG_ON(place.len == 0 || (!place.memory && (!place.file || place.file->fd < 0)));
        at += place.len;
    }
}

static void try_stack(const struct blk_config *config)
{
    struct overlay *overlay;

    if (overlay_create(&overlay, config, &base, NULL))
        return;
    walk(overlay);
    overlay_destroy(overlay);
}

static void try_file(void)
{
    struct blk_config over = {
        .path = base_path,
        .overlay = {.type = BLK_OVERLAY_MEMORY, .layer = {layer_path}, .layer_count = 1}};
    struct blk_config top = {.path = base_path,
                             .overlay = {.type = BLK_OVERLAY_FILE, .path = layer_path}};

    try_stack(&over);
    try_stack(&top);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("layer", MFD_CLOEXEC);
    struct layer_head head = {.size = DISK, .complete = size % 2};

    if (!base_path[0])
        open_base();
    log_set_options(&(struct log_options){.level = LOG_OFF});
    BUG_ON(fd < 0 || layer_write_at(fd, data, size, 0));
    snprintf(layer_path, sizeof(layer_path), "/proc/self/fd/%d", fd);
    try_file();
    BUG_ON(layer_hash_base(base.fd, base_path, &head.base, NULL) || layer_id_make(&head.id) ||
           layer_begin(fd, &head));
    try_file();
    close(fd);
    return 0;
}
