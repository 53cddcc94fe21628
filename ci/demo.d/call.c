/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call SOCKET PORT TEXT: a call of the demo's function through the host's socket of a vsock device.
 * Gives the guest a seed, then TEXT, and prints the answer and how long all of it took.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SEED_BYTES 32

static int fail(const char *what)
{
    fprintf(stderr, "call: %s\n", what);
    return 1;
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Sends a line and reads one, which must begin with `good`. */
static int exchange(FILE *stream, const char *line, char *answer, int size, const char *good)
{
    fprintf(stream, "%s\n", line);
    fflush(stream);
    return fgets(answer, size, stream) && strncmp(answer, good, strlen(good)) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unsigned char seed[SEED_BYTES];
    char line[2 * SEED_BYTES + 32] = "SEED ", connect_line[32], answer[256] = "";

    if (argc != 4 || strlen(argv[1]) >= sizeof(address.sun_path))
        return fail("usage: call SOCKET PORT TEXT");
    memcpy(address.sun_path, argv[1], strlen(argv[1]));
    if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
        return fail("no random numbers");
    for (size_t i = 0; i < sizeof(seed); i++)
        snprintf(line + strlen(line), 3, "%02x", seed[i]);
    snprintf(connect_line, sizeof(connect_line), "CONNECT %s", argv[2]);

    double begin = now_ms();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
        return fail("nobody listens at that socket");
    FILE *stream = fdopen(fd, "r+");
    if (!stream || exchange(stream, connect_line, answer, sizeof(answer), "OK"))
        return fail("the guest takes no connection at that port");
    if (exchange(stream, line, answer, sizeof(answer), "OK"))
        return fail("the guest takes no seed");
    if (exchange(stream, argv[3], answer, sizeof(answer), "Hello"))
        return fail(answer);
    printf("%.*s  [%.2f ms]\n", (int)strcspn(answer, "\n"), answer, now_ms() - begin);
    return 0;
}
