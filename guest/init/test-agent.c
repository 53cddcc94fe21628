/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-agent: the same commands over vsock, and none of them on a connection that has not begun
 * with a seed: an agent as guest/README.md describes it.
 */

#include "agent.h"
#include "test-init.h"

#include <signal.h>
#include <stdio.h>

#include <linux/vm_sockets.h>
#include <sys/socket.h>

/* Where the kernel hears of clones itself, an agent may do without seeds. */
static int seeds_wanted;

/* Nobody of before a load or a fork can hold this connection, since those reset them all. */
static void serve(FILE *peer)
{
    char line[2 * AGENT_SEED_MAX + 16];
    int seeded = !seeds_wanted;

    while (fgets(line, sizeof(line), peer)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "SEED ", 5) == 0) {
            const char *wrong = agent_reseed(line + 5);

            seeded = !wrong;
            printf(wrong ? "ERR %s\n" : "OK\n", wrong);
            fflush(stdout);
        } else if (seeded) {
            obey(line, " ");
        } else {
            printf("ERR no work before a seed\n");
            fflush(stdout);
        }
    }
}

/* Each connection has a process, whose standard output it is. */
static void serve_all(int listener)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd >= 0 && fork() == 0) {
            dup2(fd, STDOUT_FILENO);
            serve(fdopen(fd, "r"));
            _exit(0);
        }
        if (fd >= 0)
            close(fd);
    }
}

static int cmd_agent(int argc, char **argv)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    uint64_t port;
    int fd;

    if (parse_number(argv[0], "port", &port))
        return -1;
    seeds_wanted = argc < 2;
    address.svm_port = (unsigned int)port;
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 16))
        return fail_errno("listen at %lu", (unsigned long)port);
    if (fork() == 0) {
        signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
        signal(SIGPIPE, SIG_IGN);
        serve_all(fd);
    }
    close(fd);
    return 0;
}

const struct command agent_commands[] = {
    {"agent", 1, 2, cmd_agent, "PORT [unseeded]"},
    {0},
};
