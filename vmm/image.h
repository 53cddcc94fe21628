/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h owns what is made of drives' layers without a machine: one image, or one layer, out of
 * many. For mayflyctl. Blocking calls; nothing that is there is changed.
 */
#ifndef MAYFLY_IMAGE_H
#define MAYFLY_IMAGE_H

#include "virtio/block/layer.h"

struct image_commit {
    const char *base;   /* the drive's file: an image is made; NULL = a layer in place of those */
    char *const *layer; /* the lowest first; each lies on the one before it */
    unsigned count;     /* 1 to 255 */
    const char *output; /* is not there yet */
    /* Is told now and then how far it has come, in bytes of the drive; or NULL. */
    void (*report)(uint64_t done, uint64_t all);
};

/*
 * -EBUSY when a layer is being written to, -EEXIST when the output is there, -EINVAL for what does
 * not lie on each other, and the system's. Zeros become holes. The output takes its name when it is
 * complete and on the disk.
 */
int image_commit(const struct image_commit *commit, struct err *e) __must_check;

/* What is known of a layer's file. */
struct image_info {
    struct layer_head head;
    uint64_t blocks;  /* it has */
    uint64_t on_disk; /* bytes */
};

/* Errors of layer_open. */
int image_info(const char *path, struct image_info *info, struct err *e) __must_check;

#endif
