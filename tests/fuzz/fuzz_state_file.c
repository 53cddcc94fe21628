/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_state_file: the input is a state file, first as it is, then with length and checksum made
 * right, which no accident and no mutation would do. Whatever the reader accepts, the writer writes
 * again byte for byte.
 */
#include "tests/unit/state_bytes.h"
#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/state_file.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/snapshot/vm_state.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vcpu_state *vcpu;

static int read_text(struct state_reader *r, const struct state_section *section,
                     struct state_writer *w)
{
    const char *text;
    int rc = state_read_text(r, section->name, section->index, &text, NULL);

    if (rc == 0)
        state_write_text(w, section->name, section->index, text);
    return rc;
}

static int read_bytes(struct state_reader *r, const struct state_section *section,
                      struct state_writer *w)
{
    const void *bytes;
    size_t len;
    int rc = state_read_bytes(r, section->name, section->index, &bytes, &len, NULL);

    if (rc == 0)
        state_write_bytes(w, section->name, section->index, bytes, len);
    return rc;
}

/* Reads one group of sections, whichever begins here, and writes what it has read. */
static int read_group(struct state_reader *r, const struct state_section *section,
                      struct state_writer *w)
{
    struct mem_map map;
    struct vm_state vm;
    int rc;

    if (strcmp(section->name, "vcpu-clock") == 0) {
        rc = vcpu_state_read(vcpu, section->index, r, NULL);
        if (rc == 0)
            vcpu_state_write(vcpu, section->index, w);
    } else if (strcmp(section->name, "pic") == 0) {
        rc = vm_state_read(&vm, r, NULL);
        if (rc == 0)
            vm_state_write(&vm, w);
    } else if (strcmp(section->name, "memory") == 0) {
        rc = mem_map_read(&map, r, NULL);
        if (rc == 0)
            mem_map_write(&map, w);
    } else if (strcmp(section->name, "path") == 0) {
        rc = read_text(r, section, w);
    } else {
        rc = read_bytes(r, section, w);
    }
    return rc;
}

static void read_all(const uint8_t *file, size_t size, uint8_t *again)
{
    struct state_section section;
    struct state_reader r;
    uint64_t sum = 0;

    if (state_reader_begin(&r, file, size, NULL))
        return;
    while (state_reader_peek(&r, &section)) {
        struct state_writer w;
        size_t from = r.at;

        sum = crc64(sum, section.data, section.len); /* all of it is there */
        state_writer_begin(&w, again, size);
        if (read_group(&r, &section, &w)) {
            state_reader_skip(&r);
            continue;
        }
        BUG_ON(w.full || w.len - STATE_HEADER != r.at - from);
        BUG_ON(memcmp(again + STATE_HEADER, file + from, r.at - from) != 0);
    }
    BUG_ON(state_reader_end(&r, NULL) || r.at != r.end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file = malloc(size + 1), *again = malloc(size + 1);

    if (!vcpu)
        vcpu = vcpu_state_create();
    BUG_ON(!vcpu || !file || !again);
    read_all(data, size, again);
    if (size >= STATE_HEADER + STATE_CRC) {
        memcpy(file, data, size);
        state_bytes_seal(file, size);
        read_all(file, size, again);
    }
    free(file);
    free(again);
    return 0;
}
