/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-init's commands about memory that is a file, and about how much memory there is: file
 * systems on persistent memory, mappings of their files, memory held and checked in the background.
 */

#include "pattern.h"
#include "test-init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PAGE 4096

/* ---- file systems ---- */

static int cmd_mount(int argc, char **argv)
{
    char path[64];
    const char *options = argc > 3 ? argv[3] : "";
    unsigned long flags = strcmp(options, "ro") == 0 ? MS_RDONLY : 0;

    snprintf(path, sizeof(path), "/dev/%s", argv[0]);
    mkdir(argv[1], 0755);
    if (mount(path, argv[1], argv[2], flags, flags ? "" : options))
        return fail_errno("mount of %s", path);
    return 0;
}

static int cmd_umount(int argc, char **argv)
{
    (void)argc;
    return umount(argv[0]) ? fail_errno("%s", argv[0]) : 0;
}

/* ---- mappings of files ---- */

struct mapping {
    uint8_t *at;
    size_t size;
    int fd;
};

static int open_mapping(struct mapping *m, const char *path, const char *kib, int make)
{
    uint64_t size;

    if (parse_number(kib, "KIB", &size))
        return -1;
    m->size = (size_t)size << 10;
    m->fd = open(path, (make ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0644);
    if (m->fd < 0)
        return fail_errno("%s", path);
    if (make && posix_fallocate(m->fd, 0, (off_t)m->size)) {
        close(m->fd);
        return fail("%s: no room for %s KiB", path, kib);
    }
    m->at = mmap(NULL, m->size, PROT_READ | (make ? PROT_WRITE : 0), MAP_SHARED, m->fd, 0);
    if (m->at != MAP_FAILED)
        return 0;
    close(m->fd);
    return fail_errno("mmap of %s", path);
}

static void close_mapping(struct mapping *m)
{
    munmap(m->at, m->size);
    close(m->fd);
}

/* Fills a file by stores to a mapping of it, and syncs it. */
static int cmd_mapwrite(int argc, char **argv)
{
    struct mapping m;
    uint64_t seed;

    (void)argc;
    if (parse_number(argv[2], "SEED", &seed) || open_mapping(&m, argv[0], argv[1], 1))
        return -1;
    for (size_t i = 0; i < m.size / SECTOR_SIZE; i++)
        pattern_fill(m.at + i * SECTOR_SIZE, i, seed);
    int status = msync(m.at, m.size, MS_SYNC) || fsync(m.fd) ? fail_errno("sync") : 0;
    close_mapping(&m);
    return status;
}

static int cmd_mapverify(int argc, char **argv)
{
    struct mapping m;
    uint64_t seed;
    int status = 0;

    (void)argc;
    if (parse_number(argv[2], "SEED", &seed) || open_mapping(&m, argv[0], argv[1], 0))
        return -1;
    for (size_t i = 0; i < m.size / SECTOR_SIZE && status == 0; i++) {
        if (!pattern_matches(m.at + i * SECTOR_SIZE, i, seed))
            status = fail("sector %zu of %s is wrong", i, argv[0]);
    }
    close_mapping(&m);
    return status;
}

/* Whether the file's mappings are the memory itself: "dax=1". */
static int cmd_dax(int argc, char **argv)
{
    struct statx st;

    (void)argc;
    if (statx(AT_FDCWD, argv[0], 0, STATX_BASIC_STATS, &st))
        return fail_errno("%s", argv[0]);
    printf("dax=%d\n", (st.stx_attributes & STATX_ATTR_DAX) != 0);
    return 0;
}

/* Reads a disk into a mapping of a file, or writes that to the disk, by direct I/O: where the file
 * is persistent memory, the disk's requests point into it. */
static int cmd_mapdisk(int argc, char **argv)
{
    int writes = strcmp(argv[0], "write") == 0, status = 0;
    struct mapping m;
    char path[64];

    (void)argc;
    snprintf(path, sizeof(path), "/dev/%s", argv[1]);
    int disk = open(path, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (disk < 0)
        return fail_errno("%s", path);
    if (open_mapping(&m, argv[2], argv[3], 1)) {
        close(disk);
        return -1;
    }
    ssize_t n = writes ? pwrite(disk, m.at, m.size, 0) : pread(disk, m.at, m.size, 0);
    if (n < 0)
        status = fail_errno("%s", path);
    else if ((size_t)n != m.size)
        status = fail("%s: %zd of %zu bytes", path, n, m.size);
    close_mapping(&m);
    close(disk);
    return status;
}

/* ---- memory in use ---- */

static pid_t holder;
static uint64_t *held; /* the holder's count of rounds, shared */

/* Writes and checks the memory for ever, so that blocks move under a load. */
static void hold(uint64_t *area, size_t words)
{
    for (uint64_t round = 1;; round++) {
        for (size_t i = 0; i < words; i += PAGE / 8)
            area[i] = round * words + i;
        for (size_t i = 0; i < words; i += PAGE / 8) {
            if (area[i] != round * words + i)
                held[1]++;
        }
        held[0] = round;
    }
}

static int hold_on(uint64_t mib)
{
    size_t len = mib << 20;

    if (!held)
        held = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    held[0] = held[1] = 0;
    holder = fork();
    if (holder < 0)
        return fail_errno("fork");
    if (holder == 0) {
        void *area = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
            _exit(1);
        hold(area, len / 8);
    }
    while (held[0] == 0) { /* until it has all of it */
        if (waitpid(holder, NULL, WNOHANG) == holder)
            return fail("the holder of %lu MiB ended", mib);
        usleep(1000);
    }
    return 0;
}

/* "rounds=N bad=N" of whoever held memory until now; 0 MiB = nobody any more. */
static int cmd_hold(int argc, char **argv)
{
    uint64_t mib;

    (void)argc;
    if (parse_number(argv[0], "MIB", &mib))
        return -1;
    if (holder > 0) {
        kill(holder, SIGKILL);
        waitpid(holder, NULL, 0);
        printf("rounds=%lu bad=%lu\n", held[0], held[1]);
        holder = 0;
    }
    return mib ? hold_on(mib) : 0;
}

/* ---- physical memory ------------------------------------------------------------------------- */

/* A word of physical memory, mapped. NULL after a failure. */
static volatile uint64_t *map_physical(uint64_t address)
{
    int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        fail_errno("/dev/mem");
        return NULL;
    }
    uint8_t *page =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(address - address % PAGE));
    close(fd);
    if (page == MAP_FAILED) {
        fail_errno("mmap of %#lx", address);
        return NULL;
    }
    return (volatile uint64_t *)(void *)(page + address % PAGE);
}

static int cmd_peek(int argc, char **argv)
{
    uint64_t address;

    (void)argc;
    if (parse_number(argv[0], "ADDRESS", &address))
        return -1;
    volatile uint64_t *word = map_physical(address);
    if (word)
        printf("value=0x%lx\n", *word);
    return word ? 0 : -1;
}

static int cmd_poke(int argc, char **argv)
{
    uint64_t address, value;

    (void)argc;
    if (parse_number(argv[0], "ADDRESS", &address) || parse_number(argv[1], "VALUE", &value))
        return -1;
    volatile uint64_t *word = map_physical(address);
    if (word)
        *word = value;
    return word ? 0 : -1;
}

/* One number of /proc/meminfo: "kib=N". */
static int cmd_meminfo(int argc, char **argv)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    size_t len = strlen(argv[0]);
    int found = 0;

    (void)argc;
    if (!f)
        return fail_errno("/proc/meminfo");
    while (!found && fgets(line, sizeof(line), f)) {
        found = strncmp(line, argv[0], len) == 0 && line[len] == ':';
        if (found)
            printf("kib=%lu\n", strtoul(line + len + 1, NULL, 10));
    }
    fclose(f);
    return found ? 0 : fail("no %s in /proc/meminfo", argv[0]);
}

const struct command memory_commands[] = {
    {"dax", 1, 1, cmd_dax, "FILE"},
    {"hold", 1, 1, cmd_hold, "MIB"},
    {"mapdisk", 4, 4, cmd_mapdisk, "read|write DISK FILE KIB"},
    {"mapverify", 3, 3, cmd_mapverify, "FILE KIB SEED"},
    {"mapwrite", 3, 3, cmd_mapwrite, "FILE KIB SEED"},
    {"meminfo", 1, 1, cmd_meminfo, "NAME"},
    {"mount", 3, 4, cmd_mount, "DISK DIR TYPE [OPTIONS]"},
    {"peek", 1, 1, cmd_peek, "ADDRESS"},
    {"poke", 2, 2, cmd_poke, "ADDRESS VALUE"},
    {"umount", 1, 1, cmd_umount, "DIR"},
    {0},
};
