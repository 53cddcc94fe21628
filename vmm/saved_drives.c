/* SPDX-License-Identifier: Apache-2.0 */
/* saved_drives.c: drives in a state file, with the layers that theirs lie on. */
#include "vmm/saved_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct saved_drive {
    uint64_t sectors; /* not configured: what the guest was told; 0 = version 1 did not say */
    struct saved_limiter limiter;
    uint8_t is_root, read_only, discard, writeback, async, pad[3];
};

static const struct state_field drive_fields[] = {
    STATE_FIELD_SINCE(2, struct saved_drive, sectors),
    LIMITER(struct saved_drive, limiter),
    STATE_FIELD(struct saved_drive, is_root),
    STATE_FIELD(struct saved_drive, read_only),
    STATE_FIELD(struct saved_drive, discard),
    STATE_FIELD(struct saved_drive, writeback),
    STATE_FIELD(struct saved_drive, async),
    STATE_ARRAY(struct saved_drive, pad),
};
const struct state_desc saved_drive_desc = STATE_DESC("drive", 2, struct saved_drive, drive_fields);

/* Of a drive that has one; what it was in is not saved. */
struct saved_overlay {
    uint64_t topmost[2]; /* the id of the last of its layers; 0 = it has none */
    uint32_t layers, pad;
};

static const struct state_field overlay_fields[] = {
    STATE_ARRAY(struct saved_overlay, topmost),
    STATE_FIELD(struct saved_overlay, layers),
    STATE_FIELD(struct saved_overlay, pad),
};
const struct state_desc saved_overlay_desc =
    STATE_DESC("overlay", 1, struct saved_overlay, overlay_fields);

/* Texts: of the drive with the same index. */
#define DRIVE_PATH     "drive-path"
#define DRIVE_PARTUUID "drive-partuuid"
#define OVERLAY_LAYER  "overlay-layer" /* BLK_LAYERS_MAX times the index, plus the layer's */

/* ---- writing --------------------------------------------------------------------------------- */

/* The names that the layers of drive `i` are to have, and the id of the last. */
static unsigned list_stored(const struct saved_layers *layers, unsigned i,
                            const char *names[BLK_LAYERS_MAX], struct layer_id *topmost)
{
    unsigned count = 0;

    for (unsigned at = 0; at < layers->count; at++) {
        const struct saved_layer *layer = &layers->layer[at];

        if (layer->drive != i)
            continue;
        BUG_ON(count == BLK_LAYERS_MAX);
        names[count++] = saved_layer_name(layer);
        *topmost = layer->id;
    }
    return count;
}

static void write_overlay(const struct blk *blk, unsigned i, const struct saved_layers *layers,
                          struct state_writer *w)
{
    const struct blk_overlay_config *config = &blk_config(blk)->overlay;
    struct layer_id topmost = overlay_below(blk_overlay(blk));
    const char *names[BLK_LAYERS_MAX];
    struct saved_overlay saved = {.layers = config->layer_count};

    for (unsigned at = 0; at < config->layer_count; at++)
        names[at] = config->layer[at];
    if (layers)
        saved.layers = list_stored(layers, i, names, &topmost);
    memcpy(saved.topmost, topmost.word, sizeof(saved.topmost));
    state_write(w, &saved_overlay_desc, i, &saved, 1);
    for (unsigned at = 0; at < saved.layers; at++)
        state_write_text(w, OVERLAY_LAYER, i * BLK_LAYERS_MAX + at, names[at]);
}

void saved_drive_write(const struct blk *blk, unsigned i, const struct saved_layers *layers,
                       struct state_writer *w)
{
    const struct blk_config *config = blk_config(blk);
    const struct saved_drive saved = {
        .sectors = blk_sectors(blk),
        .limiter = saved_limiter_of(config->has_limiter, &config->limiter),
        .is_root = config->is_root,
        .read_only = config->read_only,
        .discard = config->discard,
        .writeback = config->cache == BLK_CACHE_WRITEBACK,
        .async = config->engine == BLK_ENGINE_ASYNC,
    };

    state_write(w, &saved_drive_desc, i, &saved, 1);
    state_write_text(w, SAVED_DRIVE_ID, i, config->id);
    state_write_text(w, DRIVE_PATH, i, config->path);
    state_write_text(w, DRIVE_PARTUUID, i, config->partuuid);
    if (blk_overlay(blk))
        write_overlay(blk, i, layers, w);
}

/* ---- reading --------------------------------------------------------------------------------- */

static const struct drive_override *drive_override(const struct saved_overrides *overrides,
                                                   const char *id)
{
    for (size_t i = 0; i < overrides->drive_count; i++) {
        if (strcmp(overrides->drive[i].id, id) == 0)
            return &overrides->drive[i];
    }
    return NULL;
}

/* Where a layer is: a name without a slash is beside the state file. malloc'ed. */
static char *layer_path(const struct saved_overrides *overrides, const char *name)
{
    const char *slash = overrides->state_path ? strrchr(overrides->state_path, '/') : NULL;
    char *path;

    if (strchr(name, '/') || !slash)
        return strdup(name);
    if (asprintf(&path, "%.*s%s", (int)(slash - overrides->state_path) + 1, overrides->state_path,
                 name) < 0)
        return NULL;
    return path;
}

/* Its strings are malloc'ed. */
static int read_layers(struct blk_overlay_config *config, const struct saved_overrides *overrides,
                       unsigned i, struct state_reader *r, struct err *e)
{
    struct saved_overlay saved = {0};
    int rc = state_read(r, &saved_overlay_desc, i, &saved, e);

    if (rc == 0 && saved.layers > BLK_LAYERS_MAX)
        rc = err_set(e, -EINVAL, "The snapshot has a drive with more layers than there can be.");
    for (unsigned at = 0; at < saved.layers && rc == 0; at++) {
        char *name;

        rc = saved_read_set_text(r, OVERLAY_LAYER, i * BLK_LAYERS_MAX + at, &name, e);
        if (rc)
            break;
        config->layer[at] = layer_path(overrides, name);
        if (!config->layer[at])
            return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
        config->layer_count++;
    }
    config->type = BLK_OVERLAY_MEMORY;
    memcpy(config->topmost, saved.topmost, sizeof(config->topmost));
    return rc;
}

/* What is asked for in place of what is saved: an overlay lies over the layers that the snapshot
 * has, or over those that are named, and holds nothing yet: the guest knows its disk. */
static void override_drive(struct blk_config *config, const struct drive_override *override)
{
    const struct blk_overlay_config saved = config->overlay;

    if (override->path)
        config->path = override->path;
    if (!override->has_overlay)
        return;
    config->overlay = override->overlay;
    config->overlay.must_be_empty = true;
    if (!override->overlay.has_layers) {
        config->overlay.layer_count = saved.layer_count;
        memcpy(config->overlay.layer, saved.layer, sizeof(saved.layer));
    }
    if (config->overlay.layer_count > 0) /* else the file is believed to hold what they held */
        memcpy(config->overlay.topmost, saved.topmost, sizeof(saved.topmost));
}

/* A guest that is told nothing would go on with the size that it knows. */
static int check_sectors(const struct saved_drive *saved, const struct blk *blk, struct err *e)
{
    const struct blk_config *config = blk_config(blk);

    if (saved->sectors == 0 || saved->sectors == blk_sectors(blk))
        return 0;
    return err_set(e, -EINVAL,
                   "Drive %s: %s has %" PRIu64 " sectors, and %" PRIu64 " when the snapshot was "
                   "made.",
                   config->id, config->path, blk_sectors(blk), saved->sectors);
}

static int check_fork(const struct blk_config *config, const struct drive_override *override,
                      struct err *e)
{
    if (!override || (!override->path && !override->overlay.has_layers))
        return 0;
    return err_set(e, -EINVAL,
                   "Drive %s: a fork lies on the file and the layers of its parent; only an "
                   "overlay of its own can be named.",
                   config->id);
}

/* Makes the drive that is saved, or the one that is asked for in its place. */
static int make_drive(struct devices *devices, const struct saved_overrides *overrides,
                      const struct saved_drive *saved, struct blk_config *config, struct err *e)
{
    const struct drive_override *override = drive_override(overrides, config->id);
    int rc = 0;

    if (overrides->forked_from) {
        struct drive *parent = devices_find_drive(overrides->forked_from, config->id);

        rc = check_fork(config, override, e);
        config->forked_from = parent ? parent->blk : NULL;
    }
    if (override)
        override_drive(config, override);
    if (rc == 0)
        rc = devices_set_drive(devices, config, e);
    return rc ? rc : check_sectors(saved, devices_find_drive(devices, config->id)->blk, e);
}

static bool next_is_overlay(const struct state_reader *r)
{
    struct state_section next;

    return state_reader_peek(r, &next) && strcmp(next.name, saved_overlay_desc.name) == 0;
}

int saved_drive_read(struct devices *devices, const struct saved_overrides *overrides, unsigned i,
                     struct state_reader *r, struct err *e)
{
    struct saved_drive saved = {0};
    struct blk_overlay_config overlay = {0};
    struct blk_config config;
    int rc = state_read(r, &saved_drive_desc, i, &saved, e);

    config = (struct blk_config){
        .is_root = saved.is_root,
        .read_only = saved.read_only,
        .discard = saved.discard,
        .cache = saved.writeback ? BLK_CACHE_WRITEBACK : BLK_CACHE_UNSAFE,
        .engine = saved.async ? BLK_ENGINE_ASYNC : BLK_ENGINE_SYNC,
        .has_limiter = saved.limiter.given,
        .limiter = saved_limiter_config(&saved.limiter),
    };
    if (rc == 0)
        rc = saved_read_set_text(r, SAVED_DRIVE_ID, i, &config.id, e);
    if (rc == 0)
        rc = saved_read_set_text(r, DRIVE_PATH, i, &config.path, e);
    if (rc == 0)
        rc = saved_read_text(r, DRIVE_PARTUUID, i, &config.partuuid, e);
    if (rc == 0 && next_is_overlay(r))
        rc = read_layers(&overlay, overrides, i, r, e);
    config.overlay = overlay;
    if (rc == 0)
        rc = make_drive(devices, overrides, &saved, &config, e);
    for (unsigned at = 0; at < overlay.layer_count; at++)
        free(overlay.layer[at]);
    return rc;
}
