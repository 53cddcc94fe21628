/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's boot timer: one page of device memory. Writing 123 to its first byte says that
 * user space is up, and the monitor notes the time.
 */
#ifndef MAYFLY_GUEST_BOOT_TIMER_H
#define MAYFLY_GUEST_BOOT_TIMER_H

#include <fcntl.h>
#include <unistd.h>

#include <sys/mman.h>

#define BOOT_TIMER_WORD "mayfly_boot_timer"
#define BOOT_TIMER_GPA  0xC0000000L
#define BOOT_TIMER_UP   123

/* Returns 0, or -1 with errno set where /dev/mem cannot be had. Needs devtmpfs on /dev. */
static inline int boot_timer_stamp(void)
{
    int fd = open("/dev/mem", O_RDWR | O_SYNC);

    if (fd < 0)
        return -1;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, BOOT_TIMER_GPA);
    close(fd);
    if (page == MAP_FAILED)
        return -1;
    *(volatile unsigned char *)page = BOOT_TIMER_UP;
    munmap(page, 4096);
    return 0;
}

#endif
