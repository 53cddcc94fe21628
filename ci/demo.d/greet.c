/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The function of the demo's guest: answers a line of text for each connection to its vsock port,
 * and keeps count of them. What it says of itself was drawn once, when it started; what it draws
 * for an answer comes fresh from the kernel. It takes no work before a seed: see guest/README.md.
 */

#include "guest/init/agent.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <linux/vm_sockets.h>
#include <sys/random.h>
#include <sys/socket.h>

static unsigned int calls;
static uint16_t name;

static void work(FILE *peer, const char *from)
{
    struct timespec up;
    uint32_t fresh;

    clock_gettime(CLOCK_MONOTONIC, &up);
    if (getrandom(&fresh, sizeof(fresh), 0) != sizeof(fresh)) {
        fprintf(peer, "ERR no random numbers\n");
        return;
    }
    fprintf(peer, "Hello %s. Guest %04x, up %ld.%02ld s, call %u. A fresh random number: %08x\n",
            from, name, (long)up.tv_sec, up.tv_nsec / 10000000, ++calls, fresh);
}

static void serve(FILE *peer)
{
    char line[2 * AGENT_SEED_MAX + 16];
    int seeded = 0;

    while (fgets(line, sizeof(line), peer)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "SEED ", 5) == 0) {
            const char *wrong = agent_reseed(line + 5);

            seeded = !wrong;
            fprintf(peer, wrong ? "ERR %s\n" : "OK\n", wrong);
        } else if (!seeded) {
            fprintf(peer, "ERR no work before a seed\n");
        } else {
            work(peer, line);
        }
        fflush(peer);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (argc != 2)
        return 2;
    address.svm_port = (unsigned int)atoi(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    if (getrandom(&name, sizeof(name), 0) != sizeof(name) ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16)) {
        perror("greet");
        return 1;
    }
    if (fork() != 0)
        return 0;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        FILE *peer = fd < 0 ? NULL : fdopen(fd, "r+");

        if (peer) {
            serve(peer);
            fclose(peer);
        }
    }
}
