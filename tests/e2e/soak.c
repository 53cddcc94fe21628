/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every device at once, for minutes, with pauses at random moments: nothing lost, nothing stuck, no
 * memory growth. The guest's half is guest/init/test-soak.c; here are the ends of its connections,
 * the balloon's and hot-plug's orders, and the pauses.
 */
#include "guest/init/stream.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/tap.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define TAP   "mayflysoak"
#define HOST  "172.30.7.1"
#define GUEST "172.30.7.2"

/* What may come and go with the moment, as buffers of connections do. A sanitizer's own records and
 * shadow grow for minutes: there, only what would run away is seen. */
enum { GROWTH_KIB = 256, GROWTH_SANITIZED_KIB = 32 * 1024 };
enum { PROGRESS_MS = 60000 };
enum { PAUSES = 100, PAUSE_MS_MAX = 40, MEMORY_MIB = 256, BALLOON_MIB_MAX = 64, HOTPLUG_MIB = 128 };

/* ---- the ends of the guest's connections, a process each ------------------------------------- */

struct ends {
    uint64_t rounds[5];
    int failed; /* the errno of the first that went wrong */
};
enum { TCP_SINK, TCP_SOURCE, VSOCK_SINK, VSOCK_SOURCE, VSOCK_ECHO };

static struct ends *ends;

static void end_failed(void)
{
    ends->failed = errno ? errno : EIO;
    _exit(1);
}

static int listen_tcp(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    inet_pton(AF_INET, HOST, &in.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 16))
        FAIL("cannot listen at port %d: %s", port, strerror(errno));
    return fd;
}

static void unix_address(struct sockaddr_un *un, const char *path)
{
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    CHECK(strlen(path) < sizeof(un->sun_path));
    strcpy(un->sun_path, path);
}

static int listen_vsock(int port)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un un;

    unix_address(&un, e2e_path(text_format("v.sock_%d", port)));
    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) || listen(fd, 16))
        FAIL("cannot listen at %s: %s", un.sun_path, strerror(errno));
    return fd;
}

/* Serves one listener in a process of its own. */
static void serve(int listener, int which, int port, int (*serve_one)(int fd, uint64_t seed))
{
    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0 || serve_one(fd, (uint64_t)port))
            end_failed();
        close(fd);
        ends->rounds[which]++;
    }
}

/* CONNECT, a few bytes there and back, close. */
static int echo_once(uint64_t *state)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t sent[32], came[32];
    struct sockaddr_un un;
    char answer[64] = "";
    size_t n = 0;

    unix_address(&un, e2e_path("v.sock"));
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) ||
        dprintf(fd, "CONNECT %d\n", SOAK_PORT_ECHO) < 0)
        return -1;
    while (n < sizeof(answer) - 1 && stream_read(fd, answer + n, 1) == 0 && answer[n++] != '\n')
        ;
    if (strncmp(answer, "OK ", 3) != 0) {
        close(fd);
        errno = EPROTO;
        return -1;
    }
    for (size_t i = 0; i < 32; i++)
        sent[i] = e2e_random(state);
    if (stream_write(fd, sent, sizeof(sent)) || stream_read(fd, came, sizeof(came)))
        return -1;
    close(fd);
    errno = EBADMSG;
    return memcmp(sent, came, sizeof(sent)) ? -1 : 0;
}

static void connect_again_and_again(void)
{
    uint64_t state = 11;

    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        if (echo_once(&state))
            end_failed();
        ends->rounds[VSOCK_ECHO]++;
        usleep(5000);
    }
}

static void start_ends(void)
{
    ends = mmap(NULL, sizeof(*ends), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ends != MAP_FAILED);
    serve(listen_tcp(SOAK_PORT_SINK), TCP_SINK, SOAK_PORT_SINK, stream_receive);
    serve(listen_tcp(SOAK_PORT_SOURCE), TCP_SOURCE, SOAK_PORT_SOURCE, stream_send);
    serve(listen_vsock(SOAK_PORT_SINK), VSOCK_SINK, SOAK_PORT_SINK, stream_receive);
    serve(listen_vsock(SOAK_PORT_SOURCE), VSOCK_SOURCE, SOAK_PORT_SOURCE, stream_send);
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void configure(struct vm *vm)
{
    const char *disk = e2e_path("disk"), *pmem = e2e_path("pmem");

    CHECK_INT(files_make_sparse(disk, 16 << 20), 0);
    CHECK_INT(files_make_sparse(pmem, 8 << 20), 0);
    linux_machine(vm, 1, MEMORY_MIB);
    linux_drive(vm, "d", disk, ",\"io_engine\":\"Async\",\"cache_type\":\"Writeback\"");
    vm_put(vm, "/network-interfaces/n", "{\"iface_id\":\"n\",\"host_dev_name\":\"" TAP "\"}");
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    vm_put(vm, "/balloon",
           "{\"amount_mib\":0,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1,"
           "\"free_page_reporting\":true}");
    vm_put(vm, "/entropy", "{}");
    vm_put(vm, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\"}", pmem);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%d}", HOTPLUG_MIB);
}

/* Private dirty memory beside the guest's, which lies in mappings of 64 MiB and more. */
static unsigned long own_kib(const struct vm *vm)
{
    FILE *f = fopen(text_format("/proc/%d/smaps", vm->monitor.process.pid), "re");
    unsigned long total = 0, size = 0, value;
    char line[512];

    CHECK(f != NULL);
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Size: %lu", &value) == 1)
            size = value;
        else if (sscanf(line, "Private_Dirty: %lu", &value) == 1 && size < 64 * 1024)
            total += value;
    }
    fclose(f);
    return total;
}

static bool is_sanitized(const struct vm *vm)
{
    struct text maps = {0};
    bool found;

    CHECK_INT(text_read_file(&maps, text_format("/proc/%d/maps", vm->monitor.process.pid)), 0);
    found = strstr(text_str(&maps), "libasan") != NULL;
    text_free(&maps);
    return found;
}

static void check_ends(void)
{
    if (ends->failed)
        FAIL("a connection's end on the host failed: %s", strerror(ends->failed));
}

/* Orders of another size for balloon and plugged memory, now and then. */
static void breathe(struct vm *vm, uint64_t *state)
{
    vm_patch(vm, "/balloon", "{\"amount_mib\":%d}", (int)(e2e_random(state) % BALLOON_MIB_MAX));
    vm_patch(vm, "/hotplug/memory", "{\"requested_size_mib\":%d}",
             (int)(e2e_random(state) % 2) * HOTPLUG_MIB);
}

static void pause_once(struct vm *vm, uint64_t *state)
{
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    usleep((useconds_t)(e2e_random(state) % PAUSE_MS_MAX) * 1000);
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
}

/* Waits until each part of the guest has done more than at the last look; returns what it has done.
 * A busy host makes them slow, which is no fault. */
static const char *await_progress(struct vm *vm, const char *before)
{
    static const char *const parts[] = {"disk",     "pmem",       "tcp-out", "tcp-in", "vsock-out",
                                        "vsock-in", "vsock-echo", "memory",  "entropy"};
    int64_t deadline = clock_ms() + e2e_ms(PROGRESS_MS);
    const char *now = ask(vm, "soak-look");

    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        while (number_of(now, parts[i]) <= number_of(before, parts[i])) {
            if (!clock_left(deadline))
                FAIL("%s stands still at %llu rounds", parts[i], number_of(now, parts[i]));
            usleep(200000);
            now = ask(vm, "soak-look");
        }
    }
    return now;
}

E2E(all_devices_at_once_with_pauses_lose_nothing_and_take_no_more_memory, SOAK)
{
    uint64_t state = 7;
    int rc = tap_make(TAP, HOST);

    if (rc)
        e2e_skip("no tap can be made here: %s", strerror(-rc));
    /* A sanitizer keeps what was freed for a while; it shall not look like growth. */
    setenv("ASAN_OPTIONS", "quarantine_size_mb=1", 0);
    struct vm *vm = vm_new(NULL);
    configure(vm);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    start_ends();
    ask(vm, "soak-start %s %s", GUEST, HOST);
    usleep(1000000);
    connect_again_and_again();

    int64_t begin = clock_ms(), whole = (int64_t)e2e.soak_seconds * 1000;
    const char *seen = ask(vm, "soak-look");
    unsigned long settled = 0;
    for (int i = 0; i < PAUSES; i++) {
        int64_t until =
            begin + whole * i / PAUSES + (int64_t)(e2e_random(&state) % (uint64_t)(whole / PAUSES));

        while (clock_left(until))
            usleep(10000);
        pause_once(vm, &state);
        check_ends();
        if (i % 5 == 2)
            breathe(vm, &state);
        if (i % 20 == 19)
            seen = await_progress(vm, seen);
        if (i == PAUSES / 5)
            settled = own_kib(vm);
    }
    unsigned long last = own_kib(vm);
    if (last > settled + (is_sanitized(vm) ? GROWTH_SANITIZED_KIB : GROWTH_KIB))
        FAIL("the monitor's own memory grew from %lu to %lu KiB", settled, last);
    printf("%s host: tcp %llu %llu vsock %llu %llu %llu; own memory %lu, then %lu KiB\n", seen,
           (unsigned long long)ends->rounds[0], (unsigned long long)ends->rounds[1],
           (unsigned long long)ends->rounds[2], (unsigned long long)ends->rounds[3],
           (unsigned long long)ends->rounds[4], settled, last);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    tap_remove(TAP);
}
