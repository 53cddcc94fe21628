/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations with test-init in a Linux guest. */
#include "tests/e2e/linux.h"

#include "tests/e2e/e2e.h"
#include "tests/support/clock.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Within the time limit of the test itself: on one emulated processor many vCPUs take long to come
 * up. */
enum { BOOT_MS = 200000, ANSWER_MS = 30000 };

void linux_machine(struct vm *vm, unsigned vcpus, unsigned mib)
{
    vm_put(vm, "/machine-config", "{\"vcpu_count\":%u,\"mem_size_mib\":%u}", vcpus, mib);
}

void linux_drive(struct vm *vm, const char *id, const char *path, const char *more)
{
    vm_put(vm, text_format("/drives/%s", id),
           "{\"drive_id\":\"%s\",\"is_root_device\":false,\"path_on_host\":\"%s\"%s}", id, path,
           more);
}

void linux_start(struct vm *vm, const char *kernel, const char *initrd, const char *more_args)
{
    char *member = initrd ? text_format(",\"initrd_path\":\"%s\"", e2e_guest(initrd)) : strdup("");
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\",\"boot_args\":\"%s %s\"%s}",
           kernel[0] == '/' ? kernel : e2e_guest(kernel), LINUX_ARGS, more_args, member);
    free(member);
    vm_start(vm);
    if (!monitor_expect(&vm->monitor, "READY\n", e2e_ms(BOOT_MS)))
        FAIL("the guest did not come up");
}

void linux_boot(struct vm *vm)
{
    linux_machine(vm, 1, 128);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "");
}

/* Where the line that ends an answer starts, or NULL. A kernel's own lines may stand around it. */
static const char *last_word(const char *text)
{
    for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL) {
        const char *end = strchr(line, '\n');
        if (end && (!strncmp(line, "OK\n", 3) || !strncmp(line, "ERR ", 4)))
            return line;
    }
    return NULL;
}

/* Sends a command; returns its whole answer with the line that ends it. */
static char *converse(struct vm *vm, const char *command)
{
    int64_t deadline = clock_ms() + e2e_ms(ANSWER_MS);
    char *line = text_format("%s\n", command);
    vm_type(vm, line);
    free(line);
    while (!last_word(monitor_unseen(&vm->monitor))) {
        if (vm->monitor.process.ended || !clock_left(deadline))
            FAIL("no answer to \"%s\"", command);
        process_pump(&vm->monitor.process, clock_left(deadline));
    }
    const char *answer = monitor_unseen(&vm->monitor);
    size_t length = (size_t)(strchr(last_word(answer), '\n') + 1 - answer);
    vm->monitor.seen += length;
    return strndup(answer, length);
}

const char *ask(struct vm *vm, const char *format, ...)
{
    va_list list;
    char *command;
    va_start(list, format);
    if (vasprintf(&command, format, list) < 0)
        abort();
    va_end(list);
    char *answer = converse(vm, command);
    char *end = answer + (last_word(answer) - answer);
    if (*end != 'O')
        FAIL("the guest answered \"%s\" with: %s", command, answer);
    *end = '\0';
    free(command);
    return answer;
}

const char *ask_failing(struct vm *vm, const char *format, ...)
{
    va_list list;
    char *command;
    va_start(list, format);
    if (vasprintf(&command, format, list) < 0)
        abort();
    va_end(list);
    const char *answer = converse(vm, command);
    const char *end = last_word(answer);
    if (*end != 'E')
        FAIL("\"%s\" should have failed in the guest, but: %s", command, answer);
    free(command);
    return end + 4;
}

unsigned long long number_of(const char *answer, const char *key)
{
    char *pattern = text_format("%s=", key);
    const char *hit = strstr(answer, pattern);
    if (!hit)
        FAIL("no %s in: %s", pattern, answer);
    unsigned long long number = strtoull(hit + strlen(pattern), NULL, 10);
    free(pattern);
    return number;
}

const char *disk_line(struct vm *vm, const char *disk)
{
    const char *all = ask(vm, "disks");
    char *start = text_format("%s ", disk);
    for (const char *line = all; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (!strncmp(line, start, strlen(start)))
            return strndup(line, strcspn(line, "\n"));
    FAIL("the guest has no %s but:\n%s", disk, all);
}

void linux_leave(struct vm *vm, const char *command)
{
    char *line = text_format("%s\n", command);
    vm_type(vm, line);
    free(line);
    vm_expect(vm, "OK\n");
}
