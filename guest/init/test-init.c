/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of the end-to-end tests: takes commands from the kernel command line and from the serial
 * console and answers there. guest/README.md describes the conversation.
 */

#include "test-init.h"

#include "boot_timer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/stat.h>

#define WORDS_MAX 16

static char failure[256];

int fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
    return -1;
}

int fail_errno(const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list args;

    va_start(args, format);
    int len = vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof(failure))
        snprintf(failure + len, sizeof(failure) - (size_t)len, ": %s", reason);
    return -1;
}

const char *last_failure(void)
{
    return failure;
}

int parse_number(const char *word, const char *what, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(word, &end, 0);
    if (errno || end == word || *end || *word == '-')
        return fail("%s: '%s' is not a number", what, word);
    return 0;
}

int read_line(const char *path, char *line, int size)
{
    FILE *f = fopen(path, "re");
    int ok = f && fgets(line, size, f);

    if (f)
        fclose(f);
    if (!ok)
        return -1;
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

static const struct command *find_command(const char *name)
{
    const struct command *const tables[] = {system_commands, agent_commands,  disk_commands,
                                            http_commands,   memory_commands, net_commands,
                                            soak_commands,   state_commands,  vsock_commands};

    for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
        for (const struct command *c = tables[i]; c->name; c++) {
            if (strcmp(c->name, name) == 0)
                return c;
        }
    }
    return NULL;
}

/* Splits `line` in place at blanks and at `also`; returns the number of words. */
static int split(char *line, const char *separators, char **words)
{
    int n = 0;
    char *rest = line;

    while (n < WORDS_MAX) {
        char *word = strsep(&rest, separators);
        if (!word)
            break;
        if (*word)
            words[n++] = word;
    }
    return n;
}

void obey(char *line, const char *separators)
{
    char *words[WORDS_MAX];
    int n = split(line, separators, words);

    if (n == 0)
        return;
    const struct command *c = find_command(words[0]);
    int status;
    if (!c)
        status = fail("no command '%s'", words[0]);
    else if (n - 1 < c->words_min || n - 1 > c->words_max)
        status = fail("usage: %s %s", c->name, c->usage);
    else
        status = c->run(n - 1, words + 1);

    if (status == 0)
        printf("OK\n");
    else
        printf("ERR %s\n", failure);
    fflush(stdout);
}

/* Each word test=COMMAND,ARGUMENT,... of the kernel command line, in order. */
static void obey_kernel_command_line(void)
{
    static char cmdline[4096];
    char *rest = cmdline, *word;

    if (read_line("/proc/cmdline", cmdline, sizeof(cmdline)))
        return;
    while ((word = strsep(&rest, " "))) {
        if (strncmp(word, "test=", 5) == 0) {
            printf("> %s\n", word + 5);
            obey(word + 5, ",");
        }
    }
}

static int asked_for_boot_timer(void)
{
    char cmdline[4096];

    return read_line("/proc/cmdline", cmdline, sizeof(cmdline)) == 0 &&
           strstr(cmdline, BOOT_TIMER_WORD) != NULL;
}

static void mount_all(void)
{
    static const char *const mounts[][2] = {
        {"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}};

    for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
        mkdir(mounts[i][1], 0755);
        mount(mounts[i][0], mounts[i][1], mounts[i][0], 0, NULL);
    }
}

/* Standard streams on the serial port: by lines, not echoed, no translation of what we print. */
static void open_console(void)
{
    struct termios t;
    int fd = open("/dev/ttyS0", O_RDWR);

    if (fd >= 0) {
        for (int i = 0; i < 3; i++)
            dup2(fd, i);
        if (fd > 2)
            close(fd);
    }
    if (tcgetattr(0, &t) == 0) {
        t.c_lflag = (t.c_lflag & ~(tcflag_t)(ECHO | ISIG)) | ICANON;
        t.c_oflag &= ~(tcflag_t)OPOST;
        t.c_iflag |= ICRNL;
        tcsetattr(0, TCSANOW, &t);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
}

int main(void)
{
    static char line[4096];
    struct timespec up;

    clock_gettime(CLOCK_MONOTONIC, &up);
    mount_all();
    if (asked_for_boot_timer())
        boot_timer_stamp();
    open_console();
    printf("INIT up %ld.%06ld\n", (long)up.tv_sec, up.tv_nsec / 1000);
    obey_kernel_command_line();
    printf("READY\n");
    while (fgets(line, sizeof(line), stdin))
        obey(line, " \t\r\n");
    /* The serial port hung up, which it never should. Ending makes the kernel panic. */
    printf("ERR the console is gone\n");
    return 1;
}
