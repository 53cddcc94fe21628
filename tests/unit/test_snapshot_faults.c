/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/snapshot/snapshot_files.c: each call by which a snapshot is written fails in turn,
 * or is the last of its process. The linker puts the functions __wrap_... here in place of the
 * system's (CMakeLists.txt).
 */
#include "tests/support/text.h"
#include "tests/unit/unit.h"
#include "vmm/snapshot/merge_mark.h"
#include "vmm/snapshot/snapshot_files.h"
#include "vmm/snapshot/whole_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

static char directory[64]; /* of the files */

/* ---- the system's calls ---------------------------------------------------------------------- */

enum fault { NONE, FAILS, WRITES_LESS, DIES };

static struct {
    enum fault fault;
    int code;       /* of a call that fails */
    unsigned at;    /* the call that it befalls, from 1 on */
    unsigned calls; /* so far */
    bool unlink;    /* it befell one of these */
    struct text *trace;
} plan;

#define DEAD 9

/* Whether the call that comes now is the one; a death does not return. */
static bool befalls(void)
{
    if (plan.fault == NONE || ++plan.calls != plan.at)
        return false;
    if (plan.fault == DIES)
        _exit(DEAD);
    errno = plan.code;
    return true;
}

static void note(const char *what, const char *path)
{
    if (plan.trace)
        text_printf(plan.trace, "%s %s\n", what,
                    strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    return befalls() ? -1 : __real_open(path, flags, 0600);
}

ssize_t __real_pwrite(int fd, const void *bytes, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    if (!befalls())
        return __real_pwrite(fd, bytes, len, offset);
    if (plan.fault == FAILS || len < 2)
        return -1;
    plan.at++; /* and the next one fails */
    plan.fault = FAILS;
    return __real_pwrite(fd, bytes, len / 2, offset);
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size)
{
    return befalls() ? -1 : __real_ftruncate(fd, size);
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    char link[32], path[300];
    ssize_t n;

    if (befalls())
        return -1;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n < 0 ? 0 : n] = '\0';
    note("flush", strcmp(path, directory) == 0 ? "directory" : path);
    return 0; /* the host does not die here */
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    int rc = befalls() ? -1 : __real_rename(from, to);

    if (rc == 0)
        note("rename to", strstr(to, STATE_FOR) ? STATE_FOR : to);
    return rc;
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    if (befalls()) {
        plan.unlink = true;
        return -1;
    }
    return __real_unlink(path);
}

/* ---- a snapshot and the next one ------------------------------------------------------------- */

#define MEM_SIZE (2 * MIB)

/* How the second is written. */
struct way {
    const char *name;
    enum snapshot_type type;
    bool beside; /* a Diff, to another place than the first */
    bool lazy;
};

static const struct way ways[] = {
    {"full", SNAPSHOT_FULL, false, false},
    {"full, not flushed", SNAPSHOT_FULL, false, true},
    {"diff beside", SNAPSHOT_DIFF, true, false},
    {"diff in place", SNAPSHOT_DIFF, false, false},
    {"diff in place, not flushed", SNAPSHOT_DIFF, false, true},
};

static struct mem mem;
static struct file_lock no_lock;

static const char *at(const char *name)
{
    static char paths[8][400];
    static unsigned turn;
    char *path = paths[turn++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

static void remove_all(void)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;

    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            __real_unlink(at(entry->d_name));
    closedir(dir);
}

/* Pages that both have, and some that only one has. */
static void fill(char letter)
{
    for (uint64_t page = 0; page < MEM_SIZE / PAGE_SIZE; page += 64) {
        memset(mem.region[0].hva + page * PAGE_SIZE, letter, PAGE_SIZE);
        mem.region[0].taken[page / 64] = 1;
    }
}

static int write_snapshot(const struct way *way, const char *name, const char *state, struct err *e)
{
    char state_path[300], mem_path[300];
    const struct snapshot_job job = {
        .files = {state_path, mem_path},
        .type = way->type,
        .lazy = way->lazy,
        .mem = &mem,
        .mem_lock = &no_lock,
    };
    uint8_t bytes[4096];
    struct state_writer text;
    struct snapshot_writer w;
    int rc;

    snprintf(state_path, sizeof(state_path), "%s/%s.state", directory, name);
    snprintf(mem_path, sizeof(mem_path), "%s/%s.mem", directory, name);
    rc = snapshot_writer_open(&w, &job, e);
    if (rc)
        return rc;
    state_writer_begin(&text, bytes, sizeof(bytes));
    state_write_text(&text, "letter", 0, state);
    rc = snapshot_writer_run(&w, &text, e);
    snapshot_writer_close(&w);
    return rc;
}

/* The first, with 'a' in its pages; in memory is the second, with 'b'. */
static void prepare(void)
{
    struct err e;

    remove_all();
    fill('a');
    if (write_snapshot(&ways[0], "s", "a", &e))
        fail_msg("%s", e.text);
    fill('b');
}

/* The letter in the first page of a memory file, which all of them must have; '?' = they do not;
 * 0 = there is no such file. */
static char letter_of(const char *path)
{
    int fd = __real_open(path, O_RDONLY | O_CLOEXEC);
    static char bytes[MEM_SIZE];
    char letter;

    if (fd < 0)
        return 0;
    letter = read(fd, bytes, MEM_SIZE) == (ssize_t)MEM_SIZE ? bytes[0] : '?';
    close(fd);
    for (uint64_t page = 0; page < MEM_SIZE / PAGE_SIZE; page += 64)
        if (bytes[page * PAGE_SIZE] != letter || bytes[page * PAGE_SIZE + PAGE_SIZE - 1] != letter)
            return '?';
    return letter;
}

/* What a load would find: the letter of state and memory; '?' = they do not belong together; 0 = it
 * is refused. */
static char loaded(const char *name)
{
    char state_path[300], mem_path[300], *found, letter;
    const struct snapshot_files files = {state_path, mem_path};
    struct state_reader r;
    const char *text;
    uint8_t *bytes;
    size_t len;
    struct err e;
    int fd;

    snprintf(state_path, sizeof(state_path), "%s/%s.state", directory, name);
    snprintf(mem_path, sizeof(mem_path), "%s/%s.mem", directory, name);
    found = snapshot_find_state(&files);
    if (whole_file_read(found, &bytes, &len, &e))
        bytes = NULL;
    free(found);
    fd = __real_open(mem_path, O_RDONLY | O_CLOEXEC);
    letter = fd < 0 || !bytes || merge_mark_check(mem_path, fd, &e) ? 0 : letter_of(mem_path);
    if (letter && (state_reader_begin(&r, bytes, len, &e) ||
                   state_read_text(&r, "letter", 0, &text, &e) || text[0] != letter))
        letter = '?';
    if (fd >= 0)
        close(fd);
    free(bytes);
    return letter;
}

/* Files of the directory whose names end so. */
static unsigned count_files(const char *end)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;
    unsigned count = 0;

    while ((entry = readdir(dir)))
        count += entry->d_name[0] != '.' && strlen(entry->d_name) >= strlen(end) &&
                 strcmp(entry->d_name + strlen(entry->d_name) - strlen(end), end) == 0;
    closedir(dir);
    return count;
}

/* ---- the second snapshot, with a fault ------------------------------------------------------- */

/* What its process tells. */
struct outcome {
    int rc;
    bool unlink;
    char why[400];
};

/* Writes the second snapshot in a process of its own, which may die; false if it did. */
static bool write_second(const struct way *way, enum fault fault, int code, unsigned call,
                         struct outcome *outcome)
{
    int pipes[2], status;
    struct err e = {0};
    pid_t pid;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        plan.fault = fault;
        plan.code = code;
        plan.at = call;
        outcome->rc = write_snapshot(way, way->beside ? "d" : "s", "b", &e);
        outcome->unlink = plan.unlink;
        snprintf(outcome->why, sizeof(outcome->why), "%.390s", e.text);
        _exit(write(pipes[1], outcome, sizeof(*outcome)) != sizeof(*outcome));
    }
    close(pipes[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0)
        assert_int_equal(read(pipes[0], outcome, sizeof(*outcome)), sizeof(*outcome));
    close(pipes[0]);
    return WEXITSTATUS(status) != DEAD;
}

/* The first or the second is there, and whole; a merge in place may have cost the first, and says
 * so. */
static void expect_one(const struct way *way, bool succeeded, const char *where)
{
    char first = loaded("s"), second = loaded("d");
    bool in_place = way->type == SNAPSHOT_DIFF && !way->beside;

    if (way->beside && (first != 'a' || second == '?' || second == 'a'))
        fail_msg("%s: '%c' and '%c'", where, first, second);
    if (!way->beside && first != 'a' && first != 'b' && !(in_place && first == 0))
        fail_msg("%s: '%c'", where, first);
    if (succeeded && (way->beside ? second : first) != 'b')
        fail_msg("%s: it is said to be done", where);
}

/* Nothing is in the way of the next attempt, and nothing is left after it. */
static void expect_next_succeeds(const struct way *way, const char *where)
{
    struct err e = {0};
    int rc = write_snapshot(way, way->beside ? "d" : "s", "b", &e);

    if (rc == -EUCLEAN)
        rc = write_snapshot(&ways[0], "s", "b", &e);
    if (rc)
        fail_msg("%s: then: %s", where, e.text);
    if (loaded(way->beside ? "d" : "s") != 'b')
        fail_msg("%s: then '%c'", where, loaded("s"));
    if (count_files("") != (way->beside ? 4 : 2))
        fail_msg("%s: %u files", where, count_files(""));
}

static unsigned count_calls(const struct way *way)
{
    struct err e;

    prepare();
    plan.fault = FAILS;
    plan.at = plan.calls = 0;
    if (write_snapshot(way, way->beside ? "d" : "s", "b", &e))
        fail_msg("%s", e.text);
    plan.fault = NONE;
    return plan.calls;
}

static void try_at_every_call(const struct way *way, enum fault fault, int code)
{
    unsigned calls = count_calls(way);

    assert_true(calls > 10);
    for (unsigned call = 1; call <= calls; call++) {
        struct outcome outcome = {0};
        char where[200];
        bool lived;

        prepare();
        plan.calls = 0;
        lived = write_second(way, fault, code, call, &outcome);
        snprintf(where, sizeof(where), "%s, call %u of %u, %s", way->name, call, calls,
                 fault == DIES ? "its last" : strerror(code));
        expect_one(way, lived && outcome.rc == 0, where);
        if (lived && outcome.rc && !strstr(outcome.why, directory) &&
            !strstr(outcome.why, "Cannot perform open on the"))
            fail_msg("%s: \"%s\" names no path", where, outcome.why);
        if (lived && !outcome.unlink && count_files(NEW_FILE_SUFFIX) > 0)
            fail_msg("%s: something is left", where);
        expect_next_succeeds(way, where);
    }
}

static void test_snapshot_survives_failure_of_each_call(void **state)
{
    static const int codes[] = {ENOSPC, EIO, EFBIG};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        for (size_t c = 0; c < ARRAY_SIZE(codes); c++)
            try_at_every_call(&ways[i], FAILS, codes[c]);
}

static void test_snapshot_survives_write_that_ends_halfway(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        try_at_every_call(&ways[i], WRITES_LESS, ENOSPC);
}

static void test_snapshot_survives_death_before_each_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        try_at_every_call(&ways[i], DIES, 0);
}

/* ---- what is on the disk when -------------------------------------------------------------- */

static const char *trace_of(const struct way *way)
{
    static struct text trace;
    struct err e;

    prepare();
    text_free(&trace);
    plan.trace = &trace;
    if (write_snapshot(way, "s", "b", &e))
        fail_msg("%s", e.text);
    plan.trace = NULL;
    return text_str(&trace);
}

static void test_files_are_on_disk_before_either_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(trace_of(&ways[0]), "flush s.mem.mayfly-new\n"
                                            "flush s.state.mayfly-new\n"
                                            "rename to " STATE_FOR "\n"
                                            "flush directory\n"
                                            "rename to s.mem\n"
                                            "flush directory\n"
                                            "rename to s.state\n"
                                            "flush directory\n");
}

static void test_mark_is_on_disk_as_long_as_merge_is_not(void **state)
{
    (void)state;
    assert_string_equal(trace_of(&ways[3]), "flush s.mem.merging.mayfly-new\n"
                                            "rename to s.mem.merging\n"
                                            "flush directory\n"
                                            "flush s.mem\n"
                                            "flush s.state.mayfly-new\n"
                                            "rename to s.state\n"
                                            "flush directory\n"
                                            "flush directory\n");
}

static void test_files_that_need_not_be_on_disk_are_not_flushed(void **state)
{
    (void)state;
    assert_null(strstr(trace_of(&ways[1]), "flush"));
    assert_null(strstr(trace_of(&ways[4]), "flush"));
}

/* ---- names -------------------------------------------------------------------------------- */

static void test_state_and_memory_in_one_file_are_refused_however_it_is_named(void **state)
{
    static const char *const others[] = {"s.mem", "./s.mem", "link", "self/s.mem", "self/./link"};
    static const enum snapshot_type types[] = {SNAPSHOT_FULL, SNAPSHOT_DIFF};
    struct err e;

    (void)state;
    prepare();
    assert_int_equal(symlink("s.mem", at("link")), 0);
    assert_int_equal(symlink(".", at("self")), 0);
    for (size_t i = 0; i < ARRAY_SIZE(others) * 2; i++) {
        const struct snapshot_job job = {
            .files = {at(others[i / 2]), at("s.mem")},
            .type = types[i % 2],
            .mem = &mem,
            .mem_lock = &no_lock,
        };
        struct snapshot_writer w;

        assert_int_equal(snapshot_writer_open(&w, &job, &e), -EINVAL);
        assert_string_equal(e.text, "The state and the memory cannot be one file.");
        assert_int_equal(loaded("s"), 'a');
        assert_int_equal(count_files(NEW_FILE_SUFFIX), 0);
    }
}

/* A load that asks for a mark must not take the answer that its name is too long for one. */
static void test_memory_file_whose_mark_would_have_too_long_a_name_is_not_marked(void **state)
{
    char name[256];
    int fd;

    (void)state;
    memset(name, 'm', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    fd = __real_open(at(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(merge_mark_check(at(name), fd, NULL), 0);
    close(fd);
}

static int set_up(void **state)
{
    (void)state;
    /* In memory, where there is such a file system: a disk's would wait at each rename. */
    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/mayfly-test-XXXXXX"
                                                    : "/tmp/mayfly-test-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    return mem_create(&mem, MEM_SIZE, MEM_PAGES_DEFAULT, true, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    remove_all();
    mem_destroy(&mem);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_survives_failure_of_each_call),
        cmocka_unit_test(test_snapshot_survives_write_that_ends_halfway),
        cmocka_unit_test(test_snapshot_survives_death_before_each_call),
        cmocka_unit_test(test_files_are_on_disk_before_either_has_its_name),
        cmocka_unit_test(test_mark_is_on_disk_as_long_as_merge_is_not),
        cmocka_unit_test(test_state_and_memory_in_one_file_are_refused_however_it_is_named),
        cmocka_unit_test(test_memory_file_whose_mark_would_have_too_long_a_name_is_not_marked),
        cmocka_unit_test(test_files_that_need_not_be_on_disk_are_not_flushed),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
