/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device_requests.c: requests about devices that need something of the host (interfaces, the
 * socket device, drives behind sockets), over fakes of these.
 */
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <stdio.h>
#include <string.h>

/* ---- interfaces ---- */

#define ETH0 "\"iface_id\":\"eth0\",\"host_dev_name\":\"t0\""

static const struct net_config *eth0(struct fixture *f)
{
    struct net *net = devices_find_net(&f->machine->devices, "eth0");

    assert_non_null(net);
    return net_config(net);
}

static void test_interface_reaches_the_machine_with_all_it_says(void **state)
{
    static const uint8_t mac[NET_MAC_LEN] = {0x06, 0x00, 0xac, 0x10, 0x00, 0x02};
    struct fixture *f = *state;

    assert_done(f, "PUT", "/network-interfaces/eth0",
                "{" ETH0 ",\"guest_mac\":\"06:00:AC:10:00:02\",\"mtu\":1400,"
                "\"rx_rate_limiter\":{\"bandwidth\":{\"size\":1,\"refill_time\":2}},"
                "\"tx_rate_limiter\":{\"ops\":{\"size\":3,\"refill_time\":4,"
                "\"one_time_burst\":5}}}");
    assert_string_equal(eth0(f)->tap, "t0");
    assert_true(eth0(f)->has_mac && eth0(f)->has_mtu);
    assert_memory_equal(eth0(f)->mac, mac, sizeof(mac));
    assert_int_equal(eth0(f)->mtu, 1400);
    assert_int_equal(eth0(f)->rx_limiter.bandwidth.refill_ms, 2);
    assert_int_equal(eth0(f)->tx_limiter.ops.one_time_burst, 5);
    assert_false(eth0(f)->rx_limiter.has_ops);
}

static void test_interface_null_is_absence(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/network-interfaces/eth0",
                "{" ETH0 ",\"guest_mac\":null,\"mtu\":null,\"rx_rate_limiter\":null,"
                "\"tx_rate_limiter\":null}");
    assert_false(eth0(f)->has_mac || eth0(f)->has_mtu || eth0(f)->has_rx_limiter);
}

static void test_interface_macs_are_six_pairs_of_digits(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "06:00:ac:10:00",
                                      "06:00:ac:10:00:",
                                      "06:00:ac:10:00:0",
                                      "06:00:ac:10:00:zz",
                                      "06:00:ac:10:00:02:",
                                      "06:00:ac:10:00:02:03",
                                      "06-00-ac-10-00-02",
                                      "0600ac100002",
                                      " 6:00:ac:10:00:02",
                                      "06:00:ac:10:00:-2",
                                      "06:00:ac:10:00:2+",
                                      "06:00:ac:10:00:\\u0000a"};
    struct fixture *f = *state;
    char body[200], fault[200];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(body, sizeof(body), "{" ETH0 ",\"guest_mac\":\"%s\"}", bad[i]);
        snprintf(fault, sizeof(fault),
                 JSON "The provided MAC address is invalid. at line 1 column %zu.", strlen(body));
        assert_fault(f, "PUT", "/network-interfaces/eth0", body, fault);
    }
    assert_fault(f, "PUT", "/network-interfaces/eth0", "{" ETH0 ",\"guest_mac\":6}",
                 JSON "invalid type: integer `6`, expected a string at line 1 column 53.");
    assert_done(f, "PUT", "/network-interfaces/eth0",
                "{" ETH0 ",\"guest_mac\":\"+6:fF:00:10:00:+a\"}");
    assert_int_equal(eth0(f)->mac[0], 6);
    assert_int_equal(eth0(f)->mac[5], 10);
}

static void test_interface_ids_must_match_and_both_are_named(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "PUT", "/network-interfaces/b", "{" ETH0 "}",
                 "The id from the path [b] does not match the id from the body [eth0]!");
    assert_fault(f, "PATCH", "/network-interfaces/b", "{\"iface_id\":\"a\"}",
                 "The id from the path [b] does not match the id from the body [a]!");
    assert_fault(f, "PUT", "/network-interfaces", "{" ETH0 "}", "The ID cannot be empty.");
}

static void test_interface_numbers_are_integers_in_range(void **state)
{
    static const char *const cases[][2] = {
        {"-1", "invalid value: integer `-1`, expected u16"},
        {"65536", "invalid value: integer `65536`, expected u16"},
        {"1500.0", "invalid type: floating point `1500.0`, expected u16"},
        {"1e3", "invalid type: floating point `1000.0`, expected u16"},
        {"\"1500\"", "invalid type: string \"1500\", expected u16"},
        {"18446744073709551616",
         "invalid type: floating point `1.8446744073709552e+19`, expected u16"},
        {"true", "invalid type: boolean `true`, expected u16"},
        {"[]", "invalid type: sequence, expected u16"},
        {"{}", "invalid type: map, expected u16"},
    };
    struct fixture *f = *state;
    char body[200], fault[300];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        /* An error about brackets stands at the opening one. */
        size_t len = strchr("[{", cases[i][0][0]) ? 0 : strlen(cases[i][0]);

        snprintf(body, sizeof(body), "{" ETH0 ",\"mtu\":%s}", cases[i][0]);
        snprintf(fault, sizeof(fault), JSON "%s at line 1 column %zu.", cases[i][1],
                 strlen("{" ETH0 ",\"mtu\":") + len);
        assert_fault(f, "PUT", "/network-interfaces/eth0", body, fault);
    }
    assert_fault(f, "PUT", "/network-interfaces/eth0", "{" ETH0 ",\"mtu\":67}",
                 "Network config error: Could not create the network device: MTU 67 is out of "
                 "range [68, 65535]");
}

static void test_interface_patch_changes_only_the_buckets_it_names(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/network-interfaces/eth0",
                "{" ETH0 ",\"rx_rate_limiter\":{\"bandwidth\":{\"size\":1,\"refill_time\":2},"
                "\"ops\":{\"size\":3,\"refill_time\":4}}}");
    f->machine->state = MACHINE_RUNNING;
    assert_done(f, "PATCH", "/network-interfaces/eth0", "{\"iface_id\":\"eth0\"}");
    assert_done(f, "PATCH", "/network-interfaces/eth0",
                "{\"iface_id\":\"eth0\",\"rx_rate_limiter\":{},\"tx_rate_limiter\":null}");
    assert_int_equal(eth0(f)->rx_limiter.bandwidth.size, 1);
    assert_done(
        f, "PATCH", "/network-interfaces/eth0",
        "{\"iface_id\":\"eth0\",\"rx_rate_limiter\":{\"ops\":{\"size\":9,\"refill_time\":9}},"
        "\"tx_rate_limiter\":{\"ops\":{\"size\":7,\"refill_time\":7}}}");
    assert_int_equal(eth0(f)->rx_limiter.bandwidth.size, 1);
    assert_int_equal(eth0(f)->rx_limiter.ops.size, 9);
    assert_int_equal(eth0(f)->tx_limiter.ops.size, 7);
    assert_done(f, "PATCH", "/network-interfaces/eth0",
                "{\"iface_id\":\"eth0\",\"rx_rate_limiter\":{\"bandwidth\":{\"size\":0,"
                "\"refill_time\":0},\"ops\":{\"size\":1,\"refill_time\":0}}}");
    assert_false(eth0(f)->has_rx_limiter);
    assert_fault(f, "PATCH", "/network-interfaces/no", "{\"iface_id\":\"no\"}",
                 "Network config error: Unable to update the net device: Failed perform action on "
                 "device: Device not found");
    assert_fault(f, "PATCH", "/network-interfaces/eth0", "{" ETH0 "}",
                 JSON "unknown field `host_dev_name`, expected one of `iface_id`, "
                      "`rx_rate_limiter`, `tx_rate_limiter` at line 1 column 34.");
}

static void test_interface_is_shown_as_it_was_given(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/network-interfaces/eth0",
                "{" ETH0 ",\"guest_mac\":\"06:00:AC:10:00:02\",\"mtu\":1400,"
                "\"rx_rate_limiter\":{},"
                "\"tx_rate_limiter\":{\"ops\":{\"size\":3,\"refill_time\":4}}}");
    assert_done(f, "PUT", "/network-interfaces/b", "{\"iface_id\":\"b\",\"host_dev_name\":\"t1\"}");
    assert_int_equal(ask(f, "GET", "/vm/config", NULL), 200);
    assert_non_null(strstr(
        f->response.body, "\"network-interfaces\":[{\"iface_id\":\"eth0\",\"host_dev_name\":\"t0\","
                          "\"guest_mac\":\"06:00:ac:10:00:02\",\"mtu\":1400,"
                          "\"rx_rate_limiter\":null,\"tx_rate_limiter\":{\"bandwidth\":null,"
                          "\"ops\":{\"size\":3,\"one_time_burst\":null,\"refill_time\":4}}},"
                          "{\"iface_id\":\"b\",\"host_dev_name\":\"t1\",\"guest_mac\":null,"
                          "\"mtu\":null,\"rx_rate_limiter\":null,\"tx_rate_limiter\":null}],"));
}

/* ---- the socket device ---- */

static void test_vsock_reaches_the_machine_and_is_shown_without_its_id(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/vsock", "{\"guest_cid\":4294967295,\"uds_path\":\"v\"}");
    assert_false(f->response.deprecated);
    assert_done(f, "PUT", "/vsock", "{\"vsock_id\":\"r\",\"guest_cid\":0,\"uds_path\":\"w\"}");
    assert_true(f->response.deprecated);
    assert_int_equal(metrics.deprecated_api.deprecated_http_api_calls, 1);
    assert_int_equal(vsock_config(f->machine->devices.vsock)->guest_cid, 0);
    assert_int_equal(ask(f, "GET", "/vm/config", NULL), 200);
    assert_non_null(
        strstr(f->response.body, "\"vsock\":{\"guest_cid\":0,\"uds_path\":\"w\"},\"entropy\""));
}

static void test_vsock_deprecated_id_is_told_even_when_it_is_too_late(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "PUT", "/vsock", "{\"vsock_id\":\"r\",\"guest_cid\":3,\"uds_path\":\"w\"}",
                 AFTER);
    assert_true(f->response.deprecated);
    assert_fault(f, "PUT", "/vsock", "{\"vsock_id\":null,\"guest_cid\":3,\"uds_path\":\"w\"}",
                 AFTER);
    assert_false(f->response.deprecated);
}

static void test_vsock_refusals_have_its_prefix_and_are_counted(void **state)
{
    struct fixture *f = *state;

    fake_devices.refusal = "Taken.";
    assert_fault(f, "PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}",
                 "Vsock config error: Taken.");
    assert_fault(f, "PUT", "/network-interfaces/eth0", "{" ETH0 "}",
                 "Network config error: Taken.");
    assert_int_equal(metrics.put_api_requests.vsock_count, 1);
    assert_int_equal(metrics.put_api_requests.vsock_fails, 1);
    assert_int_equal(metrics.put_api_requests.network_fails, 1);
    f->machine->state = MACHINE_RUNNING;
    assert_int_equal(ask(f, "PATCH", "/network-interfaces/a", "{\"iface_id\":\"a\"}"), 400);
    assert_int_equal(metrics.patch_api_requests.network_count, 1);
    assert_int_equal(metrics.patch_api_requests.network_fails, 1);
}

/* ---- drives behind sockets ---- */

static void test_vhost_user_drive_reaches_the_machine_and_is_shown_with_nulls(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/drives/a",
                "{\"drive_id\":\"a\",\"is_root_device\":true,\"socket\":\"s\",\"partuuid\":\"p\","
                "\"cache_type\":\"Writeback\",\"path_on_host\":null,\"is_read_only\":null,"
                "\"io_engine\":null,\"rate_limiter\":null}");
    assert_non_null(f->machine->devices.drive[0].vhost);
    assert_int_equal(ask(f, "GET", "/vm/config", NULL), 200);
    assert_non_null(
        strstr(f->response.body,
               "\"drives\":[{\"drive_id\":\"a\",\"partuuid\":\"p\",\"is_root_device\":true,"
               "\"cache_type\":\"Writeback\",\"is_read_only\":null,\"path_on_host\":null,"
               "\"rate_limiter\":null,\"io_engine\":null,\"socket\":\"s\"}],"));
}

static void test_vhost_user_drive_patch_asks_the_back_end_and_nothing_else(void **state)
{
    static const char *const other_kind[] = {
        "{\"drive_id\":\"a\",\"path_on_host\":\"disk\"}",
        "{\"drive_id\":\"a\",\"rate_limiter\":{}}",
    };
    struct fixture *f = *state;

    assert_done(f, "PUT", "/drives/a",
                "{\"drive_id\":\"a\",\"is_root_device\":false,\"socket\":\"s\"}");
    f->machine->state = MACHINE_RUNNING;
    assert_done(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\"}");
    assert_int_equal(fake_devices.vhost_user_updates, 1);
    for (size_t i = 0; i < ARRAY_SIZE(other_kind); i++)
        assert_fault(f, "PATCH", "/drives/a", other_kind[i],
                     "Drive config error: Unable to patch the block device: Block: Running method "
                     "expected different backend. Please verify the request arguments.");
    assert_int_equal(fake_devices.vhost_user_updates, 1);
}

/* ---- drives with an overlay ---- */

static void shows(struct fixture *f, const char *part)
{
    assert_int_equal(ask(f, "GET", "/vm/config", NULL), 200);
    if (!strstr(f->response.body, part))
        fail_msg("%s is not in %s", part, f->response.body);
}

#define DRIVE(more)                                                                                \
    "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\"" more "}"

static void test_drive_overlay_is_shown_as_it_was_told(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/drives/a", DRIVE(",\"overlay\":{\"type\":\"Memory\"}"));
    shows(f, "\"socket\":null,\"overlay\":{\"type\":\"Memory\"}}");
    assert_done(f, "PUT", "/drives/a",
                DRIVE(",\"overlay\":{\"type\":\"File\",\"path_on_host\":\"o\",\"layers\":null}"));
    shows(f, "\"overlay\":{\"type\":\"File\",\"path_on_host\":\"o\"}}");
    assert_done(f, "PUT", "/drives/a", DRIVE(",\"overlay\":null"));
    shows(f, "\"socket\":null}");
}

static void test_drive_overlay_that_cannot_be_is_refused(void **state)
{
    static const struct {
        const char *body, *fault;
    } cases[] = {
        {DRIVE(",\"overlay\":{\"type\":\"File\"}"),
         "Drive config error: Unable to create the virtio block device: Virtio backend error: An "
         "overlay of type File "
         "needs path_on_host."},
        {DRIVE(",\"overlay\":{\"type\":\"Memory\",\"path_on_host\":\"o\"}"),
         "Drive config error: Unable to create the virtio block device: Virtio backend error: An "
         "overlay of type "
         "Memory has no path_on_host."},
        {DRIVE(",\"is_read_only\":true,\"overlay\":{\"type\":\"Memory\"}"),
         "Drive config error: Unable to create the virtio block device: Virtio backend error: An "
         "overlay is where a "
         "guest's writes go: it cannot be had with is_read_only."},
        {DRIVE(",\"overlay\":{\"type\":\"Memory\",\"layers\":[\"missing\"]}"),
         "Drive config error: Unable to create the virtio block device: Virtio backend error: "
         "Error manipulating the "
         "backing file: No such file or directory (os error 2) missing"},
        {"{\"drive_id\":\"a\",\"is_root_device\":false,\"socket\":\"s\",\"overlay\":{\"type\":"
         "\"Memory\"}}",
         "Drive config error: Unable to create the virtio block device: An overlay lies over a "
         "file, and cannot be had "
         "with a socket."},
        {DRIVE(",\"overlay\":{\"type\":\"memory\"}"),
         JSON "unknown variant `memory`, expected `Memory` or `File` at line 1 column 87."},
        {DRIVE(",\"overlay\":{}"), JSON "missing field `type` at line 1 column 73."},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_fault(f, "PUT", "/drives/a", cases[i].body, cases[i].fault);
    assert_int_equal(f->machine->devices.drive_count, 0);
}

static void test_drive_overlay_lies_on_sixteen_layers_at_most(void **state)
{
    struct fixture *f = *state;
    char body[400] = "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\","
                     "\"overlay\":{\"type\":\"Memory\",\"layers\":[\"l\"";

    for (unsigned i = 0; i < BLK_LAYERS_MAX; i++)
        strcat(body, ",\"l\"");
    strcat(body, "]}}");
    assert_fault(f, "PUT", "/drives/a", body,
                 JSON "an overlay lies on 16 layers at most at line 1 column 162.");
}

/* The lock that is in the way is its own. */
static void test_drive_with_overlay_in_a_file_is_put_again(void **state)
{
    static const char body[] = DRIVE(",\"overlay\":{\"type\":\"File\",\"path_on_host\":\"o\"}");
    struct fixture *f = *state;

    assert_done(f, "PUT", "/drives/a", body);
    assert_done(f, "PUT", "/drives/a", body);
    assert_int_equal(ask(f, "PUT", "/drives/a",
                         "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"no\"}"),
                     400);
    shows(f, "\"overlay\":{\"type\":\"File\",\"path_on_host\":\"o\"}");
    /* And is there again for others. */
    assert_fault(
        f, "PUT", "/drives/b",
        "{\"drive_id\":\"b\",\"is_root_device\":false,\"path_on_host\":\"disk\",\"overlay\":"
        "{\"type\":\"File\",\"path_on_host\":\"o\"}}",
        "Drive config error: Unable to create the virtio block device: Virtio backend "
        "error: The overlay o is in use by another drive or process.");
}

static void test_drive_with_overlay_takes_a_limiter_and_no_other_file(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/drives/a", DRIVE(",\"overlay\":{\"type\":\"Memory\"}"));
    f->machine->state = MACHINE_RUNNING;
    assert_done(f, "PATCH", "/drives/a",
                "{\"drive_id\":\"a\",\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":2}}}");
    assert_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\",\"path_on_host\":\"disk\"}",
                 "Drive config error: Unable to patch the block device: Block: Virtio backend "
                 "error: The drive has an "
                 "overlay, which is of no use over another file. Please verify the request "
                 "arguments.");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_interface_reaches_the_machine_with_all_it_says),
        TEST(test_interface_null_is_absence),
        TEST(test_interface_macs_are_six_pairs_of_digits),
        TEST(test_interface_ids_must_match_and_both_are_named),
        TEST(test_interface_numbers_are_integers_in_range),
        TEST(test_interface_patch_changes_only_the_buckets_it_names),
        TEST(test_interface_is_shown_as_it_was_given),
        TEST(test_vsock_reaches_the_machine_and_is_shown_without_its_id),
        TEST(test_vsock_deprecated_id_is_told_even_when_it_is_too_late),
        TEST(test_vsock_refusals_have_its_prefix_and_are_counted),
        TEST(test_vhost_user_drive_reaches_the_machine_and_is_shown_with_nulls),
        TEST(test_vhost_user_drive_patch_asks_the_back_end_and_nothing_else),
        TEST(test_drive_overlay_is_shown_as_it_was_told),
        TEST(test_drive_overlay_that_cannot_be_is_refused),
        TEST(test_drive_overlay_lies_on_sixteen_layers_at_most),
        TEST(test_drive_with_overlay_in_a_file_is_put_again),
        TEST(test_drive_with_overlay_takes_a_limiter_and_no_other_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
