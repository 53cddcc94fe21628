/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-init's commands about the machine as a whole: what the guest sees of it, and all the ways
 * in which it can end.
 */

#include "test-init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>

static int cmd_echo(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("%s%s", argv[i], i + 1 < argc ? " " : "\n");
    return 0;
}

static int cmd_cat(int argc, char **argv)
{
    static char buf[65536];
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
    ssize_t got = 0;
    char last = '\n';

    (void)argc;
    if (fd < 0)
        return fail_errno("%s", argv[0]);
    while ((got = read(fd, buf, sizeof(buf))) > 0) {
        fwrite(buf, 1, (size_t)got, stdout);
        last = buf[got - 1];
    }
    if (last != '\n')
        printf("\n");
    int status = got < 0 ? fail_errno("%s", argv[0]) : 0;
    close(fd);
    return status;
}

static int cmd_ls(int argc, char **argv)
{
    DIR *dir = opendir(argv[0]);
    struct dirent *entry;

    (void)argc;
    if (!dir)
        return fail_errno("%s", argv[0]);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.')
            printf("%s\n", entry->d_name);
    }
    closedir(dir);
    return 0;
}

static int cmd_set(int argc, char **argv)
{
    int fd = open(argv[0], O_WRONLY | O_CLOEXEC);

    (void)argc;
    if (fd < 0)
        return fail_errno("%s", argv[0]);
    size_t len = strlen(argv[1]);
    int status = write(fd, argv[1], len) == (ssize_t)len ? 0 : fail_errno("%s", argv[0]);
    close(fd);
    return status;
}

static int cmd_cmdline(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return cmd_cat(1, (char *[]){"/proc/cmdline"});
}

/* One number of a processor's topology, or -1 on kernels that do not tell. */
static int topology(long cpu, const char *what)
{
    char path[128], line[32];

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%ld/topology/%s", cpu, what);
    return read_line(path, line, sizeof(line)) ? -1 : atoi(line);
}

static int cmd_cpus(int argc, char **argv)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    (void)argc;
    (void)argv;
    printf("online=%ld\n", online);
    for (long i = 0; i < online; i++) {
        if (topology(i, "core_id") >= 0)
            printf("cpu%ld package=%d core=%d\n", i, topology(i, "physical_package_id"),
                   topology(i, "core_id"));
    }
    return 0;
}

static int cmd_mem(int argc, char **argv)
{
    char line[128];

    (void)argc;
    (void)argv;
    if (read_line("/proc/meminfo", line, sizeof(line)))
        return fail_errno("/proc/meminfo");
    printf("total_kib=%lu\n", strtoul(line + strcspn(line, "0123456789"), NULL, 10));
    return 0;
}

/* Writes to every page of N MiB and reads it back: memory that is only claimed shows here. The
   first of these that goes wrong, in words that fit behind "memory: "; NULL = none. */
static const char *use_memory(size_t len)
{
    void *area =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    volatile uint64_t *mem = area;

    if (area == MAP_FAILED)
        return "there is not so much";
    for (size_t i = 0; i < len / 8; i += 512) {
        if (mem[i])
            return "a fresh page is not empty";
        mem[i] = i ^ 0x5aa5;
    }
    for (size_t i = 0; i < len / 8; i += 512) {
        if (mem[i] != (i ^ 0x5aa5))
            return "a page does not hold what was written";
    }
    return NULL;
}

/* In a process of its own: when the guest runs out of memory, that is the one that is killed. */
static int cmd_touch(int argc, char **argv)
{
    uint64_t mib;
    int status;

    (void)argc;
    if (parse_number(argv[0], "MIB", &mib))
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return fail_errno("fork");
    if (pid == 0) {
        const char *wrong = use_memory(mib << 20);
        if (wrong)
            printf("memory: %s\n", wrong);
        fflush(stdout);
        _exit(wrong != NULL);
    }
    if (waitpid(pid, &status, 0) != pid)
        return fail_errno("waitpid");
    if (WIFSIGNALED(status))
        return fail("killed by signal %d", WTERMSIG(status));
    return status ? fail("memory is not what it should be") : 0;
}

static int cmd_random(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/dev/hwrng";
    uint8_t byte;
    uint64_t count;

    if (parse_number(argv[0], "BYTES", &count))
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno("%s", path);
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        if (read(fd, &byte, 1) != 1)
            status = fail_errno("%s after %lu bytes", path, i);
        else
            printf("%02x", byte);
    }
    printf("\n");
    close(fd);
    return status;
}

/* Lines of the kernel's log that contain all of the words, in this order, with a blank between. */
static int cmd_dmesg(int argc, char **argv)
{
    static char log[256 * 1024], text[1024];
    int len = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);
    unsigned count = 0;
    char *rest = log, *line;

    if (len < 0)
        return fail_errno("the kernel's log");
    log[len] = text[0] = '\0';
    for (int i = 0; i < argc; i++) {
        strncat(text, i ? " " : "", sizeof(text) - strlen(text) - 1);
        strncat(text, argv[i], sizeof(text) - strlen(text) - 1);
    }
    while ((line = strsep(&rest, "\n")))
        count += strstr(line, text) != NULL;
    printf("count=%u\n", count);
    return 0;
}

static int cmd_clocksource(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return cmd_cat(1,
                   (char *[]){"/sys/devices/system/clocksource/clocksource0/current_clocksource"});
}

static int cmd_time(int argc, char **argv)
{
    struct timespec real, mono;

    (void)argc;
    (void)argv;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_MONOTONIC, &mono);
    printf("realtime=%ld.%06ld monotonic=%ld.%06ld\n", (long)real.tv_sec, real.tv_nsec / 1000,
           (long)mono.tv_sec, mono.tv_nsec / 1000);
    return 0;
}

static int cmd_sleep(int argc, char **argv)
{
    uint64_t ms;

    (void)argc;
    if (parse_number(argv[0], "MS", &ms))
        return -1;
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
    return 0;
}

/* Numbered lines of 80 bytes: shows a console that drops, doubles or reorders. */
static int cmd_lines(int argc, char **argv)
{
    uint64_t count;

    (void)argc;
    if (parse_number(argv[0], "N", &count))
        return -1;
    for (uint64_t i = 0; i < count; i++)
        printf("line %08lu %.65s\n", i,
               "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz");
    return 0;
}

/* ---- ways to
 * end ------------------------------------------------------------------------------ */

/* Each of these answers OK before it acts: afterwards nobody is left to answer. */
static int leave(unsigned int how)
{
    printf("OK\n");
    fflush(stdout);
    sync();
    reboot((int)how);
    return fail_errno("reboot");
}

static int cmd_reboot(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return leave(RB_AUTOBOOT);
}

static int cmd_poweroff(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return leave(RB_POWER_OFF);
}

/* The kernel ends in a loop of hlt with interrupts off. */
static int cmd_halt(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return leave(RB_HALT_SYSTEM);
}

/* The kernel's "triple" way of rebooting empties the IDT and faults. */
static int cmd_triple(int argc, char **argv)
{
    char cmdline[4096] = "";

    (void)argc;
    (void)argv;
    read_line("/proc/cmdline", cmdline, sizeof(cmdline));
    if (!strstr(cmdline, "reboot=t") && cmd_set(2, (char *[]){"/sys/kernel/reboot/type", "triple"}))
        return fail("this kernel needs reboot=t on its command line for that");
    return leave(RB_AUTOBOOT);
}

/* PID 1 ends, so the kernel panics; what happens then is up to its panic= word. */
static int cmd_crash(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("OK\n");
    fflush(stdout);
    _exit(1);
}

/* With "off", Ctrl-Alt-Del sends us SIGINT, which is ignored; by default the kernel reboots. */
static int cmd_cad(int argc, char **argv)
{
    (void)argc;
    if (reboot(strcmp(argv[0], "off") == 0 ? RB_DISABLE_CAD : (int)RB_ENABLE_CAD))
        return fail_errno("reboot");
    return 0;
}

const struct command system_commands[] = {
    {"cad", 1, 1, cmd_cad, "on|off"},
    {"cat", 1, 1, cmd_cat, "PATH"},
    {"clocksource", 0, 0, cmd_clocksource, ""},
    {"cmdline", 0, 0, cmd_cmdline, ""},
    {"cpus", 0, 0, cmd_cpus, ""},
    {"crash", 0, 0, cmd_crash, ""},
    {"dmesg", 1, 15, cmd_dmesg, "WORD..."},
    {"echo", 0, 15, cmd_echo, "WORD..."},
    {"halt", 0, 0, cmd_halt, ""},
    {"lines", 1, 1, cmd_lines, "N"},
    {"ls", 1, 1, cmd_ls, "PATH"},
    {"mem", 0, 0, cmd_mem, ""},
    {"poweroff", 0, 0, cmd_poweroff, ""},
    {"random", 1, 2, cmd_random, "BYTES [FILE]"},
    {"reboot", 0, 0, cmd_reboot, ""},
    {"set", 2, 2, cmd_set, "PATH WORD"},
    {"sleep", 1, 1, cmd_sleep, "MS"},
    {"time", 0, 0, cmd_time, ""},
    {"touch", 1, 1, cmd_touch, "MIB"},
    {"triple", 0, 0, cmd_triple, ""},
    {0},
};
