/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pattern write|verify FILE SECTORS SEED [FROM]: the host's side of test-init's commands of the
 * same names: fills a disk image with the pattern, or says which sector does not hold it.
 */

#include "guest/init/pattern.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t number(const char *word)
{
    char *end;
    uint64_t value = strtoull(word, &end, 0);

    if (end == word || *end)
        errx(64, "'%s' is not a number", word);
    return value;
}

static void write_sector(int fd, uint64_t n, uint64_t seed)
{
    uint8_t sector[SECTOR_SIZE];

    pattern_fill(sector, n, seed);
    if (pwrite(fd, sector, SECTOR_SIZE, (off_t)(n * SECTOR_SIZE)) != SECTOR_SIZE)
        err(1, "write at sector %lu", n);
}

static void verify_sector(int fd, uint64_t n, uint64_t seed)
{
    uint8_t sector[SECTOR_SIZE];

    if (pread(fd, sector, SECTOR_SIZE, (off_t)(n * SECTOR_SIZE)) != SECTOR_SIZE)
        err(1, "read at sector %lu", n);
    if (!pattern_matches(sector, n, seed))
        errx(1, "sector %lu does not hold the pattern of seed %lu", n, seed);
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6 || (strcmp(argv[1], "write") && strcmp(argv[1], "verify")))
        errx(64, "usage: pattern write|verify FILE SECTORS SEED [FROM]");
    int writing = strcmp(argv[1], "write") == 0;
    uint64_t sectors = number(argv[3]), seed = number(argv[4]);
    uint64_t from = argc > 5 ? number(argv[5]) : 0;
    int fd = open(argv[2], writing ? O_WRONLY | O_CREAT : O_RDONLY, 0644);

    if (fd < 0)
        err(1, "%s", argv[2]);
    for (uint64_t n = from; n < from + sectors; n++) {
        if (writing)
            write_sector(fd, n, seed);
        else
            verify_sector(fd, n, seed);
    }
    if (close(fd))
        err(1, "%s", argv[2]);
    return 0;
}
