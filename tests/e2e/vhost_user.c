/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives that another process serves over vhost-user: our own small back end (support/vhost_server)
 * and, where it is installed, QEMU's storage daemon, which knows nothing of us.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/gpt.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/vhost_server.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

/* ---- back ends ------------------------------------------------------------------------------- */

struct server {
    const char *disk, *socket;
    pid_t pid;
};

static struct server server_new(const char *name, const char *disk,
                                struct vhost_server_options options)
{
    struct server server = {disk, e2e_path(text_format("%s.sock", name)), 0};
    options.disk = disk;
    server.pid = vhost_server_fork(server.socket, &options);
    CHECK(server.pid > 0);
    return server;
}

static void server_kill(const struct server *server)
{
    CHECK_INT(kill(server->pid, SIGKILL), 0);
    CHECK_INT(waitpid(server->pid, NULL, 0), server->pid);
}

/* The storage daemon, beside the monitor or where its package puts it. */
static const char *daemon_program(void)
{
    const char *name = "qemu-storage-daemon", *slash = strrchr(e2e.monitor, '/');
    const char *beside = text_format("%.*s/%s", (int)(slash - e2e.monitor), e2e.monitor, name);
    const char *installed = text_format("/usr/bin/%s", name);
    if (access(beside, X_OK) == 0)
        return beside;
    if (access(installed, X_OK) != 0)
        e2e_skip("there is no %s (package qemu-system-common)", name);
    return installed;
}

/* Serves `disk`; returns its socket. `more` are further properties of the export. */
static const char *daemon_new(const char *disk, const char *more)
{
    static struct process daemon;
    const char *socket = e2e_path("daemon.sock");
    const char *argv[] = {
        daemon_program(),
        "--blockdev",
        text_format("driver=file,node-name=disk,filename=%s", disk),
        "--export",
        text_format("type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=%s%s",
                    socket, more),
        NULL,
    };
    struct process_spec spec = {.argv = argv};
    int64_t deadline = clock_ms() + e2e_ms(10000);
    CHECK_INT(process_start(&daemon, &spec), 0);
    while (access(socket, F_OK) != 0) {
        if (!clock_left(deadline))
            FAIL("the storage daemon makes no socket");
        clock_sleep(10);
    }
    return socket;
}

static void add_vhost(struct vm *vm, const char *id, const char *socket, const char *more)
{
    vm_put(vm, text_format("/drives/%s", id),
           "{\"drive_id\":\"%s\",\"is_root_device\":false,\"socket\":\"%s\"%s}", id, socket, more);
}

#define WRITEBACK ",\"cache_type\":\"Writeback\""

/* ---- the tiny guest -------------------------------------------------------------------------- */

static void tiny_writes_and_reads(const char *disk, const char *socket)
{
    struct vm *vm = vm_new(NULL);
    add_vhost(vm, "d", socket, WRITEBACK);
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=5");
    vm_expect(vm, "BLK ok capacity=8192 sectors=8192 readonly=0\n");
    vm_exits(vm, 0);
    disk_holds(disk, 0, 4 * SECTORS_PER_MIB, 5);
}

E2E(the_tiny_guest_writes_a_vhost_user_disk_and_reads_it_back, TINY | SANITIZER)
{
    const char *disk = disk_new("disk", 4);
    struct server server = server_new("s", disk, (struct vhost_server_options){0});
    tiny_writes_and_reads(disk, server.socket);
}

E2E(the_tiny_guest_writes_a_disk_of_qemus_storage_daemon_and_reads_it_back, TINY)
{
    const char *disk = disk_new("disk", 4);
    tiny_writes_and_reads(disk, daemon_new(disk, ",writable=on"));
}

E2E(a_read_only_disk_of_qemus_storage_daemon_is_one, TINY)
{
    const char *disk = disk_new("disk", 4);
    struct vm *vm = vm_new(NULL);
    disk_fill(disk, 0, 4 * SECTORS_PER_MIB, 3);
    add_vhost(vm, "d", daemon_new(disk, ",writable=off"), "");
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=3 check=1");
    vm_expect(vm, "BLK ok capacity=8192 sectors=8192 readonly=1\n");
    vm_exits(vm, 0);
}

static void pauses_lose_nothing(const char *disk, const char *socket)
{
    struct vm *vm = vm_new(NULL);
    add_vhost(vm, "d", socket, "");
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=6");
    for (unsigned i = 0; i < 200 && !strstr(vm_out(vm), "BLK"); i++) {
        struct api_answer a;
        monitor_call(&vm->monitor, &a, "PATCH", "/vm", "{\"state\":\"Paused\"}", e2e_ms(VM_MS));
        api_answer_free(&a);
        monitor_call(&vm->monitor, &a, "PATCH", "/vm", "{\"state\":\"Resumed\"}", e2e_ms(VM_MS));
        api_answer_free(&a);
    }
    vm_expect(vm, "BLK ok");
    vm_exits(vm, 0);
    disk_holds(disk, 0, 8 * SECTORS_PER_MIB, 6);
}

E2E(pauses_while_the_tiny_guest_uses_a_vhost_user_disk_lose_no_request, TINY | SANITIZER)
{
    const char *disk = disk_new("disk", 8);
    pauses_lose_nothing(disk, server_new("s", disk, (struct vhost_server_options){0}).socket);
}

E2E(pauses_while_the_tiny_guest_uses_qemus_storage_daemon_lose_no_request, TINY)
{
    const char *disk = disk_new("disk", 8);
    pauses_lose_nothing(disk, daemon_new(disk, ",writable=on"));
}

static void add_vhost_victim(struct vm *vm)
{
    struct server server =
        server_new("victim", disk_new("victim", 4), (struct vhost_server_options){0});
    add_vhost(vm, "victim", server.socket, WRITEBACK);
}

/* Its rings are the back end's business: here only a start can go wrong. */
E2E(a_hostile_driver_of_a_vhost_user_disk_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_vhost_victim, 0, 1, 2);
}

/* What a machine shows is what another starts from, the nulls of such a drive included. */
E2E(a_configuration_with_a_vhost_user_drive_is_a_config_file, TINY)
{
    const char *disk = disk_new("disk", 4), *file = e2e_path("config.json");
    struct server server = server_new("s", disk, (struct vhost_server_options){0});
    struct vm *first = vm_new(NULL);
    add_vhost(first, "d", server.socket, WRITEBACK);
    vm_put(first, "/boot-source",
           "{\"kernel_image_path\":\"%s\",\"boot_args\":\"tiny=blk dev=0 seed=5\"}",
           e2e_guest("tiny.elf"));
    char *shown = json_dumps(vm_get(first, "/vm/config"), JSON_COMPACT);
    CHECK_INT(files_write(file, shown, strlen(shown)), 0);
    monitor_end(&first->monitor);

    const char *args[] = {"--config-file", file, NULL};
    struct vm *second = vm_new(args);
    vm_expect(second, "BLK ok capacity=8192 sectors=8192 readonly=0\n");
    vm_exits(second, 0);
    disk_holds(disk, 0, 4 * SECTORS_PER_MIB, 5);
}

/* The back end has gone between the configuration and the start: the machine starts without it. */
E2E(a_back_end_that_dies_before_the_start_costs_only_its_drive, TINY)
{
    const char *other = disk_new("other", 2);
    struct vm *vm = vm_new(NULL);
    struct server server = server_new("s", disk_new("disk", 1), (struct vhost_server_options){0});
    disk_fill(other, 0, 2 * SECTORS_PER_MIB, 2);
    add_vhost(vm, "d", server.socket, "");
    linux_drive(vm, "other", other, "");
    server_kill(&server);
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=1 seed=2 check=1");
    vm_expect(vm, "BLK ok capacity=4096 sectors=4096 readonly=0\n");
    vm_exits(vm, 0);
}

/* ---- requests that are refused --------------------------------------------------------------- */

#define DRIVE "{\"drive_id\":\"d\",\"is_root_device\":false"

E2E(a_socket_without_a_back_end_is_refused_with_the_systems_words, HOST)
{
    struct vm *vm = vm_new(NULL);
    const char *file = disk_new("file", 1);
    vm_refused(vm, "PUT", "/drives/d", "No such file or directory (os error 2)",
               DRIVE ",\"socket\":\"/no/such/socket\"}");
    vm_refused(vm, "PUT", "/drives/d", "Connection refused (os error 111)",
               DRIVE ",\"socket\":\"%s\"}", file);
    json_t *drives = json_object_get(vm_get(vm, "/vm/config"), "drives");
    CHECK_INT(json_array_size(drives), 0);
}

/* Time limits do their work: the second question is answered, and soon. */
E2E(a_back_end_that_never_answers_is_refused_within_seconds, HOST | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    const char *socket = e2e_path("silent.sock");
    int64_t begin = clock_ms();
    CHECK(vhost_server_listen(socket) >= 0);
    vm_refused(vm, "PUT", "/drives/d", "The back end does not answer", DRIVE ",\"socket\":\"%s\"}",
               socket);
    CHECK(clock_ms() - begin < e2e_ms(3000));
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(a_back_end_that_is_no_disk_is_refused, HOST)
{
    struct vm *vm = vm_new(NULL);
    struct server server =
        server_new("s", disk_new("disk", 1), (struct vhost_server_options){.no_config = true});
    vm_refused(vm, "PUT", "/drives/d", "does not offer what a drive needs",
               DRIVE ",\"socket\":\"%s\"}", server.socket);
}

E2E(a_drive_has_a_socket_or_a_path_and_never_what_belongs_to_the_other, HOST)
{
    static const char *const members[] = {
        "\"path_on_host\":\"/dev/null\"",
        "\"is_read_only\":false",
        "\"io_engine\":\"Sync\"",
        "\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":1}}",
    };
    struct vm *vm = vm_new(NULL);
    struct server server = server_new("s", disk_new("disk", 1), (struct vhost_server_options){0});
    for (unsigned i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        vm_refused(vm, "PUT", "/drives/d", "Invalid block config", DRIVE ",\"socket\":\"%s\",%s}",
                   server.socket, members[i]);
}

/* The back end serves one connection at a time: the second PUT must not want another. */
E2E(a_vhost_user_drive_may_be_configured_again, HOST)
{
    struct vm *vm = vm_new(NULL);
    struct server server = server_new("s", disk_new("disk", 1), (struct vhost_server_options){0});
    add_vhost(vm, "d", server.socket, "");
    vm_put(vm, "/drives/d",
           "{\"drive_id\":\"d\",\"is_root_device\":true,\"partuuid\":\"0eaa91a0-01\",\"socket\":"
           "\"%s\"" WRITEBACK "}",
           server.socket);
    json_t *drive = json_array_get(json_object_get(vm_get(vm, "/vm/config"), "drives"), 0);
    char *printed = json_dumps(drive, JSON_COMPACT);
    CHECK(
        !strcmp(printed, text_format("{\"drive_id\":\"d\",\"partuuid\":\"0eaa91a0-01\","
                                     "\"is_root_device\":true,\"cache_type\":\"Writeback\","
                                     "\"is_read_only\":null,\"path_on_host\":null,"
                                     "\"rate_limiter\":null,\"io_engine\":null,\"socket\":\"%s\"}",
                                     server.socket)));
    add_vhost(vm, "other",
              server_new("t", disk_new("b", 1), (struct vhost_server_options){0}).socket, "");
}

/* ---- Linux ----------------------------------------------------------------------------------- */

/* A Linux guest with one disk behind a socket, /dev/vda. */
static struct vm *vm_with_server(const struct server *server, const char *more)
{
    struct vm *vm = vm_new(NULL);
    add_vhost(vm, "d", server->socket, more);
    linux_boot(vm);
    return vm;
}

E2E(what_a_guest_writes_to_a_vhost_user_disk_the_host_reads, LINUX | INTEL | SANITIZER)
{
    const char *disk = disk_new("disk", 8);
    struct server server = server_new("s", disk, (struct vhost_server_options){0});
    struct vm *vm = vm_with_server(&server, WRITEBACK);
    const char *line = disk_line(vm, "vda");
    CHECK_HAS(line, "cache=write-back");
    CHECK_HAS(line, "serial=vhost-server ");
    CHECK_INT(number_of(line, "segments"), 254); /* the queue has no room for the server's 1022 */
    ask(vm, "write vda 16384 7");
    ask(vm, "flush vda");
    disk_holds(disk, 0, 16384, 7);
    ask(vm, "verify vda 16384 7");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_vhost_user_disk_without_a_writeback_cache_is_not_flushed, LINUX)
{
    struct server server = server_new("s", disk_new("disk", 1), (struct vhost_server_options){0});
    CHECK_HAS(disk_line(vm_with_server(&server, ""), "vda"), "cache=write-through");
}

E2E(a_vhost_user_disk_works_without_any_optional_feature, LINUX)
{
    const char *disk = disk_new("disk", 2);
    struct server server =
        server_new("s", disk,
                   (struct vhost_server_options){
                       .without = 1 << VHOST_SERVER_SEG_MAX | 1 << VHOST_SERVER_FLUSH |
                                  1 << VHOST_SERVER_INDIRECT | 1 << VHOST_SERVER_EVENT_IDX});
    struct vm *vm = vm_with_server(&server, WRITEBACK);
    CHECK_HAS(disk_line(vm, "vda"), "cache=write-through");
    ask(vm, "write vda 4096 7");
    ask(vm, "verify vda 4096 7");
    disk_holds(disk, 0, 4096, 7);
}

E2E(a_read_only_vhost_user_disk_refuses_writes, LINUX)
{
    const char *disk = disk_new("disk", 1);
    disk_fill(disk, 0, SECTORS_PER_MIB, 3);
    struct server server = server_new("s", disk, (struct vhost_server_options){.read_only = true});
    struct vm *vm = vm_with_server(&server, "");
    CHECK_INT(number_of(disk_line(vm, "vda"), "ro"), 1);
    ask(vm, "verify vda 2048 3");
    ask_failing(vm, "write vda 8 4");
    disk_holds(disk, 0, SECTORS_PER_MIB, 3);
}

E2E(vhost_user_disks_and_files_keep_their_order, LINUX)
{
    struct vm *vm = vm_new(NULL);
    struct server server = server_new("s", disk_new("b", 2), (struct vhost_server_options){0});
    linux_drive(vm, "a", disk_new("a", 1), "");
    add_vhost(vm, "b", server.socket, "");
    linux_drive(vm, "c", disk_new("c", 3), "");
    linux_boot(vm);
    CHECK_INT(number_of(disk_line(vm, "vda"), "sectors"), 1 * SECTORS_PER_MIB);
    CHECK_INT(number_of(disk_line(vm, "vdb"), "sectors"), 2 * SECTORS_PER_MIB);
    CHECK_INT(number_of(disk_line(vm, "vdc"), "sectors"), 3 * SECTORS_PER_MIB);
    ask(vm, "write vda 2048 1");
    ask(vm, "write vdb 4096 2");
    ask(vm, "write vdc 6144 3");
    ask(vm, "verify vda 2048 1");
    ask(vm, "verify vdb 4096 2");
    ask(vm, "verify vdc 6144 3");
}

static struct vm *boot_from_vhost(const char *disk, const char *partuuid, bool read_only)
{
    struct vm *vm = vm_new(NULL);
    struct server server =
        server_new("root", disk, (struct vhost_server_options){.read_only = read_only});
    linux_machine(vm, 1, 192);
    linux_drive(vm, "data", disk_new("data", 3), "");
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"socket\":\"%s\"%s}", server.socket,
           partuuid ? text_format(",\"partuuid\":\"%s\"", partuuid) : "");
    linux_start(vm, FULL_ELF, NULL, "");
    CHECK_INT(number_of(disk_line(vm, "vdb"), "sectors"), 3 * SECTORS_PER_MIB);
    return vm;
}

E2E(a_guest_boots_from_a_read_only_vhost_user_disk, LINUX)
{
    struct vm *vm = boot_from_vhost(e2e_guest(TEST_ROOT), NULL, true);
    CHECK_HAS(ask(vm, "cmdline"), "root=/dev/vda ro");
    CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 ro");
}

E2E(a_guest_boots_from_a_partition_of_a_vhost_user_disk, LINUX)
{
    const char *disk = e2e_path("gpt");
    const char *partuuid = gpt_make_disk(disk, e2e_guest(TEST_ROOT));
    struct vm *vm = boot_from_vhost(disk, partuuid, false);
    CHECK_HAS(ask(vm, "cmdline"), partuuid);
    CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 rw");
}

static void must_become(struct vm *vm, const char *disk, unsigned long long sectors)
{
    int64_t deadline = clock_ms() + e2e_ms(10000);
    unsigned long long seen;
    while ((seen = number_of(disk_line(vm, disk), "sectors")) != sectors) {
        if (!clock_left(deadline))
            FAIL("the guest sees %llu sectors, not %llu", seen, sectors);
        ask(vm, "sleep 20");
    }
}

E2E(a_vhost_user_disk_that_has_grown_is_seen_after_a_patch_of_its_id, LINUX)
{
    const char *disk = disk_new("disk", 1), *metrics = e2e_path("metrics");
    struct server server = server_new("s", disk, (struct vhost_server_options){0});
    struct vm *vm = vm_new(NULL);
    struct text lines = {0};
    vm_put(vm, "/metrics", "{\"metrics_path\":\"%s\"}", metrics);
    add_vhost(vm, "d", server.socket, "");
    linux_boot(vm);
    CHECK_INT(truncate(disk, 5 * MIB), 0);
    vm_refused(vm, "PATCH", "/drives/d", "expected different backend",
               "{\"drive_id\":\"d\",\"path_on_host\":\"%s\"}", disk);
    vm_patch(vm, "/drives/d", "{\"drive_id\":\"d\"}");
    must_become(vm, "vda", 5 * SECTORS_PER_MIB);
    ask(vm, "write vda 10240 4");
    disk_holds(disk, 0, 10240, 4);
    vm_put(vm, "/actions", "{\"action_type\":\"FlushMetrics\"}");
    CHECK_INT(text_read_file(&lines, metrics), 0);
    const char *group = strstr(text_str(&lines), "\"vhost_user_block_d\":");
    CHECK(group != NULL);
    CHECK_HAS(group, "{\"activate_fails\":0,\"cfg_fails\":0,\"init_time_us\":");
    CHECK_HAS(group, "\"activate_time_us\":");
    CHECK(!strstr(strrchr(text_str(&lines), '{'), "\"config_change_time_us\":0}"));
}

E2E(pauses_under_load_of_a_vhost_user_disk_lose_no_request, LINUX | SANITIZER)
{
    struct server server = server_new("s", disk_new("disk", 4), (struct vhost_server_options){0});
    struct vm *vm = vm_with_server(&server, "");
    ask(vm, "load vda on");
    for (unsigned i = 0; i < 100; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    }
    const char *load = ask(vm, "load vda off");
    CHECK_INT(number_of(load, "bad"), 0);
    CHECK(number_of(load, "reads") > 0 && number_of(load, "writes") > 0);
}

/* A reset stops the ring at the back end, a start gives it another. */
static void driver_starts_anew(const char *socket)
{
    struct vm *vm = vm_new(NULL);
    add_vhost(vm, "d", socket, "");
    linux_boot(vm);
    ask(vm, "write vda 4096 7");
    for (int i = 0; i < 3; i++) {
        ask(vm, "set /sys/bus/virtio/drivers/virtio_blk/unbind virtio0");
        CHECK(!strstr(ask(vm, "disks"), "vda"));
        ask(vm, "set /sys/bus/virtio/drivers/virtio_blk/bind virtio0");
        CHECK_INT(number_of(disk_line(vm, "vda"), "sectors"), 2 * SECTORS_PER_MIB);
        ask(vm, "verify vda 4096 7");
    }
}

E2E(a_driver_unbound_and_bound_again_finds_its_vhost_user_disk, LINUX | SANITIZER)
{
    driver_starts_anew(
        server_new("s", disk_new("disk", 2), (struct vhost_server_options){0}).socket);
}

E2E(a_driver_unbound_and_bound_again_finds_its_disk_of_qemus_storage_daemon, LINUX)
{
    driver_starts_anew(daemon_new(disk_new("disk", 2), ",writable=on"));
}

E2E(the_death_of_a_back_end_is_reported_and_harms_nobody_else, LINUX | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    const char *other = disk_new("other", 2);
    struct server server = server_new("s", disk_new("disk", 4), (struct vhost_server_options){0});
    add_vhost(vm, "d", server.socket, "");
    linux_drive(vm, "other", other, "");
    linux_boot(vm);
    ask(vm, "load vda on");
    ask(vm, "sleep 20");
    server_kill(&server);
    ask(vm, "write vdb 4096 2");
    ask(vm, "verify vdb 4096 2");
    CHECK_HAS(vm_log(vm), "Drive d: the back end at");
    vm_refused(vm, "PATCH", "/drives/d", "has closed the connection", "{\"drive_id\":\"d\"}");
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    disk_holds(other, 0, 4096, 2);
    CHECK(!strcmp(vm_state(vm), "Running"));
}

E2E(a_linux_guest_uses_a_disk_of_qemus_storage_daemon, LINUX)
{
    const char *disk = disk_new("disk", 8);
    struct vm *vm = vm_new(NULL);
    add_vhost(vm, "d", daemon_new(disk, ",writable=on"), WRITEBACK);
    linux_boot(vm);
    ask(vm, "write vda 16384 7");
    ask(vm, "flush vda");
    disk_holds(disk, 0, 16384, 7);
    ask(vm, "load vda on");
    for (unsigned i = 0; i < 20; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    }
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}
