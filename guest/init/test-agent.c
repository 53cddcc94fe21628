/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-agent: an agent that takes no work from a connection before its seed. Its work is to draw
 * random numbers, so that the tests see whether two clones draw the same.
 */

#include "agent.h"
#include "test-init.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/vm_sockets.h>
#include <sys/random.h>
#include <sys/socket.h>

static void draw(FILE *peer, unsigned long count)
{
    uint8_t byte;

    for (unsigned long i = 0; i < count && getrandom(&byte, 1, 0) == 1; i++)
        fprintf(peer, "%02x", byte);
    fprintf(peer, "\n");
}

/* One connection: nobody of before a load or a fork can hold it, since those reset them all. */
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
        } else if (strncmp(line, "RANDOM ", 7) == 0) {
            draw(peer, strtoul(line + 7, NULL, 10));
        } else {
            fprintf(peer, "ERR no such work\n");
        }
        fflush(peer);
    }
}

static void serve_all(int listener)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        FILE *peer = fd < 0 ? NULL : fdopen(fd, "r+");

        if (peer) {
            serve(peer);
            fclose(peer);
        }
    }
}

static int cmd_agent(int argc, char **argv)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    uint64_t port;
    int fd;

    (void)argc;
    if (parse_number(argv[0], "port", &port))
        return -1;
    address.svm_port = (unsigned int)port;
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 16))
        return fail_errno("listen at %lu", (unsigned long)port);
    if (fork() == 0) {
        signal(SIGPIPE, SIG_IGN);
        serve_all(fd);
    }
    close(fd);
    return 0;
}

const struct command agent_commands[] = {
    {"agent", 1, 1, cmd_agent, "PORT"},
    {0},
};
