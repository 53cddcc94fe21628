/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_bzimage.c: eight bytes that say how large the file is, then the file's beginning. Oracle: a
 * refusal has a sentence; a plan reads nothing beyond the file, is entered in 64-bit mode, and what
 * fits memory by it does.
 */
#include "tests/fuzz/kernel_oracle.h"
#include "vmm/boot/bzimage.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kernel_image image;
    struct err e = {0};
    uint64_t file_size;
    uint8_t *head;
    size_t len;
    int rc;

    if (size < sizeof(file_size))
        return 0;
    memcpy(&file_size, data, sizeof(file_size));
    file_size &= INT64_MAX; /* what stat can say */
    len = (size_t)MIN(MIN(size - sizeof(file_size), KERNEL_HEAD_SIZE), file_size);
    head = malloc(len + (len == 0));
    must(head != NULL);
    memcpy(head, data + sizeof(file_size), len);

    rc = bzimage_parse(head, len, file_size, &image, &e);
    free(head);
    if (rc) {
        must(e.code == rc && e.text[0] != '\0');
        return 0;
    }
    must(image.protocol == BOOT_LINUX64 && image.segment_count == 1);
    must(image.entry == image.segment[0].gpa.v + 0x200);
    oracle_check(&image, file_size);
    return 0;
}
