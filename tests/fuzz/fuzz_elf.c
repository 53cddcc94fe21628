/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_elf.c: bytes as an ELF kernel. Oracle: a refusal has a sentence; a plan reads nothing beyond
 * the file, and what fits memory by it does.
 */
#include "tests/fuzz/kernel_oracle.h"
#include "vmm/boot/elf.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of its own size, so that the sanitizer sees a read of one byte too many. */
static uint8_t *copy(const uint8_t *data, size_t size)
{
    uint8_t *own = malloc(size + (size == 0));

    must(own != NULL);
    memcpy(own, data, size);
    return own;
}

static void read_notes(struct elf_plan *plan, const uint8_t *data, size_t size)
{
    must(plan->notes_count <= ELF_NOTES_MAX);
    for (unsigned i = 0; i < plan->notes_count; i++) {
        const struct elf_notes *n = &plan->notes[i];
        uint8_t *notes;

        must(range_fits(n->offset, n->size, size) && n->size <= ELF_NOTES_SIZE_MAX);
        notes = copy(data + n->offset, n->size);
        elf_parse_notes(notes, n->size, n->align, plan);
        free(notes);
    }
    elf_choose_entry(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t head_len = MIN(size, (size_t)KERNEL_HEAD_SIZE);
    uint8_t *head = copy(data, head_len), *table;
    struct elf_header header;
    struct elf_plan plan;
    struct err e = {0};
    int rc = elf_parse_header(head, head_len, size, &header, &e);

    free(head);
    if (rc == 0) {
        must(header.table_size > 0 && header.table_size <= ELF_TABLE_MAX);
        must(range_fits(header.table_offset, header.table_size, size));
        table = copy(data + header.table_offset, header.table_size);
        rc = elf_parse_segments(&header, table, size, &plan, &e);
        free(table);
    }
    if (rc) {
        must(e.code == rc && e.text[0] != '\0');
        return 0;
    }
    read_notes(&plan, data, size);
    oracle_check(&plan.image, size);
    return 0;
}
