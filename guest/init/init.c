/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of the boot figures: says on the serial port how long the kernel took, then reboots.
 *
 * It does that and nothing else, because everything here is part of what is measured. With the
 * word mayfly_boot_timer on the kernel command line it also stamps the monitor's boot timer. The
 * kernel hands words it does not know to init as arguments, so asking for it costs nothing; a
 * name with a dot in it would be taken for a module's parameter and dropped, except after "--".
 */

#include "boot_timer.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>

static int has_argument(char **argv, const char *word)
{
    for (; *argv; argv++) {
        if (strcmp(*argv, word) == 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct timespec up;
    char line[128];

    (void)argc;
    clock_gettime(CLOCK_MONOTONIC, &up);
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    if (has_argument(argv, BOOT_TIMER_WORD))
        boot_timer_stamp();

    int fd = open("/dev/ttyS0", O_WRONLY);
    if (fd < 0)
        fd = 1;
    int len =
        snprintf(line, sizeof(line), "INIT up %ld.%06ld\n", (long)up.tv_sec, up.tv_nsec / 1000);
    if (write(fd, line, (size_t)len) != len)
        return 1; /* the kernel panics: louder than a run without figures */
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}
