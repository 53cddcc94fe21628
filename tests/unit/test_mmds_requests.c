/* SPDX-License-Identifier: Apache-2.0 */
/* test_mmds_requests.c: PUT /mmds/config, and the store's requests once the machine runs. */
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <string.h>

#define CONFIG_ERROR "MMMDS config error: "

static void add_interface(struct fixture *f, const char *id)
{
    char path[64], body[100];

    snprintf(path, sizeof(path), "/network-interfaces/%s", id);
    snprintf(body, sizeof(body), "{\"iface_id\":\"%s\",\"host_dev_name\":\"t%s\"}", id, id);
    assert_done(f, "PUT", path, body);
}

/* What GET /vm/config says of the service. */
static void assert_shown(struct fixture *f, const char *text)
{
    char want[300];

    assert_int_equal(ask(f, "GET", "/vm/config", NULL), 200);
    snprintf(want, sizeof(want), "\"mmds-config\":%s,\"network-interfaces\"", text);
    if (!strstr(f->response.body, want))
        fail_msg("%s lacks %s", f->response.body, want);
}

static void test_mmds_config_is_shown_as_it_was_given(void **state)
{
    struct fixture *f = *state;

    assert_shown(f, "null");
    add_interface(f, "a");
    add_interface(f, "b");
    assert_done(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"b\"]}");
    assert_shown(f, "{\"version\":\"V1\",\"network_interfaces\":[\"b\"],\"ipv4_address\":"
                    "\"169.254.169.254\",\"imds_compat\":false}");
    assert_int_equal(f->api.mmds_http.version, MMDS_V1);
    assert_done(f, "PUT", "/mmds/config",
                "{\"network_interfaces\":[\"b\",\"a\",\"b\"],\"version\":\"V2\",\"ipv4_address\":"
                "\"169.254.1.0\",\"imds_compat\":true}");
    assert_shown(f, "{\"version\":\"V2\",\"network_interfaces\":[\"a\",\"b\"],\"ipv4_address\":"
                    "\"169.254.1.0\",\"imds_compat\":true}");
    assert_int_equal(f->api.mmds_http.version, MMDS_V2);
    assert_true(f->api.mmds_http.imds_compat);
    /* what is left out is the default again, not what it was */
    assert_done(f, "PUT", "/mmds/config",
                "{\"network_interfaces\":[\"a\"],\"version\":\"V2\",\"ipv4_address\":null}");
    assert_shown(f, "{\"version\":\"V2\",\"network_interfaces\":[\"a\"],\"ipv4_address\":"
                    "\"169.254.169.254\",\"imds_compat\":false}");
}

static void test_mmds_config_of_version_1_is_deprecated(void **state)
{
    struct fixture *f = *state;

    add_interface(f, "a");
    assert_done(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"]}");
    assert_true(f->response.deprecated);
    assert_done(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"],\"version\":\"V2\"}");
    assert_false(f->response.deprecated);
    assert_int_equal(metrics.deprecated_api.deprecated_http_api_calls, 1);
    assert_int_equal(metrics.put_api_requests.mmds_count, 2);
    assert_int_equal(metrics.put_api_requests.mmds_fails, 0);
}

static void test_mmds_config_refusals_change_nothing(void **state)
{
    static const char *const cases[][2] = {
        {"{\"network_interfaces\":[]}",
         CONFIG_ERROR "The list of network interface IDs that allow forwarding MMDS requests is "
                      "empty."},
        {"{\"network_interfaces\":[\"a\",\"x\"]}",
         CONFIG_ERROR "The list of network interface IDs provided contains at least one ID that "
                      "does not correspond to any existing network interface."},
        {"{\"network_interfaces\":[\"a\"],\"ipv4_address\":\"169.254.0.255\"}",
         CONFIG_ERROR "The MMDS IPv4 address is not link local."},
        {"{\"network_interfaces\":[],\"ipv4_address\":\"169.254.255.0\"}",
         CONFIG_ERROR "The MMDS IPv4 address is not link local."},
        {"{\"network_interfaces\":[\"a\"],\"ipv4_address\":\"1.2.3\"}",
         JSON "invalid IPv4 address syntax at line 1 column 50."},
        {"{\"network_interfaces\":[\"a\"],\"ipv4_address\":\"169.254.01.1\"}",
         JSON "invalid IPv4 address syntax at line 1 column 57."},
        {"{\"network_interfaces\":[\"a\"],\"ipv4_address\":\"\"}",
         JSON "invalid IPv4 address syntax at line 1 column 45."},
        {"{\"network_interfaces\":[\"a\"],\"ipv4_address\":5}",
         JSON "invalid type: integer `5`, expected IPv4 address at line 1 column 44."},
        {"{\"network_interfaces\":[1]}",
         JSON "invalid type: integer `1`, expected a string at line 1 column 24."},
        {"{\"network_interfaces\":[\"a\\u0000x\"]}", JSON
         "invalid value: a string with a NUL character, expected a string at line 1 column 33."},
        {"{\"version\":\"V2\"}", JSON "missing field `network_interfaces` at line 1 column 16."},
        {"{\"network_interfaces\":[\"a\"],\"imds_compat\":null}",
         JSON "invalid type: null, expected a boolean at line 1 column 46."},
    };
    struct fixture *f = *state;

    add_interface(f, "a");
    assert_done(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"],\"version\":\"V2\"}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_fault(f, "PUT", "/mmds/config", cases[i][0], cases[i][1]);
        assert_shown(f, "{\"version\":\"V2\",\"network_interfaces\":[\"a\"],\"ipv4_address\":"
                        "\"169.254.169.254\",\"imds_compat\":false}");
        assert_int_equal(f->api.mmds_http.version, MMDS_V2);
    }
    assert_int_equal(metrics.put_api_requests.mmds_fails, ARRAY_SIZE(cases));
}

static void test_mmds_store_of_a_running_machine_needs_an_interface(void **state)
{
    struct fixture *f = *state;

    add_interface(f, "a");
    assert_done(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"],\"version\":\"V2\"}");
    assert_done(f, "PUT", "/mmds", "{\"a\":1}");
    f->machine->state = MACHINE_RUNNING;
    assert_says(f, "/mmds", "{\"a\":1}");
    assert_done(f, "PATCH", "/mmds", "{\"b\":2}");
    f->machine->state = MACHINE_PAUSED;
    assert_done(f, "PUT", "/mmds", "{\"c\":3}");
    assert_says(f, "/mmds", "{\"c\":3}");
    assert_fault(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"]}", AFTER);
    assert_true(f->response.deprecated);
}

static void test_mmds_store_is_gone_with_the_interface_that_led_to_it(void **state)
{
    struct fixture *f = *state;

    add_interface(f, "a");
    assert_done(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"],\"version\":\"V2\"}");
    add_interface(f, "a"); /* anew, and connected to nothing */
    assert_shown(f, "null");
    assert_done(f, "PUT", "/mmds", "{}");
    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "GET", "/mmds", NULL, "MMDS error: The MMDS data store is not initialized.");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mmds_config_is_shown_as_it_was_given),
        TEST(test_mmds_config_of_version_1_is_deprecated),
        TEST(test_mmds_config_refusals_change_nothing),
        TEST(test_mmds_store_of_a_running_machine_needs_an_interface),
        TEST(test_mmds_store_is_gone_with_the_interface_that_led_to_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
