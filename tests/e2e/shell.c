/* SPDX-License-Identifier: Apache-2.0 */
/* Prepared shells: whatever a waiting monitor has made ahead, and whenever it is asked, the machine
 * is the one that was asked for. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/text.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* After exec: at once, when there is a VM, when its interrupt controllers are young, when they have
 * aged. */
static const unsigned delays_us[] = {0, 2000, 8000, 20000};

#define DELAYS (sizeof(delays_us) / sizeof(*delays_us))

static bool has_descriptor(struct vm *vm, const char *target)
{
    const char *path = text_format("/proc/%d/fd", vm->monitor.process.pid);
    DIR *dir = opendir(path);
    bool found = false;
    CHECK(dir != NULL);
    for (struct dirent *entry; !found && (entry = readdir(dir));) {
        char is[256];
        ssize_t n = readlink(text_format("%s/%s", path, entry->d_name), is, sizeof(is) - 1);
        found = n > 0 && strncmp(is, target, strlen(target)) == 0;
    }
    closedir(dir);
    return found;
}

/* A monitor that has waited until its shell is whole and old enough on any host. */
static struct vm *waited(void)
{
    struct vm *vm = vm_new(NULL);
    while (!has_descriptor(vm, "anon_inode:kvm-vcpu"))
        usleep(1000); /* the test's own time limit ends this */
    usleep(100000);
    return vm;
}

static void expect_shell(struct vm *vm, const char *words)
{
    json_t *timeline = vm_get(vm, "/timeline");
    const char *shell = json_string_value(json_object_get(timeline, "shell"));
    if (!shell || !strstr(words, shell))
        FAIL("the shell was %s, not %s", shell ? shell : "not told of", words);
    json_decref(timeline);
}

static void configure(struct vm *vm, unsigned vcpus, unsigned mib)
{
    vm_put(vm, "/machine-config", "{\"vcpu_count\":%u,\"mem_size_mib\":%u}", vcpus, mib);
}

static void load(struct vm *vm)
{
    vm_put(vm, "/snapshot/load",
           "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"%s\","
           "\"backend_type\":\"File\"},\"resume_vm\":true}",
           e2e_path("s.state"), e2e_path("s.mem"));
}

/* A snapshot of a guest that has answered with an a. */
static void make_template(unsigned vcpus, unsigned mib)
{
    struct vm *vm = vm_new(NULL);
    configure(vm, vcpus, mib);
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    vm_type(vm, ".");
    vm_expect(vm, "a");
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_put(vm, "/snapshot/create", "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
           e2e_path("s.state"), e2e_path("s.mem"));
}

static void load_after_each_delay(unsigned vcpus, unsigned mib)
{
    make_template(vcpus, mib);
    for (unsigned i = 0; i < DELAYS; i++) {
        struct vm *vm = vm_new(NULL);
        usleep(delays_us[i]);
        load(vm);
        vm_type(vm, "..");
        vm_expect(vm, "bc");
        json_t *config = vm_get(vm, "/machine-config");
        CHECK_INT(json_integer_value(json_object_get(config, "vcpu_count")), vcpus);
        CHECK_INT(json_integer_value(json_object_get(config, "mem_size_mib")), mib);
        json_decref(config);
        expect_shell(vm, "none vm vcpu left");
    }
}

E2E(a_machine_of_64_mib_is_loaded_whenever_it_is_asked_for, TINY)
{
    load_after_each_delay(1, 64);
}

E2E(a_machine_of_four_vcpus_is_loaded_whenever_it_is_asked_for, TINY)
{
    load_after_each_delay(4, 192);
}

E2E(a_machine_of_4_gib_and_four_vcpus_is_loaded_whenever_it_is_asked_for, TINY)
{
    load_after_each_delay(4, 4096);
}

E2E(a_machine_boots_whenever_it_is_asked_for, TINY)
{
    for (unsigned i = 0; i < DELAYS; i++) {
        struct vm *vm = vm_new(NULL);
        usleep(delays_us[i]);
        configure(vm, i % 2 ? 4 : 1, i < 2 ? 64 : 4096);
        vm_boot(vm, bare_guest(BARE_COUNT), "");
        vm_expect(vm, "M\n");
        vm_type(vm, "..");
        vm_expect(vm, "ab");
    }
}

E2E(a_monitor_that_has_waited_loads_into_its_shell, TINY | INTEL)
{
    make_template(1, 64);
    struct vm *vm = waited();
    load(vm);
    vm_type(vm, ".");
    vm_expect(vm, "b");
    expect_shell(vm, "vcpu");
}

E2E(a_monitor_that_has_waited_boots_in_its_shell, TINY)
{
    struct vm *vm = waited();
    configure(vm, 2, 192);
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    expect_shell(vm, "vcpu");
}

E2E(a_start_that_fails_in_a_shell_can_be_tried_again, TINY)
{
    struct vm *vm = waited();
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\"}", e2e.monitor); /* no kernel */
    vm_refused(vm, "PUT", "/actions", "kernel", "{\"action_type\":\"InstanceStart\"}");
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    expect_shell(vm, "none");
}
