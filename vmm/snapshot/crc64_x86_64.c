/* SPDX-License-Identifier: Apache-2.0 */
/* crc64_x86_64.c: see crc64_fold.h. */
#include "vmm/snapshot/crc64_fold.h"

#include <emmintrin.h>
#include <wmmintrin.h>

#include <sys/platform/x86.h>

/*
 * Bits are reflected: the first eight bytes of a block have the higher powers of x. Moved behind
 * the next block they are multiplied by x^192, the other eight by x^128, modulo the polynomial; one
 * less in both, since the product of two reflected numbers of 64 bits is one bit to the right.
 */
#define X_191 UINT64_C(0xd9d7be7d505da32c)
#define X_127 UINT64_C(0x381d0015c96f4444)

__attribute__((target("pclmul"))) static size_t fold(uint64_t crc, const uint8_t *bytes, size_t len,
                                                     uint8_t rest[CRC64_BLOCK])
{
    const __m128i by = _mm_set_epi64x((long long)X_127, (long long)X_191);
    __m128i block = _mm_loadu_si128((const void *)bytes);
    size_t at = CRC64_BLOCK;

    block = _mm_xor_si128(block, _mm_cvtsi64_si128((long long)crc));
    for (; len - at >= CRC64_BLOCK; at += CRC64_BLOCK) {
        __m128i moved = _mm_xor_si128(_mm_clmulepi64_si128(block, by, 0x00),
                                      _mm_clmulepi64_si128(block, by, 0x11));

        block = _mm_xor_si128(moved, _mm_loadu_si128((const void *)(bytes + at)));
    }
    _mm_storeu_si128((void *)rest, block);
    return at;
}

/* The C library knows what the processor has: asking it again would be an exit for each question
 * when we run in a virtual machine ourselves. */
size_t crc64_fold(uint64_t crc, const uint8_t *bytes, size_t len, uint8_t rest[CRC64_BLOCK])
{
    if (len < (size_t)2 * CRC64_BLOCK || !CPU_FEATURE_ACTIVE(PCLMULQDQ))
        return 0;
    return fold(crc, bytes, len, rest);
}
