/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of api/devices/balloon.c: requests about the balloon, over the device itself. */
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"
#include "virtio/memory/balloon_parts.h"

#include <string.h>

#define ALL                                                                                        \
    "{\"amount_mib\":16,\"deflate_on_oom\":true,\"stats_polling_interval_s\":5,"                   \
    "\"free_page_hinting\":true,\"free_page_reporting\":true}"
#define DEFAULTS                                                                                   \
    "{\"amount_mib\":1,\"deflate_on_oom\":false,\"stats_polling_interval_s\":0,"                   \
    "\"free_page_hinting\":false,\"free_page_reporting\":false}"

static struct balloon *balloon_of(struct fixture *f)
{
    return f->machine->devices.balloon;
}

/* As if the guest had activated the device, with 64 MiB of memory. */
static struct balloon_state *activate(struct fixture *f)
{
    struct virtio_dev *dev = balloon_dev(balloon_of(f));

    f->machine->state = MACHINE_RUNNING;
    dev->active = true;
    dev->env.mem->count = 1;
    dev->env.mem->region[0].size = 64 * MIB;
    return dev->ops->saved(dev);
}

static void test_balloon_put_is_shown_as_it_was_given_or_by_its_defaults(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/balloon", ALL);
    assert_says(f, "/balloon", ALL);
    assert_done(f, "PUT", "/balloon", "{\"deflate_on_oom\":false,\"amount_mib\":1}");
    assert_says(f, "/balloon", DEFAULTS);
    assert_done(f, "PUT", "/balloon", "[16,true,5,true,true]");
    assert_says(f, "/balloon", ALL);
    assert_done(f, "PUT", "/balloon", "[1,false]");
    assert_says(f, "/balloon", DEFAULTS);
    assert_int_equal(ask(f, "GET", "/vm/config", NULL), 200);
    assert_true(strncmp(f->response.body, "{\"balloon\":" DEFAULTS ",\"drives\":[]",
                        strlen("{\"balloon\":" DEFAULTS)) == 0);
}

static void test_balloon_put_that_is_refused_changes_nothing(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "missing field `amount_mib` at line 1 column 2."},
        {"{\"amount_mib\":2}", "missing field `deflate_on_oom` at line 1 column 16."},
        {"{\"amount_mib\":2,\"deflate_on_oom\":true,\"x\":1}",
         "unknown field `x`, expected one of `amount_mib`, `deflate_on_oom`, "
         "`stats_polling_interval_s`, `free_page_hinting`, `free_page_reporting` at line 1 "
         "column 41."},
        {"{\"amount_mib\":2,\"deflate_on_oom\":true,\"free_page_hinting\":null}",
         "invalid type: null, expected a boolean at line 1 column 62."},
        {"{\"amount_mib\":2,\"deflate_on_oom\":true,\"stats_polling_interval_s\":null}",
         "invalid type: null, expected u16 at line 1 column 69."},
        {"[2]", "invalid length 1, expected struct BalloonDeviceConfig with 5 elements at line 1 "
                "column 3."},
    };
    struct fixture *f = *state;
    char fault[400];

    assert_done(f, "PUT", "/balloon", ALL);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        strcpy(fault, JSON);
        strcat(fault, cases[i][1]);
        assert_fault(f, "PUT", "/balloon", cases[i][0], fault);
    }
    f->machine->refusal = "no";
    assert_fault(f, "PUT", "/balloon", "{\"amount_mib\":2,\"deflate_on_oom\":true}",
                 "Balloon config error: no");
    assert_says(f, "/balloon", ALL);
}

static void test_balloon_that_is_not_there_is_named_by_where_it_is_missed(void **state)
{
#define MISSING "Failed perform action on device: Device not found"
    static const char amount[] = "{\"amount_mib\":1}";
    static const char interval[] = "{\"stats_polling_interval_s\":1}";
    static const char update[] = "Balloon update error: " MISSING;
    struct fixture *f = *state;

    assert_fault(f, "GET", "/balloon", NULL, "Balloon config error: No balloon device found.");
    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "GET", "/balloon", NULL, "Internal VMM error: " MISSING);
    assert_fault(f, "GET", "/balloon/statistics", NULL, "Internal VMM error: " MISSING);
    assert_fault(f, "PATCH", "/balloon", amount, update);
    assert_fault(f, "PATCH", "/balloon/statistics", interval, update);
    assert_fault(f, "PATCH", "/balloon/hinting/start", NULL, update);
    assert_fault(f, "PATCH", "/balloon/hinting/stop", NULL, update);
    assert_fault(f, "GET", "/balloon/hinting/status", NULL, update);
}

static void test_balloon_patch_changes_what_is_shown(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/balloon", DEFAULTS);
    activate(f);
    assert_done(f, "PATCH", "/balloon", "{\"amount_mib\":64}");
    assert_int_equal(balloon_config(balloon_of(f))->amount_mib, 64);
    assert_fault(f, "PATCH", "/balloon", "{\"amount_mib\":65}",
                 "Balloon update error: Balloon: Requested memory should be less than 65MiB");
    assert_fault(f, "PATCH", "/balloon", "{\"amount_mib\":1,\"x\":1}",
                 JSON "unknown field `x`, expected `amount_mib` at line 1 column 19.");
    assert_fault(f, "PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":1}",
                 "Balloon update error: Balloon: Statistics cannot be enabled/disabled after "
                 "activation.");
    assert_fault(f, "GET", "/balloon/statistics", NULL,
                 "Internal VMM error: Balloon: Received stats query when stats are disabled.");
    assert_int_equal(balloon_config(balloon_of(f))->amount_mib, 64);
}

static void test_balloon_statistics_show_what_the_guest_sent_in_its_order(void **state)
{
    struct balloon_state *s;
    struct fixture *f = *state;

    assert_done(f, "PUT", "/balloon", ALL);
    s = activate(f);
    assert_says(f, "/balloon/statistics",
                "{\"target_pages\":4096,\"actual_pages\":0,\"target_mib\":16,\"actual_mib\":0}");
    s->actual = 513;
    for (unsigned i = 0; i < BALLOON_STATS; i++)
        s->stat[i] = i;
    s->has_stats = (1u << BALLOON_STATS) - 1;
    assert_says(f, "/balloon/statistics",
                "{\"target_pages\":4096,\"actual_pages\":513,\"target_mib\":16,\"actual_mib\":2,"
                "\"swap_in\":0,\"swap_out\":1,\"major_faults\":2,\"minor_faults\":3,"
                "\"free_memory\":4,\"total_memory\":5,\"available_memory\":6,\"disk_caches\":7,"
                "\"hugetlb_allocations\":8,\"hugetlb_failures\":9,\"oom_kill\":10,"
                "\"alloc_stall\":11,\"async_scan\":12,\"direct_scan\":13,\"async_reclaim\":14,"
                "\"direct_reclaim\":15}");
    s->has_stats = 1u << BALLOON_OOM_KILL;
    s->stat[BALLOON_OOM_KILL] = UINT64_MAX;
    assert_says(f, "/balloon/statistics",
                "{\"target_pages\":4096,\"actual_pages\":513,\"target_mib\":16,\"actual_mib\":2,"
                "\"oom_kill\":18446744073709551615}");
    assert_done(f, "PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":65535}");
    assert_int_equal(balloon_config(balloon_of(f))->stats_interval_s, 65535);
}

static void test_balloon_hinting_body_may_be_left_out_and_may_hold_anything(void **state)
{
    static const struct {
        const char *body;
        bool acknowledge;
    } cases[] = {
        {NULL, true},
        {"{}", true},
        {"{\"acknowledge_on_stop\":false}", false},
        {"{\"acknowledge_on_stop\":true,\"x\":[1]}", true},
        {"[false]", false},
    };
    struct balloon_state *s;
    struct fixture *f = *state;

    assert_done(f, "PUT", "/balloon", ALL);
    s = activate(f);
    assert_says(f, "/balloon/hinting/status", "{\"host_cmd\":0,\"guest_cmd\":null}");
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_done(f, "PATCH", "/balloon/hinting/start", cases[i].body);
        assert_int_equal(s->acknowledge, cases[i].acknowledge);
        assert_int_equal(s->hint_cmd, 2 + i);
    }
    s->has_guest_cmd = 1;
    s->guest_cmd = 6;
    assert_says(f, "/balloon/hinting/status", "{\"host_cmd\":6,\"guest_cmd\":6}");
    assert_done(f, "PATCH", "/balloon/hinting/stop", "{\"whatever\":1}");
    assert_says(f, "/balloon/hinting/status", "{\"host_cmd\":1,\"guest_cmd\":6}");
    assert_fault(f, "PATCH", "/balloon/hinting/start", "{\"acknowledge_on_stop\":1}",
                 JSON "invalid type: integer `1`, expected a boolean at line 1 column 24.");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_balloon_put_is_shown_as_it_was_given_or_by_its_defaults),
        TEST(test_balloon_put_that_is_refused_changes_nothing),
        TEST(test_balloon_that_is_not_there_is_named_by_where_it_is_missed),
        TEST(test_balloon_patch_changes_what_is_shown),
        TEST(test_balloon_statistics_show_what_the_guest_sent_in_its_order),
        TEST(test_balloon_hinting_body_may_be_left_out_and_may_hold_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
