/* SPDX-License-Identifier: Apache-2.0 */
/* Whole configurations: as orchestrators write them, and as one machine hands its own to another.
 */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

enum { PLACEHOLDERS = 8 };

/* A monitor started from a config file with this text. */
static struct vm *vm_from(const char *name, const char *text)
{
    const char *path = e2e_path(name);
    CHECK_INT(files_write(path, text, strlen(text)), 0);
    const char *args[] = {"--config-file", path, NULL};
    return vm_new(args);
}

/* Each a drive without a byte, for a file that comes later. */
static char *placeholders(void)
{
    char *all = strdup("");
    for (int i = 0; i < PLACEHOLDERS; i++) {
        const char *path = e2e_path(text_format("drive_%d", i));
        CHECK_INT(files_make_sparse(path, 0), 0);
        all = text_format("%s,{\"drive_id\":\"drive_%d\",\"is_root_device\":false,"
                          "\"path_on_host\":\"%s\",\"is_read_only\":false}",
                          all, i, path);
    }
    return all;
}

E2E(a_config_of_empty_drives_fifos_and_deprecated_members_starts_and_is_patched, TINY | SANITIZER)
{
    const char *root = e2e_path("root.img"), *log = e2e_path("log.fifo");
    const char *metrics = e2e_path("metrics.fifo");
    CHECK_INT(files_make_sparse(root, 1 << 20), 0);
    CHECK_INT(mkfifo(log, 0600), 0);
    CHECK_INT(mkfifo(metrics, 0600), 0);
    struct vm *vm = vm_from(
        "config.json",
        text_format(
            "{\"boot-source\":{\"kernel_image_path\":\"%s\",\"boot_args\":\"pci=off acpi=off\"},"
            "\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":64,\"smt\":false},"
            "\"drives\":[{\"drive_id\":\"rootfs\",\"is_root_device\":false,\"path_on_host\":\"%s\","
            "\"is_read_only\":true}%s],"
            "\"vsock\":{\"vsock_id\":\"root\",\"guest_cid\":3,\"uds_path\":\"%s\"},"
            "\"logger\":{\"log_path\":\"%s\"},\"metrics\":{\"metrics_path\":\"%s\"}}",
            bare_guest(BARE_TICK), root, placeholders(), e2e_path("v.sock"), log, metrics));

    vm_expect(vm, "M\n");
    vm_patch(vm, "/drives/drive_3", "{\"drive_id\":\"drive_3\",\"path_on_host\":\"%s\"}", root);
    json_t *config = vm_get(vm, "/vm/config");
    CHECK_INT(json_array_size(json_object_get(config, "drives")), PLACEHOLDERS + 1);
    CHECK(access(e2e_path("v.sock"), F_OK) == 0);
    vm_put(vm, "/actions", "{\"action_type\":\"FlushMetrics\"}");
    kill(vm->monitor.process.pid, SIGTERM);
    vm_dies(vm, SIGTERM);
}

E2E(a_machine_starts_from_what_another_shows_and_shows_the_same, TINY | SANITIZER)
{
    const char *disk = e2e_path("disk.img"), *socket = e2e_path("v.sock");
    CHECK_INT(files_make_sparse(disk, 4 << 20), 0);
    struct vm *first = vm_new(NULL);
    vm_put(first, "/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":128,\"smt\":true}");
    vm_put(first, "/boot-source", "{\"kernel_image_path\":\"%s\",\"boot_args\":\"x\"}",
           bare_guest(BARE_TICK));
    vm_put(first, "/drives/a",
           "{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"%s\",\"discard\":true,"
           "\"rate_limiter\":{\"ops\":{\"size\":5,\"refill_time\":6,\"one_time_burst\":7}}}",
           disk);
    vm_put(first, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", socket);
    vm_put(first, "/balloon", "{\"amount_mib\":8,\"deflate_on_oom\":true}");
    vm_put(first, "/entropy", "{\"rate_limiter\":{}}");
    vm_put(first, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\",\"read_only\":true}", disk);
    vm_put(first, "/hotplug/memory", "{\"total_size_mib\":256}");
    vm_start(first);
    vm_expect(first, "M\n");
    json_t *config = vm_get(first, "/vm/config");
    kill(first->monitor.process.pid, SIGKILL);
    vm_dies(first, SIGKILL);
    CHECK_INT(unlink(socket), 0);

    struct vm *second = vm_from("shown.json", json_dumps(config, 0));
    vm_expect(second, "M\n");
    CHECK(json_equal(config, vm_get(second, "/vm/config")));
}
