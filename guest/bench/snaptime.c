/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snaptime: what snapshots of a Linux guest cost, from the side of whoever asks for them. The guest
 * is bench-init's vsock part; it has answered when a new connection has brought a byte back. Times
 * are milliseconds of CLOCK_MONOTONIC, in the lab virtual ones.
 *
 *     snaptime template DIR KERNEL INITRD MONITOR [OPTION]...
 *         boots a guest of 128 MiB and snapshots it into DIR/s.state and DIR/s.mem:
 *             warm MS            the fastest of twenty connections
 *             full MS            the create call of a Full, the guest paused before
 *     snaptime diff DIR KERNEL INITRD MONITOR [OPTION]...
 *         does that and goes on:
 *             diff MS MIB        pause, create and resume, of an idle guest; MiB in its file
 *             diff-touched MS MIB     the same after the guest has written to 8 MiB
 *     snaptime background DIR KERNEL INITRD MONITOR [OPTION]...
 *         the same with the files being written behind the guest, five times:
 *             full MS            pause, create and resume
 *             diff MS MIB        the same of a Diff of an idle guest
 *     snaptime load DIR RUNS MEMBERS MONITOR [OPTION]...
 *         loads that snapshot RUNS times in a process that has waited for the request and RUNS
 * times in one that has not; MEMBERS is more JSON for the request. With DROP=1 in the environment
 *         the page cache is dropped before each.
 *             waiting CALL ANSWER SECOND    the call; from it to the first answer; the next one
 *             fresh CALL ANSWER SECOND      the same, with ANSWER counted from exec
 *
 *     snaptime record DIR FILE MONITOR [OPTION]...
 *         loads it once while its working set is recorded into FILE, until the guest has answered:
 *             touched PAGES          of the guest's memory that are mapped then
 *     snaptime prefetched DIR FILE MONITOR [OPTION]...
 *         loads it with that working set, from an empty page cache, and lets nothing run:
 *             prefetched PAGES       of the memory file that are in the page cache a little later
 *
 * The sequence of these steps is part of the definition of the recorded figures.
 */

#include "client.h"

#include <stdint.h>

#include <sys/mman.h>
#include <sys/stat.h>

#define GUEST_PORT        5000
#define GUEST_MIB         128
#define TOUCHED_MIB       8
#define WARM_ROUNDS       20
#define BACKGROUND_ROUNDS 5
#define SETTLE_US         100000
#define BOOT_POLL_US      2000

#define PAGE_SIZE_      4096UL
#define PAGEMAP_PRESENT 63

#define BOOT_ARGS                                                                                  \
    "console=ttyS0 quiet reboot=k panic=-1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.nopnp "   \
    "i8042.dumbkbd bench=vsock"

static char api_path[100], vsock_path[100];
static const char *dir;

/* ---- the guest ------------------------------------------------------------------------------- */

/* A stream to the guest; -1 while nobody in it listens. */
static int connect_guest(void)
{
    int fd = connect_soon(vsock_path);
    char line[64];
    size_t len = 0;

    dprintf(fd, "CONNECT %d\n", GUEST_PORT);
    while (len < sizeof(line) - 1 && read(fd, line + len, 1) == 1 && line[len++] != '\n')
        ;
    if (len >= 2 && line[0] == 'O')
        return fd;
    close(fd);
    return -1;
}

/* Sends the guest a wish and its argument, and waits for a byte in return; 0, or -1 without one. */
static int wish(char service, char argument)
{
    int fd = connect_guest();
    char words[2] = {service, argument}, byte;

    if (fd < 0)
        return -1;
    ssize_t n = write(fd, words, sizeof(words)) == sizeof(words) ? read(fd, &byte, 1) : 0;
    close(fd);
    return n == 1 ? 0 : -1;
}

static void answer(void)
{
    if (wish('e', 'x'))
        errx(1, "the guest does not answer");
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static pid_t start_monitor(char *const *command)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t pid;

    unlink(vsock_path);
    pid = start(command, api_path, NULL, null);
    close(null);
    return pid;
}

/* A monitor whose guest answers, and the connection to it. */
static pid_t boot(char *const *command, const char *kernel, const char *initrd, int *api)
{
    pid_t pid = start_monitor(command);

    *api = connect_soon(api_path);
    ask(*api, "PUT", "/boot-source",
        "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\",\"boot_args\":\"" BOOT_ARGS "\"}",
        kernel, initrd);
    ask(*api, "PUT", "/machine-config",
        "{\"vcpu_count\":1,\"mem_size_mib\":%d,\"track_dirty_pages\":true}", GUEST_MIB);
    ask(*api, "PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", vsock_path);
    ask(*api, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
    for (double begin = now_ms(); wish('e', 'x'); usleep(BOOT_POLL_US))
        if (now_ms() - begin > PATIENCE_MS)
            errx(1, "the guest does not come up");
    return pid;
}

static void warm_up(void)
{
    double fastest = PATIENCE_MS;

    for (int i = 0; i < WARM_ROUNDS; i++) {
        double begin = now_ms();
        answer();
        double took = now_ms() - begin;
        if (took < fastest)
            fastest = took;
    }
    printf("warm %.3f\n", fastest);
}

/* The create call, of a guest that is paused. */
static double create(int api, const char *type, const char *name, const char *members)
{
    double begin = now_ms();

    ask(api, "PUT", "/snapshot/create",
        "{\"snapshot_type\":\"%s\",\"snapshot_path\":\"%s/%s.state\",\"mem_file_path\":\"%s/"
        "%s.mem\"%s}",
        type, dir, name, dir, name, members);
    return now_ms() - begin;
}

/* From the pause to the end of the resumption. */
static double create_stopped(int api, const char *type, const char *name, const char *members)
{
    double begin = now_ms();

    ask_state(api, "Paused");
    create(api, type, name, members);
    ask_state(api, "Resumed");
    return now_ms() - begin;
}

/* The end of a background create: the next may be asked for. */
static void await_writer(int api)
{
    for (double begin = now_ms();
         strstr(ask(api, "GET", "/snapshot/background", "%s", ""), "Writing"); usleep(BOOT_POLL_US))
        if (now_ms() - begin > PATIENCE_MS)
            errx(1, "a snapshot in the background does not end");
}

/* Into a new file: into one that is there it would be merged. */
static void measure_diff(int api, const char *words, const char *members)
{
    char path[200];
    struct stat st;

    snprintf(path, sizeof(path), "%s/d.mem", dir);
    unlink(path);
    double took = create_stopped(api, "Diff", "d", members);
    if (*members)
        await_writer(api);
    if (stat(path, &st))
        err(1, "%s", path);
    printf("%s %.3f %.3f\n", words, took, (double)st.st_blocks * 512 / (1 << 20));
}

static pid_t boot_and_save(char **argv, int *api)
{
    pid_t pid = boot(argv + 3, argv[1], argv[2], api);

    warm_up();
    ask_state(*api, "Paused");
    printf("full %.3f\n", create(*api, "Full", "s", ""));
    return pid;
}

static void make_template(char **argv)
{
    int api;

    stop(boot_and_save(argv, &api));
}

static void make_diffs(char **argv)
{
    int api;
    pid_t pid = boot_and_save(argv, &api);

    ask_state(api, "Resumed");
    answer();
    measure_diff(api, "diff", "");
    if (wish('t', TOUCHED_MIB))
        errx(1, "the guest cannot touch its memory");
    measure_diff(api, "diff-touched", "");
    stop(pid);
}

static void make_in_background(char **argv)
{
    int api;
    pid_t pid = boot(argv + 3, argv[1], argv[2], &api);

    for (int i = 0; i < BACKGROUND_ROUNDS; i++) {
        printf("full %.3f\n", create_stopped(api, "Full", "b", ",\"background\":true"));
        await_writer(api);
        answer();
        measure_diff(api, "diff", ",\"background\":true");
        answer();
    }
    stop(pid);
}

/* ---- loads ----------------------------------------------------------------------------------- */

static void drop_page_cache(void)
{
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "3", 1) != 1)
        err(1, "dropping the page cache");
    close(fd);
}

static void ask_for_load(int api, const char *resume, const char *members)
{
    ask(api, "PUT", "/snapshot/load",
        "{\"snapshot_path\":\"%s/s.state\",\"mem_backend\":{\"backend_path\":\"%s/s.mem\","
        "\"backend_type\":\"File\"},\"resume_vm\":%s%s}",
        dir, dir, resume, members);
}

static void load(char *const *command, const char *members, int waiting)
{
    double exec = now_ms();
    pid_t pid = start_monitor(command);
    int api = connect_soon(api_path);

    if (waiting)
        usleep(WAITING_US);
    if (waiting && getenv("DROP"))
        drop_page_cache();
    double call = now_ms();
    ask_for_load(api, "true", members);
    double called = now_ms();
    answer();
    double answered = now_ms();
    answer();
    printf("%s %.3f %.3f %.3f\n", waiting ? "waiting" : "fresh", called - call,
           answered - (waiting ? call : exec), now_ms() - answered);
    if (strstr(members, "record_working_set")) /* which is written at the first pause */
        ask(api, "PATCH", "/vm", "{\"state\":\"Paused\"}");
    close(api);
    stop(pid);
}

static void load_all(char **argv)
{
    for (int i = 0; i < atoi(argv[1]); i++)
        load(argv + 3, argv[2], 1);
    for (int i = 0; i < atoi(argv[1]); i++) {
        if (getenv("DROP"))
            drop_page_cache();
        load(argv + 3, argv[2], 0);
    }
}

/* ---- working sets ---------------------------------------------------------------------------- */

static size_t mapped_pages(int pagemap, unsigned long from, unsigned long to)
{
    size_t mapped = 0;
    uint64_t entry;

    for (unsigned long at = from; at < to; at += PAGE_SIZE_)
        if (pread(pagemap, &entry, sizeof(entry), (off_t)(at / PAGE_SIZE_ * sizeof(entry))) ==
            sizeof(entry))
            mapped += entry >> PAGEMAP_PRESENT & 1;
    return mapped;
}

/* Pages of the memory file, or of copies of them, that the process has mapped. */
static size_t guest_pages(pid_t pid)
{
    char path[64], line[512];
    unsigned long from, to;
    size_t pages = 0;

    snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    if (pagemap < 0 || !maps)
        err(1, "%s", path);
    while (fgets(line, sizeof(line), maps))
        if (strstr(line, "/s.mem") && sscanf(line, "%lx-%lx", &from, &to) == 2)
            pages += mapped_pages(pagemap, from, to);
    fclose(maps);
    close(pagemap);
    return pages;
}

/* Loads with a working set's file for this member. */
static pid_t load_with(char **argv, const char *member, const char *resume, int *api)
{
    char members[200];
    pid_t pid = start_monitor(argv + 2);

    *api = connect_soon(api_path);
    snprintf(members, sizeof(members), ",\"%s\":\"%s\"", member, argv[1]);
    ask_for_load(*api, resume, members);
    return pid;
}

static void record(char **argv)
{
    int api;
    pid_t pid = load_with(argv, "record_working_set", "true", &api);

    answer();
    ask_state(api, "Paused");
    printf("touched %zu\n", guest_pages(pid));
    stop(pid);
}

static size_t cached_pages(void)
{
    static unsigned char resident[GUEST_MIB * 256];
    char path[200];
    size_t pages = 0;

    snprintf(path, sizeof(path), "%s/s.mem", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, (size_t)GUEST_MIB << 20, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || map == MAP_FAILED || mincore(map, (size_t)GUEST_MIB << 20, resident))
        err(1, "%s", path);
    for (size_t i = 0; i < sizeof(resident); i++)
        pages += resident[i] & 1;
    munmap(map, (size_t)GUEST_MIB << 20);
    close(fd);
    return pages;
}

static void prefetch(char **argv)
{
    int api;

    drop_page_cache();
    pid_t pid = load_with(argv, "prefetch", "false", &api);
    usleep(SETTLE_US);
    printf("prefetched %zu\n", cached_pages());
    stop(pid);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int arguments;
        void (*run)(char **argv);
    } modes[] = {{"template", 4, make_template},
                 {"diff", 4, make_diffs},
                 {"background", 4, make_in_background},
                 {"load", 4, load_all},
                 {"record", 3, record},
                 {"prefetched", 3, prefetch}};

    for (size_t i = 0; argc >= 3 && i < sizeof(modes) / sizeof(*modes); i++) {
        if (strcmp(argv[1], modes[i].name) != 0 || argc < 2 + modes[i].arguments)
            continue;
        dir = argv[2];
        snprintf(api_path, sizeof(api_path), "%s/api.sock", dir);
        snprintf(vsock_path, sizeof(vsock_path), "%s/v.sock", dir);
        modes[i].run(argv + 2);
        return 0;
    }
    errx(64, "usage: snaptime template|diff|background DIR KERNEL INITRD MONITOR [OPTION]..., "
             "snaptime load DIR RUNS MEMBERS MONITOR [OPTION]..., "
             "snaptime record|prefetched DIR FILE MONITOR [OPTION]...");
}
