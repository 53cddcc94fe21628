/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine is made of: memory, vCPUs, command line, names; pausing it; many of them. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/clock.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

struct range {
    unsigned long long start, size;
    unsigned type;
};

/* Boots the guest that prints its memory map; returns the number of entries read. */
static unsigned memory_map(unsigned long long mib, struct range *map, unsigned room)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":%llu}", mib);
    vm_boot(vm, bare_guest(BARE_E820), "x");
    vm_expect(vm, "M\n");
    unsigned n = 0;
    const char *line = vm_out(vm);
    while (n < room &&
           sscanf(line, "%llx %llx %x", &map[n].start, &map[n].size, &map[n].type) == 3) {
        line = strchr(line, '\n') + 1;
        n++;
    }
    return n;
}

/* RAM of the map inside [from, to). */
static unsigned long long ram_between(const struct range *map, unsigned n, unsigned long long from,
                                      unsigned long long to)
{
    unsigned long long sum = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned long long start = map[i].start > from ? map[i].start : from;
        unsigned long long end = map[i].start + map[i].size;
        end = end < to ? end : to;
        if (map[i].type == 1 && start < end)
            sum += end - start;
    }
    return sum;
}

E2E(small_memory_is_all_below_the_hole, TINY | INTEL)
{
    struct range map[32];
    unsigned n = memory_map(64, map, 32);
    CHECK_INT(ram_between(map, n, MIB, 64 * MIB), 63 * MIB);
    CHECK_INT(ram_between(map, n, 64 * MIB, ~0ULL), 0);
    CHECK_INT(ram_between(map, n, 0, MIB), 0x9fc00);
}

E2E(five_gib_of_memory_continue_above_the_hole, TINY)
{
    struct range map[32];
    unsigned n = memory_map(5 * 1024, map, 32);
    CHECK_INT(ram_between(map, n, MIB, 3 * GIB), 3 * GIB - MIB);
    CHECK_INT(ram_between(map, n, 3 * GIB, 4 * GIB), 0);
    CHECK_INT(ram_between(map, n, 4 * GIB, ~0ULL), 2 * GIB);
}

E2E(a_sparse_sixty_four_gib_guest_starts, TINY)
{
    struct range map[32];
    unsigned n = memory_map(64 * 1024, map, 32);
    CHECK_INT(ram_between(map, n, 4 * GIB, ~0ULL), 61 * GIB);
}

E2E(memory_that_cannot_fit_is_refused_and_a_smaller_machine_starts, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\",\"boot_args\":\"x\"}",
           bare_guest(BARE_TICK));
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1099511627776}");
    vm_refused(vm, "PUT", "/actions", "emory", "{\"action_type\":\"InstanceStart\"}");
    CHECK(!strcmp(vm_state(vm), "Not started"));
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}");
    vm_start(vm);
    vm_expect(vm, "M\n");
}

/* Whether the monitor has a thread of this name. */
static bool has_thread(const struct vm *vm, const char *name)
{
    char *path = text_format("/proc/%d/task", vm->monitor.process.pid);
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool found = false;
    while (dir && (entry = readdir(dir))) {
        struct text comm = {0};
        char *file = text_format("%s/%s/comm", path, entry->d_name);
        text_read_file(&comm, file);
        found |= comm.len && !strncmp(text_str(&comm), name, strlen(name)) &&
                 comm.len == strlen(name) + 1;
        text_free(&comm);
        free(file);
    }
    if (dir)
        closedir(dir);
    free(path);
    return found;
}

E2E(threads_have_the_names_that_tools_look_for, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64}");
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    CHECK(has_thread(vm, "firecracker"));
    CHECK(has_thread(vm, "fc_vcpu 0"));
    CHECK(has_thread(vm, "fc_vcpu 1"));
    CHECK(!has_thread(vm, "fc_vcpu 2"));
}

E2E(thirty_two_vcpus_start, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":32,\"mem_size_mib\":64}");
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    CHECK(has_thread(vm, "fc_vcpu 31"));
}

/* The command line that a guest with these arguments and drives sees, in brackets. */
static const char *command_line(struct vm *vm, const char *boot_args_member)
{
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\"%s}", bare_guest(BARE_CMDLINE),
           boot_args_member);
    vm_start(vm);
    vm_expect(vm, "]M\n");
    return vm_out(vm);
}

E2E(command_line_is_the_default_when_none_is_given, TINY | INTEL)
{
    CHECK_HAS(command_line(vm_new(NULL), ""),
              "[reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd "
              "swiotlb=noforce pci=off]");
}

E2E(command_line_that_is_given_is_kept_and_added_to, TINY)
{
    CHECK_HAS(command_line(vm_new(NULL), ",\"boot_args\":\"console=ttyS0 quiet\""),
              "[console=ttyS0 quiet pci=off]");
}

E2E(command_line_additions_stand_before_the_arguments_of_init, TINY)
{
    CHECK_HAS(command_line(vm_new(NULL), ",\"boot_args\":\"a=b -- c d\""), "[a=b pci=off -- c d]");
}

static struct vm *vm_with_root(const char *more)
{
    struct vm *vm = vm_new(NULL);
    const char *disk = e2e_path("disk");
    FILE *f = fopen(disk, "w");
    CHECK(f && ftruncate(fileno(f), 1 << 20) == 0 && fclose(f) == 0);
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"path_on_host\":\"%s\"%s}", disk, more);
    return vm;
}

E2E(command_line_names_the_root_drive_and_its_device, TINY)
{
    const char *line = command_line(vm_with_root(""), ",\"boot_args\":\"x\"");
    CHECK_HAS(line, "[x pci=off root=/dev/vda rw virtio_mmio.device=4K@0xc0001000:");
}

E2E(command_line_names_a_read_only_root_by_its_partition, TINY)
{
    const char *line =
        command_line(vm_with_root(",\"is_read_only\":true,\"partuuid\":\"0eaa91a0-01\""),
                     ",\"boot_args\":\"x\"");
    CHECK_HAS(line, " root=PARTUUID=0eaa91a0-01 ro ");
}

E2E(a_thousand_pauses_and_resumes, TINY | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64}");
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    for (int i = 0; i < 1000; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    }
    vm_expect(vm, "M\nM\nM\n");
    CHECK(!strcmp(vm_state(vm), "Running"));
}

E2E(a_paused_guest_does_not_run, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    clock_sleep(50);
    size_t before = strlen(vm_out(vm));
    clock_sleep(300);
    CHECK_INT(strlen(vm_out(vm)), before);
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    vm_expect(vm, "M\nM\n");
}

E2E(sigterm_ends_a_paused_machine, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    kill(vm->monitor.process.pid, SIGTERM);
    vm_dies(vm, SIGTERM);
}

E2E(twenty_monitors_run_at_once, TINY | SANITIZER)
{
    struct vm *vms[20];
    for (unsigned i = 0; i < 20; i++) {
        vms[i] = vm_new(NULL);
        vm_boot(vms[i], bare_guest(BARE_ECHO), "x");
    }
    for (unsigned i = 0; i < 20; i++) {
        char *line = text_format("guest %u\n", i);
        vm_expect(vms[i], "M\n");
        vm_type(vms[i], line);
        vm_expect(vms[i], line);
    }
    for (unsigned i = 0; i < 20; i++) {
        vm_type(vms[i], "q");
        vm_exits(vms[i], 0);
    }
}
