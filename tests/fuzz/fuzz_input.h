/* SPDX-License-Identifier: Apache-2.0 */
/* An input as the targets that read commands out of it see it: numbers, one after the other, and
 * zeroes once it has run out. */
#ifndef MAYFLY_TESTS_FUZZ_FUZZ_INPUT_H
#define MAYFLY_TESTS_FUZZ_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at, *end;
};

/* The next number of at most four bytes. */
static inline uint32_t take(struct input *in, unsigned bytes)
{
    uint32_t value = 0;

    while (bytes-- > 0 && in->at < in->end)
        value = value << 8 | *in->at++;
    return value;
}

#endif
