/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-init's soak: everything at once for as long as it is asked to, each part in a process of its
 * own that checks all it reads. The host's half is tests/e2e/soak.c.
 */

#include "stream.h"
#include "test-init.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BLOCK (64UL << 10)

struct part;

/* Does one unit of the part's work; 0, 1 when its connection was reset, or -1 after fail(). */
typedef int unit(const struct part *part, uint64_t round);

struct part {
    const char *name;
    unit *run;
    const char *path; /* of a disk */
    int family, port;
};

/* What a part's process tells: shared with PID 1. */
struct progress {
    uint64_t rounds;
    uint64_t resets; /* of vsock: a load and a fork end every connection */
    char failure[160];
};

static struct progress *progress;
static const char *peer; /* the host's address */

/* ---- disks ----------------------------------------------------------------------------------- */

/* Each round writes one block and reads back another, whose content follows from when it was
 * written last. Linux's own cache is passed by. */
static int disk_round(const struct part *part, uint64_t round)
{
    static int fd = -1;
    static uint8_t *data;
    static uint64_t blocks, *written; /* the round + 1 in which a block was written */

    if (fd < 0) {
        uint64_t bytes;

        fd = open(part->path, O_RDWR | O_DIRECT | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes))
            return fail_errno("%s", part->path);
        blocks = bytes / BLOCK;
        written = calloc(blocks, sizeof(*written));
        data = aligned_alloc(4096, BLOCK);
    }
    uint64_t at = pattern_mix(round) % blocks, back = pattern_mix(~round) % blocks;
    for (uint64_t i = 0; i < BLOCK / SECTOR_SIZE; i++)
        pattern_fill(data + i * SECTOR_SIZE, at + i, round);
    if (pwrite(fd, data, BLOCK, (off_t)(at * BLOCK)) != (ssize_t)BLOCK)
        return fail_errno("write to %s", part->path);
    written[at] = round + 1;
    if (round % 64 == 0 && fsync(fd))
        return fail_errno("fsync of %s", part->path);
    if (!written[back])
        return 0;
    if (pread(fd, data, BLOCK, (off_t)(back * BLOCK)) != (ssize_t)BLOCK)
        return fail_errno("read from %s", part->path);
    for (uint64_t i = 0; i < BLOCK / SECTOR_SIZE; i++) {
        if (!pattern_matches(data + i * SECTOR_SIZE, back + i, written[back] - 1))
            return fail("%s: block %llu is not what was written", part->path,
                        (unsigned long long)back);
    }
    return 0;
}

/* ---- connections ----------------------------------------------------------------------------- */

/* What errno says of a part's connection: 1 for a reset of vsock, which the host counts as well; of
 * TCP none is ever due. */
static int lost(const struct part *part)
{
    bool reset = errno == ECONNRESET || errno == ENOTCONN || errno == EPIPE || errno == ETIMEDOUT;

    return part->family == AF_VSOCK && reset ? 1 : fail_errno("%s", part->name);
}

/* A socket; or -1 with errno. */
static int connect_out(const struct part *part)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)part->port)};
    struct sockaddr_vm vm = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = (unsigned int)part->port};
    const struct timeval patience = {.tv_sec = 10}; /* instead of two: the host may be busy */
    int fd = socket(part->family, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    if (part->family == AF_INET) {
        inet_pton(AF_INET, peer, &in.sin_addr);
        rc = connect(fd, (struct sockaddr *)&in, sizeof(in));
    } else {
        setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
        rc = connect(fd, (struct sockaddr *)&vm, sizeof(vm));
    }
    if (rc) {
        rc = errno;
        close(fd);
        errno = rc;
        return -1;
    }
    return fd;
}

static int send_round(const struct part *part, uint64_t round)
{
    int fd = connect_out(part), rc;

    (void)round;
    if (fd < 0)
        return lost(part);
    rc = stream_send(fd, (uint64_t)part->port) ? lost(part) : 0;
    close(fd);
    return rc;
}

static int receive_round(const struct part *part, uint64_t round)
{
    int fd = connect_out(part), rc;

    (void)round;
    if (fd < 0)
        return lost(part);
    rc = stream_receive(fd, (uint64_t)part->port) ? lost(part) : 0;
    close(fd);
    return rc;
}

/* The host connects: what it sends goes back. */
static int echo_round(const struct part *part, uint64_t round)
{
    static int listener = -1;
    struct sockaddr_vm vm = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = (unsigned int)part->port};
    char bytes[256];
    ssize_t n;
    int rc;

    (void)round;
    if (listener < 0) {
        listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(listener, (struct sockaddr *)&vm, sizeof(vm)) || listen(listener, 64))
            return fail_errno("listen of %s", part->name);
    }
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return fail_errno("accept of %s", part->name);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0 && stream_write(fd, bytes, (size_t)n) == 0)
        ;
    rc = n == 0 ? 0 : lost(part);
    close(fd);
    return rc;
}

/* ---- memory and entropy ---------------------------------------------------------------------- */

/* Takes memory, fills it, looks whether it stayed, and gives it back: a balloon breathes beside. */
static int memory_round(const struct part *part, uint64_t round)
{
    const size_t size = 8UL << 20;
    uint64_t *words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct timespec pause = {.tv_nsec = 20000000};

    if (words == MAP_FAILED)
        return fail_errno("%s", part->name);
    for (size_t i = 0; i < size / 8; i += 64)
        words[i] = pattern_mix(round + i);
    nanosleep(&pause, NULL);
    for (size_t i = 0; i < size / 8; i += 64) {
        if (words[i] != pattern_mix(round + i))
            return fail("%s: word %zu has changed", part->name, i);
    }
    munmap(words, size);
    return 0;
}

static int entropy_round(const struct part *part, uint64_t round)
{
    static int fd = -1;
    static uint64_t last[4];
    uint64_t bytes[4];
    const struct timespec pause = {.tv_nsec = 5000000};

    if (fd < 0)
        fd = open(part->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || stream_read(fd, bytes, sizeof(bytes)))
        return fail_errno("%s", part->path);
    if (memcmp(bytes, last, sizeof(bytes)) == 0)
        return fail("%s gave the same bytes twice in round %llu", part->path,
                    (unsigned long long)round);
    memcpy(last, bytes, sizeof(bytes));
    nanosleep(&pause, NULL);
    return 0;
}

static const struct part parts[] = {
    {.name = "disk", .run = disk_round, .path = "/dev/vda"},
    {.name = "pmem", .run = disk_round, .path = "/dev/pmem0"},
    {.name = "tcp-out", .run = send_round, .family = AF_INET, .port = SOAK_PORT_SINK},
    {.name = "tcp-in", .run = receive_round, .family = AF_INET, .port = SOAK_PORT_SOURCE},
    {.name = "vsock-out", .run = send_round, .family = AF_VSOCK, .port = SOAK_PORT_SINK},
    {.name = "vsock-in", .run = receive_round, .family = AF_VSOCK, .port = SOAK_PORT_SOURCE},
    {.name = "vsock-echo", .run = echo_round, .family = AF_VSOCK, .port = SOAK_PORT_ECHO},
    {.name = "memory", .run = memory_round},
    {.name = "entropy", .run = entropy_round, .path = "/dev/hwrng"},
};
#define PARTS (sizeof(parts) / sizeof(*parts))

static bool skipped[PARTS]; /* its disk is not there; the host looks for the parts it expects */

/* ---- the command ----------------------------------------------------------------------------- */

static void run_part(const struct part *part, struct progress *mine)
{
    int rc;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    while ((rc = part->run(part, mine->rounds)) >= 0) {
        mine->rounds += rc == 0;
        mine->resets += rc > 0;
    }
    snprintf(mine->failure, sizeof(mine->failure), "%s", last_failure());
    _exit(1);
}

/* Gives the first interface its address and sets it up. */
static int set_address(const char *address)
{
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

    if (inet_pton(AF_INET, address, &in.sin_addr) != 1) {
        close(fd);
        return fail("'%s' is no address", address);
    }
    memcpy(&request.ifr_addr, &in, sizeof(in));
    rc = ioctl(fd, SIOCSIFADDR, &request);
    if (rc == 0) {
        request.ifr_flags = IFF_UP;
        rc = ioctl(fd, SIOCSIFFLAGS, &request);
    }
    close(fd);
    return rc ? fail_errno("eth0") : 0;
}

static int soak_start(int argc, char **argv)
{
    (void)argc;
    if (progress)
        return fail("the soak goes on already");
    if (set_address(argv[0]))
        return -1;
    peer = strdup(argv[1]);
    progress = mmap(NULL, PARTS * sizeof(*progress), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return fail_errno("mmap");
    for (size_t i = 0; i < PARTS; i++) {
        if (parts[i].path && access(parts[i].path, F_OK)) {
            skipped[i] = true;
            continue;
        }
        pid_t pid = fork();

        if (pid < 0)
            return fail_errno("fork");
        if (pid == 0)
            run_part(&parts[i], &progress[i]);
    }
    return 0;
}

/* name=rounds of each part and how often its connection was reset; fails when one of them has. */
static int soak_look(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (!progress)
        return fail("there is no soak");
    for (size_t i = 0; i < PARTS; i++) {
        if (skipped[i])
            continue;
        if (progress[i].failure[0])
            return fail("%s after %llu rounds: %s", parts[i].name,
                        (unsigned long long)progress[i].rounds, progress[i].failure);
        printf("%s=%llu\n", parts[i].name, (unsigned long long)progress[i].rounds);
        if (parts[i].family == AF_VSOCK)
            printf("%s-resets=%llu\n", parts[i].name, (unsigned long long)progress[i].resets);
    }
    return 0;
}

const struct command soak_commands[] = {
    {"soak-start", 2, 2, soak_start, "ADDRESS PEER: all devices at once, against the host's half"},
    {"soak-look", 0, 0, soak_look, ": how many rounds each part has done"},
    {0},
};
