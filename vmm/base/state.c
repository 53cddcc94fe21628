/* SPDX-License-Identifier: Apache-2.0 */
/* state.c: five walks over a table of fields. Host and guest are little-endian, as every
 * target is. */
#include "vmm/base/state.h"

#include <errno.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "saved state is written as it lies in memory");

static size_t bytes_of(const struct state_field *field)
{
    return (size_t)field->size * field->count;
}

bool state_desc_tiles(const struct state_desc *desc)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < desc->count; i++) {
        if (desc->field[i].offset != at)
            return false;
        at += (uint32_t)bytes_of(&desc->field[i]);
    }
    return at == desc->size;
}

/* FNV-1a: enough to notice a changed table, and short. */
static uint32_t hash(uint32_t h, const void *data, size_t len)
{
    const uint8_t *byte = data;

    while (len--)
        h = (h ^ *byte++) * 16777619u;
    return h;
}

uint32_t state_fingerprint(const struct state_desc *desc, uint32_t version)
{
    uint32_t h = hash(2166136261u, desc->name, strlen(desc->name) + 1);

    h = hash(h, &version, sizeof(version));
    for (uint32_t i = 0; i < desc->count; i++) {
        const struct state_field *field = &desc->field[i];

        if (field->since > version)
            continue;
        h = hash(h, field->name, strlen(field->name) + 1);
        h = hash(h, &field->size, sizeof(field->size));
        h = hash(h, &field->count, sizeof(field->count));
    }
    return h;
}

uint32_t state_size(const struct state_desc *desc, uint32_t version)
{
    uint32_t size = 0;

    for (uint32_t i = 0; i < desc->count; i++) {
        if (desc->field[i].since <= version)
            size += (uint32_t)bytes_of(&desc->field[i]);
    }
    return size;
}

int state_encode(const struct state_desc *desc, const void *state, void *to, size_t room)
{
    size_t at = 0;

    if (room < desc->size)
        return -ENOSPC;
    for (uint32_t i = 0; i < desc->count; i++) {
        const struct state_field *field = &desc->field[i];

        memcpy((uint8_t *)to + at, (const uint8_t *)state + field->offset, bytes_of(field));
        at += bytes_of(field);
    }
    return (int)at;
}

static bool compares(const struct state_desc *desc)
{
    for (uint32_t i = 0; i < desc->count; i++) {
        if (desc->field[i].flags & STATE_COMPARE)
            return true;
    }
    return false;
}

/* Walks through what a table of `version` wrote: compares the rows that must be the same, or copies
 * all of them. NULL, or the row that differs. */
static const struct state_field *walk(const struct state_desc *desc, uint32_t version,
                                      const uint8_t *in, uint8_t *state, bool copy)
{
    for (uint32_t i = 0; i < desc->count; i++) {
        const struct state_field *field = &desc->field[i];
        uint8_t *out = state + field->offset;

        if (field->since > version)
            continue;
        if (copy)
            memcpy(out, in, bytes_of(field));
        else if ((field->flags & STATE_COMPARE) && memcmp(in, out, bytes_of(field)) != 0)
            return field;
        in += bytes_of(field);
    }
    return NULL;
}

int state_decode(const struct state_desc *desc, uint32_t version, const void *from, size_t len,
                 void *state, struct err *e)
{
    uint32_t size = state_size(desc, version);
    const struct state_field *differs;

    if (len != size)
        return err_set(e, -EINVAL, "The saved state of %s has %zu bytes instead of %u.", desc->name,
                       len, size);
    differs = walk(desc, version, from, state, false);
    if (differs)
        return err_set(e, -EINVAL, "The saved %s of %s differs from the configured device's.",
                       differs->name, desc->name);
    walk(desc, version, from, state, true);
    return 0;
}

int state_decode_many(const struct state_desc *desc, uint32_t version, const void *from,
                      uint32_t count, void *states, struct err *e)
{
    uint32_t size = state_size(desc, version);
    const uint8_t *in = from;
    uint8_t *out = states;
    int rc = 0;

    if (size == desc->size && !compares(desc)) {
        memcpy(states, from, (size_t)count * size);
        return 0;
    }
    for (uint32_t i = 0; i < count && rc == 0; i++, in += size, out += desc->size)
        rc = state_decode(desc, version, in, size, out, e);
    return rc;
}

void state_shift_moments(const struct state_desc *desc, void *state, int64_t by_ns)
{
    for (uint32_t i = 0; i < desc->count; i++) {
        uint8_t *at = (uint8_t *)state + desc->field[i].offset;
        uint64_t moment;

        if (!(desc->field[i].flags & STATE_MOMENT))
            continue;
        memcpy(&moment, at, sizeof(moment));
        if (moment == 0)
            continue;
        moment = by_ns < 0 && moment <= -(uint64_t)by_ns ? 1 : moment + (uint64_t)by_ns;
        memcpy(at, &moment, sizeof(moment));
    }
}
