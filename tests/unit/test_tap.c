/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of virtio/net/tap.c on taps of this host, in a network namespace of the test's own; left
 * out where the host gives none.
 */
#include "tests/unit/unit.h"
#include "virtio/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BAD_BACKEND(error, name)                                                                   \
    "Open tap device failed: Error while creating ifreq structure: " error                         \
    ". Invalid TUN/TAP Backend provided by " name                                                  \
    ". Check our documentation on setting up the network devices."

static int enter_namespace(void **state)
{
    (void)state;
    return unshare(CLONE_NEWNET);
}

static void expect_refused(const char *name, int code, const char *text)
{
    struct err e = {0};
    struct tap tap;

    assert_int_equal(tap_open(&tap, name, &e), code);
    assert_string_equal(e.text, text);
    assert_int_equal(tap.fd, -1);
}

static void set_up_interface(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void test_tap_missing_is_made_and_goes_with_its_end(void **state)
{
    struct tap tap;

    (void)state;
    assert_int_equal(if_nametoindex("fresh0"), 0);
    assert_int_equal(tap_open(&tap, "fresh0", NULL), 0);
    assert_string_equal(tap.name, "fresh0");
    assert_int_not_equal(if_nametoindex("fresh0"), 0);
    tap_close(&tap);
    assert_int_equal(if_nametoindex("fresh0"), 0);
}

static void test_tap_without_name_gets_one(void **state)
{
    struct tap tap;

    (void)state;
    assert_int_equal(tap_open(&tap, "", NULL), 0);
    assert_true(strlen(tap.name) > 0);
    assert_int_not_equal(if_nametoindex(tap.name), 0);
    tap_close(&tap);
}

static void test_tap_in_use_is_refused(void **state)
{
    struct tap tap;

    (void)state;
    assert_int_equal(tap_open(&tap, "busy0", NULL), 0);
    expect_refused("busy0", -EBUSY, BAD_BACKEND("Device or resource busy (os error 16)", "busy0"));
    tap_close(&tap);
}

static void test_tap_of_several_queues_is_refused(void **state)
{
    struct ifreq request = {.ifr_name = "multi0",
                            .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
    int fd = open("/dev/net/tun", O_RDWR);

    (void)state;
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    expect_refused("multi0", -EINVAL, BAD_BACKEND("Invalid argument (os error 22)", "multi0"));
    close(fd);
}

static void test_tap_that_is_no_tap_is_refused(void **state)
{
    (void)state;
    expect_refused("lo", -EINVAL, BAD_BACKEND("Invalid argument (os error 22)", "lo"));
}

static void test_tap_name_too_long_is_refused(void **state)
{
    struct tap tap;

    (void)state;
    expect_refused("aaaaaaaaaaaaaaaa", -EINVAL, "Open tap device failed: Invalid interface name");
    assert_int_equal(tap_open(&tap, "aaaaaaaaaaaaaaa", NULL), 0);
    tap_close(&tap);
}

static void test_tap_takes_every_set_of_offloads(void **state)
{
    struct tap tap;

    (void)state;
    assert_int_equal(tap_open(&tap, "off0", NULL), 0);
    for (unsigned set = 0; set < 16; set++)
        assert_int_equal(tap_set_offloads(&tap, (set & 1 ? TAP_OFFLOAD_CSUM : 0) |
                                                    (set & 2 ? TAP_OFFLOAD_TSO4 : 0) |
                                                    (set & 4 ? TAP_OFFLOAD_TSO6 : 0) |
                                                    (set & 8 ? TAP_OFFLOAD_UFO : 0)),
                         0);
    tap_close(&tap);
}

static void test_tap_reads_nothing_without_waiting_and_writes_at_once(void **state)
{
    static const uint8_t frame[TAP_HEADER_SIZE + 60] = {
        [TAP_HEADER_SIZE] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint8_t came[256];
    struct iovec in = {came, sizeof(came)}, out = {(void *)(uintptr_t)frame, sizeof(frame)};
    struct tap tap;

    (void)state;
    assert_int_equal(tap_open(&tap, "data0", NULL), 0);
    assert_int_equal(tap_read(&tap, &in, 1), -EAGAIN);
    assert_int_equal(tap_write(&tap, &out, 1), -EIO); /* the interface is down */
    set_up_interface("data0");
    assert_int_equal(tap_write(&tap, &out, 1), sizeof(frame));
    tap_close(&tap);
}

static void test_tap_refuses_absurd_headers_and_goes_on(void **state)
{
    uint8_t frame[TAP_HEADER_SIZE + 60] = {0};
    struct iovec out = {frame, sizeof(frame)};
    struct tap tap;

    (void)state;
    assert_int_equal(tap_open(&tap, "absurd0", NULL), 0);
    set_up_interface("absurd0");
    memset(frame, 0xff, TAP_HEADER_SIZE);
    assert_true(tap_write(&tap, &out, 1) < 0);
    memset(frame, 0, TAP_HEADER_SIZE);
    frame[0] = 1;    /* a checksum is needed ... */
    frame[7] = 0xff; /* ... far behind the end */
    assert_true(tap_write(&tap, &out, 1) < 0);
    frame[0] = 0;
    assert_int_equal(tap_write(&tap, &out, 1), sizeof(frame));
    tap_close(&tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tap_missing_is_made_and_goes_with_its_end),
        cmocka_unit_test(test_tap_without_name_gets_one),
        cmocka_unit_test(test_tap_in_use_is_refused),
        cmocka_unit_test(test_tap_of_several_queues_is_refused),
        cmocka_unit_test(test_tap_that_is_no_tap_is_refused),
        cmocka_unit_test(test_tap_name_too_long_is_refused),
        cmocka_unit_test(test_tap_takes_every_set_of_offloads),
        cmocka_unit_test(test_tap_reads_nothing_without_waiting_and_writes_at_once),
        cmocka_unit_test(test_tap_refuses_absurd_headers_and_goes_on),
    };

    if (access("/dev/net/tun", R_OK | W_OK) || geteuid() != 0)
        return 77;
    return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
