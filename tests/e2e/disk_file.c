/* SPDX-License-Identifier: Apache-2.0 */
/* Disk files as the host sees them. */
#include "tests/e2e/disk_file.h"

#include "guest/init/pattern.h"
#include "tests/e2e/e2e.h"
#include "tests/support/files.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const char *disk_new(const char *name, unsigned mib)
{
    const char *path = e2e_path(name);
    CHECK_INT(files_make_sparse(path, (uint64_t)mib * MIB), 0);
    return path;
}

void disk_fill(const char *path, uint64_t from, uint64_t sectors, uint64_t seed)
{
    unsigned char sector[SECTOR_SIZE];
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (uint64_t at = from; at < from + sectors; at++) {
        pattern_fill(sector, at, seed);
        CHECK_INT(pwrite(fd, sector, sizeof(sector), (off_t)(at * SECTOR_SIZE)), SECTOR_SIZE);
    }
    close(fd);
}

void disk_holds(const char *path, uint64_t from, uint64_t sectors, uint64_t seed)
{
    unsigned char sector[SECTOR_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (uint64_t at = from; at < from + sectors; at++) {
        if (pread(fd, sector, sizeof(sector), (off_t)(at * SECTOR_SIZE)) != SECTOR_SIZE)
            FAIL("sector %llu of %s cannot be read", (unsigned long long)at, path);
        if (!pattern_matches(sector, at, seed))
            FAIL("sector %llu of %s does not hold what was written", (unsigned long long)at, path);
    }
    close(fd);
}

bool disk_is_zero(const char *path, uint64_t from, uint64_t sectors)
{
    unsigned char sector[SECTOR_SIZE];
    static const unsigned char zero[SECTOR_SIZE];
    bool all = true;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (uint64_t at = from; at < from + sectors && all; at++)
        all = pread(fd, sector, sizeof(sector), (off_t)(at * SECTOR_SIZE)) == SECTOR_SIZE &&
              !memcmp(sector, zero, sizeof(zero));
    close(fd);
    return all;
}
