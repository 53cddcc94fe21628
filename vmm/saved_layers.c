/* SPDX-License-Identifier: Apache-2.0 */
/* saved_layers.c: see saved_layers.h. */
#include "vmm/saved_layers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX    ".overlay"
#define ID_DIGITS 16

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

const char *saved_layer_name(const struct saved_layer *layer)
{
    return base_name(layer->path);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int add(struct saved_layers *layers, unsigned drive, const char *drive_id,
               const struct overlay *overlay, const struct layer *from, struct err *e)
{
    struct saved_layer *more =
        reallocarray(layers->layer, layers->count + 1, sizeof(*layers->layer));
    struct saved_layer *layer;
    int rc = 0;

    if (!more)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    layers->layer = more;
    layer = &more[layers->count];
    *layer =
        (struct saved_layer){.drive = drive, .from = from, .overlay = overlay, .file = {.fd = -1}};
    if (from)
        layer->id = from->head.id;
    else
        rc = layer_id_make(&layer->id);
    if (rc)
        return err_set(e, rc, "%s", err_os(rc));
    if (asprintf(&layer->path, "%s.%s.%016" PRIx64 SUFFIX, layers->state_path, drive_id,
                 layer->id.word[0]) < 0)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    layers->count++;
    return 0;
}

static int explain(const struct saved_layer *layer, int rc, struct err *e)
{
    return err_set(e, rc, "Cannot write %s: %s", layer->path, err_os(rc));
}

/* A file without its name yet, as long as it will be. */
static int make_file(struct saved_layer *layer, struct err *e)
{
    int rc = new_file_open(&layer->file, layer->path, e);

    if (rc)
        return err_prefix(e, "Cannot make %s: ", layer->path);
    return new_file_resize(&layer->file, layer_length(layer->overlay->size), e);
}

/* The overlay as it is now. */
static int store(struct saved_layer *layer, struct err *e)
{
    int rc = make_file(layer, e);

    if (rc)
        return rc;
    rc = overlay_store(layer->overlay, layer->file.fd, &layer->id);
    if (rc)
        return explain(layer, rc, e);
    layer->is_written = true;
    return 0;
}

static int add_drive(struct saved_layers *layers, unsigned drive, const struct blk *blk,
                     struct err *e)
{
    const char *id = blk_config(blk)->id;
    const struct overlay *overlay = blk_overlay(blk);
    int rc = 0;

    for (unsigned i = 0; i < overlay->count && rc == 0; i++) {
        rc = add(layers, drive, id, overlay, &overlay->layer[i], e);
        if (rc == 0)
            layers->layer[layers->count - 1].from_path = blk_config(blk)->overlay.layer[i];
    }
    if (rc || overlay->written == 0)
        return rc;
    if (overlay_check_depth(overlay, e))
        return err_prefix(e, "Drive %s: ", id);
    rc = add(layers, drive, id, overlay, NULL, e);
    /* A file is written to again as soon as the machine goes on; memory is the writer's own. */
    if (rc == 0 && overlay->type == BLK_OVERLAY_FILE)
        rc = store(&layers->layer[layers->count - 1], e);
    return rc;
}

int saved_layers_open(struct saved_layers *layers, const struct devices *devices,
                      const char *state_path, struct err *e)
{
    int rc = 0;

    *layers = (struct saved_layers){.state_path = strdup(state_path)};
    if (!layers->state_path)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    for (unsigned i = 0; i < devices->drive_count && rc == 0; i++) {
        const struct blk *blk = devices->drive[i].blk;

        if (blk && blk_overlay(blk))
            rc = add_drive(layers, i, blk, e);
    }
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Whether the layer is there under its name already: the machine was loaded from a state of the
 * same name. */
static bool is_there(const struct saved_layer *layer)
{
    struct layer found;
    bool same;

    if (access(layer->path, F_OK) || layer_open(&found, layer->path, NULL))
        return false;
    same = layer_id_is(&found.head.id, &layer->id);
    layer_close(&found);
    return same;
}

static int copy(struct saved_layer *layer, struct err *e)
{
    int rc = make_file(layer, e);

    if (rc)
        return rc;
    rc = layer_copy(layer->from, layer->file.fd);
    if (rc)
        return explain(layer, rc, e);
    layer->is_written = true;
    return 0;
}

/* A layer that lies somewhere gets a name here. Its own path may lead elsewhere by now, so what got
 * the name is looked at. */
static int give_name(struct saved_layer *layer, struct err *e)
{
    if (is_there(layer))
        return 0;
    if (link(layer->from_path, layer->path) == 0) {
        layer->has_name = true;
        if (is_there(layer))
            return 0;
        (void)unlink(layer->path);
        layer->has_name = false;
    }
    return copy(layer, e);
}

static int finish(struct saved_layer *layer, bool lazy, struct err *e)
{
    int rc;

    layer->file.lazy = lazy;
    rc = new_file_sync(&layer->file, e);
    if (rc == 0)
        rc = new_file_commit(&layer->file, e);
    layer->has_name |= rc == 0;
    return rc;
}

/* What has its name already may have been left by a snapshot that was lazy. */
static int flush(const struct saved_layer *layer, struct err *e)
{
    int fd = open(layer->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc = fd < 0 || fdatasync(fd) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return rc ? explain(layer, rc, e) : 0;
}

int saved_layers_write(struct saved_layers *layers, bool lazy, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < layers->count && rc == 0; i++) {
        struct saved_layer *layer = &layers->layer[i];

        if (layer->from)
            rc = give_name(layer, e);
        else if (!layer->is_written)
            rc = store(layer, e);
        if (rc == 0 && layer->is_written)
            rc = finish(layer, lazy, e);
        else if (rc == 0 && !lazy)
            rc = flush(layer, e);
    }
    return rc;
}

/* ---- afterwards ------------------------------------------------------------------------------ */

/* Whether a file's name is one of ours for a state of that name: "<state>.<drive>.<id>.overlay",
 * perhaps on its way there. Neither drives nor ids have dots. */
static bool is_of_state(const char *name, const char *state)
{
    size_t len = strlen(state), drive;

    if (strncmp(name, state, len) != 0 || name[len] != '.')
        return false;
    name += len + 1;
    drive = strcspn(name, ".");
    if (drive == 0 || name[drive] != '.')
        return false;
    name += drive + 1;
    if (strspn(name, "0123456789abcdef") != ID_DIGITS)
        return false;
    name += ID_DIGITS;
    return strcmp(name, SUFFIX) == 0 || strcmp(name, SUFFIX NEW_FILE_SUFFIX) == 0;
}

static bool is_listed(const struct saved_layers *layers, const char *name)
{
    for (unsigned i = 0; i < layers->count; i++) {
        if (strcmp(saved_layer_name(&layers->layer[i]), name) == 0)
            return true;
    }
    return false;
}

void saved_layers_sweep(const struct saved_layers *layers)
{
    const char *state = base_name(layers->state_path);
    char *directory = state == layers->state_path
                          ? strdup(".")
                          : strndup(layers->state_path, (size_t)(state - layers->state_path));
    DIR *dir = directory ? opendir(directory) : NULL;
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (is_of_state(entry->d_name, state) && !is_listed(layers, entry->d_name))
            (void)unlinkat(dirfd(dir), entry->d_name, 0); /* it costs room, and nothing else */
    }
    if (dir)
        closedir(dir);
    free(directory);
}

void saved_layers_hand_over(struct saved_layers *layers)
{
    for (unsigned i = 0; i < layers->count; i++) {
        free(layers->layer[i].file.beside);
        layers->layer[i].file.beside = NULL;
    }
    saved_layers_close(layers, true);
}

void saved_layers_close(struct saved_layers *layers, bool committed)
{
    for (unsigned i = 0; i < layers->count; i++) {
        struct saved_layer *layer = &layers->layer[i];

        if (layer->has_name && !committed)
            (void)unlink(layer->path);
        new_file_close(&layer->file);
        free(layer->path);
    }
    free(layers->layer);
    free(layers->state_path);
    *layers = (struct saved_layers){0};
}
