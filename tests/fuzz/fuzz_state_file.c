/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_state_file: the input is a state file, first as it is, then with length and checksum made
 * right, which no accident and no mutation would do. Whatever the reader accepts, the writer writes
 * again byte for byte.
 */
#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/state_file.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/snapshot/vm_state.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 32
#define AT_LEN      24

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
        BUG_ON(w.full || w.len - HEADER_SIZE != r.at - from);
        BUG_ON(memcmp(again + HEADER_SIZE, file + from, r.at - from) != 0);
    }
    BUG_ON(state_reader_end(&r, NULL) || r.at != r.end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file = malloc(size + 1), *again = malloc(size + 1);
    uint64_t len = size, crc;

    if (!vcpu)
        vcpu = vcpu_state_create();
    BUG_ON(!vcpu || !file || !again);
    read_all(data, size, again);
    if (size >= HEADER_SIZE + sizeof(crc)) {
        memcpy(file, data, size);
        memcpy(file + AT_LEN, &len, sizeof(len));
        crc = crc64(0, file, size - sizeof(crc));
        memcpy(file + size - sizeof(crc), &crc, sizeof(crc));
        read_all(file, size, again);
    }
    free(file);
    free(again);
    return 0;
}
