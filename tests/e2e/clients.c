/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the API socket that come in numbers, stop half way, or go away. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/clock.h"

#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

static int connected(struct vm *vm)
{
    int fd = api_connect(vm->monitor.socket);
    if (fd < 0)
        FAIL("the socket does not accept: %s", strerror(-fd));
    return fd;
}

E2E(the_eleventh_connection_gets_503_and_room_comes_back, HOST | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    int fds[10];
    struct api_answer a;
    for (unsigned i = 0; i < 10; i++)
        fds[i] = connected(vm);
    clock_sleep(50);
    CHECK_INT(monitor_call(&vm->monitor, &a, "GET", "/", NULL, e2e_ms(VM_MS)), API_ANSWERED);
    CHECK_INT(a.status, 503);
    CHECK_HAS(text_str(&a.body), "\"error\"");
    for (unsigned i = 0; i < 10; i++)
        close(fds[i]);
    clock_sleep(50);
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(a_client_that_vanishes_in_the_middle_of_a_request_costs_nothing, HOST | SANITIZER)
{
    static const char *const parts[] = {
        "",
        "P",
        "PUT /machine-config HTT",
        "PUT /machine-config HTTP/1.1\r\nContent-Len",
        "PUT /machine-config HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"vcpu_count\":",
        "PUT /machine-config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n"};
    struct vm *vm = vm_new(NULL);
    for (unsigned round = 0; round < 20; round++)
        for (unsigned i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
            int fd = connected(vm);
            api_send(fd, parts[i], strlen(parts[i]));
            close(fd);
        }
    CHECK(!strcmp(vm_state(vm), "Not started"));
    json_t *config = vm_get(vm, "/machine-config");
    CHECK_INT(json_integer_value(json_object_get(config, "vcpu_count")), 1);
}

E2E(a_client_that_does_not_wait_for_its_answer_costs_nothing, HOST | SANITIZER)
{
    static const char request[] = "GET /vm/config HTTP/1.1\r\n\r\n";
    struct vm *vm = vm_new(NULL);
    for (unsigned i = 0; i < 200; i++) {
        int fd = connected(vm);
        api_send(fd, request, sizeof(request) - 1);
        close(fd);
    }
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(a_client_that_half_closes_still_gets_its_answer, HOST)
{
    static const char request[] = "GET /version HTTP/1.1\r\n\r\n";
    struct vm *vm = vm_new(NULL);
    for (unsigned i = 0; i < 50; i++) {
        struct text pending = {0};
        struct api_answer a;
        int fd = connected(vm);
        api_send(fd, request, sizeof(request) - 1);
        shutdown(fd, SHUT_WR);
        CHECK_INT(api_receive(fd, &pending, &a, e2e_ms(VM_MS)), API_ANSWERED);
        CHECK_INT(a.status, 200);
        api_answer_free(&a);
        text_free(&pending);
        close(fd);
    }
}

E2E(a_client_that_never_reads_does_not_hold_up_the_others, HOST)
{
    static const char request[] = "GET /vm/config HTTP/1.1\r\n\r\n";
    struct vm *vm = vm_new(NULL);
    int stuck = connected(vm);
    for (unsigned i = 0; i < 5000; i++)
        if (send(stuck, request, sizeof(request) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
    for (unsigned i = 0; i < 50; i++)
        CHECK(!strcmp(vm_state(vm), "Not started"));
    close(stuck);
    CHECK(!strcmp(vm_state(vm), "Not started"));
}

E2E(a_slow_request_does_not_hold_up_the_others, TINY)
{
    struct vm *vm = vm_new(NULL);
    int slow = connected(vm);
    api_send(slow, "GET /ver", 8);
    vm_boot(vm, bare_guest(BARE_TICK), "x");
    vm_expect(vm, "M\n");
    CHECK(!strcmp(vm_state(vm), "Running"));
    struct text pending = {0};
    struct api_answer a;
    api_send(slow, "sion HTTP/1.1\r\n\r\n", 17);
    CHECK_INT(api_receive(slow, &pending, &a, e2e_ms(VM_MS)), API_ANSWERED);
    CHECK_INT(a.status, 200);
}
