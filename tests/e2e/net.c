/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device under Linux guests, in a network namespace of each test's own: the host's end
 * of the tap is the kernel's, and processes of the test that send and check.
 */
#include "guest/init/stream.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/tap.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define TAP   "tap0"
#define HOST  "172.30.9.1"
#define GUEST "172.30.9.2"

enum { PORT_SINK = 7001, PORT_SOURCE = 7002, PORT_FLOOD = 7003 };

/* ---- the host's end -------------------------------------------------------------------------- */

/* Shared with the processes that serve. */
static struct {
    int failed;         /* the errno of the first that went wrong */
    uint64_t transfers; /* done */
    uint64_t datagrams; /* that came */
    uint64_t disorder;  /* of them: not behind the one before */
} * host;

/* The network namespace, the tap, what serves. */
static void host_set_up(void)
{
    int rc = unshare(CLONE_NEWNET) ? -errno : tap_make(TAP, HOST);

    if (rc)
        e2e_skip("no tap can be made here: %s", strerror(-rc));
    host = mmap(NULL, sizeof(*host), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(host != MAP_FAILED);
}

static int bound(int type, int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

    inet_pton(AF_INET, HOST, &in.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || (type == SOCK_STREAM && listen(fd, 16)))
        FAIL("cannot serve port %d: %s", port, strerror(errno));
    return fd;
}

static bool in_child(void)
{
    if (fork())
        return false;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    return true;
}

static void serve_streams(int port, int (*one)(int fd, uint64_t seed))
{
    int listener = bound(SOCK_STREAM, port);

    if (!in_child())
        return;
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0 || one(fd, (uint64_t)port)) {
            host->failed = errno ? errno : EIO;
            _exit(1);
        }
        close(fd);
        host->transfers++;
    }
}

static void serve_datagrams(void)
{
    int fd = bound(SOCK_DGRAM, PORT_FLOOD);
    uint64_t last = 0;

    if (!in_child())
        return;
    for (;;) {
        static uint64_t datagram[8192];

        if (recv(fd, datagram, sizeof(datagram), 0) < (ssize_t)sizeof(uint64_t))
            continue;
        host->disorder += host->datagrams++ > 0 && datagram[0] <= last;
        last = datagram[0];
    }
}

static void set_tap_mtu(int mtu)
{
    struct ifreq request = {.ifr_mtu = mtu};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    strcpy(request.ifr_name, TAP);
    CHECK_INT(ioctl(fd, SIOCSIFMTU, &request), 0);
    close(fd);
}

/* ---- the guest's end ------------------------------------------------------------------------- */

/* A guest with that interface; `members` are further ones of it, each with a comma before it. */
static struct vm *net_vm(const char *kernel, const char *members, const char *more_args)
{
    struct vm *vm;

    host_set_up();
    vm = vm_new(NULL);
    vm_metrics(vm);
    vm_put(vm, "/network-interfaces/eth0",
           "{\"iface_id\":\"eth0\",\"host_dev_name\":\"" TAP "\"%s}", members);
    linux_machine(vm, 1, 128);
    linux_start(vm, kernel, TEST_INITRD, more_args);
    return vm;
}

static void link_up(struct vm *vm)
{
    ask(vm, "link eth0 " GUEST " 255.255.255.0");
}

/* All of `count` echo requests of that size must be answered. */
static void check_ping(struct vm *vm, int count, int size)
{
    CHECK_INT(number_of(ask(vm, "ping " HOST " %d %d", count, size), "answered"), count);
}

/* Half a megabyte each way, `count` times, with every word checked. */
static void check_streams(struct vm *vm, int count)
{
    ask(vm, "tcp-out " HOST " %d %d %d", PORT_SINK, PORT_SINK, count);
    ask(vm, "tcp-in " HOST " %d %d %d", PORT_SOURCE, PORT_SOURCE, count);
    if (host->failed)
        FAIL("the host's end of a stream failed: %s", strerror(host->failed));
}

static void serve_both_ways(void)
{
    serve_streams(PORT_SINK, stream_receive);
    serve_streams(PORT_SOURCE, stream_send);
}

/* ---- tests ----------------------------------------------------------------------------------- */

E2E(guest_and_host_exchange_pings_and_streams, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = net_vm(REFERENCE_ELF, ",\"guest_mac\":\"06:00:ac:10:00:02\"", "");

    serve_both_ways();
    CHECK_HAS(ask(vm, "cat /sys/class/net/eth0/address"), "06:00:ac:10:00:02");
    link_up(vm);
    CHECK_HAS(ask(vm, "cat /sys/class/net/eth0/carrier"), "1");
    check_ping(vm, 20, 56);
    check_ping(vm, 5, 1472);
    check_ping(vm, 5, 9000); /* in fragments */
    check_ping(vm, 2, 60000);
    check_streams(vm, 8);
    CHECK_INT(vm_counted(vm, "net_eth0", "tx_spoofed_mac_count"), 0);
    CHECK(vm_counted(vm, "net_eth0", "rx_packets_count") > 0);
    CHECK_INT(vm_counted(vm, "net_eth0", "tap_write_fails") +
                  vm_counted(vm, "net_eth0", "tap_read_fails"),
              0);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(guest_without_offloads_exchanges_the_same, LINUX)
{
    struct vm *vm = net_vm(FULL_ELF, "", "virtio_net.csum=0 virtio_net.gso=0");

    serve_both_ways();
    link_up(vm);
    check_ping(vm, 5, 1472);
    check_streams(vm, 4);
    ask(vm, "gro eth0 off");
    check_streams(vm, 4);
}

E2E(guest_takes_mtu_of_its_interface, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, ",\"mtu\":1400", "");

    serve_both_ways();
    link_up(vm);
    CHECK_HAS(ask(vm, "cat /sys/class/net/eth0/mtu"), "1400");
    check_streams(vm, 2);
}

E2E(guest_and_host_exchange_jumbo_frames, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");

    serve_both_ways();
    set_tap_mtu(9000);
    ask(vm, "link eth0 " GUEST " 255.255.255.0 9000");
    check_ping(vm, 5, 8972); /* one frame each */
    check_streams(vm, 8);
    set_tap_mtu(65521);
    ask(vm, "link eth0 " GUEST " 255.255.255.0 65535");
    check_ping(vm, 5, 65000);
    check_streams(vm, 8);
    CHECK_INT(vm_counted(vm, "net_eth0", "tx_malformed_frames") +
                  vm_counted(vm, "net_eth0", "rx_fails"),
              0);
}

E2E(streams_go_on_over_pauses, LINUX | SANITIZER)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");
    uint64_t random = 5;

    serve_both_ways();
    link_up(vm);
    for (int way = 0; way < 2; way++) {
        int port = way ? PORT_SOURCE : PORT_SINK;
        char *command =
            text_format("%s " HOST " %d %d 60\n", way ? "tcp-in" : "tcp-out", port, port);
        uint64_t before = host->transfers;

        vm_type(vm, command);
        free(command);
        for (int i = 0; i < 20; i++) {
            process_pump(&vm->monitor.process, 1 + (int)(e2e_random(&random) % 20));
            vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
            process_pump(&vm->monitor.process, (int)(e2e_random(&random) % 20));
            vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        }
        vm_expect(vm, "OK\n");
        CHECK_INT(host->transfers - before, 60);
    }
    CHECK_INT(host->failed, 0);
}

E2E(network_driver_unbound_and_bound_again_works, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");
    const char *driver = "/sys/bus/virtio/drivers/virtio_net";

    serve_both_ways();
    for (int i = 0; i < 3; i++) {
        link_up(vm);
        check_ping(vm, 3, 1000);
        check_streams(vm, 1);
        ask(vm, "set %s/unbind virtio0", driver);
        ask(vm, "set %s/bind virtio0", driver);
    }
    link_up(vm);
    check_streams(vm, 1);
    CHECK_INT(vm_counted(vm, "net_eth0", "activate_fails"), 0);
}

/* Processor time of the monitor so far, in milliseconds. */
static long cpu_ms(const struct vm *vm)
{
    unsigned long user, system;
    char *path = text_format("/proc/%d/stat", (int)vm->monitor.process.pid);
    FILE *f = fopen(path, "re");

    CHECK(f != NULL);
    CHECK_INT(fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                     &system),
              2);
    fclose(f);
    free(path);
    return (long)(user + system) * 1000 / sysconf(_SC_CLK_TCK);
}

E2E(tap_is_free_as_soon_as_the_monitor_is_gone, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");

    link_up(vm);
    check_ping(vm, 3, 56);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    CHECK_INT(tap_make(TAP, HOST), 0);
}

E2E(deleted_tap_takes_the_carrier_and_nothing_else, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");

    link_up(vm);
    check_ping(vm, 3, 56);
    CHECK_INT(tap_remove(TAP), 0);
    process_pump(&vm->monitor.process, 500);
    ask(vm, "flood " HOST " %d 10 100", PORT_FLOOD);
    process_pump(&vm->monitor.process, 500);
    CHECK_HAS(ask(vm, "cat /sys/class/net/eth0/carrier"), "0");

    long before = cpu_ms(vm);
    process_pump(&vm->monitor.process, 2000);
    CHECK(cpu_ms(vm) - before < 500); /* nobody asks a tap that is not there */
    ask(vm, "set /sys/bus/virtio/drivers/virtio_net/unbind virtio0");
    ask(vm, "set /sys/bus/virtio/drivers/virtio_net/bind virtio0");
    CHECK_INT(strcmp(vm_state(vm), "Running"), 0);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(flood_of_datagrams_leaves_api_its_share_and_keeps_its_order, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");
    unsigned asked = 0;

    serve_datagrams();
    link_up(vm);
    check_ping(vm, 1, 56);
    vm_type(vm, "flood " HOST " 7003 30000 64\n");
    while (!strstr(monitor_unseen(&vm->monitor), "sent=")) {
        CHECK_INT(strcmp(vm_state(vm), "Running"), 0);
        asked++;
        process_pump(&vm->monitor.process, 1);
    }
    CHECK(asked > 3);
    vm_expect(vm, "sent=30000");
    vm_expect(vm, "OK\n");
    check_ping(vm, 5, 56);
    CHECK_INT(vm_counted(vm, "net_eth0", "tx_fails") +
                  vm_counted(vm, "net_eth0", "tx_malformed_frames"),
              0);
    CHECK(vm_counted(vm, "net_eth0", "tx_packets_count") >= 30000);
    CHECK(host->datagrams > 0);
    CHECK_INT(host->disorder, 0);
}

E2E(flood_from_the_host_leaves_guest_alive, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF, "", "");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    static const char datagram[1400];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    link_up(vm);
    check_ping(vm, 1, 56);
    inet_pton(AF_INET, GUEST, &to.sin_addr);
    for (int i = 0; i < 30000; i++)
        (void)sendto(fd, datagram, (size_t)(i * 37 % 1400), 0, (struct sockaddr *)&to, sizeof(to));
    close(fd);
    check_ping(vm, 5, 56);
    CHECK(vm_counted(vm, "net_eth0", "rx_packets_count") > 1000);
    CHECK_INT(vm_counted(vm, "net_eth0", "rx_fails"), 0);
}

E2E(limits_of_an_interface_hold_and_change_at_run_time, LINUX)
{
    struct vm *vm = net_vm(REFERENCE_ELF,
                           ",\"tx_rate_limiter\":{\"bandwidth\":{\"size\":100000,"
                           "\"refill_time\":100}},\"rx_rate_limiter\":{\"ops\":{\"size\":20,"
                           "\"refill_time\":100}}",
                           "");
    int64_t begin;

    serve_both_ways();
    link_up(vm);
    begin = clock_ms();
    ask(vm, "tcp-out " HOST " %d %d 3", PORT_SINK, PORT_SINK); /* 1.5 MB at 1 MB a second */
    CHECK(clock_ms() - begin >= 1000);
    CHECK(vm_counted(vm, "net_eth0", "tx_rate_limiter_throttled") > 0);
    begin = clock_ms();
    check_ping(vm, 300, 56); /* 200 frames a second */
    CHECK(clock_ms() - begin >= 1000);
    CHECK(vm_counted(vm, "net_eth0", "rx_rate_limiter_throttled") > 0);

    vm_patch(vm, "/network-interfaces/eth0",
             "{\"iface_id\":\"eth0\",\"tx_rate_limiter\":{\"bandwidth\":{\"size\":0,"
             "\"refill_time\":0}},\"rx_rate_limiter\":{\"ops\":{\"size\":0,\"refill_time\":0}}}");
    long long throttled = vm_counted(vm, "net_eth0", "tx_rate_limiter_throttled");
    check_streams(vm, 3);
    CHECK_INT(vm_counted(vm, "net_eth0", "tx_rate_limiter_throttled"), throttled);
}

/* ---- a driver that is an enemy --------------------------------------------------------------- */

/* Broadcasts of all sizes, for as long as the test runs. */
static void send_without_end(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    static const char datagram[8000];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one));
    inet_pton(AF_INET, "172.30.9.255", &to.sin_addr);
    set_tap_mtu(9000);
    if (!in_child())
        return;
    for (unsigned i = 0;; i++) {
        (void)sendto(fd, datagram, i * 37 % sizeof(datagram), 0, (struct sockaddr *)&to,
                     sizeof(to));
        if (i % 16 == 0)
            usleep(1000);
    }
}

static void add_interface(struct vm *vm)
{
    vm_put(vm, "/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"" TAP "\"}");
}

E2E(a_hostile_driver_of_an_interface_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    host_set_up();
    send_without_end();
    hostile_driver(add_interface, 1, 0, 20);
}
