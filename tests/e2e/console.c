/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port both ways, the keyboard controller, the boot timer. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

E2E(typed_bytes_reach_the_guest_and_come_back, TINY | INTEL | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_ECHO), "x");
    vm_expect(vm, "M\n");
    vm_type(vm, "hello, guest\n");
    vm_expect(vm, "hello, guest\n");
}

E2E(a_kilobyte_typed_at_once_arrives_whole_and_in_order, TINY)
{
    char text[1025];
    for (unsigned i = 0; i < 1024; i++)
        text[i] = (char)('A' + i % 23);
    text[1024] = '\0';
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_ECHO), "x");
    vm_expect(vm, "M\n");
    vm_type(vm, text);
    vm_expect(vm, text);
}

E2E(end_of_input_leaves_the_guest_running, TINY | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    close(vm->monitor.process.in);
    vm->monitor.process.in = -1;
    clock_sleep(100);
    vm_expect(vm, "M\nM\nM\n");
    CHECK(!strcmp(vm_state(vm), "Running"));
}

E2E(output_that_nobody_reads_does_not_stop_the_guest, TINY | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    CHECK(fcntl(vm->monitor.process.out, F_SETPIPE_SZ, 4096) == 4096);
    vm_boot(vm, bare_guest(BARE_FLOOD), "x");
    /* No reading of the console until the guest has come to its end. */
    int64_t deadline = clock_ms() + e2e_ms(VM_MS);
    char path[64], state[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", vm->monitor.process.pid);
    while (!strstr(state, ") Z") && clock_left(deadline)) {
        FILE *f = fopen(path, "r");
        if (!f || !fgets(state, sizeof(state), f))
            FAIL("cannot read %s", path);
        fclose(f);
        clock_sleep(20);
    }
    vm_exits(vm, 0);
}

E2E(serial_output_goes_to_the_configured_file, TINY)
{
    struct vm *vm = vm_new(NULL);
    const char *file = e2e_path("serial");
    vm_put(vm, "/serial", "{\"serial_out_path\":\"%s\"}", file);
    vm_boot(vm, bare_guest(BARE_RESET), "x");
    vm_exits(vm, 0);
    struct text t = {0};
    text_read_file(&t, file);
    CHECK_HAS(text_str(&t), "M\n");
    CHECK(!strstr(vm_out(vm), "M\n"));
}

/* A bucket of 100 bytes that takes an hour to refill lets 100 bytes through, no more and
 * no fewer. */
E2E(serial_rate_limiter_lets_no_more_than_its_bucket_through, TINY)
{
    struct vm *vm = vm_new(NULL);
    const char *file = e2e_path("serial");
    vm_put(vm, "/serial",
           "{\"serial_out_path\":\"%s\",\"rate_limiter\":{\"size\":100,\"refill_time\":3600000}}",
           file);
    vm_boot(vm, bare_guest(BARE_FLOOD), "x");
    vm_exits(vm, 0);
    struct stat st;
    CHECK_INT(stat(file, &st), 0);
    CHECK_INT(st.st_size, 100);
}

E2E(ctrl_alt_del_reaches_a_guest_that_polls_the_keyboard_controller, TINY | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_KEYS), "x");
    vm_expect(vm, "M\n");
    vm_put(vm, "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
    /* Set 2 make codes of Ctrl, Alt and Delete. */
    vm_expect(vm, "14\n11\ne0\n71\n");
}

E2E(boot_timer_writes_its_line_to_the_log, TINY | INTEL)
{
    const char *args[] = {"--boot-timer", NULL};
    struct vm *vm = vm_new(args);
    const char *log = e2e_path("log");
    vm_put(vm, "/logger", "{\"log_path\":\"%s\",\"level\":\"Info\"}", log);
    vm_boot(vm, bare_guest(BARE_STAMP), "x");
    vm_expect(vm, "M\n");
    struct text t = {0};
    text_read_file(&t, log);
    const char *line = strstr(text_str(&t), "Guest-boot-time =");
    if (!line)
        FAIL("no boot time in the log:\n%s", text_str(&t));
    CHECK(strtol(line + strlen("Guest-boot-time ="), NULL, 10) > 0);
}

E2E(without_the_option_there_is_no_boot_timer, TINY)
{
    struct vm *vm = vm_new(NULL);
    const char *log = e2e_path("log");
    vm_put(vm, "/logger", "{\"log_path\":\"%s\",\"level\":\"Info\"}", log);
    vm_boot(vm, bare_guest(BARE_STAMP), "x");
    vm_expect(vm, "M\n");
    struct text t = {0};
    text_read_file(&t, log);
    CHECK(!text_contains(&t, "Guest-boot-time"));
}

E2E(unclaimed_ports_and_addresses_read_as_zero, TINY | INTEL)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_NOBODY), "x");
    vm_expect(vm, "p00\nm00000000\nM\n");
    CHECK(!strcmp(vm_state(vm), "Running"));
}
