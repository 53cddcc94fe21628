/* SPDX-License-Identifier: Apache-2.0 */
/* All the ways a microVM and its monitor end, and what does not end them. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/clock.h"

#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

E2E(reset_by_the_keyboard_controller_ends_with_exit_code_0, TINY | INTEL | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_RESET), "x");
    vm_exits(vm, 0);
    CHECK_HAS(vm_out(vm), "M\n");
}

E2E(triple_fault_ends_with_exit_code_1_and_a_sentence, TINY | INTEL | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_TRIPLE), "x");
    vm_exits(vm, 1);
    CHECK_HAS(vm_out(vm), "M\n");
    CHECK_HAS(vm_log(vm), "triple fault");
}

E2E(an_instruction_that_kvm_cannot_run_ends_with_exit_code_1_and_a_sentence, TINY | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_ASTRAY), "x");
    vm_exits(vm, 1);
    CHECK_HAS(vm_out(vm), "M\n");
    CHECK_HAS(vm_log(vm), "KVM failed internally on vCPU 0: suberror 1, an instruction that it");
}

E2E(guest_that_halts_for_ever_stays_running_and_the_api_answers, TINY | INTEL)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_HALT), "x");
    vm_expect(vm, "M\n");
    clock_sleep(300);
    CHECK(!strcmp(vm_state(vm), "Running"));
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    CHECK(!strcmp(vm_state(vm), "Paused"));
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    CHECK(!strcmp(vm_state(vm), "Running"));
}

E2E(config_file_without_api_runs_the_guest_to_its_end, TINY | INTEL)
{
    const char *config = e2e_path("config.json");
    FILE *f = fopen(config, "w");
    fprintf(f,
            "{\"boot-source\":{\"kernel_image_path\":\"%s\",\"boot_args\":\"x\"},\"drives\":[],"
            "\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":32}}",
            bare_guest(BARE_RESET));
    fclose(f);
    const char *args[] = {"--no-api", "--config-file", config, NULL};
    struct vm *vm = vm_spawn((struct monitor_spec){
        .args = args, .no_socket = true, .out = PROCESS_PIPE, .err = PROCESS_PIPE});
    vm_exits(vm, 0);
    CHECK_HAS(vm_out(vm), "M\n");
}

/* A running guest and metrics; returns the monitor. */
static struct vm *running_with_metrics(const char *metrics)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/metrics", "{\"metrics_path\":\"%s\"}", metrics);
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    return vm;
}

static unsigned count_lines(const char *path)
{
    struct text t = {0};
    unsigned lines = 0;
    text_read_file(&t, path);
    for (size_t i = 0; i < t.len; i++)
        lines += t.data[i] == '\n';
    text_free(&t);
    return lines;
}

static void ends_by(int number)
{
    const char *metrics = e2e_path("metrics");
    struct vm *vm = running_with_metrics(metrics);
    unsigned before = count_lines(metrics);
    kill(vm->monitor.process.pid, number);
    vm_dies(vm, number);
    CHECK_INT(count_lines(metrics), before + 1);
}

E2E(sigterm_flushes_metrics_and_the_process_dies_by_it, TINY | SANITIZER)
{
    ends_by(SIGTERM);
}

E2E(sigint_flushes_metrics_and_the_process_dies_by_it, TINY | SANITIZER)
{
    ends_by(SIGINT);
}

E2E(sigterm_before_the_start_dies_by_it, HOST)
{
    struct vm *vm = vm_new(NULL);
    kill(vm->monitor.process.pid, SIGTERM);
    vm_dies(vm, SIGTERM);
}

static bool same_terminal(const struct termios *a, const struct termios *b)
{
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_lflag == b->c_lflag;
}

/* The monitor puts its terminal into raw mode for the guest and must give it back as it was. */
static void gives_the_terminal_back(int number)
{
    struct termios before, during, after;
    struct vm *vm = vm_spawn((struct monitor_spec){
        .in = PROCESS_TERMINAL, .out = PROCESS_TERMINAL, .err = PROCESS_PIPE});
    int terminal = vm->monitor.process.slave;
    CHECK_INT(tcgetattr(terminal, &before), 0);
    CHECK((before.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG));
    vm_boot(vm, bare_guest(BARE_ECHO), "x");
    vm_expect(vm, "M");
    CHECK_INT(tcgetattr(terminal, &during), 0);
    CHECK(!(during.c_lflag & (ICANON | ECHO | ISIG)));
    if (number) {
        kill(vm->monitor.process.pid, number);
        vm_dies(vm, number);
    } else {
        vm_type(vm, "q");
        vm_exits(vm, 0);
    }
    CHECK_INT(tcgetattr(terminal, &after), 0);
    CHECK(same_terminal(&after, &before));
}

E2E(terminal_is_restored_when_the_guest_resets, TINY)
{
    gives_the_terminal_back(0);
}

E2E(terminal_is_restored_after_sigterm, TINY)
{
    gives_the_terminal_back(SIGTERM);
}

E2E(terminal_is_restored_after_sigint, TINY)
{
    gives_the_terminal_back(SIGINT);
}

/* Signals that end the monitor with an exit code of their own, after the metrics are flushed. */
static void signal_gives_code(int number, int code)
{
    const char *metrics = e2e_path("metrics");
    struct vm *vm = running_with_metrics(metrics);
    kill(vm->monitor.process.pid, number);
    vm_exits(vm, code);
    CHECK(count_lines(metrics) >= 2);
}

E2E(sigsys_gives_exit_code_148, TINY)
{
    signal_gives_code(SIGSYS, 148);
}

E2E(sigbus_gives_exit_code_149, TINY)
{
    signal_gives_code(SIGBUS, 149);
}

E2E(sigsegv_gives_exit_code_150, TINY)
{
    signal_gives_code(SIGSEGV, 150);
}

E2E(sigxfsz_gives_exit_code_151, TINY)
{
    signal_gives_code(SIGXFSZ, 151);
}

E2E(sigxcpu_gives_exit_code_154, TINY)
{
    signal_gives_code(SIGXCPU, 154);
}

E2E(sighup_gives_exit_code_156, TINY)
{
    signal_gives_code(SIGHUP, 156);
}

E2E(sigill_gives_exit_code_157, TINY)
{
    signal_gives_code(SIGILL, 157);
}

E2E(sigpipe_and_a_stray_vcpu_kick_change_nothing, TINY | SANITIZER)
{
    struct vm *vm = running_with_metrics(e2e_path("metrics"));
    for (int i = 0; i < 20; i++) {
        kill(vm->monitor.process.pid, SIGPIPE);
        kill(vm->monitor.process.pid, SIGRTMIN);
        clock_sleep(2);
    }
    vm_expect(vm, "M\nM\nM\n");
    CHECK(!strcmp(vm_state(vm), "Running"));
}
