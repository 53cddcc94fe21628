/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h owns saved state: what a guest can observe of a device is a plain struct of fixed-width
 * integers, described once by a table of its fields. One walk over the table encodes it, one
 * decodes it, one takes a fingerprint of its shape, and one proves that the table covers the struct
 * byte for byte, so that a field added without a row, a padding hole or a doubled row fails a test
 * instead of a restore.
 *
 * No device has a save or a restore function. Nothing host-specific can enter: a row for a pointer,
 * a long or a bool does not compile. Encoding is little-endian, fields in order, no padding, so the
 * encoded size is the size of the struct.
 */
#ifndef MAYFLY_BASE_STATE_H
#define MAYFLY_BASE_STATE_H

#include "vmm/base/err.h"

struct state_field {
    const char *name;
    uint32_t offset;
    uint16_t size;  /* of one element: 1, 2, 4 or 8 */
    uint16_t flags; /* STATE_COMPARE, STATE_MOMENT */
    uint32_t count; /* elements of an array; 1 for a scalar */
    uint32_t since; /* the version of the table that brought it; 0 = it was always there */
};

/* Compared with the configured device on load, never loaded: a restore onto a different device is
 * refused. */
#define STATE_COMPARE 1u
/* A moment of the host's monotonic clock, or 0 for none: another host's, or another boot's, is
 * another one. */
#define STATE_MOMENT 2u

struct state_desc {
    const char *name; /* the section's name in a snapshot, at most 15 characters */
    uint32_t version;
    uint32_t size; /* sizeof the struct */
    const struct state_field *field;
    uint32_t count;
};

/* unsigned long long: what the kernel's own structs are made of. */
#define STATE_TYPE_SIZE(x)                                                                         \
    _Generic((x), uint8_t : 1, uint16_t : 2, uint32_t : 4, uint64_t : 8, int64_t : 8,              \
             unsigned long long : 8)

/* clang-format off */
#define STATE_ROW(type, member, flag) \
    {#member, offsetof(type, member), STATE_TYPE_SIZE(((type *)0)->member), flag, 1, 0}
#define STATE_FIELD(type, member) STATE_ROW(type, member, 0)
#define STATE_SAME(type, member)  STATE_ROW(type, member, STATE_COMPARE)
#define STATE_TIME(type, member)  STATE_ROW(type, member, STATE_MOMENT)
#define STATE_ARRAY(type, member) \
    {#member, offsetof(type, member), STATE_TYPE_SIZE(((type *)0)->member[0]), 0, \
     ARRAY_SIZE(((type *)0)->member), 0}

/* Rows that a later version of the table brought. */
#define STATE_FIELD_SINCE(version, type, member) \
    {#member, offsetof(type, member), STATE_TYPE_SIZE(((type *)0)->member), 0, 1, version}
#define STATE_ARRAY_SINCE(version, type, member) \
    {#member, offsetof(type, member), STATE_TYPE_SIZE(((type *)0)->member[0]), 0, \
     ARRAY_SIZE(((type *)0)->member), version}

#define STATE_DESC(name, version, type, fields) \
    {name, version, sizeof(type), fields, ARRAY_SIZE(fields)}
/* clang-format on */

/* Whether the rows, in declaration order, touch each other and cover the struct exactly. */
bool state_desc_tiles(const struct state_desc *desc);

/*
 * A table grows by rows with a `since`, anywhere in it: without them it is the older one, which
 * therefore can still be read. What such a row then has is what the caller put there before.
 *
 * What follows is of the table as it was in `version`, from 1 to desc->version.
 */
/* A 32-bit hash over name, version and each row's name, size and count. */
uint32_t state_fingerprint(const struct state_desc *desc, uint32_t version);
/* The encoded bytes. */
uint32_t state_size(const struct state_desc *desc, uint32_t version);

/* Writes desc->size bytes. -ENOSPC when `room` is less; else the bytes written. */
int state_encode(const struct state_desc *desc, const void *state, void *to, size_t room);

/*
 * Reads exactly `len` bytes, which a table of `version` wrote, into *state, which the caller has
 * filled with the configured device's values. -EINVAL with a sentence when len differs or a
 * STATE_SAME row does; then *state is unchanged.
 */
int state_decode(const struct state_desc *desc, uint32_t version, const void *from, size_t len,
                 void *state, struct err *e) __must_check;

/* `count` of them one behind the other, without anything to compare with: *states is zero. */
int state_decode_many(const struct state_desc *desc, uint32_t version, const void *from,
                      uint32_t count, void *states, struct err *e) __must_check;

/* Moves every STATE_TIME row of *state that is not 0 by so many nanoseconds: from the clock of the
 * save to that of the load. A moment before that clock began becomes its first. */
void state_shift_moments(const struct state_desc *desc, void *state, int64_t by_ns);

#endif
