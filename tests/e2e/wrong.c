/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong configurations: a clear sentence, the right status, and nothing changed. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

static void must_write(const char *path, const void *data, size_t len)
{
    int ret = files_write(path, data, len);
    if (ret)
        FAIL("cannot write %s: %s", path, strerror(-ret));
}

/* A kernel that opens but cannot be loaded: the start fails, and a good kernel then starts. */
static void start_fails_and_can_be_repeated(const char *kernel, const char *part)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}");
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\",\"boot_args\":\"x\"}", kernel);
    vm_refused(vm, "PUT", "/actions", part, "{\"action_type\":\"InstanceStart\"}");
    CHECK(!strcmp(vm_state(vm), "Not started"));
    vm_boot(vm, bare_guest(BARE_RESET), "x");
    vm_exits(vm, 0);
}

/* A copy of a good bare kernel with `len` bytes of `patch` written at `offset`. */
static const char *damaged_kernel(size_t offset, const void *patch, size_t len)
{
    struct text t = {0};
    text_read_file(&t, bare_guest(BARE_TICK));
    CHECK(offset + len <= t.len);
    memcpy(t.data + offset, patch, len);
    const char *path = e2e_path("damaged");
    must_write(path, t.data, t.len);
    return path;
}

E2E(a_missing_kernel_is_refused_and_the_earlier_one_kept, HOST | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\"}", bare_guest(BARE_TICK));
    vm_refused(vm, "PUT", "/boot-source", "No such file or directory",
               "{\"kernel_image_path\":\"%s\"}", e2e_path("missing"));
    json_t *config = vm_get(vm, "/vm/config");
    const char *kept = json_string_value(
        json_object_get(json_object_get(config, "boot-source"), "kernel_image_path"));
    CHECK_HAS(kept, "guest-tick");
}

E2E(a_missing_initrd_is_refused, HOST)
{
    struct vm *vm = vm_new(NULL);
    vm_refused(vm, "PUT", "/boot-source", "initrd",
               "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\"}", bare_guest(BARE_TICK),
               e2e_path("missing"));
}

E2E(an_empty_kernel_fails_the_start, TINY | SANITIZER)
{
    const char *path = e2e_path("empty");
    must_write(path, "", 0);
    start_fails_and_can_be_repeated(path, "kernel");
}

E2E(a_kernel_of_text_fails_the_start, TINY)
{
    const char *path = e2e_path("text");
    must_write(path, "not a kernel\n", 13);
    start_fails_and_can_be_repeated(path, "kernel");
}

E2E(a_directory_as_kernel_fails_the_start, TINY)
{
    start_fails_and_can_be_repeated(e2e_dir, "kernel");
}

E2E(a_truncated_kernel_fails_the_start, TINY | SANITIZER)
{
    struct text t = {0};
    text_read_file(&t, bare_guest(BARE_TICK));
    const char *path = e2e_path("short");
    must_write(path, t.data, t.len - 4);
    start_fails_and_can_be_repeated(path, "kernel");
}

E2E(a_kernel_whose_header_is_cut_fails_the_start, TINY)
{
    struct text t = {0};
    text_read_file(&t, bare_guest(BARE_TICK));
    const char *path = e2e_path("short");
    must_write(path, t.data, 40);
    start_fails_and_can_be_repeated(path, "kernel");
}

E2E(a_kernel_that_wants_memory_beyond_the_machine_fails_the_start, TINY | SANITIZER)
{
    /* p_memsz of the only segment: 1 GiB in a machine of 64 MiB. */
    unsigned long long size = 1 << 30;
    start_fails_and_can_be_repeated(damaged_kernel(64 + 40, &size, sizeof(size)), "kernel");
}

E2E(a_kernel_whose_segment_wraps_around_fails_the_start, TINY | SANITIZER)
{
    unsigned long long address = 0xfffffffffffff000;
    start_fails_and_can_be_repeated(damaged_kernel(64 + 24, &address, sizeof(address)), "kernel");
}

E2E(a_kernel_for_another_architecture_fails_the_start, TINY)
{
    unsigned short aarch64 = 183;
    start_fails_and_can_be_repeated(damaged_kernel(18, &aarch64, sizeof(aarch64)), "kernel");
}

E2E(an_initrd_that_does_not_fit_fails_the_start, TINY)
{
    const char *initrd = e2e_path("initrd");
    CHECK_INT(files_make_sparse(initrd, 200ULL << 20), 0);
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}");
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\"}",
           bare_guest(BARE_TICK), initrd);
    vm_refused(vm, "PUT", "/actions", "nitrd", "{\"action_type\":\"InstanceStart\"}");
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(a_command_line_that_is_too_long_fails_the_start, TINY)
{
    char *args = calloc(1, 4001);
    memset(args, 'a', 4000);
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}");
    struct api_answer a;
    char *body = text_format("{\"kernel_image_path\":\"%s\",\"boot_args\":\"%s\"}",
                             bare_guest(BARE_TICK), args);
    CHECK_INT(monitor_call(&vm->monitor, &a, "PUT", "/boot-source", body, e2e_ms(VM_MS)),
              API_ANSWERED);
    if (a.status == 204)
        vm_refused(vm, "PUT", "/actions", "ommand line", "{\"action_type\":\"InstanceStart\"}");
    else
        CHECK_HAS(text_str(&a.body), "ommand line");
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

static void drive_is_refused(const char *path, const char *part)
{
    struct vm *vm = vm_new(NULL);
    vm_refused(vm, "PUT", "/drives/a", part,
               "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"%s\"}", path);
    json_t *config = vm_get(vm, "/vm/config");
    CHECK_INT(json_array_size(json_object_get(config, "drives")), 0);
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(a_missing_disk_is_refused, HOST)
{
    drive_is_refused(e2e_path("missing"), "No such file or directory");
}

E2E(a_directory_as_disk_is_refused, HOST | SANITIZER)
{
    drive_is_refused(e2e_dir, "irectory");
}

/* Opening a fifo for reading waits for a writer: a monitor that does so hangs here for good. */
E2E(a_fifo_as_disk_is_refused_at_once, HOST | SANITIZER)
{
    const char *path = e2e_path("fifo");
    CHECK_INT(mkfifo(path, 0600), 0);
    drive_is_refused(path, "fifo");
}

E2E(a_fifo_as_kernel_does_not_hang_the_monitor, HOST)
{
    const char *path = e2e_path("fifo");
    struct api_answer a;
    CHECK_INT(mkfifo(path, 0600), 0);
    struct vm *vm = vm_new(NULL);
    char *body = text_format("{\"kernel_image_path\":\"%s\"}", path);
    CHECK_INT(monitor_call(&vm->monitor, &a, "PUT", "/boot-source", body, e2e_ms(VM_MS)),
              API_ANSWERED);
    if (a.status == 204)
        vm_refused(vm, "PUT", "/actions", "kernel", "{\"action_type\":\"InstanceStart\"}");
    else
        CHECK_INT(a.status, 400);
    CHECK(!strcmp(vm_state(vm), "Not started"));
}
