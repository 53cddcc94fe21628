/* SPDX-License-Identifier: Apache-2.0 */
/* A GUID partition table (UEFI specification, chapter 5) with one partition. */
#include "tests/e2e/gpt.h"

#include "tests/e2e/e2e.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <stdint.h>
#include <string.h>

enum { SECTOR = 512, FIRST = 2048, ENTRIES = 128, ENTRY = 128, ENTRY_SECTORS = 32 };

/* "Linux filesystem data", and UUIDs of our own; the first three groups are little-endian. */
static const unsigned char type_guid[16] = {0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                            0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4};
static const unsigned char disk_guid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const unsigned char part_guid[16] = {0x66, 0x79, 0x61, 0x6d, 0x6c, 0x79, 0x00, 0x40,
                                            0x80, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06};
static const char part_text[] = "6d617966-796c-4000-8000-010203040506";

static uint32_t crc32(const unsigned char *data, size_t len)
{
    uint32_t crc = ~0U;
    while (len--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
    }
    return ~crc;
}

static void put(unsigned char *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

/* The table's header at sector `here`, whose twin is at `there`. */
static void fill_header(unsigned char *header, uint64_t here, uint64_t there, uint64_t entries_at,
                        uint64_t last_usable, uint32_t entries_crc)
{
    memcpy(header, "EFI PART", 8);
    put(header + 8, 0x10000, 4);
    put(header + 12, 92, 4);
    put(header + 24, here, 8);
    put(header + 32, there, 8);
    put(header + 40, FIRST, 8);
    put(header + 48, last_usable, 8);
    memcpy(header + 56, disk_guid, 16);
    put(header + 72, entries_at, 8);
    put(header + 80, ENTRIES, 4);
    put(header + 84, ENTRY, 4);
    put(header + 88, entries_crc, 4);
    put(header + 16, crc32(header, 92), 4);
}

/* The old-style table that keeps other tools from taking the disk for empty. */
static void fill_protective(unsigned char *sector, uint64_t sectors)
{
    sector[446 + 4] = 0xee;
    put(sector + 446 + 8, 1, 4);
    put(sector + 446 + 12, sectors - 1, 4);
    put(sector + 510, 0xaa55, 2);
}

const char *gpt_make_disk(const char *path, const char *contents)
{
    struct text data = {0}, disk = {0};
    static const unsigned char zeroes[SECTOR];
    if (text_read_file(&data, contents) < 0 || data.len % SECTOR)
        FAIL("%s cannot be put into a partition", contents);
    uint64_t sectors = data.len / SECTOR;
    uint64_t total = FIRST + sectors + ENTRY_SECTORS + 1;
    for (uint64_t i = 0; i < total; i++)
        text_append(&disk, zeroes, SECTOR);
    unsigned char *bytes = (unsigned char *)disk.data;
    unsigned char *entry = bytes + (size_t)2 * SECTOR;
    memcpy(entry, type_guid, 16);
    memcpy(entry + 16, part_guid, 16);
    put(entry + 32, FIRST, 8);
    put(entry + 40, FIRST + sectors - 1, 8);
    uint32_t crc = crc32(entry, (size_t)ENTRIES * ENTRY);
    uint64_t second = total - 1 - ENTRY_SECTORS;
    memcpy(bytes + second * SECTOR, entry, (size_t)ENTRY_SECTORS * SECTOR);
    fill_protective(bytes, total);
    fill_header(bytes + SECTOR, 1, total - 1, 2, second - 1, crc);
    fill_header(bytes + (total - 1) * SECTOR, total - 1, 1, second, second - 1, crc);
    memcpy(bytes + (size_t)FIRST * SECTOR, data.data, data.len);
    int ret = files_write(path, disk.data, disk.len);
    if (ret)
        FAIL("cannot write %s: %s", path, strerror(-ret));
    text_free(&data);
    text_free(&disk);
    return part_text;
}
