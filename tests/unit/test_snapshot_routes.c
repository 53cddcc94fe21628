/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of api/snapshots.c: what reaches the machine, and what does not. */
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <stdlib.h>
#include <string.h>

#define LOAD        "Load snapshot error: "
#define FILES(more) "{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\"" more "}"
#define BACKEND(more)                                                                              \
    "{\"snapshot_path\":\"s\",\"mem_backend\":{\"backend_path\":\"b\",\"backend_type\":"           \
    "\"File\"}" more "}"

static void test_snapshot_create_names_both_files(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_PAUSED;
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"snapshot_type\":\"Full\""));
    assert_int_equal(f->machine->saves, 1);
    assert_string_equal(f->machine->state_path, "s");
    assert_string_equal(f->machine->mem_path, "m");
    assert_done(f, "PUT", "/snapshot/create", FILES(""));
    assert_int_equal(f->machine->saves, 2);
}

static void test_snapshot_create_in_background_says_so_to_the_machine(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_PAUSED;
    assert_done(f, "PUT", "/snapshot/create", FILES(""));
    assert_false(f->machine->save.background);
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"background\":true"));
    assert_true(f->machine->save.background);
}

static void assert_report(struct fixture *f, struct save_report report, const char *answer)
{
    f->machine->report = report;
    assert_int_equal(ask(f, "GET", "/snapshot/background", NULL), 200);
    assert_string_equal(f->response.body, answer);
}

static void test_snapshot_background_tells_what_became_of_it(void **state)
{
    struct fixture *f = *state;

    assert_report(f, (struct save_report){.status = SAVE_NONE}, "{\"state\":\"None\"}");
    assert_report(f, (struct save_report){.status = SAVE_WRITING, .state_path = "s"},
                  "{\"state\":\"Writing\",\"snapshot_path\":\"s\"}");
    assert_report(f, (struct save_report){.status = SAVE_DONE, .state_path = "s"},
                  "{\"state\":\"Done\",\"snapshot_path\":\"s\"}");
    assert_report(
        f, (struct save_report){.status = SAVE_FAILED, .state_path = "s", .fault = "for a reason"},
        "{\"state\":\"Failed\",\"snapshot_path\":\"s\",\"fault_message\":\"for a reason\"}");
}

static void test_snapshot_create_that_fails_says_why(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_PAUSED;
    f->machine->refusal = "for a reason";
    assert_fault(f, "PUT", "/snapshot/create", FILES(""), "Create snapshot error: for a reason");
    assert_int_equal(f->machine->state, MACHINE_PAUSED);
}

static void test_snapshot_create_has_its_type_and_is_synced_unless_told_otherwise(void **state)
{
    struct fixture *f = *state;
    const struct machine_save *save = &f->machine->save;

    f->machine->state = MACHINE_PAUSED;
    assert_done(f, "PUT", "/snapshot/create", FILES(""));
    assert_true(save->type == SNAPSHOT_FULL && !save->lazy);
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"snapshot_type\":\"Diff\""));
    assert_true(save->type == SNAPSHOT_DIFF && !save->lazy);
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"sync_snapshot_files\":false"));
    assert_true(save->type == SNAPSHOT_FULL && save->lazy);
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"sync_snapshot_files\":true"));
    assert_true(!save->lazy && !save->sums);
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"checksums\":true"));
    assert_true(save->sums);
}

static void test_snapshot_create_tells_its_time_as_that_of_its_type(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_PAUSED;
    metrics.latencies_us.diff_create_snapshot = metrics.latencies_us.full_create_snapshot = ~0u;
    assert_done(f, "PUT", "/snapshot/create", FILES(",\"snapshot_type\":\"Diff\""));
    assert_true(metrics.latencies_us.diff_create_snapshot != ~0u);
    assert_true(metrics.latencies_us.full_create_snapshot == ~0u);
    assert_done(f, "PUT", "/snapshot/create", FILES(""));
    assert_true(metrics.latencies_us.full_create_snapshot != ~0u);
}

static void test_snapshot_load_passes_everything_on(void **state)
{
    struct fixture *f = *state;
    const struct machine_load *load = &f->machine->load;

    assert_done(f, "PUT", "/snapshot/load",
                BACKEND(",\"track_dirty_pages\":true,\"clock_realtime\":true,"
                        "\"huge_pages\":\"Transparent\",\"vsock_override\":{\"uds_path\":\"v\"},"
                        "\"network_overrides\":[{\"iface_id\":\"a\",\"host_dev_name\":\"t\"},"
                        "{\"iface_id\":\"b\",\"host_dev_name\":\"u\"}],"
                        "\"drive_overrides\":[{\"drive_id\":\"a\",\"path_on_host\":\"f\"}],"
                        "\"pmem_overrides\":[{\"id\":\"a\",\"path_on_host\":\"f\"},"
                        "{\"id\":\"b\",\"path_on_host\":\"g\"}]"));
    assert_int_equal(f->machine->loads, 1);
    assert_string_equal(f->machine->state_path, "s");
    assert_string_equal(f->machine->mem_path, "b");
    assert_true(load->track_dirty && load->wall_clock && !load->any_pages);
    assert_int_equal(load->pages, MEM_PAGES_TRANSPARENT);
    assert_int_equal(load->overrides.net_count, 2);
    assert_int_equal(load->overrides.drive_count, 1);
    assert_int_equal(load->overrides.pmem_count, 2);
    assert_non_null(load->overrides.uds_path);
    assert_int_equal(f->machine->state, MACHINE_PAUSED);
    assert_int_equal(f->machine->resumes, 0);
    assert_false(f->response.deprecated);
}

static void test_snapshot_load_without_options_leaves_all_as_saved(void **state)
{
    struct fixture *f = *state;
    const struct machine_load *load = &f->machine->load;

    assert_done(f, "PUT", "/snapshot/load", BACKEND(",\"resume_vm\":true,\"vsock_override\":null"));
    assert_true(load->any_pages && !load->track_dirty && !load->wall_clock);
    assert_int_equal(load->overrides.net_count, 0);
    assert_null(load->overrides.uds_path);
    assert_int_equal(f->machine->resumes, 1);
}

static void test_snapshot_load_by_deprecated_members_says_so(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/snapshot/load", FILES(",\"enable_diff_snapshots\":true"));
    assert_true(f->response.deprecated);
    assert_true(f->machine->load.track_dirty);
    assert_string_equal(f->machine->mem_path, "m");
}

static void test_snapshot_load_after_configuration_is_refused_and_harmless(void **state)
{
    static const char *const configuration[][3] = {
        {"PUT", "/boot-source", "{\"kernel_image_path\":\"missing\"}"},
        {"PUT", "/drives/a",
         "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"missing\"}"},
        {"PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}"},
        {"PATCH", "/machine-config", "{\"vcpu_count\":1}"},
        {"PUT", "/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true}"},
        {"PUT", "/entropy", "{}"},
        {"PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"missing/v\"}"},
        {"PUT", "/pmem/a", "{\"id\":\"a\",\"path_on_host\":\"missing\"}"},
        {"PUT", "/hotplug/memory", "{\"total_size_mib\":128}"},
        {"PUT", "/mmds/config", "{\"network_interfaces\":[\"missing\"]}"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(configuration); i++) {
        f->api.boot_specific = false;
        (void)ask(f, configuration[i][0], configuration[i][1], configuration[i][2]);
        assert_fault(f, "PUT", "/snapshot/load", FILES(""),
                     LOAD "Loading a microVM snapshot not allowed after configuring boot-specific "
                          "resources.");
        assert_int_equal(f->machine->state, MACHINE_NOT_STARTED);
    }
    assert_int_equal(f->machine->loads, 0);
}

static void test_snapshot_load_after_harmless_configuration_is_done(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/serial", "{}");
    assert_done(f, "PUT", "/cpu-config", "{}");
    assert_done(f, "PUT", "/mmds", "{\"a\":1}");
    assert_done(f, "PUT", "/snapshot/load", FILES(""));
    assert_int_equal(f->machine->serial_sets, 1);
}

static void test_snapshot_load_that_fails_ends_process_with_1(void **state)
{
    struct fixture *f = *state;

    f->machine->refusal = "for a reason";
    assert_fault(f, "PUT", "/snapshot/load", FILES(""), LOAD "for a reason");
    assert_int_equal(f->machine->state, MACHINE_STOPPED);
    assert_int_equal(f->machine->exit_code, 1);
}

static void test_snapshot_load_of_served_memory_names_the_socket(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/snapshot/load",
                "{\"snapshot_path\":\"s\",\"mem_backend\":{\"backend_path\":\"b\","
                "\"backend_type\":\"Uffd\"}}");
    assert_int_equal(f->machine->load.backend, MEM_BACKEND_UFFD);
    assert_string_equal(f->machine->mem_path, "b");
}

static void test_snapshot_load_with_bad_overrides_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "PUT", "/snapshot/load", FILES(",\"network_overrides\":[{\"iface_id\":\"a\"}]"),
                 JSON "missing field `host_dev_name` at line 1 column 78.");
    assert_fault(f, "PUT", "/snapshot/load", FILES(",\"network_overrides\":null"),
                 JSON "invalid type: null, expected a sequence at line 1 column 65.");
    assert_fault(f, "PUT", "/snapshot/load", FILES(",\"drive_overrides\":[{}]"),
                 JSON "missing field `drive_id` at line 1 column 62.");
    assert_fault(f, "PUT", "/snapshot/load", FILES(",\"metrics_override\":{}"),
                 JSON "missing field `metrics_path` at line 1 column 62.");
    assert_fault(f, "PUT", "/snapshot/load", FILES(",\"vsock_override\":{}"),
                 JSON "missing field `uds_path` at line 1 column 60.");
}

static void test_snapshot_load_whose_metrics_cannot_be_opened_fails(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "PUT", "/snapshot/load",
                 FILES(",\"metrics_override\":{\"metrics_path\":\"no/where\"}"),
                 LOAD "Cannot initialize the metrics system due to bad user input: No such file or "
                      "directory (os error 2)");
    assert_int_equal(f->machine->loads, 0);
    assert_int_equal(f->machine->exit_code, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_snapshot_create_names_both_files),
        TEST(test_snapshot_create_in_background_says_so_to_the_machine),
        TEST(test_snapshot_background_tells_what_became_of_it),
        TEST(test_snapshot_create_that_fails_says_why),
        TEST(test_snapshot_create_has_its_type_and_is_synced_unless_told_otherwise),
        TEST(test_snapshot_create_tells_its_time_as_that_of_its_type),
        TEST(test_snapshot_load_passes_everything_on),
        TEST(test_snapshot_load_without_options_leaves_all_as_saved),
        TEST(test_snapshot_load_by_deprecated_members_says_so),
        TEST(test_snapshot_load_after_configuration_is_refused_and_harmless),
        TEST(test_snapshot_load_after_harmless_configuration_is_done),
        TEST(test_snapshot_load_that_fails_ends_process_with_1),
        TEST(test_snapshot_load_of_served_memory_names_the_socket),
        TEST(test_snapshot_load_with_bad_overrides_is_refused),
        TEST(test_snapshot_load_whose_metrics_cannot_be_opened_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
