/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clones: how long it takes until clones of a tiny guest run, and what each of them holds. The
 * guest writes to its serial port for ever, so its first byte shows that it runs.
 *
 *     clones template DIR ELF MONITOR [OPTION]...
 *         snapshots the guest of ELF (128 MiB) into DIR/s.state and DIR/s.mem
 *     clones load N WAIT_US DIR MONITOR [OPTION]...
 *         N loads, one after the other, each asked for so long after its process listens: a line
 * with the milliseconds from the request to the guest's first byte and from exec to it clones poke
 * N WAIT_US COMMAND... the same of a command that begins when it reads a byte: the floor of a
 * prepared process clones many N AT_ONCE DIR MONITOR [OPTION]... N processes that load it, started
 * so many at a time, each stopped at its guest's first byte: all MS                 until the last
 * guest's first byte dirty KIB              private dirty memory of each clones floor N AT_ONCE
 * COMMAND... the same for a command that runs such a guest by itself clones account N AT_ONCE DIR
 * MONITOR [OPTION]... N clones as above that are then let go, all at once, until each has written
 * again: KIND KIB               private pages of all of them, by what is mapped there rollup KIB
 * the kernel's own sum of them host KIB               by how much less memory the host has left
 */

#include "client.h"

#include <pthread.h>

#define CLONES_MAX  1000
#define THREADS_MAX 64
#define GUEST_MIB   128
#define PIPE_SIZE   4096

struct clone {
    pid_t pid;
    int out; /* what its guest writes */
};

static struct clone clones[CLONES_MAX];
static atomic_int next_clone;
static int clone_count;
static const char *dir; /* NULL for a command that is no monitor */
static char *const *command;

static int number(const char *text, int most)
{
    int n = atoi(text);

    if (n < 0 || n > most)
        errx(64, "%s: a number from 0 to %d is wanted", text, most);
    return n;
}

static void await_byte(struct clone *clone)
{
    char byte;

    if (read(clone->out, &byte, 1) != 1)
        errx(1, "a guest ended instead of running");
}

/* A process whose guest writes into a small pipe of ours. */
static void start_clone(struct clone *clone, const char *socket_path, int *in)
{
    int out[2];

    if (pipe2(out, O_CLOEXEC))
        err(1, "pipe");
    fcntl(out[1], F_SETPIPE_SZ, PIPE_SIZE);
    clone->pid = start(command, socket_path, in, out[1]);
    clone->out = out[0];
    close(out[1]);
}

static void ask_for_load(int api)
{
    ask(api, "PUT", "/snapshot/load",
        "{\"snapshot_path\":\"%s/s.state\",\"mem_backend\":{\"backend_path\":\"%s/s.mem\","
        "\"backend_type\":\"File\"},\"resume_vm\":true}",
        dir, dir);
}

static void end_clone(struct clone *clone)
{
    stop(clone->pid);
    close(clone->out);
}

/* ---- one after the other --------------------------------------------------------------------- */

static void make_template(char **argv)
{
    char path[100];
    struct clone clone;

    dir = argv[0];
    command = argv + 2;
    snprintf(path, sizeof(path), "%s/template.sock", dir);
    start_clone(&clone, path, NULL);
    int api = connect_soon(path);
    ask(api, "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":%d}", GUEST_MIB);
    ask(api, "PUT", "/boot-source", "{\"kernel_image_path\":\"%s\"}", argv[1]);
    ask(api, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
    await_byte(&clone);
    ask_state(api, "Paused");
    ask(api, "PUT", "/snapshot/create",
        "{\"snapshot_type\":\"Full\",\"snapshot_path\":\"%s/s.state\",\"mem_file_path\":\"%s/"
        "s.mem\"}",
        dir, dir);
    close(api);
    end_clone(&clone);
    unlink(path);
}

static void load_one(useconds_t wait_us)
{
    char path[100];
    struct clone clone;

    snprintf(path, sizeof(path), "%s/one.sock", dir);
    double exec = now_ms();
    start_clone(&clone, path, NULL);
    int api = connect_soon(path);
    if (wait_us)
        usleep(wait_us);
    double call = now_ms();
    ask_for_load(api);
    await_byte(&clone);
    double byte = now_ms();
    printf("%.3f %.3f\n", byte - call, byte - exec);
    close(api);
    end_clone(&clone);
    unlink(path);
}

static void load(char **argv)
{
    dir = argv[2];
    command = argv + 3;
    for (int i = number(argv[0], CLONES_MAX); i; i--)
        load_one((useconds_t)number(argv[1], 1000000));
}

static void poke(char **argv)
{
    int in[2];
    struct clone clone;

    command = argv + 2;
    for (int i = number(argv[0], CLONES_MAX); i; i--) {
        if (pipe2(in, O_CLOEXEC))
            err(1, "pipe");
        double exec = now_ms();
        start_clone(&clone, NULL, &in[0]);
        usleep((useconds_t)number(argv[1], 1000000));
        double call = now_ms();
        if (write(in[1], "x", 1) != 1)
            err(1, "poking");
        await_byte(&clone);
        double byte = now_ms();
        printf("%.3f %.3f\n", byte - call, byte - exec);
        end_clone(&clone);
        close(in[0]);
        close(in[1]);
    }
}

/* ---- many at once ---------------------------------------------------------------------------- */

static void start_and_stop(int i)
{
    char path[100];

    snprintf(path, sizeof(path), "%s/%d.sock", dir ? dir : "", i);
    start_clone(&clones[i], dir ? path : NULL, NULL);
    if (dir) {
        int api = connect_soon(path);

        ask_for_load(api);
        close(api);
        unlink(path);
    }
    await_byte(&clones[i]);
    kill(clones[i].pid, SIGSTOP);
}

static void *start_some(void *unused)
{
    int i;

    while ((i = atomic_fetch_add(&next_clone, 1)) < clone_count)
        start_and_stop(i);
    return unused;
}

/* Returns the milliseconds until all have run and been stopped. */
static double start_all(const char *count, const char *at_once)
{
    pthread_t threads[THREADS_MAX];
    int thread_count = number(at_once, THREADS_MAX);

    clone_count = number(count, CLONES_MAX);
    double begin = now_ms();
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, start_some, NULL))
            errx(1, "no thread");
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    return now_ms() - begin;
}

/* All are killed before the first is waited for: their ends take time, but not each its own. */
static void end_all(void)
{
    for (int i = 0; i < clone_count; i++)
        kill(clones[i].pid, SIGKILL);
    for (int i = 0; i < clone_count; i++)
        end_clone(&clones[i]);
}

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    FILE *f = fopen(path, "re");
    if (!f)
        err(1, "%s", path);
    return f;
}

static long rollup_kib(pid_t pid)
{
    char line[512];
    long kib = -1;
    FILE *f = open_proc(pid, "smaps_rollup");

    while (fgets(line, sizeof(line), f))
        sscanf(line, "Private_Dirty: %ld", &kib);
    fclose(f);
    return kib;
}

static long rollup_all_kib(void)
{
    long kib = 0;

    for (int i = 0; i < clone_count; i++)
        kib += rollup_kib(clones[i].pid);
    return kib;
}

static void report_many(double took)
{
    printf("all %.3f\n", took);
    printf("dirty %.1f\n", (double)rollup_all_kib() / clone_count);
    end_all();
}

static void many(char **argv)
{
    dir = argv[2];
    command = argv + 3;
    report_many(start_all(argv[0], argv[1]));
}

static void many_floors(char **argv)
{
    command = argv + 2;
    report_many(start_all(argv[0], argv[1]));
}

/* ---- whose pages they are -------------------------------------------------------------------- */

enum kind { GUEST, PROGRAM, HEAP, STACK, KVM, RING, ANONYMOUS, KINDS };

static const char *const kind_names[KINDS] = {"guest",           "program", "heap",     "stack",
                                              "KVM's vCPU page", "ring",    "anonymous"};

/* What a line of smaps that begins a mapping is about; its name is what follows the inode. */
static enum kind kind_of(const char *line)
{
    const char *name = strpbrk(line, "/[");

    if (!name)
        return ANONYMOUS;
    if (strstr(name, "/s.mem"))
        return GUEST;
    if (strstr(name, "[heap]"))
        return HEAP;
    if (strstr(name, "[stack]"))
        return STACK;
    if (strstr(name, "kvm"))
        return KVM;
    return strstr(name, "io_uring") ? RING : PROGRAM;
}

static void add_pages(pid_t pid, long kib[KINDS])
{
    char line[512];
    unsigned long from, to;
    long dirty;
    enum kind kind = ANONYMOUS;
    FILE *f = open_proc(pid, "smaps");

    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            kind = kind_of(line);
        else if (sscanf(line, "Private_Dirty: %ld", &dirty) == 1)
            kib[kind] += dirty;
    }
    fclose(f);
}

/* Lets all go until each guest has written something new, and stops them again. */
static void run_all(void)
{
    static char old[PIPE_SIZE];

    for (int i = 0; i < clone_count; i++) {
        fcntl(clones[i].out, F_SETFL, O_NONBLOCK);
        while (read(clones[i].out, old, sizeof(old)) > 0)
            ;
        fcntl(clones[i].out, F_SETFL, 0);
    }
    for (int i = 0; i < clone_count; i++)
        kill(clones[i].pid, SIGCONT);
    for (int i = 0; i < clone_count; i++)
        await_byte(&clones[i]);
    for (int i = 0; i < clone_count; i++)
        kill(clones[i].pid, SIGSTOP);
}

static void account(char **argv)
{
    long kib[KINDS] = {0};

    dir = argv[2];
    command = argv + 3;
    start_all(argv[0], argv[1]);
    run_all();
    for (int i = 0; i < clone_count; i++)
        add_pages(clones[i].pid, kib);
    for (int i = 0; i < KINDS; i++)
        printf("%s %ld\n", kind_names[i], kib[i]);
    printf("rollup %ld\n", rollup_all_kib());
    end_all();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int arguments;
        void (*run)(char **argv);
    } modes[] = {{"template", 3, make_template},
                 {"load", 4, load},
                 {"poke", 3, poke},
                 {"many", 4, many},
                 {"floor", 3, many_floors},
                 {"account", 4, account}};

    for (size_t i = 0; argc >= 2 && i < sizeof(modes) / sizeof(*modes); i++) {
        if (strcmp(argv[1], modes[i].name) == 0 && argc >= 2 + modes[i].arguments) {
            modes[i].run(argv + 2);
            return 0;
        }
    }
    errx(64, "usage: clones template DIR ELF MONITOR..., load N WAIT_US DIR MONITOR..., "
             "poke N WAIT_US COMMAND..., many|account N AT_ONCE DIR MONITOR..., "
             "floor N AT_ONCE COMMAND...");
}
