/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-init's network interfaces, and a client of HTTP that can be as awkward as a guest may be: a
 * small buffer, long pauses, segments that the kernel loses before TCP has seen them, half of the
 * connection closed.
 */
#include "test-init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define PATIENCE_S 20

/* ---- interfaces ---- */

static int set_address(int fd, struct ifreq *r, unsigned long what, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        return fail("'%s' is no address", text);
    memcpy(&r->ifr_addr, &address, sizeof(address));
    return ioctl(fd, what, r) ? fail_errno("%s %s", r->ifr_name, text) : 0;
}

/* link IFACE ADDRESS MASK [MTU] */
static int cmd_link(int argc, char **argv)
{
    struct ifreq r = {0};
    uint64_t mtu = 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

    if (fd < 0)
        return fail_errno("socket");
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", argv[0]);
    rc = argc > 3 ? parse_number(argv[3], "MTU", &mtu) : 0;
    if (rc == 0 && mtu) {
        r.ifr_mtu = (int)mtu;
        if (ioctl(fd, SIOCSIFMTU, &r))
            rc = fail_errno("%s: MTU", argv[0]);
    }
    if (rc == 0)
        rc = set_address(fd, &r, SIOCSIFADDR, argv[1]);
    if (rc == 0)
        rc = set_address(fd, &r, SIOCSIFNETMASK, argv[2]);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    if (rc == 0 && ioctl(fd, SIOCSIFFLAGS, &r))
        rc = fail_errno("%s: up", argv[0]);
    close(fd);
    return rc;
}

/* gro IFACE on|off: whether segments that come one behind the other are handed on as one */
static int cmd_gro(int argc, char **argv)
{
    struct ethtool_value value = {.cmd = ETHTOOL_SGRO, .data = strcmp(argv[1], "on") == 0};
    struct ifreq r = {.ifr_data = (char *)&value};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

    (void)argc;
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", argv[0]);
    rc = ioctl(fd, SIOCETHTOOL, &r) ? fail_errno("%s: GRO", argv[0]) : 0;
    close(fd);
    return rc;
}

/* ---- a client ---- */

struct client {
    int fd;
    uint64_t buffer, pause_ms, loss; /* of 100 segments that come */
    int half, show;
    char request[4096];
    size_t len;
};

/* Loses segments behind the device and before TCP: a filter that draws a number for each. */
static int lose(int fd, unsigned of_100)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(SKF_AD_OFF + SKF_AD_RANDOM)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)(of_100 * (UINT64_C(1) << 32) / 100), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = 4, .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int open_client(struct client *c, const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int buffer = (int)c->buffer;

    if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return fail("'%s' is no address", address);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return fail_errno("socket");
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (buffer)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    if (c->loss && lose(c->fd, (unsigned)c->loss))
        return fail_errno("filter");
    return connect(c->fd, (struct sockaddr *)&to, sizeof(to)) ? fail_errno("connect") : 0;
}

static void pause_ms(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

/* A whole answer, head and body, into *text, which is the caller's; its length, or -1. */
static ssize_t receive(struct client *c, char **text)
{
    size_t len = 0, room = 0, whole = SIZE_MAX;

    *text = NULL;
    while (len < whole) {
        char *bigger = room - len < 4097 ? realloc(*text, room += 65536) : *text, *end;
        ssize_t n;

        if (!bigger)
            return fail("out of memory");
        *text = bigger;
        n = recv(c->fd, *text + len, c->pause_ms ? 500 : 4096, 0);
        if (n < 0)
            return fail_errno("after %zu bytes", len);
        if (n == 0)
            break;
        len += (size_t)n;
        (*text)[len] = '\0';
        end = strstr(*text, "\r\n\r\n");
        if (end && whole == SIZE_MAX) {
            const char *length = strcasestr(*text, "\r\nContent-Length:");

            whole = (size_t)(end + 4 - *text) + (length ? strtoul(length + 17, NULL, 10) : 0);
        }
        if (c->pause_ms)
            pause_ms(c->pause_ms);
    }
    return len == whole ? (ssize_t)len : fail("closed after %zu of %zu bytes", len, whole);
}

/* FNV-1a, so that a test can tell whether a body is the one it stored. */
static uint32_t hash(const char *text, size_t len)
{
    uint32_t h = 2166136261;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619;
    return h;
}

/* On one line; what would look like the end of an answer cannot. */
static void show(const char *what, const char *text, size_t len)
{
    printf("%s=", what);
    for (size_t i = 0; i < len; i++)
        putchar(text[i] == '\n' ? '|' : text[i] == '\r' ? '.' : text[i]);
    putchar('\n');
}

static int converse(struct client *c)
{
    char *text = NULL, *body;
    ssize_t len;

    if (send(c->fd, c->request, c->len, MSG_NOSIGNAL) != (ssize_t)c->len)
        return fail_errno("send");
    if (c->half)
        shutdown(c->fd, SHUT_WR);
    len = receive(c, &text);
    if (len >= 0) {
        body = strstr(text, "\r\n\r\n") + 4;
        printf("status=%d length=%zu hash=%u\n", (int)strtol(text + 9, NULL, 10),
               (size_t)(text + len - body), hash(body, (size_t)(text + len - body)));
        if (c->show) {
            show("head", text, (size_t)(body - text));
            show("body", body, (size_t)(text + len - body));
        }
    }
    free(text);
    return len < 0 ? -1 : 0;
}

static int take_option(struct client *c, const char *word)
{
    if (strncmp(word, "buffer=", 7) == 0)
        return parse_number(word + 7, "buffer", &c->buffer);
    if (strncmp(word, "pause=", 6) == 0)
        return parse_number(word + 6, "pause", &c->pause_ms);
    if (strncmp(word, "loss=", 5) == 0)
        return parse_number(word + 5, "loss", &c->loss);
    if (strcmp(word, "half") == 0)
        c->half = 1;
    else if (strcmp(word, "show") == 0)
        c->show = 1;
    else if (strchr(word, ':'))
        c->len +=
            (size_t)snprintf(c->request + c->len, sizeof(c->request) - c->len, "%s\r\n", word);
    else
        return fail("'%s' is no option", word);
    return 0;
}

/* http METHOD ADDRESS PATH [NAME:VALUE | buffer=BYTES | pause=MS | loss=PERCENT | half | show]...
 */
static int cmd_http(int argc, char **argv)
{
    struct client c = {.fd = -1};
    int rc = 0;

    c.len = (size_t)snprintf(c.request, sizeof(c.request), "%s %s HTTP/1.1\r\nHost: %s\r\n",
                             argv[0], argv[2], argv[1]);
    for (int i = 3; i < argc && rc == 0; i++)
        rc = take_option(&c, argv[i]);
    c.len += (size_t)snprintf(c.request + c.len, sizeof(c.request) - c.len, "\r\n");
    if (rc == 0 && c.len >= sizeof(c.request))
        rc = fail("the request is too long");
    if (rc == 0)
        rc = open_client(&c, argv[1]);
    if (rc == 0)
        rc = converse(&c);
    if (c.fd >= 0)
        close(c.fd);
    return rc;
}

/* http-many ADDRESS PATH N: N connections at once, two requests on each; "good=N refused=N" */
static int cmd_http_many(int argc, char **argv)
{
    static struct client c[256];
    uint64_t n, good = 0, refused = 0;

    (void)argc;
    if (parse_number(argv[2], "N", &n))
        return -1;
    if (n > sizeof(c) / sizeof(*c))
        return fail("no more than %zu", sizeof(c) / sizeof(*c));
    for (uint64_t i = 0; i < n; i++) {
        c[i] = (struct client){.fd = -1};
        c[i].len = (size_t)snprintf(c[i].request, sizeof(c[i].request),
                                    "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", argv[1]);
        if (open_client(&c[i], argv[0]) && errno == ECONNREFUSED)
            refused++;
    }
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < n; i++) {
            char *text = NULL;

            if (send(c[i].fd, c[i].request, c[i].len, MSG_NOSIGNAL) == (ssize_t)c[i].len &&
                receive(&c[i], &text) > 0 && text && strncmp(text, "HTTP/1.1 200 ", 13) == 0)
                good++;
            free(text);
        }
    }
    for (uint64_t i = 0; i < n; i++)
        close(c[i].fd);
    printf("good=%llu refused=%llu\n", (unsigned long long)good, (unsigned long long)refused);
    return 0;
}

const struct command http_commands[] = {
    {"gro", 2, 2, cmd_gro, "IFACE on|off"},
    {"link", 3, 4, cmd_link, "IFACE ADDRESS MASK [MTU]"},
    {"http", 3, 14, cmd_http,
     "METHOD ADDRESS PATH [NAME:VALUE|buffer=BYTES|pause=MS|loss=PERCENT|half|show]..."},
    {"http-many", 3, 3, cmd_http_many, "ADDRESS PATH N"},
    {0},
};
