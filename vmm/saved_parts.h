/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved_parts.h owns what the files that save and load devices' configuration have in common:
 * limiters, texts, and what saved_drives.c has for saved_devices.c. Nobody else includes it.
 */
#ifndef MAYFLY_SAVED_PARTS_H
#define MAYFLY_SAVED_PARTS_H

#include "vmm/saved_devices.h"

/* A limiter as the user gave it: what is left of its tokens is in the device's own state. */
struct saved_limiter {
    uint64_t size[2], refill_ms[2], burst[2]; /* bandwidth, operations */
    uint8_t bucket_given[2], burst_given[2], given, pad[3];
};

/* Its rows in a table. */
#define LIMITER(type, at)                                                                          \
    STATE_ARRAY(type, at.size), STATE_ARRAY(type, at.refill_ms), STATE_ARRAY(type, at.burst),      \
        STATE_ARRAY(type, at.bucket_given), STATE_ARRAY(type, at.burst_given),                     \
        STATE_FIELD(type, at.given), STATE_ARRAY(type, at.pad)

struct saved_limiter saved_limiter_of(bool given, const struct rate_limiter_config *config);
struct rate_limiter_config saved_limiter_config(const struct saved_limiter *from);

/* A text as blk.h, net.h and the others want it: char *, which they only copy. */
int saved_read_text(struct state_reader *r, const char *name, unsigned i, char **text,
                    struct err *e) __must_check;
/* The same for one that must be there. */
int saved_read_set_text(struct state_reader *r, const char *name, unsigned i, char **text,
                        struct err *e) __must_check;

/* saved_drives.c: the sections of drive `i`. */
#define SAVED_DRIVE_ID "drive-id"
void saved_drive_write(const struct blk *blk, unsigned i, const struct saved_layers *layers,
                       struct state_writer *w);
int saved_drive_read(struct devices *devices, const struct saved_overrides *overrides, unsigned i,
                     struct state_reader *r, struct err *e) __must_check;

#endif
