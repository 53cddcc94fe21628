/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-init's probe of a whole system: `state-begin` makes one thing of each kind that a guest can
 * have open or running, `state-check` looks at every one of them and names the first that is not as
 * it was left. It can be asked again and again, in any copy of the guest, and by a process that was
 * forked behind state-begin.
 */

#include "pattern.h"
#include "test-init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define WORKERS        3
#define WORKER_SECTORS 2048u /* of memory, checked in every round */
#define FILE_SECTORS   128u
#define OFFSET         12345 /* where the open file stands */
#define BYTES          3000  /* that wait in each pipe and socket: less than any holds */
#define EVENTS         7

/* What the workers share with whoever asks. */
struct worker {
    uint64_t rounds;
    uint64_t bad; /* one more than the first sector that was wrong */
    pid_t pid;
};

static struct {
    uint64_t seed;
    struct worker *worker;
    int file;
    int pipe[2], unix_pair[2], tcp_pair[2]; /* bytes go in at 1 and wait at 0 */
    int event, timer;
    uint64_t monotonic, boottime; /* ns, when last looked at */
} state;

static uint64_t clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- processes --------------------------------------------------------------------------------
 */

/* Memory of its own that it checks and moves on, a timer a round. */
static _Noreturn void work(struct worker *self, uint64_t seed)
{
    uint8_t *memory = malloc(WORKER_SECTORS * SECTOR_SIZE);

    for (unsigned i = 0; i < WORKER_SECTORS; i++)
        pattern_fill(memory + i * SECTOR_SIZE, i, seed);
    for (;;) {
        unsigned mine = (unsigned)(self->rounds % WORKER_SECTORS);

        for (unsigned i = 0; i < WORKER_SECTORS && self->bad == 0; i++) {
            if (!pattern_matches(memory + i * SECTOR_SIZE, i, seed))
                self->bad = i + 1;
        }
        memset(memory + mine * SECTOR_SIZE, 0, SECTOR_SIZE);
        usleep(2000);
        pattern_fill(memory + mine * SECTOR_SIZE, mine, seed);
        self->rounds++;
    }
}

static int begin_workers(void)
{
    state.worker = mmap(NULL, WORKERS * sizeof(*state.worker), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (state.worker == MAP_FAILED)
        return fail_errno("memory of the workers");
    for (unsigned i = 0; i < WORKERS; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return fail_errno("fork");
        if (pid == 0)
            work(&state.worker[i], state.seed + i);
        state.worker[i].pid = pid;
    }
    return 0;
}

/* Each must have done three rounds more soon. */
static int check_workers(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        volatile struct worker *worker = &state.worker[i];
        uint64_t before = worker->rounds;

        if (kill(worker->pid, 0))
            return fail_errno("process %u", i);
        for (unsigned wait = 0; wait < 1000 && worker->rounds < before + 3; wait++)
            usleep(5000);
        if (worker->rounds < before + 3)
            return fail("process %u stands still", i);
        if (worker->bad)
            return fail("process %u: sector %llu of its memory is wrong", i,
                        (unsigned long long)worker->bad - 1);
    }
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------
 */

/* Open, without a name, and read up to OFFSET. */
static int begin_file(void)
{
    uint8_t sector[SECTOR_SIZE];

    state.file = open("/tmp/state", O_RDWR | O_CREAT | O_EXCL, 0600);
    if (state.file < 0 || unlink("/tmp/state"))
        return fail_errno("/tmp/state");
    for (unsigned i = 0; i < FILE_SECTORS; i++) {
        pattern_fill(sector, i, state.seed);
        if (write(state.file, sector, sizeof(sector)) != sizeof(sector))
            return fail_errno("/tmp/state");
    }
    return lseek(state.file, OFFSET, SEEK_SET) == OFFSET ? 0 : fail_errno("/tmp/state");
}

static int check_file(void)
{
    uint8_t sector[SECTOR_SIZE];

    if (lseek(state.file, 0, SEEK_CUR) != OFFSET)
        return fail("the open file stands elsewhere");
    for (unsigned i = 0; i < FILE_SECTORS; i++) {
        if (pread(state.file, sector, sizeof(sector), (off_t)i * SECTOR_SIZE) != sizeof(sector) ||
            !pattern_matches(sector, i, state.seed))
            return fail("sector %u of the open file is wrong", i);
    }
    return 0;
}

/* ---- bytes under way --------------------------------------------------------------------------
 */

static int put_bytes(const int ends[2], const char *what)
{
    uint8_t bytes[SECTOR_SIZE * (BYTES / SECTOR_SIZE + 1)];

    for (unsigned i = 0; i < sizeof(bytes) / SECTOR_SIZE; i++)
        pattern_fill(bytes + i * SECTOR_SIZE, i, state.seed);
    return write(ends[1], bytes, BYTES) == BYTES ? 0 : fail_errno("%s takes no bytes", what);
}

/* Those that wait are right, and as many go in again. */
static int check_bytes(const int ends[2], const char *what)
{
    uint8_t bytes[SECTOR_SIZE * (BYTES / SECTOR_SIZE + 1)];
    size_t got = 0;

    while (got < BYTES) {
        ssize_t n = read(ends[0], bytes + got, BYTES - got);

        if (n <= 0)
            return fail("%s has %zu of %d bytes", what, got, BYTES);
        got += (size_t)n;
    }
    for (unsigned i = 0; i < BYTES / SECTOR_SIZE; i++) {
        if (!pattern_matches(bytes + i * SECTOR_SIZE, i, state.seed))
            return fail("%s has other bytes than went in", what);
    }
    return put_bytes(ends, what);
}

static int lo_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int status = fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) ? -1 : 0;

    request.ifr_flags |= IFF_UP;
    if (status == 0)
        status = ioctl(fd, SIOCSIFFLAGS, &request);
    if (status)
        status = fail_errno("lo");
    close(fd);
    return status;
}

/* A TCP connection of the guest to itself. */
static int connect_to_self(int ends[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), status;

    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    status = listener < 0 || ends[1] < 0 || bind(listener, (struct sockaddr *)&at, len) ||
             listen(listener, 1) || getsockname(listener, (struct sockaddr *)&at, &len) ||
             connect(ends[1], (struct sockaddr *)&at, len);
    ends[0] = status ? -1 : accept(listener, NULL, NULL);
    if (ends[0] < 0)
        status = fail_errno("TCP to ourselves");
    close(listener);
    return status;
}

static int begin_bytes(void)
{
    if (pipe(state.pipe) || socketpair(AF_UNIX, SOCK_STREAM, 0, state.unix_pair))
        return fail_errno("pipes");
    if (lo_up() || connect_to_self(state.tcp_pair))
        return -1;
    return put_bytes(state.pipe, "the pipe") || put_bytes(state.unix_pair, "the Unix socket") ||
                   put_bytes(state.tcp_pair, "the TCP connection")
               ? -1
               : 0;
}

/* ---- counters, timers, clocks -----------------------------------------------------------------
 */

static int begin_timers(void)
{
    const struct itimerspec every = {.it_interval.tv_nsec = 10000000, .it_value.tv_nsec = 10000000};

    state.event = eventfd(EVENTS, 0);
    state.timer = timerfd_create(CLOCK_MONOTONIC, 0);
    if (state.event < 0 || state.timer < 0 || timerfd_settime(state.timer, 0, &every, NULL))
        return fail_errno("timers");
    return 0;
}

static int check_timers(void)
{
    uint64_t events, fired;

    if (read(state.event, &events, sizeof(events)) != sizeof(events) || events != EVENTS)
        return fail("the eventfd has another count");
    if (write(state.event, &events, sizeof(events)) != sizeof(events))
        return fail_errno("the eventfd");
    for (int i = 0; i < 3; i++) {
        if (read(state.timer, &fired, sizeof(fired)) != sizeof(fired) || fired == 0)
            return fail_errno("the timer");
    }
    return 0;
}

static int check_clocks(void)
{
    uint64_t monotonic = clock_of(CLOCK_MONOTONIC), boottime = clock_of(CLOCK_BOOTTIME);

    if (monotonic < state.monotonic || boottime < state.boottime)
        return fail("a clock went back");
    state.monotonic = monotonic;
    state.boottime = boottime;
    return 0;
}

/* ---- commands ---------------------------------------------------------------------------------
 */

static int cmd_state_begin(int argc, char **argv)
{
    (void)argc;
    if (state.worker)
        return fail("it has begun");
    if (parse_number(argv[0], "SEED", &state.seed))
        return -1;
    return begin_workers() || begin_file() || begin_bytes() || begin_timers() || check_clocks() ? -1
                                                                                                : 0;
}

static int cmd_state_check(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (!state.worker)
        return fail("nothing has begun");
    return check_clocks() || check_workers() || check_file() ||
                   check_bytes(state.pipe, "the pipe") ||
                   check_bytes(state.unix_pair, "the Unix socket") ||
                   check_bytes(state.tcp_pair, "the TCP connection") || check_timers()
               ? -1
               : 0;
}

const struct command state_commands[] = {
    {"state-begin", 1, 1, cmd_state_begin, "SEED"},
    {"state-check", 0, 0, cmd_state_check, ""},
    {0},
};
