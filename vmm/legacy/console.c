/* SPDX-License-Identifier: Apache-2.0 */
/* console.c: see console.h. */
#include "vmm/legacy/console.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static int saved_fd = -1;
static volatile sig_atomic_t raw;

void console_enter_raw(int fd)
{
    struct termios mode;

    /* From the background tcsetattr would stop the process. */
    if (raw || !isatty(fd) || tcgetpgrp(fd) != getpgrp() || tcgetattr(fd, &saved))
        return;
    mode = saved;
    mode.c_iflag &= (tcflag_t) ~(IXON | ICRNL | INLCR | IGNCR | ISTRIP);
    mode.c_lflag &= (tcflag_t) ~(ICANON | ECHO | ISIG | IEXTEN);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    saved_fd = fd;
    raw = 1;
    if (tcsetattr(fd, TCSANOW, &mode))
        raw = 0;
}

void console_restore(void)
{
    if (!raw)
        return;
    raw = 0;
    tcsetattr(saved_fd, TCSANOW, &saved);
}
