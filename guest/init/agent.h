/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent in a guest without VMGenID does before any work in a clone: takes random bytes from
 * whoever resumed the guest and makes the kernel draw from them at once. guest/README.md has the
 * conversation; this is all there is to the guest's side of it.
 */
#ifndef MAYFLY_GUEST_AGENT_H
#define MAYFLY_GUEST_AGENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <linux/random.h>
#include <sys/ioctl.h>

/* Bytes of a seed: with fewer the kernel need not believe that it has enough. */
#define AGENT_SEED_MIN 32
#define AGENT_SEED_MAX 256

/* A struct rand_pool_info with room for the bytes. */
struct agent_seed {
    int bits, size;
    uint8_t bytes[AGENT_SEED_MAX];
};

static inline int agent_hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *hit = c ? strchr(digits, c) : NULL;

    return hit ? (int)(hit - digits) : -1;
}

/* Decodes a seed of lower-case hexadecimal digits; -1 when it is none. */
static inline int agent_read_seed(const char *hex, struct agent_seed *seed)
{
    size_t digits = strlen(hex);

    if (digits % 2 || digits < 2 * AGENT_SEED_MIN || digits > 2 * AGENT_SEED_MAX)
        return -1;
    for (size_t i = 0; i < digits; i += 2) {
        int high = agent_hex_digit(hex[i]), low = agent_hex_digit(hex[i + 1]);

        if (high < 0 || low < 0)
            return -1;
        seed->bytes[i / 2] = (uint8_t)(high << 4 | low);
    }
    seed->size = (int)(digits / 2);
    seed->bits = 8 * seed->size;
    return 0;
}

/*
 * Adds the seed to the kernel's pool and has it make new keys from there, also for what threads
 * keep in reserve. NULL, or why that did not happen; then nothing must be drawn. Needs
 * CAP_SYS_ADMIN.
 */
static inline const char *agent_reseed(const char *hex)
{
    struct agent_seed seed;
    const char *wrong = NULL;
    int fd;

    if (agent_read_seed(hex, &seed))
        return "a seed is 32 to 256 bytes in lower-case hexadecimal";
    fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &seed) || ioctl(fd, RNDRESEEDCRNG))
        wrong = strerror(errno);
    if (fd >= 0)
        close(fd);
    explicit_bzero(&seed, sizeof(seed));
    return wrong;
}

#endif
