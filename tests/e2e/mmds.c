/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service in front of real guests: Linux's own TCP, as it is and made awkward (a small
 * buffer, long pauses, lost segments, a half that is closed), against what the host has stored.
 */
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS "169.254.169.254"

/* The limit of the store, and of the request that fills it, is 51200 bytes. */
enum { BIG = 51200 - 200 };

#define SMALL_STORE                                                                                \
    "{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-1\",\"sub\":{\"k\":\"v\"}},\"cpu\":512}}"

/* ---- the host's side ------------------------------------------------------------------------- */

/* A guest with an interface through which it reaches the service; `members` are further ones. */
static struct vm *mmds_vm(const char *store, const char *members)
{
    struct vm *vm = vm_new(NULL);
    vm_metrics(vm);
    vm_put(vm, "/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"mmds%d\"}",
           (int)vm->monitor.process.pid % 100000);
    vm_put(vm, "/mmds/config", "{\"network_interfaces\":[\"eth0\"]%s}", members);
    vm_put(vm, "/mmds", "%s", store);
    linux_machine(vm, 1, 64);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "");
    ask(vm, "link eth0 169.254.1.2 255.255.0.0");
    return vm;
}

static uint32_t hash(const char *text, size_t len)
{
    uint32_t h = 2166136261;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619;
    return h;
}

/* A text that tells of each byte where it belongs. */
static const char *big_text(void)
{
    static char text[BIG + 1];
    uint64_t seed = 1;
    for (size_t i = 0; i < BIG; i++)
        text[i] = (char)('a' + e2e_random(&seed) % 26);
    return text;
}

static struct vm *big_vm(void)
{
    char *store = text_format("{\"big\":\"%s\"}", big_text());
    struct vm *vm = mmds_vm(store, "");
    free(store);
    return vm;
}

/* That the guest gets the big text whole, when it asks in this way. */
static void check_big(struct vm *vm, const char *options)
{
    const char *answer = ask(vm, "http GET " ADDRESS " /big %s", options);
    CHECK_INT(number_of(answer, "status"), 200);
    CHECK_INT(number_of(answer, "length"), BIG);
    CHECK_INT(number_of(answer, "hash"), hash(big_text(), BIG));
}

/* What the guest is told. */
static void check_told(struct vm *vm, const char *request, unsigned status, const char *body)
{
    const char *answer = ask(vm, "http %s show", request);
    char *line = text_format("body=%s\n", body);
    if (number_of(answer, "status") != status || !strstr(answer, line))
        FAIL("%s: expected %u %s, came: %s", request, status, body, answer);
    free(line);
}

/* ---- what is answered ------------------------------------------------------------------------ */

E2E(guest_reads_metadata, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = mmds_vm(SMALL_STORE, "");
    check_told(vm, "GET " ADDRESS " /latest/meta-data", 200, "ami-id|sub/");
    check_told(vm, "GET " ADDRESS " /latest/meta-data/ami-id", 200, "ami-1");
    check_told(vm, "GET " ADDRESS " /latest Accept:application/json", 200,
               "{\"cpu\":512,\"meta-data\":{\"ami-id\":\"ami-1\",\"sub\":{\"k\":\"v\"}}}");
    check_told(vm, "GET " ADDRESS " /none", 404, "Resource not found: /none.");
    check_told(vm, "GET " ADDRESS " /latest/cpu", 501,
               "Cannot retrieve value. The value has an unsupported type.");
    CHECK_HAS(ask(vm, "http DELETE " ADDRESS " / show"), "Allow: GET, PUT");

    vm_patch(vm, "/mmds", "{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-2\"}}}");
    check_told(vm, "GET " ADDRESS " /latest/meta-data/ami-id", 200, "ami-2");
    CHECK_INT(vm_counted(vm, "mmds", "connections_created"), 7);
    CHECK_INT(vm_counted(vm, "mmds", "rx_no_token"), 6);
    CHECK_INT(vm_counted(vm, "mmds", "rx_accepted_err"), 0);
}

E2E(guest_needs_a_token_for_version_2, LINUX)
{
    struct vm *vm = mmds_vm(SMALL_STORE, ",\"version\":\"V2\",\"ipv4_address\":\"169.254.170.2\"");
    check_told(vm, "GET 169.254.170.2 /latest", 401,
               "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` "
               "header to specify the session token.");
    check_told(vm, "GET 169.254.170.2 /latest X-metadata-token:foo", 401, "MMDS token not valid.");

    const char *answer = ask(vm, "http PUT 169.254.170.2 /latest/api/token "
                                 "X-aws-ec2-metadata-token-ttl-seconds:60 show");
    const char *token = strstr(answer, "body=");
    CHECK(token != NULL);
    token = strndup(token + 5, strcspn(token + 5, "\n"));
    char *request = text_format("GET 169.254.170.2 /latest X-aws-ec2-metadata-token:%s", token);
    check_told(vm, request, 200, "cpu|meta-data/");
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    check_told(vm, request, 200, "cpu|meta-data/");
    CHECK_INT(vm_counted(vm, "mmds", "rx_invalid_token"), 1);
}

E2E(guest_s_token_ends, LINUX)
{
    struct vm *vm = mmds_vm(SMALL_STORE, ",\"version\":\"V2\"");
    const char *answer =
        ask(vm, "http PUT " ADDRESS " /latest/api/token X-metadata-token-ttl-seconds:2 show");
    const char *token = strstr(answer, "body=");
    CHECK(token != NULL);
    char *request = text_format("GET " ADDRESS " /latest X-metadata-token:%s",
                                strndup(token + 5, strcspn(token + 5, "\n")));
    check_told(vm, request, 200, "cpu|meta-data/");
    ask(vm, "sleep 2500");
    check_told(vm, request, 401, "MMDS token not valid.");
}

/* ---- how it arrives -------------------------------------------------------------------------- */

E2E(guest_gets_values_of_many_segments, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = big_vm();
    for (int i = 0; i < 10; i++)
        check_big(vm, "");
    check_big(vm, "half");
    ask(vm, "link eth0 169.254.1.2 255.255.0.0 576");
    check_big(vm, "");
}

E2E(guest_that_reads_slowly_gets_all_of_it, LINUX | SANITIZER)
{
    struct vm *vm = big_vm();
    check_big(vm, "buffer=2048");
    check_big(vm, "buffer=4096 pause=10");
}

E2E(guest_that_loses_segments_gets_all_of_it, LINUX)
{
    struct vm *vm = big_vm();
    ask(vm, "gro eth0 off");
    check_big(vm, "loss=5");
    check_big(vm, "loss=20");
    check_big(vm, "loss=10 buffer=4096");
    CHECK(vm_counted(vm, "mmds", "tx_bytes") >
          3 * BIG * 11 / 10); /* what was lost was sent again */
}

E2E(guest_s_thirty_connections_are_served_and_no_more, LINUX)
{
    struct vm *vm = mmds_vm(SMALL_STORE, "");
    const char *answer = ask(vm, "http-many " ADDRESS " /latest 30");
    CHECK_INT(number_of(answer, "good"), 60);
    CHECK_INT(number_of(answer, "refused"), 0);
    answer = ask(vm, "http-many " ADDRESS " /latest 40");
    CHECK_INT(number_of(answer, "good"), 60);
    CHECK_INT(number_of(answer, "refused"), 10);
    check_told(vm, "GET " ADDRESS " /latest", 200, "cpu|meta-data/");
    CHECK_INT(vm_counted(vm, "mmds", "connections_created"), 61);
}

E2E(guest_paused_in_the_middle_of_an_answer_gets_the_rest, LINUX)
{
    struct vm *vm = big_vm();
    vm_type(vm, "http GET " ADDRESS " /big buffer=4096 pause=20\n"); /* some seconds */
    for (int i = 0; i < 5; i++) {
        process_pump(&vm->monitor.process, 100);
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        process_pump(&vm->monitor.process, 500);
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    }
    char *want = text_format("status=200 length=%d hash=%u\n", BIG, hash(big_text(), BIG));
    vm_expect(vm, want);
    free(want);
}

E2E(guest_s_driver_starts_anew_and_reads_metadata_again, LINUX | SANITIZER)
{
    struct vm *vm = big_vm();
    const char *device = ask(vm, "ls /sys/bus/virtio/drivers/virtio_net");
    const char *name = strstr(device, "virtio");
    CHECK(name != NULL);
    name = strndup(name, strcspn(name, "\n"));
    for (int i = 0; i < 5; i++) {
        check_big(vm, "");
        ask(vm, "set /sys/bus/virtio/drivers/virtio_net/unbind %s", name);
        ask(vm, "set /sys/bus/virtio/drivers/virtio_net/bind %s", name);
        ask(vm, "link eth0 169.254.1.2 255.255.0.0");
    }
    check_big(vm, "");
}

/* ---- a client of others ---------------------------------------------------------------------- */

/* The initrd of the Debian guest, of which only busybox is wanted: it becomes PID 1 as a shell. */
E2E(busybox_wget_reads_metadata, DEBIAN | LINUX)
{
    struct vm *vm = vm_new(NULL);
    char *store = text_format("{\"a\":{\"big\":\"%s\",\"k\":\"v\"}}", big_text());
    vm_put(vm, "/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"wget%d\"}",
           (int)vm->monitor.process.pid % 100000);
    vm_put(vm, "/mmds/config", "{\"network_interfaces\":[\"eth0\"]}");
    vm_put(vm, "/mmds", "%s", store);
    free(store);
    linux_machine(vm, 1, 128);
    vm_put(
        vm, "/boot-source",
        "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\",\"boot_args\":\"" LINUX_ARGS
        " rdinit=/bin/busybox -- sh -c \\\"b=/bin/busybox; $b ip addr add 169.254.1.2/16 dev eth0; "
        "$b ip link set eth0 up; url=http://" ADDRESS "/a; "
        "echo names: $($b wget -q -O - $url | $b tr '\\\\n' ,); "
        "echo json: $($b wget -q -O - --header 'Accept: application/json' $url/k); "
        "echo bytes: $($b wget -q -O - $url/big | $b wc -c); "
        "$b wget -O - $url/none; $b sync; $b reboot -f\\\"\"}",
        e2e_guest(REFERENCE_ELF), e2e_guest("debian-initrd.cpio"));
    vm_start(vm);
    vm_expect(vm, "names: big,k");
    vm_expect(vm, "json: \"v\"");
    char *bytes = text_format("bytes: %d", BIG);
    vm_expect(vm, bytes);
    free(bytes);
    vm_expect(vm, "404");
    vm_exits(vm, 0);
}
