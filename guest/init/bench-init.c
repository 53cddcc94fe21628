/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of the data-path figures: runs the workloads named on the kernel command line
 * (bench=blk, net, vsock or all) and prints one line for each, in guest microseconds.
 *
 * What each workload does is part of the definition of the recorded figures: the counts, the sizes
 * and the sequence of random blocks stay as they are.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MIB (1L << 20)

#define BLK_DEPTH1_OPS  1500
#define BLK_DEPTH32_OPS 4096
#define BLK_DEPTH       32
#define BLK_SEQ_MIB     48
#define BLK_FLUSHES     20

#define STREAM_MIB   24L
#define STREAM_CHUNK 65536L
#define ROUND_TRIPS  800
#define UDP_PACKETS  4000

#define TOUCH_MIB_MAX 16

#define HOST_ADDRESS  "172.16.0.1"
#define GUEST_ADDRESS "172.16.0.2"
#define VSOCK_PORT    5000

static char *buf; /* 2 MiB, touched */

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[256];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    int fd = open("/dev/ttyS0", O_WRONLY);
    (void)!write(fd, line, (size_t)len);
    close(fd);
}

/* ----
 * block ------------------------------------------------------------------------------------ */

static off_t random_block(long blocks)
{
    static unsigned int state = 12345;

    state = state * 1103515245 + 12345;
    return (off_t)((state >> 8) % (unsigned long)blocks) * 4096;
}

static int blk_depth1(int fd, long blocks, int writing)
{
    double begin = now_us();

    for (int i = 0; i < BLK_DEPTH1_OPS; i++) {
        off_t at = random_block(blocks);
        ssize_t n = writing ? pwrite(fd, buf, 4096, at) : pread(fd, buf, 4096, at);
        if (n != 4096) {
            say("io err %zd %d\n", n, errno);
            return -1;
        }
    }
    say("BLK qd1 4k %s us/op %.2f\n", writing ? "write" : "read",
        (now_us() - begin) / BLK_DEPTH1_OPS);
    return 0;
}

static int blk_depth32(int fd, long blocks, int writing, aio_context_t aio)
{
    struct iocb ops[BLK_DEPTH] = {0}, *batch[BLK_DEPTH];
    struct io_event events[BLK_DEPTH];
    int idle[BLK_DEPTH], idle_count = BLK_DEPTH, submitted = 0;

    for (int i = 0; i < BLK_DEPTH; i++) {
        ops[i].aio_fildes = (unsigned int)fd;
        ops[i].aio_lio_opcode = writing ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
        ops[i].aio_buf = (unsigned long)(buf + 4096 * i);
        ops[i].aio_nbytes = 4096;
        idle[i] = i;
    }
    double begin = now_us();
    for (long done = 0; done < BLK_DEPTH32_OPS;) {
        long n = 0;
        while (idle_count && submitted < BLK_DEPTH32_OPS) {
            struct iocb *op = &ops[idle[--idle_count]];
            op->aio_offset = random_block(blocks);
            batch[n++] = op;
            submitted++;
        }
        if (n)
            syscall(SYS_io_submit, aio, n, batch);
        long got = syscall(SYS_io_getevents, aio, 1L, (long)BLK_DEPTH, events, NULL);
        for (long i = 0; i < got; i++) {
            if (events[i].res != 4096) {
                say("aio err %lld\n", (long long)events[i].res);
                return -1;
            }
            idle[idle_count++] = (int)((struct iocb *)events[i].obj - ops);
        }
        done += got;
    }
    say("BLK qd32 4k %s us/op %.2f\n", writing ? "write" : "read",
        (now_us() - begin) / BLK_DEPTH32_OPS);
    return 0;
}

static void blk_sequential(int fd, int writing)
{
    long total = 0;

    lseek(fd, 0, SEEK_SET);
    double begin = now_us();
    for (int i = 0; i < BLK_SEQ_MIB; i++) {
        ssize_t n = writing ? write(fd, buf, MIB) : read(fd, buf, MIB);
        if (n <= 0)
            break;
        total += n;
    }
    if (total >= MIB)
        say("BLK seq 1M %s us/MiB %.1f\n", writing ? "write" : "read",
            (now_us() - begin) / (double)(total / MIB));
}

static void blk_flush(int fd)
{
    double begin = now_us();

    for (int i = 0; i < BLK_FLUSHES; i++) {
        (void)!pwrite(fd, buf, 4096, 0);
        fsync(fd);
    }
    say("BLK flush us/op %.1f\n", (now_us() - begin) / BLK_FLUSHES);
}

static void bench_blk(void)
{
    int fd = open("/dev/vda", O_RDWR | O_DIRECT);
    aio_context_t aio = 0;

    if (fd < 0) {
        say("no vda %d\n", errno);
        return;
    }
    long blocks = lseek(fd, 0, SEEK_END) / 4096;
    if (blk_depth1(fd, blocks, 0) || blk_depth1(fd, blocks, 1))
        return;
    if (syscall(SYS_io_setup, 64, &aio))
        say("aio %d\n", errno);
    else if (blk_depth32(fd, blocks, 0, aio) || blk_depth32(fd, blocks, 1, aio))
        return;
    blk_sequential(fd, 0);
    blk_sequential(fd, 1);
    blk_flush(fd);
    close(fd);
}

/* ---- network: the peer on the host serves ports 5001 (sink), 5002 (source), 5003 (echo),
 * 5004 --- */

static void interface_up(const char *name, const char *address)
{
    struct ifreq request = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&request.ifr_addr;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    strcpy(request.ifr_name, name);
    in->sin_family = AF_INET;
    inet_aton(address, &in->sin_addr);
    if (ioctl(fd, SIOCSIFADDR, &request))
        say("ifaddr %d\n", errno);
    inet_aton("255.255.255.0", &in->sin_addr);
    ioctl(fd, SIOCSIFNETMASK, &request);
    ioctl(fd, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
}

static int connect_host(int type, uint16_t port)
{
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, type, 0);

    inet_aton(HOST_ADDRESS, &host.sin_addr);
    for (int i = 0; i < 50; i++) {
        if (connect(fd, (struct sockaddr *)&host, sizeof(host)) == 0)
            return fd;
        usleep(20000);
    }
    say("connect %d\n", errno);
    close(fd);
    return -1;
}

static int send_all(int fd, long total)
{
    for (long sent = 0; sent < total;) {
        long want = STREAM_CHUNK - sent % STREAM_CHUNK;
        ssize_t n = write(fd, buf + sent % STREAM_CHUNK, (size_t)want);
        if (n <= 0) {
            say("w %d\n", errno);
            return -1;
        }
        sent += n;
    }
    return 0;
}

static void net_send(int fd)
{
    double begin = now_us();

    if (send_all(fd, STREAM_MIB * MIB) == 0) {
        shutdown(fd, SHUT_WR);
        (void)!read(fd, buf, 1);
        say("NET tcp guest->host us/MiB %.1f\n", (now_us() - begin) / STREAM_MIB);
    }
    close(fd);
}

static void net_receive(int fd)
{
    double begin = now_us();
    long got = 0;
    ssize_t n;

    while ((n = read(fd, buf, STREAM_CHUNK)) > 0)
        got += n;
    say("NET tcp host->guest us/MiB %.1f (%ld)\n",
        (now_us() - begin) / (double)(got >= MIB ? got / MIB : 1), got);
    close(fd);
}

static void net_round_trips(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    double begin = now_us();
    for (int i = 0; i < ROUND_TRIPS; i++) {
        (void)!write(fd, "x", 1);
        (void)!read(fd, buf, 1);
    }
    say("NET tcp rtt us %.2f\n", (now_us() - begin) / ROUND_TRIPS);
    close(fd);
}

static void net_packets(int fd)
{
    double begin = now_us();

    for (int i = 0; i < UDP_PACKETS; i++)
        send(fd, buf, 64, 0);
    say("NET udp tx 64B us/pkt %.2f\n", (now_us() - begin) / UDP_PACKETS);
    close(fd);
}

static void bench_net(void)
{
    static const struct {
        int type;
        uint16_t port;
        void (*run)(int fd);
    } parts[] = {
        {SOCK_STREAM, 5001, net_send},
        {SOCK_STREAM, 5002, net_receive},
        {SOCK_STREAM, 5003, net_round_trips},
        {SOCK_DGRAM, 5004, net_packets},
    };

    interface_up("lo", "127.0.0.1");
    interface_up("eth0", GUEST_ADDRESS);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        int fd = connect_host(parts[i].type, parts[i].port);
        if (fd < 0)
            return;
        parts[i].run(fd);
    }
}

/* ---- vsock: the host connects and says by its first byte what it
 * wants -------------------------- */

static void vsock_echo(int fd)
{
    char bytes[4096];
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        (void)!write(fd, bytes, (size_t)n);
}

static void vsock_sink(int fd)
{
    long got = 0;
    ssize_t n;

    while ((n = read(fd, buf, STREAM_CHUNK)) > 0) {
        got += n;
        if (got == STREAM_MIB * MIB)
            (void)!write(fd, "k", 1);
    }
}

static void vsock_source(int fd)
{
    long sent = 0;

    while (sent < STREAM_MIB * MIB) {
        ssize_t n = write(fd, buf, STREAM_CHUNK);
        if (n <= 0)
            break;
        sent += n;
    }
}

/* Writes to every page of so many MiB of its own, and says when it has. */
static void vsock_touch(int fd)
{
    static char *area;
    unsigned char mib;

    if (!area)
        area = mmap(NULL, TOUCH_MIB_MAX * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0);
    if (area == MAP_FAILED || read(fd, &mib, 1) != 1 || mib > TOUCH_MIB_MAX)
        return;
    for (long at = 0; at < mib * MIB; at += 4096)
        area[at]++;
    (void)!write(fd, "k", 1);
}

static void bench_vsock(void)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_port = VSOCK_PORT, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16)) {
        say("vsock %d\n", errno);
        return;
    }
    say("VSOCK ready\n");
    for (char wish = 0; wish != 'q';) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (read(fd, &wish, 1) == 1) {
            if (wish == 'e')
                vsock_echo(fd);
            else if (wish == 's')
                vsock_sink(fd);
            else if (wish == 'r')
                vsock_source(fd);
            else if (wish == 't')
                vsock_touch(fd);
        }
        close(fd);
    }
}

int main(void)
{
    static char cmdline[2048];

    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    if (posix_memalign((void **)&buf, 4096, 2 * MIB))
        return 1;
    memset(buf, 1, 2 * MIB);

    int fd = open("/proc/cmdline", O_RDONLY);
    (void)!read(fd, cmdline, sizeof(cmdline) - 1);
    close(fd);
    int all = strstr(cmdline, "bench=all") != NULL;
    say("INIT up %.6f\n", now_us() / 1e6);
    if (all || strstr(cmdline, "bench=blk"))
        bench_blk();
    if (all || strstr(cmdline, "bench=net"))
        bench_net();
    if (all || strstr(cmdline, "bench=vsock"))
        bench_vsock();
    say("DONE\n");
    sync();
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}
