/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved_layers.h owns the files in which a snapshot keeps its drives' overlays. They lie beside the
 * state file and are called
 *
 *      <state file>.<drive>.<id of the layer>.overlay
 *
 * one for each layer of the drive's stack (virtio/block/overlay.h): the ones it has already, as
 * further names of the same file, or copies where the file system does not allow these; and one for
 * what the guest has written since, unless that is nothing. The running machine keeps the overlay
 * that it has. So a snapshot stands on nothing but the drives' own files, may be moved with its
 * directory, and no other one is harmed when it is removed or replaced.
 *
 * No name is ever used for another layer, so until the new state file takes its name the former
 * one, with all of its layers, is as it was; then those of the former one go.
 *
 *      open    the machine stands still: what an overlay in a file has is copied (or shared)
 *      write   everything else, and on to the disk: may be another process, forked meanwhile
 *      sweep   the state file has its name
 *      close
 *
 * Blocking calls. Touches neither loop nor KVM.
 */
#ifndef MAYFLY_SAVED_LAYERS_H
#define MAYFLY_SAVED_LAYERS_H

#include "virtio/block/overlay.h"
#include "vmm/devices.h"
#include "vmm/snapshot/new_file.h"

struct saved_layer {
    unsigned drive; /* its place among the drives */
    struct layer_id id;
    const struct layer *from; /* the layer that it is; NULL = the overlay as it is now */
    const char *from_path;    /* where that was found */
    const struct overlay *overlay;
    char *path;
    struct new_file file;
    bool is_written; /* complete in `file`, but for the name */
    bool has_name;   /* and it was us who made that */
};

struct saved_layers {
    char *state_path; /* links resolved */
    struct saved_layer *layer;
    unsigned count;
};

/* `state_path` is where the state file will be. -EMLINK for a stack that is too deep; the errors of
 * new_file.h. Sentences name the drive or the path. */
int saved_layers_open(struct saved_layers *layers, const struct devices *devices,
                      const char *state_path, struct err *e) __must_check;

/* Every file has its name, and is on the disk unless `lazy`. */
int saved_layers_write(struct saved_layers *layers, bool lazy, struct err *e) __must_check;

/* Removes what lies beside the state and belongs to a former one of that name. */
void saved_layers_sweep(const struct saved_layers *layers);

/* `committed`: the files stay; else those that are new go again. Accepts a zeroed one, and twice.
 */
void saved_layers_close(struct saved_layers *layers, bool committed);

/* Lets go of the files without a change to any: they are a forked process's now, that has them too.
 */
void saved_layers_hand_over(struct saved_layers *layers);

/* The part of the path behind the last slash: what the state file says. */
const char *saved_layer_name(const struct saved_layer *layer);

#endif
