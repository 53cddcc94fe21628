/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-init's commands about disks. All I/O is O_DIRECT: each command is requests to the device,
 * never a hit in the guest's page cache.
 */

#include "pattern.h"
#include "test-init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define CHUNK_SECTORS 128
#define CHUNK         (CHUNK_SECTORS * SECTOR_SIZE)

static uint8_t chunk[CHUNK] __attribute__((aligned(4096)));

/* Opens /dev/NAME; on failure the command's reason is set and -1 returned. */
static int open_disk(const char *name, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/dev/%s", name);
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? fail_errno("%s", path) : fd;
}

static void print_attribute(const char *disk, const char *file, const char *label)
{
    char path[320], line[128];

    snprintf(path, sizeof(path), "/sys/block/%s/%s", disk, file);
    if (read_line(path, line, sizeof(line)))
        return;
    for (char *c = line; *c; c++) /* "write back" is one value */
        *c = *c == ' ' ? '-' : *c;
    printf(" %s=%s", label, line);
}

static void print_disk(const char *name)
{
    printf("%s", name);
    print_attribute(name, "size", "sectors");
    print_attribute(name, "ro", "ro");
    print_attribute(name, "serial", "serial");
    print_attribute(name, "cache_type", "cache");
    print_attribute(name, "queue/discard_max_bytes", "discard");
    print_attribute(name, "queue/write_zeroes_max_bytes", "zeroes");
    print_attribute(name, "queue/max_segments", "segments");
    printf("\n");
}

static int cmd_disks(int argc, char **argv)
{
    struct dirent **entries;
    int n = scandir("/sys/block", &entries, NULL, alphasort);

    (void)argc;
    (void)argv;
    if (n < 0)
        return fail_errno("/sys/block");
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_name[0] != '.')
            print_disk(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return 0;
}

/* Sectors in the chunk that begins at sector `at`, of `end`. */
static size_t chunk_sectors(uint64_t at, uint64_t end)
{
    return end - at < CHUNK_SECTORS ? (size_t)(end - at) : CHUNK_SECTORS;
}

/* write DISK SECTORS SEED [FROM] */
static int cmd_write(int argc, char **argv)
{
    uint64_t sectors, seed, from = 0;
    int status = 0;

    if (parse_number(argv[1], "SECTORS", &sectors) || parse_number(argv[2], "SEED", &seed) ||
        (argc > 3 && parse_number(argv[3], "FROM", &from)))
        return -1;
    int fd = open_disk(argv[0], O_WRONLY | O_DIRECT);
    if (fd < 0)
        return -1;
    for (uint64_t at = from, end = from + sectors; at < end && status == 0; at += CHUNK_SECTORS) {
        size_t n = chunk_sectors(at, end);
        for (size_t i = 0; i < n; i++)
            pattern_fill(chunk + i * SECTOR_SIZE, at + i, seed);
        ssize_t put = pwrite(fd, chunk, n * SECTOR_SIZE, (off_t)(at * SECTOR_SIZE));
        if (put < 0)
            status = fail_errno("write at sector %lu", at);
        else if ((size_t)put != n * SECTOR_SIZE)
            status = fail("write at sector %lu: only %zd bytes", at, put);
    }
    close(fd);
    return status;
}

static int check_chunk(uint64_t at, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        if (!pattern_matches(chunk + i * SECTOR_SIZE, at + i, seed))
            return fail("sector %lu does not hold what was written", at + i);
    }
    return 0;
}

/* verify DISK SECTORS SEED [FROM] */
static int cmd_verify(int argc, char **argv)
{
    uint64_t sectors, seed, from = 0;
    int status = 0;

    if (parse_number(argv[1], "SECTORS", &sectors) || parse_number(argv[2], "SEED", &seed) ||
        (argc > 3 && parse_number(argv[3], "FROM", &from)))
        return -1;
    int fd = open_disk(argv[0], O_RDONLY | O_DIRECT);
    if (fd < 0)
        return -1;
    for (uint64_t at = from, end = from + sectors; at < end && status == 0; at += CHUNK_SECTORS) {
        size_t n = chunk_sectors(at, end);
        ssize_t got = pread(fd, chunk, n * SECTOR_SIZE, (off_t)(at * SECTOR_SIZE));
        if (got < 0)
            status = fail_errno("read at sector %lu", at);
        else if ((size_t)got != n * SECTOR_SIZE)
            status = fail("read at sector %lu: only %zd bytes", at, got);
        else
            status = check_chunk(at, n, seed);
    }
    close(fd);
    return status;
}

/* The CRC of POSIX cksum(1), so that the host checks with nothing but cksum. */
static uint32_t cksum_add(uint32_t crc, const uint8_t *data, size_t len)
{
    static uint32_t table[256];

    if (!table[1]) {
        for (uint32_t i = 0; i < 256; i++) {
            table[i] = i << 24;
            for (int bit = 0; bit < 8; bit++)
                table[i] = table[i] << 1 ^ (table[i] >> 31 ? 0x04c11db7U : 0);
        }
    }
    while (len--)
        crc = crc << 8 ^ table[(crc >> 24 ^ *data++) & 0xff];
    return crc;
}

static uint32_t cksum_end(uint32_t crc, uint64_t total)
{
    for (; total; total >>= 8) {
        uint8_t byte = (uint8_t)total;
        crc = cksum_add(crc, &byte, 1);
    }
    return ~crc;
}

/* sum DISK */
static int cmd_sum(int argc, char **argv)
{
    uint64_t total = 0;
    uint32_t crc = 0;
    ssize_t got;

    (void)argc;
    int fd = open_disk(argv[0], O_RDONLY | O_DIRECT);
    if (fd < 0)
        return -1;
    while ((got = read(fd, chunk, CHUNK)) > 0) {
        crc = cksum_add(crc, chunk, (size_t)got);
        total += (uint64_t)got;
    }
    int status = got < 0 ? fail_errno("read at byte %lu", total) : 0;
    close(fd);
    if (status == 0)
        printf("%u %lu\n", cksum_end(crc, total), total);
    return status;
}

static int cmd_flush(int argc, char **argv)
{
    (void)argc;
    int fd = open_disk(argv[0], O_RDWR);
    if (fd < 0)
        return -1;
    int status = fsync(fd) ? fail_errno("fsync") : 0;
    close(fd);
    return status;
}

static int range_ioctl(char **argv, unsigned long request, const char *name)
{
    uint64_t range[2];

    if (parse_number(argv[1], "FROM", &range[0]) || parse_number(argv[2], "SECTORS", &range[1]))
        return -1;
    range[0] *= SECTOR_SIZE;
    range[1] *= SECTOR_SIZE;
    int fd = open_disk(argv[0], O_RDWR);
    if (fd < 0)
        return -1;
    int status = ioctl(fd, request, range) ? fail_errno("%s", name) : 0;
    close(fd);
    return status;
}

/* discard DISK FROM SECTORS */
static int cmd_discard(int argc, char **argv)
{
    (void)argc;
    return range_ioctl(argv, BLKDISCARD, "BLKDISCARD");
}

/* zeroes DISK FROM SECTORS: by a request of its own where the device has one, else by writes */
static int cmd_zeroes(int argc, char **argv)
{
    (void)argc;
    return range_ioctl(argv, BLKZEROOUT, "BLKZEROOUT");
}

/* ---- load: random I/O that checks itself, beside whatever else goes
 * on ------------------------- */

#define LOAD_MAX      8
#define BLOCK         4096
#define BLOCK_SECTORS (BLOCK / SECTOR_SIZE)
#define BLOCKS_MAX    4096

/* Shared with the child that does the work. */
struct load_shared {
    volatile int stop;
    volatile uint64_t reads, writes, bad;
    volatile uint64_t bad_sector;
};

static struct load {
    char name[32];
    pid_t pid;
    struct load_shared *shared;
} loads[LOAD_MAX];

static struct load *find_load(const char *name)
{
    for (int i = 0; i < LOAD_MAX; i++) {
        if (strcmp(loads[i].name, name) == 0)
            return &loads[i];
    }
    return NULL;
}

static void load_note(struct load_shared *s, uint64_t block, int ok)
{
    if (!ok) {
        s->bad_sector = block * BLOCK_SECTORS;
        s->bad++;
    }
}

/* Writes a block with a seed of its own, or checks one that was written, at random, until told to
   stop. A block's seed is remembered only when its write has succeeded. */
static void load_run(int fd, uint64_t blocks, struct load_shared *s)
{
    static uint64_t seeds[BLOCKS_MAX];
    uint64_t turn = 0;

    while (!s->stop) {
        uint64_t dice = pattern_mix(++turn), block = dice % blocks;
        off_t at = (off_t)(block * BLOCK);
        int ok = 1;
        if (seeds[block] && (dice >> 32 & 1)) {
            ok = pread(fd, chunk, BLOCK, at) == BLOCK;
            for (uint64_t i = 0; ok && i < BLOCK_SECTORS; i++)
                ok = pattern_matches(chunk + i * SECTOR_SIZE, block * BLOCK_SECTORS + i,
                                     seeds[block]);
            s->reads++;
        } else {
            for (uint64_t i = 0; i < BLOCK_SECTORS; i++)
                pattern_fill(chunk + i * SECTOR_SIZE, block * BLOCK_SECTORS + i, turn);
            ok = pwrite(fd, chunk, BLOCK, at) == BLOCK;
            seeds[block] = ok ? turn : 0;
            s->writes++;
        }
        load_note(s, block, ok);
    }
}

static int load_on(const char *name)
{
    struct load *load = find_load(name);

    if (load)
        return fail("%s is under load already", name);
    load = find_load("");
    if (!load || strlen(name) >= sizeof(load->name))
        return fail("too many loads");
    int fd = open_disk(name, O_RDWR | O_DIRECT);
    if (fd < 0)
        return -1;
    uint64_t blocks = (uint64_t)lseek(fd, 0, SEEK_END) / BLOCK;
    blocks = blocks > BLOCKS_MAX ? BLOCKS_MAX : blocks;
    void *shared = mmap(NULL, sizeof(*load->shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (blocks == 0 || shared == MAP_FAILED) {
        close(fd);
        return blocks ? fail_errno("mmap") : fail("%s is smaller than a block", name);
    }

    pid_t pid = fork();
    if (pid == 0) {
        load_run(fd, blocks, shared);
        _exit(0);
    }
    close(fd);
    if (pid < 0)
        return fail_errno("fork");
    load->pid = pid;
    load->shared = shared;
    strcpy(load->name, name);
    return 0;
}

static int load_report(const struct load *load)
{
    const struct load_shared *s = load->shared;

    printf("reads=%lu writes=%lu bad=%lu\n", s->reads, s->writes, s->bad);
    return s->bad ? fail("%lu of %s's operations went wrong, the last at sector %lu", s->bad,
                         load->name, s->bad_sector)
                  : 0;
}

static int load_off(struct load *load)
{
    load->shared->stop = 1;
    waitpid(load->pid, NULL, 0);
    int status = load_report(load);
    munmap(load->shared, sizeof(*load->shared));
    memset(load, 0, sizeof(*load));
    return status;
}

/* load DISK on|off|show */
static int cmd_load(int argc, char **argv)
{
    (void)argc;
    if (strcmp(argv[1], "on") == 0)
        return load_on(argv[0]);
    struct load *load = find_load(argv[0]);
    if (!load)
        return fail("%s is not under load", argv[0]);
    if (strcmp(argv[1], "show") == 0)
        return load_report(load);
    if (strcmp(argv[1], "off") == 0)
        return load_off(load);
    return fail("usage: load DISK on|off|show");
}

const struct command disk_commands[] = {
    {"discard", 3, 3, cmd_discard, "DISK FROM SECTORS"},
    {"disks", 0, 0, cmd_disks, ""},
    {"flush", 1, 1, cmd_flush, "DISK"},
    {"load", 2, 2, cmd_load, "DISK on|off|show"},
    {"sum", 1, 1, cmd_sum, "DISK"},
    {"verify", 3, 4, cmd_verify, "DISK SECTORS SEED [FROM]"},
    {"write", 3, 4, cmd_write, "DISK SECTORS SEED [FROM]"},
    {"zeroes", 3, 3, cmd_zeroes, "DISK FROM SECTORS"},
    {0},
};
