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
    sigset_t stop, before;

    if (!raw)
        return;
    raw = 0;
    /* We may be in the background by now, where this signal would stop us short of our end. */
    sigemptyset(&stop);
    sigaddset(&stop, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &stop, &before);
    tcsetattr(saved_fd, TCSANOW, &saved);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void console_forget(void)
{
    raw = 0;
}
