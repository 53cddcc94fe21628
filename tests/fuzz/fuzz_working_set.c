/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_working_set: the input is the file of a working set, first as it is, then with the checksum
 * made right. What the reader accepts lies in the memory file in ascending order, and the writer
 * writes it again byte for byte.
 */
#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/working_set.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define MEMORY (512 * PAGE_SIZE)
#define CRC    sizeof(uint64_t)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_runs(const struct working_set *set)
{
    uint64_t next = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        BUG_ON(set->run[i].pages == 0 || set->run[i].first < next);
        next = (uint64_t)set->run[i].first + set->run[i].pages;
    }
    BUG_ON(next * PAGE_SIZE > MEMORY);
}

static void check_rewrite(const struct working_set *set, const uint8_t *data, size_t size)
{
    static char path[64];
    uint8_t *again = malloc(size);
    int fd;

    snprintf(path, sizeof(path), "/tmp/fuzz-working-set-%d", (int)getpid());
    BUG_ON(!again || working_set_write(set, path, NULL));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    BUG_ON(read(fd, again, size) != (ssize_t)size || memcmp(again, data, size) != 0);
    close(fd);
    unlink(path);
    free(again);
}

static void try_it(const uint8_t *data, size_t size)
{
    struct working_set set;
    char path[32];
    int fd = memfd_create("working-set", MFD_CLOEXEC);

    BUG_ON(fd < 0 || write(fd, data, size) != (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (working_set_read(&set, path, MEMORY, NULL) == 0) {
        check_runs(&set);
        check_rewrite(&set, data, size);
        working_set_free(&set);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *right;
    uint64_t crc;

    try_it(data, size);
    if (size < CRC)
        return 0;
    right = malloc(size);
    BUG_ON(!right);
    memcpy(right, data, size);
    crc = crc64(0, right, size - CRC);
    memcpy(right + size - CRC, &crc, CRC);
    try_it(right, size);
    free(right);
    return 0;
}
