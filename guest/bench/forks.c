/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forks: what a fork of a running guest costs it, and when the child runs.
 *
 *     forks huge|small N MIB DIR ELF MONITOR [OPTION]...
 *         boots ELF with tiny=ticks, which has written to MIB of memory, and forks it N times, one
 * after the other; before each the guest writes to all of its memory again. A line each: huge KIB
 * of the guest's memory in huge pages, before the first fork STOPPED CHILD WRITES    milliseconds
 * for which the parent's guest did not run, as it saw that itself; from the request to the child's
 * first byte; and which the parent's next 8 MiB of writes took forks floor N MIB ELF the same by a
 * program of bare ioctls, with nothing to tell the parent to stop
 *
 * With THP=0 in the environment no process gets transparent huge pages.
 */

#include "client.h"
#include "vm.h"

#include <poll.h>
#include <x86intrin.h>

#include <sys/prctl.h>

#define FIRST_MIB  16 /* that the guest needs for itself, below what it touches */
#define SPARE_MIB  8
#define CALM_US    30000
#define TSC_WAIT   50000
#define LINE_MAX_  256
#define OUTPUT_MAX (1 << 16)

static double cycles_per_ms;
static char cmdline[100];
static int mib, huge;

static void measure_tsc(void)
{
    double begin = now_ms();
    unsigned long long cycles = __rdtsc();

    usleep(TSC_WAIT);
    cycles = __rdtsc() - cycles;
    cycles_per_ms = (double)cycles / (now_ms() - begin);
}

/* ---- a guest behind a monitor ---------------------------------------------------------------- */

struct parent {
    pid_t pid;
    int api, keyboard, console;
};

/* A FIFO that a monitor writes to, open at our end first. */
static int new_console(const char *path)
{
    unlink(path);
    if (mkfifo(path, 0600))
        err(1, "%s", path);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

static void await_output(int console)
{
    struct pollfd poll_fd = {.fd = console, .events = POLLIN};

    if (poll(&poll_fd, 1, (int)PATIENCE_MS) != 1 || !(poll_fd.revents & POLLIN))
        errx(1, "the guest says nothing");
}

/* Until the child has said something; the monitor may answer before, if it refuses. */
static void await_child(int api, int console, char *answer, size_t size)
{
    struct pollfd poll_fds[] = {{.fd = console, .events = POLLIN}, {.fd = api, .events = POLLIN}};

    if (poll(poll_fds, 2, (int)PATIENCE_MS) < 1)
        errx(1, "neither a child nor an answer");
    if ((poll_fds[1].revents & POLLIN) && read_answer(api, answer, size) >= 300)
        errx(1, "%s", answer);
    await_output(console);
}

/* Reads, between dots, the number after `word`, or 0 if none is there. */
static unsigned long long await_word(int console, const char *word)
{
    static char line[LINE_MAX_];
    size_t len = 0;
    char bytes[OUTPUT_MAX / 16];

    for (;;) {
        await_output(console);
        ssize_t n = read(console, bytes, sizeof(bytes));
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] != '\n') {
                if (bytes[i] != '.' && len < sizeof(line) - 1)
                    line[len++] = bytes[i];
                continue;
            }
            line[len] = '\0';
            len = 0;
            if (strncmp(line, word, strlen(word)) == 0)
                return strtoull(line + strlen(word), NULL, 10);
        }
    }
}

static unsigned long long command(const struct parent *parent, char letter, const char *word)
{
    if (write(parent->keyboard, &letter, 1) != 1)
        err(1, "typing");
    return await_word(parent->console, word);
}

static long huge_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0, all = 0;

    snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        err(1, "%s", path);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "AnonHugePages: %ld", &kib) == 1)
            all += kib;
    fclose(f);
    return all;
}

static void start_parent(struct parent *parent, const char *dir, const char *elf,
                         char *const *monitor)
{
    char api[100], console[100];
    int keyboard[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    snprintf(api, sizeof(api), "%s/parent.sock", dir);
    snprintf(console, sizeof(console), "%s/parent.console", dir);
    if (pipe2(keyboard, O_CLOEXEC))
        err(1, "pipe");
    parent->console = new_console(console);
    parent->keyboard = keyboard[1];
    parent->pid = start(monitor, api, &keyboard[0], null);
    parent->api = connect_soon(api);
    ask(parent->api, "PUT", "/machine-config",
        "{\"vcpu_count\":1,\"mem_size_mib\":%d,\"huge_pages\":\"%s\"}", FIRST_MIB + mib + SPARE_MIB,
        huge ? "Transparent" : "None");
    ask(parent->api, "PUT", "/boot-source", "{\"kernel_image_path\":\"%s\",\"boot_args\":\"%s\"}",
        elf, cmdline);
    ask(parent->api, "PUT", "/serial", "{\"serial_out_path\":\"%s\"}", console);
    ask(parent->api, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
    await_word(parent->console, "READY");
}

static pid_t child_of(const char *answer)
{
    const char *number = strstr(answer, "\"pid\":");
    pid_t pid = number ? atoi(number + 6) : 0;

    if (pid <= 0)
        errx(1, "no pid in %s", answer);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    for (double begin = now_ms(); kill(pid, 0) == 0; usleep(1000))
        if (now_ms() - begin > PATIENCE_MS)
            errx(1, "a child does not end");
    forget(pid);
}

static void fork_parent(const struct parent *parent, const char *dir)
{
    static char request[1024], body[512], answer[4096];
    char api_path[100], console_path[100];

    snprintf(api_path, sizeof(api_path), "%s/child.sock", dir);
    snprintf(console_path, sizeof(console_path), "%s/child.console", dir);
    unlink(api_path);
    int console = new_console(console_path);
    int len = snprintf(body, sizeof(body),
                       "{\"children\":[{\"api_sock\":\"%s\",\"serial_out_path\":\"%s\"}]}",
                       api_path, console_path);
    len = snprintf(request, sizeof(request),
                   "PUT /snapshot/fork HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
                   len, body);
    *answer = '\0';
    command(parent, 'a', "ALL");
    usleep(CALM_US);
    command(parent, 'g', "GAP ");

    double begin = now_ms();
    if (write(parent->api, request, (size_t)len) != len)
        err(1, "asking for a fork");
    await_child(parent->api, console, answer, sizeof(answer));
    double child = now_ms() - begin;
    if (!*answer && read_answer(parent->api, answer, sizeof(answer)) >= 300)
        errx(1, "%s", answer);
    pid_t pid = child_of(answer);
    remember(pid);
    kill(pid, SIGSTOP); /* what follows is the parent's, on a keyboard that the child shares */
    double writes = (double)command(parent, 'w', "WRITES ") / cycles_per_ms;
    double stopped = (double)command(parent, 'g', "GAP ") / cycles_per_ms;
    printf("fork %.3f %.3f %.3f\n", stopped, child, writes);
    fflush(stdout);
    end_child(pid);
    close(console);
}

static void measure_monitor(char **argv)
{
    struct parent parent;

    start_parent(&parent, argv[2], argv[3], argv + 4);
    printf("huge %ld\n", huge_kib(parent.pid));
    for (int i = atoi(argv[0]); i; i--)
        fork_parent(&parent, argv[2]);
    stop(parent.pid);
}

/* ---- the same with nothing around it --------------------------------------------------------- */

struct msrs {
    struct kvm_msrs head;
    struct kvm_msr_entry tsc;
};

#define MSR_TSC 0x10

static struct cpuid cpuid = {.head.nent = 256};

static void finish_vm(struct vm *vm)
{
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
        err(1, "KVM_CREATE_IRQCHIP");
    vm_create_vcpu(vm);
    if (ioctl(vm->vcpu, KVM_SET_CPUID2, &cpuid))
        err(1, "KVM_SET_CPUID2");
}

static const char *typed = ""; /* what the guest has still to receive */

/* Runs the guest until it has sent a byte, which is returned. */
static char run_to_byte(struct vm *vm)
{
    for (;;) {
        if (ioctl(vm->vcpu, KVM_RUN, 0))
            err(1, "KVM_RUN");
        if (vm->run->exit_reason != KVM_EXIT_IO)
            errx(2, "exit reason %u", vm->run->exit_reason);
        char *data = (char *)vm->run + vm->run->io.data_offset;
        if (vm->run->io.direction == KVM_EXIT_IO_OUT && vm->run->io.port == PORT_SERIAL)
            return *data;
        if (vm->run->io.direction == KVM_EXIT_IO_OUT)
            continue;
        *data = *typed ? 1 : 0;
        if (vm->run->io.port == PORT_SERIAL)
            *data = *typed ? *typed++ : 0;
    }
}

static unsigned long long run_to_word(struct vm *vm, const char *letters, const char *word)
{
    char line[LINE_MAX_];
    size_t len = 0;

    for (typed = letters;;) {
        char byte = run_to_byte(vm);
        if (byte != '\n') {
            if (byte != '.' && len < sizeof(line) - 1)
                line[len++] = byte;
            continue;
        }
        line[len] = '\0';
        len = 0;
        if (strncmp(line, word, strlen(word)) == 0)
            return strtoull(line + strlen(word), NULL, 10);
    }
}

/* The child: a VM of its own over the memory that it has inherited. Sends the time of its guest's
   first byte and stays until it is killed, so that the memory stays shared. */
static void run_child(const struct vm *parent, const struct kvm_regs *regs,
                      const struct kvm_sregs *sregs, const struct msrs *msrs, int report)
{
    struct vm vm = *parent;

    vm_create_over(&vm);
    finish_vm(&vm);
    if (ioctl(vm.vcpu, KVM_SET_SREGS, sregs) || ioctl(vm.vcpu, KVM_SET_REGS, regs) ||
        ioctl(vm.vcpu, KVM_SET_MSRS, msrs) != 1)
        err(1, "the child's state");
    run_to_byte(&vm);
    double byte = now_ms();
    if (write(report, &byte, sizeof(byte)) != sizeof(byte))
        err(1, "reporting");
    for (;;)
        pause();
}

static void fork_bare(struct vm *vm)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct msrs msrs = {.head.nmsrs = 1, .tsc.index = MSR_TSC};
    int report[2];
    double byte;

    if (pipe2(report, O_CLOEXEC | O_NONBLOCK))
        err(1, "pipe");
    run_to_word(vm, "a", "ALL");
    for (double begin = now_ms(); now_ms() - begin < CALM_US / 1e3;)
        run_to_byte(vm);

    double begin = now_ms();
    vm->run->immediate_exit = 1; /* so that the output instruction is behind it */
    if (ioctl(vm->vcpu, KVM_RUN, 0) == 0 || errno != EINTR)
        errx(1, "KVM_RUN did not stop");
    vm->run->immediate_exit = 0;
    if (ioctl(vm->vcpu, KVM_GET_REGS, &regs) || ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) ||
        ioctl(vm->vcpu, KVM_GET_MSRS, &msrs) != 1)
        err(1, "the parent's state");
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (pid == 0)
        run_child(vm, &regs, &sregs, &msrs, report[1]);
    double stopped = now_ms() - begin;
    while (read(report[0], &byte, sizeof(byte)) != sizeof(byte))
        run_to_byte(vm);
    double writes = (double)run_to_word(vm, "w", "WRITES ") / cycles_per_ms;
    printf("fork %.3f %.3f %.3f\n", stopped, byte - begin, writes);
    fflush(stdout);
    stop(pid);
    close(report[0]);
    close(report[1]);
}

static void measure_floor(char **argv)
{
    struct vm vm;

    vm_create(&vm, (size_t)(FIRST_MIB + mib + SPARE_MIB) << 20);
    if (huge)
        madvise(vm.mem, vm.mem_size, MADV_HUGEPAGE);
    if (ioctl(vm.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid))
        err(1, "KVM_GET_SUPPORTED_CPUID");
    finish_vm(&vm);
    uint64_t entry = vm_load_elf(&vm, argv[2]);
    vm_zero_page(&vm, cmdline);
    vm_set_entry(&vm, entry);
    run_to_word(&vm, "", "READY");
    for (int i = atoi(argv[0]); i; i--)
        fork_bare(&vm);
}

int main(int argc, char **argv)
{
    int floor = argc > 2 && strcmp(argv[2], "floor") == 0;

    if (argc < (floor ? 6 : 7))
        errx(64, "usage: forks huge|small N MIB DIR ELF MONITOR [OPTION]..., "
                 "forks huge|small floor N MIB ELF");
    huge = strcmp(argv[1], "huge") == 0;
    argv += 2 + floor;
    mib = atoi(argv[1]);
    snprintf(cmdline, sizeof(cmdline), "tiny=ticks mib=%d", mib);
    if (!huge && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
        err(1, "PR_SET_THP_DISABLE");
    measure_tsc();
    if (floor)
        measure_floor(argv);
    else
        measure_monitor(argv);
    return 0;
}
