/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots that are damaged, hostile, gone or in use: a load of one is refused by a sentence and
 * the monitor ends with 1; nothing else that runs from the same files notices.
 */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/snap.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

enum { AT_LEN = 24, HEADER = 32, CRC = 8, MEM_MIB = 64 };

/* A snapshot of a guest that counts, with a drive; no monitor is left. */
static void template_of_one(const char *name)
{
    struct vm *vm = vm_new(NULL);
    CHECK_INT(files_make_sparse(e2e_path("disk"), 1 << 20), 0);
    vm_put(vm, "/drives/d", "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"%s\"}",
           e2e_path("disk"));
    vm_put(vm, "/entropy", "{}");
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    snap_take(vm, name);
    monitor_end(&vm->monitor);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Bit by bit, as tools of others do who put a new checksum behind what they have changed. */
static uint64_t checksum(const uint8_t *bytes, size_t len)
{
    uint64_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x95ac9329ac4bc9b5 : 0);
    }
    return crc;
}

static void seal(struct text *state)
{
    uint64_t len = state->len, crc;
    memcpy(state->data + AT_LEN, &len, sizeof(len));
    crc = checksum((const uint8_t *)state->data, state->len - CRC);
    memcpy(state->data + state->len - CRC, &crc, sizeof(crc));
}

static struct text read_state(const char *name)
{
    struct text state = {0};
    CHECK_INT(text_read_file(&state, e2e_path(name)), 0);
    CHECK(state.len > 4096);
    return state;
}

static void write_state(const char *name, const struct text *state)
{
    CHECK_INT(files_write(e2e_path(name), state->data, state->len), 0);
}

static const char *load_request(const char *state, const char *mem, const char *more)
{
    return text_format("{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"%s\","
                       "\"backend_type\":\"File\"}%s}",
                       e2e_path(state), mem[0] == '/' ? mem : e2e_path(mem), more);
}

static void expect_no_load(const char *state, const char *mem, const char *more, const char *why)
{
    struct vm *vm = vm_new(NULL);
    vm_refused(vm, "PUT", "/snapshot/load", why, "%s", load_request(state, mem, more));
    vm_exits(vm, 1);
}

/* ---- state files ----------------------------------------------------------------------------- */

/*
 * One monitor for one bad file. Under a wrong checksum it must be refused; under a right one a
 * load may go well, and then the guest may do whatever it does: but the monitor ends by itself with
 * an exit code, or by our hand.
 */
static void load_bad(unsigned number, bool must_fail)
{
    const char *request = load_request("bad", "s.mem", ",\"resume_vm\":true");
    struct monitor_spec spec = {.program = e2e.monitor, .dir = e2e_path("bad.d")};
    struct monitor m;
    struct api_answer a;
    CHECK_INT(monitor_start(&m, &spec, e2e_ms(VM_MS)), 0);
    enum api_outcome outcome =
        monitor_call(&m, &a, "PUT", "/snapshot/load", request, e2e_ms(VM_MS));
    if (outcome == API_ANSWERED && a.status == 400) {
        if (!strstr(text_str(&a.body), "fault_message") || a.body.len < 40)
            FAIL("file %u: refused by %s", number, text_str(&a.body));
        if (!process_wait(&m.process, e2e_ms(VM_MS)) || !WIFEXITED(m.process.status) ||
            WEXITSTATUS(m.process.status) != 1)
            FAIL("file %u: %s after %s", number, process_how(&m.process), text_str(&a.body));
    } else if (must_fail || (outcome == API_ANSWERED && a.status != 204)) {
        FAIL("file %u: %s, status %d", number, api_outcome_word(outcome), a.status);
    } else {
        process_wait(&m.process, 2); /* time enough to stumble */
        if (m.process.ended && !WIFEXITED(m.process.status))
            FAIL("file %u: %s", number, process_how(&m.process));
    }
    if (outcome == API_ANSWERED)
        api_answer_free(&a);
    monitor_end(&m);
    unlink(text_format("%s/api.sock", e2e_path("bad.d")));
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

E2E(a_state_file_with_any_damage_is_refused_and_ends_with_1, TINY | SANITIZER | SLOW)
{
    uint32_t seed = 7;
    template_of_one("s");
    CHECK_INT(mkdir(e2e_path("bad.d"), 0755), 0);
    struct text state = read_state("s.state");
    for (unsigned i = 0; i < 200; i++) {
        struct text bad = state;
        size_t at = next_random(&seed) % state.len;
        if (i % 3 == 0)
            bad.len = at;
        else
            state.data[at] = (char)(state.data[at] ^ 1 << i % 8);
        write_state("bad", &bad);
        load_bad(i, true);
        if (i % 3 != 0)
            state.data[at] = (char)(state.data[at] ^ 1 << i % 8);
    }
}

E2E(a_hostile_state_file_under_a_right_checksum_harms_nobody, TINY | SANITIZER | SLOW)
{
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    uint32_t seed = 11;
    template_of_one("s");
    CHECK_INT(mkdir(e2e_path("bad.d"), 0755), 0);
    struct text state = read_state("s.state");
    for (unsigned i = 0; i < 180; i++) {
        char *whole = malloc(state.len);
        memcpy(whole, state.data, state.len);
        for (unsigned n = next_random(&seed) % 3 + 1; n > 0; n--) {
            size_t room = state.len - HEADER - CRC;
            /* Half of them among what the machine is told to be, at the beginning. */
            size_t at = HEADER + next_random(&seed) % (i % 2 ? room : 1024);
            state.data[at] = (char)values[next_random(&seed) % sizeof(values)];
        }
        seal(&state);
        write_state("bad", &state);
        load_bad(i, false);
        memcpy(state.data, whole, state.len);
        free(whole);
    }
}

/* A path of the same length, and a new checksum, as tools do that copy snapshots. */
E2E(a_state_file_whose_paths_were_replaced_in_place_opens_the_new_ones, TINY)
{
    template_of_one("s");
    struct text state = read_state("s.state");
    const char *old = e2e_path("disk"), *new = e2e_path("copy");
    char *path = memmem(state.data, state.len, old, strlen(old) + 1);
    CHECK(path && strlen(old) == strlen(new));
    memcpy(path, new, strlen(new));
    seal(&state);
    write_state("t.state", &state);
    CHECK_INT(rename(e2e_path("s.mem"), e2e_path("t.mem")), 0);
    expect_no_load("t.state", "t.mem", "",
                   text_format("No such file or directory (os error 2) %s", new));
    CHECK_INT(rename(old, new), 0);
    vm_type(snap_revive("t", ""), ".");
}

E2E(what_is_no_state_file_is_refused_at_once, TINY)
{
    template_of_one("s");
    CHECK_INT(mkfifo(e2e_path("fifo"), 0600), 0);
    CHECK_INT(mkdir(e2e_path("dir"), 0755), 0);
    CHECK_INT(symlink("loop", e2e_path("loop")), 0);
    CHECK_INT(files_write(e2e_path("empty"), "", 0), 0);
    CHECK_INT(symlink("/dev/zero", e2e_path("zero")), 0);
    expect_no_load("fifo", "s.mem", "", "It is not a regular file");
    expect_no_load("dir", "s.mem", "", "It is not a regular file");
    expect_no_load("zero", "s.mem", "", "It is not a regular file");
    expect_no_load("loop", "s.mem", "", "Too many levels of symbolic links");
    expect_no_load("empty", "s.mem", "", "File too short to contain CRC");
    expect_no_load("disk", "s.mem", "", "It is not a state file of this monitor");
}

/* ---- memory files ---------------------------------------------------------------------------- */

E2E(what_is_no_memory_file_is_refused_at_once, TINY)
{
    template_of_one("s");
    CHECK_INT(mkfifo(e2e_path("fifo"), 0600), 0);
    CHECK_INT(mkdir(e2e_path("dir"), 0755), 0);
    CHECK_INT(files_make_sparse(e2e_path("short"), (MEM_MIB << 20) - 1), 0);
    CHECK_INT(files_make_sparse(e2e_path("long"), (MEM_MIB << 20) + 4096), 0);
    CHECK_INT(files_write(e2e_path("empty"), "", 0), 0);
    expect_no_load("s.state", "fifo", "", "The memory file is not a regular file");
    expect_no_load("s.state", "dir", "", "The memory file is not a regular file");
    expect_no_load("s.state", "/dev/zero", "", "The memory file is not a regular file");
    expect_no_load("s.state", "short", "", "The memory file has 67108863 bytes; the guest has");
    expect_no_load("s.state", "long", "", "The memory file has 67112960 bytes; the guest has");
    expect_no_load("s.state", "empty", "", "The memory file has 0 bytes; the guest has");
    expect_no_load("s.state", "gone", "", "Failed to load guest memory: No such file");
    vm_type(snap_revive("s", ""), ".");
}

/* Whoever is not root may not read them. */
static int become_nobody(void *arg)
{
    (void)arg;
    return setgid(65534) || setuid(65534) ? -1 : 0;
}

E2E(files_that_may_not_be_read_are_refused, HOST)
{
    if (getuid() != 0)
        e2e_skip("only root can become somebody else");
    CHECK_INT(files_write(e2e_path("s.state"), "secret", 6), 0);
    CHECK_INT(chmod(e2e_path("s.state"), 0600), 0);
    CHECK_INT(chmod(e2e_dir, 0755), 0);
    struct vm *vm = vm_spawn((struct monitor_spec){
        .in = PROCESS_PIPE,
        .out = PROCESS_PIPE,
        .err = PROCESS_PIPE,
        .no_socket = true,
        .args = (const char *const[]){"--describe-snapshot", e2e_path("s.state"), NULL},
        .prepare = become_nobody});
    vm_exits(vm, 1);
    CHECK_HAS(vm_err(vm), "Failed to open snapshot file: Permission denied (os error 13)\n");
}

/* ---- one template, many clones --------------------------------------------------------------- */

E2E(clones_of_one_template_outlive_its_files, TINY)
{
    struct vm *clone[4];
    template_of_one("s");
    for (unsigned i = 0; i < 4; i++)
        clone[i] = snap_revive("s", "");
    CHECK_INT(unlink(e2e_path("s.state")), 0);
    CHECK_INT(unlink(e2e_path("s.mem")), 0);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned n = 0; n <= i; n++) {
            vm_type(clone[i], ".");
            vm_expect(clone[i], (char[]){(char)('a' + n), 0});
        }
    }
    snap_take(clone[3], "t");
    vm_type(snap_revive("t", ""), ".");
    expect_no_load("s.state", "s.mem", "", "Failed to open snapshot file: No such file");
}

/* Both requests are on their way before either is answered. */
E2E(two_loads_of_one_template_at_once_both_go_on, TINY)
{
    template_of_one("s");
    struct vm *vm[2] = {vm_new(NULL), vm_new(NULL)};
    const char *body = load_request("s.state", "s.mem", ",\"resume_vm\":true");
    struct text request = {0};
    int fd[2];
    api_format(&request, "PUT", "/snapshot/load", body, strlen(body));
    for (unsigned i = 0; i < 2; i++) {
        fd[i] = api_connect(vm[i]->monitor.socket);
        CHECK(fd[i] >= 0);
        CHECK_INT(api_send(fd[i], request.data, request.len), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct text pending = {0};
        struct api_answer a;
        CHECK_INT(api_receive(fd[i], &pending, &a, e2e_ms(VM_MS)), API_ANSWERED);
        CHECK_INT(a.status, 204);
        vm_type(vm[i], "..");
        vm_expect(vm[i], "ab");
    }
}

E2E(a_loaded_machine_shows_the_configuration_that_was_saved, TINY)
{
    struct vm *vm = vm_new(NULL);
    CHECK_INT(files_make_sparse(e2e_path("disk"), 1 << 20), 0);
    CHECK_INT(files_make_sparse(e2e_path("pmem"), 2 << 20), 0);
    vm_put(
        vm, "/drives/d",
        "{\"drive_id\":\"d\",\"is_root_device\":true,\"path_on_host\":\"%s\",\"is_read_only\":true,"
        "\"cache_type\":\"Writeback\",\"rate_limiter\":{\"bandwidth\":{\"size\":1000000,"
        "\"refill_time\":100,\"one_time_burst\":5}}}",
        e2e_path("disk"));
    vm_put(vm, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\"}", e2e_path("pmem"));
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v.sock\"}");
    vm_put(vm, "/balloon",
           "{\"amount_mib\":1,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1}");
    vm_put(vm, "/entropy", "{\"rate_limiter\":{\"ops\":{\"size\":10,\"refill_time\":1000}}}");
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":256,\"slot_size_mib\":128}");
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    /* What was acknowledged later counts as well. */
    CHECK_INT(files_make_sparse(e2e_path("other"), 1 << 20), 0);
    vm_patch(vm, "/drives/d",
             "{\"drive_id\":\"d\",\"path_on_host\":\"%s\",\"rate_limiter\":{\"ops\":{\"size\":77,"
             "\"refill_time\":1000}}}",
             e2e_path("other"));
    vm_patch(vm, "/pmem/p",
             "{\"id\":\"p\",\"rate_limiter\":{\"ops\":{\"size\":5,\"refill_time\":100}}}");
    json_t *before = vm_get(vm, "/vm/config");
    CHECK_HAS(json_dumps(before, 0), e2e_path("other"));
    snap_take(vm, "s");
    json_t *after = vm_get(snap_revive("s", ""), "/vm/config");
    char *was = json_dumps(before, JSON_SORT_KEYS), *is = json_dumps(after, JSON_SORT_KEYS);
    if (strcmp(was, is) != 0)
        FAIL("it was %s, it is %s", was, is);
}

/* ---- overrides and leftovers ----------------------------------------------------------------- */

E2E(overrides_of_what_is_missing_are_refused_and_end_with_1, TINY)
{
    static const struct {
        const char *more, *why;
    } cases[] = {
        {",\"network_overrides\":[{\"iface_id\":\"x\",\"host_dev_name\":\"tap9\"}]",
         "Unknown Network Device."},
        {",\"vsock_override\":{\"uds_path\":\"v\"}", "Unknown Vsock Device."},
        {",\"drive_overrides\":[{\"drive_id\":\"x\",\"path_on_host\":\"/dev/null\"}]",
         "The snapshot has no drive x."},
        {",\"drive_overrides\":[{\"drive_id\":\"d\",\"path_on_host\":\"/no/such/disk\"}]",
         "No such file or directory (os error 2) /no/such/disk"},
        {",\"pmem_overrides\":[{\"id\":\"x\",\"path_on_host\":\"/dev/null\"}]",
         "The snapshot has no persistent memory x."},
    };
    template_of_one("s");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_no_load("s.state", "s.mem", cases[i].more, cases[i].why);
    vm_type(snap_revive("s", ""), ".");
}

/* Whose it is cannot be known: it may be another monitor's. */
E2E(a_socket_left_behind_by_the_first_machine_is_not_taken_over, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    CHECK_INT(access(e2e_path("v.sock"), F_OK), 0);
    expect_no_load("s.state", "s.mem", "", "Address already in use");
    CHECK_INT(access(e2e_path("v.sock"), F_OK), 0);
    CHECK_INT(unlink(e2e_path("v.sock")), 0);
    vm_type(snap_revive("s", ""), ".");
}
