/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/background_save.c: a real loop, a real writer, and a machine that is only memory. */
#include "tests/support/files.h"
#include "tests/unit/unit.h"
#include "vmm/background_save.h"
#include "vmm/base/log.h"
#include "vmm/machine_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct fixture {
    char *dir;
    struct machine machine;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct machine *machine = &f->machine;

    log_set_options(&(struct log_options){.level = LOG_OFF});
    if (loop_create(&machine->loop, NULL))
        exit(UNIT_SKIPPED); /* no io_uring here */
    loop_lock(machine->loop);
    f->dir = files_enter_temporary("background");
    assert_int_equal(mem_create(&machine->mem, MIB, MEM_PAGES_DEFAULT, true, NULL), 0);
    machine->state = MACHINE_PAUSED;
    *state = f;
    return 0;
}

static bool has_no_child(void *arg)
{
    siginfo_t info;

    (void)arg;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    loop_wait(f->machine.loop, has_no_child, NULL); /* the loop sees to each writer's end */
    free(f->machine.background.state_path);
    free(f->machine.background.fault);
    mem_destroy(&f->machine.mem);
    loop_unlock(f->machine.loop);
    loop_destroy(f->machine.loop);
    files_leave(f->dir);
    free(f);
    return 0;
}

/* Begins to write the page at 64 KiB, which has this byte and has been taken, as a Diff. */
static void begin(struct fixture *f, char byte)
{
    struct machine *machine = &f->machine;
    struct mem_region *region = &machine->mem.region[0];
    const struct snapshot_job job = {
        .files = {"s", "m"},
        .type = SNAPSHOT_DIFF,
        .mem = &machine->mem,
        .mem_lock = &machine->mem_lock,
    };
    struct snapshot_writer files;
    struct saved_layers layers;
    struct state_writer state;
    struct save_work work = {.files = &files, .layers = &layers, .state = &state};
    uint8_t bytes[4096];
    struct err e;

    state_writer_begin(&state, bytes, sizeof(bytes));
    assert_int_equal(mem_write(&machine->mem, GPA(64 * KIB), &byte, 1), 0);
    region->taken[0] = region->dirty[0];
    region->dirty[0] = 0;
    assert_int_equal(snapshot_writer_open(&files, &job, &e), 0);
    assert_int_equal(saved_layers_open(&layers, &machine->devices, "s", &e), 0);
    assert_int_equal(background_save_begin(machine, &work, &e), 0);
}

static char byte_in_file(void)
{
    int fd = open("m", O_RDONLY);
    char byte = 0;

    assert_int_equal(pread(fd, &byte, 1, 64 * KIB), 1);
    close(fd);
    return byte;
}

static struct save_report finish(struct fixture *f)
{
    struct save_report report;

    machine_finish_save(&f->machine);
    machine_save_report(&f->machine, &report);
    return report;
}

static void test_background_save_writes_what_memory_was_when_it_began(void **state)
{
    struct fixture *f = *state;
    struct mem_region *region = &f->machine.mem.region[0];
    struct save_report report;

    machine_save_report(&f->machine, &report);
    assert_int_equal(report.status, SAVE_NONE);
    assert_null(report.state_path);
    begin(f, 'a');
    assert_int_equal(mem_write(&f->machine.mem, GPA(64 * KIB), "b", 1), 0);
    report = finish(f);
    assert_int_equal(report.status, SAVE_DONE);
    assert_string_equal(report.state_path, "s");
    assert_int_equal(byte_in_file(), 'a');
    assert_int_equal(region->taken[0], 0);
    assert_int_equal(region->dirty[0], 1 << 16); /* by the write since */
}

static void test_background_save_that_fails_says_why_and_its_pages_are_dirty_again(void **state)
{
    struct fixture *f = *state;
    struct mem_region *region = &f->machine.mem.region[0];
    struct rlimit before, small = {.rlim_cur = 64 * KIB};
    struct save_report report;

    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    begin(f, 'a');
    report = finish(f);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(report.status, SAVE_FAILED);
    assert_non_null(strstr(report.fault, "m"));
    assert_non_null(strstr(report.fault, "File too large"));
    assert_int_equal(region->taken[0], 0);
    assert_int_equal(region->dirty[0], 1 << 16);
    assert_true(access("s", F_OK) != 0 && access("m", F_OK) != 0);
    assert_true(access("s" NEW_FILE_SUFFIX, F_OK) != 0 && access("m" NEW_FILE_SUFFIX, F_OK) != 0);

    begin(f, 'b'); /* and the next one is as if there had been none before */
    report = finish(f);
    assert_int_equal(report.status, SAVE_DONE);
    assert_null(report.fault);
}

static void test_background_save_is_refused_while_one_is_written(void **state)
{
    struct fixture *f = *state;
    struct err e;

    assert_int_equal(background_save_check(&f->machine, &e), 0);
    begin(f, 'a');
    assert_int_equal(background_save_check(&f->machine, &e), -EBUSY);
    assert_string_equal(e.text, "The snapshot s is still being written.");
    finish(f);
    assert_int_equal(background_save_check(&f->machine, &e), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_background_save_writes_what_memory_was_when_it_began),
        TEST(test_background_save_that_fails_says_why_and_its_pages_are_dirty_again),
        TEST(test_background_save_is_refused_while_one_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
