/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_disk.c: the back end of the tests as a program: serves a disk image over vhost-user. */
#include "tests/support/vhost_server.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct vhost_server_options options = {.read_only = argc == 4 && strcmp(argv[3], "ro") == 0};
    int listener;

    if (argc < 3 || argc > 4) {
        fprintf(stderr, "Usage: %s SOCKET IMAGE [ro]\nServes a disk image over vhost-user.\n",
                argv[0]);
        return 2;
    }
    options.disk = argv[2];
    listener = vhost_server_listen(argv[1]);
    if (listener < 0) {
        fprintf(stderr, "%s: cannot listen at %s: %s\n", argv[0], argv[1], strerror(-listener));
        return 1;
    }
    vhost_server_run(listener, &options);
}
