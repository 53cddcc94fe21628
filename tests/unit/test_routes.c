/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_routes.c: requests in, answers out, over a machine without KVM: the order of the dispatch
 * rules, phases, ids, deprecations, counters, and what each request does to the machine.
 */
#include "api/logger.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"
#include "vmm/base/timeline.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

/* ---- dispatch ---- */

static void test_routes_check_the_body_before_the_path(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "GET", "/nope", "{}", "GET request cannot have a body.");
    assert_fault(f, "PUT", "/nope", NULL, "Empty PUT request.");
    assert_fault(f, "PATCH", "/nope", NULL, "Empty PATCH request.");
    assert_fault(f, "DELETE", "/nope", "{}", "Empty Delete request.");
    assert_fault(f, "DELETE", "/nope", NULL, "Invalid request method and/or path: DELETE nope.");
}

static void test_routes_name_what_they_do_not_know(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "GET", "/nope/a", NULL, "Invalid request method and/or path: GET nope.");
    assert_fault(f, "PUT", "/", "{}", "Invalid request method and/or path: PUT .");
    assert_fault(f, "GET", "/vm", NULL, "Invalid request method and/or path: GET vm.");
    assert_fault(f, "GET", "/version?x=1", NULL,
                 "Invalid request method and/or path: GET version?x=1.");
    assert_fault(f, "GET", "/balloon/x", NULL, "Unrecognized GET request path `x`.");
    assert_fault(f, "GET", "/balloon/hinting", NULL, "Unrecognized GET request path `/hinting/`.");
    assert_fault(f, "PATCH", "/balloon/hinting/x", NULL,
                 "Unrecognized PATCH request path `/hinting/x`.");
    assert_fault(f, "PUT", "/mmds/x", "{}", "Unrecognized PUT request path `x`.");
    assert_fault(f, "PUT", "/snapshot", "{}", "Missing snapshot operation type.");
    /* An empty segment is one, unless it is the last. */
    assert_fault(f, "PUT", "/snapshot/", "{}", "Missing snapshot operation type.");
    assert_fault(f, "PUT", "/snapshot//", "{}",
                 "Invalid request method and/or path: PUT /snapshot/.");
    assert_fault(f, "GET", "/balloon//", NULL, "Unrecognized GET request path ``.");
    assert_fault(f, "PUT", "/drives//a", "{}", "The ID cannot be empty.");
    assert_fault(f, "PUT", "/snapshot/x", "{}",
                 "Invalid request method and/or path: PUT /snapshot/x.");
    assert_fault(f, "PATCH", "/actions", "{}",
                 "Invalid request method and/or path: PATCH actions.");
}

static void test_routes_ignore_slashes_and_segments_that_do_not_matter(void **state)
{
    static const char *const paths[] = {"/version", "/version/", "//version", "/version/a/b/c/d/e"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        assert_says(f, paths[i], "{\"firecracker_version\":\"1.17.0\"}");
}

static void test_routes_judge_in_order_id_body_match_phase(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "PATCH", "/drives", "{", "The ID cannot be empty.");
    assert_fault(f, "PATCH", "/drives/", "{", "The ID cannot be empty.");
    assert_fault(f, "PATCH", "/drives/a-b", "{",
                 "API Resource IDs can only contain alphanumeric characters and underscores.");
    assert_fault(f, "PATCH", "/drives/a", "{",
                 JSON "EOF while parsing an object at line 1 column 1.");
    assert_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"b\"}",
                 "The id from the path does not match the id from the body!");
    assert_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\"}", BEFORE);
    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\"}",
                 "Drive config error: Unable to patch the block device: Failed perform action on "
                 "device: Device not found Please verify the request arguments.");
}

static void test_routes_keep_the_phases(void **state)
{
    static const char *const before[][3] = {
        {"PUT", "/boot-source", "{\"kernel_image_path\":\"k\"}"},
        {"PUT", "/cpu-config", "{\"kvm_capabilities\":[\"1\"]}"},
        {"PUT", "/entropy", "{}"},
        {"PUT", "/logger", "{}"},
        {"PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}"},
        {"PATCH", "/machine-config", "{\"vcpu_count\":1}"},
        {"PUT", "/metrics", "{\"metrics_path\":\"m\",\"properties\":{\"a\":\"b\"}}"},
        {"PUT", "/serial", "{}"},
        {"PUT", "/actions", "{\"action_type\":\"InstanceStart\"}"},
        {"PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}"},
        {"PUT", "/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true}"},
        {"PUT", "/hotplug/memory", "{\"total_size_mib\":128}"},
        {"PUT", "/snapshot/load", "{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\"}"},
        {"PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"]}"},
    };
    static const char *const after[][3] = {
        {"PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}"},
        {"PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}"},
        {"PATCH", "/vm", "{\"state\":\"Paused\"}"},
        {"PATCH", "/balloon", "{\"amount_mib\":1}"},
        {"PATCH", "/balloon/x", "{\"amount_mib\":1}"},
        {"PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":1}"},
        {"PATCH", "/balloon/hinting/start", NULL},
        {"PATCH", "/balloon/hinting/stop", NULL},
        {"PATCH", "/network-interfaces/a", "{\"iface_id\":\"a\"}"},
        {"PATCH", "/pmem/a", "{\"id\":\"a\"}"},
        {"PATCH", "/hotplug/memory", "{\"requested_size_mib\":0}"},
        {"PUT", "/snapshot/create", "{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\"}"},
        {"GET", "/balloon/statistics", NULL},
        {"GET", "/balloon/hinting/status", NULL},
        {"GET", "/hotplug/memory", NULL},
        {"DELETE", "/drives/a", NULL},
        {"DELETE", "/network-interfaces/a", NULL},
        {"DELETE", "/pmem/a", NULL},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(after); i++)
        assert_fault(f, after[i][0], after[i][1], after[i][2], BEFORE);
    f->machine->state = MACHINE_PAUSED;
    for (size_t i = 0; i < ARRAY_SIZE(before); i++)
        assert_fault(f, before[i][0], before[i][1], before[i][2], AFTER);
    assert_int_equal(f->machine->starts, 0);
}

static void test_routes_refuse_hot_plug_without_pci(void **state)
{
    static const char *const requests[][3] = {
        {"PUT", "/drives/a",
         "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\"}"},
        {"PUT", "/network-interfaces/a", "{\"iface_id\":\"a\",\"host_dev_name\":\"t\"}"},
        {"PUT", "/pmem/a", "{\"id\":\"a\",\"path_on_host\":\"p\"}"},
        {"DELETE", "/drives/a", NULL},
    };
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        assert_fault(f, requests[i][0], requests[i][1], requests[i][2], "PCI is not enabled");
    assert_int_equal(f->machine->devices.drive_count, 0);
}

static void test_routes_say_what_is_not_there(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "GET", "/balloon", NULL, "Balloon config error: No balloon device found.");
}

/* ---- questions ---- */

static void test_routes_tell_the_state_of_the_machine(void **state)
{
    static const struct {
        enum machine_state state;
        const char *name;
    } cases[] = {{MACHINE_NOT_STARTED, "Not started"},
                 {MACHINE_RUNNING, "Running"},
                 {MACHINE_PAUSED, "Paused"}};
    struct fixture *f = *state;
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        f->machine->state = cases[i].state;
        snprintf(text, sizeof(text),
                 "{\"id\":\"vm-1\",\"state\":\"%s\",\"vmm_version\":\"1.17.0\","
                 "\"app_name\":\"Firecracker\"}",
                 cases[i].name);
        assert_says(f, "/", text);
    }
}

static void test_routes_timeline_has_the_stages_that_were_reached(void **state)
{
    struct fixture *f = *state;
    const char *exec, *kernel;

    timeline_stamp(TIMELINE_EXEC);
    assert_says(f, "/timeline", "{\"stages\":[{\"name\":\"exec\",\"us\":0}]}");
    timeline_stamp(TIMELINE_KERNEL);
    assert_int_equal(ask(f, "GET", "/timeline", NULL), 200);
    exec = strstr(f->response.body, "\"exec\"");
    kernel = strstr(f->response.body, "{\"name\":\"kernel\",\"us\":");
    assert_true(exec && kernel && exec < kernel);
    assert_null(strstr(f->response.body, "\"memory\""));
    timeline_stamp_guest(9);
    assert_int_equal(ask(f, "GET", "/timeline", NULL), 200);
    assert_non_null(strstr(f->response.body, "{\"name\":\"guest_9\",\"us\":"));
}

/* ---- machine configuration ---- */

static void test_routes_machine_put_resets_what_it_leaves_out(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/machine-config",
                "{\"vcpu_count\":4,\"mem_size_mib\":512,\"smt\":true,\"track_dirty_pages\":true,"
                "\"huge_pages\":\"2M\"}");
    assert_says(f, "/machine-config",
                "{\"vcpu_count\":4,\"mem_size_mib\":512,\"smt\":true,\"track_dirty_pages\":true,"
                "\"huge_pages\":\"2M\"}");
    assert_done(f, "PUT", "/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64}");
    assert_says(f, "/machine-config",
                "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":false,\"track_dirty_pages\":false,"
                "\"huge_pages\":\"None\"}");
}

static void test_routes_machine_patch_changes_only_what_it_says(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/machine-config",
                "{\"vcpu_count\":4,\"mem_size_mib\":512,\"smt\":true}");
    assert_done(f, "PATCH", "/machine-config", "{\"mem_size_mib\":256,\"vcpu_count\":null}");
    assert_says(f, "/machine-config",
                "{\"vcpu_count\":4,\"mem_size_mib\":256,\"smt\":true,\"track_dirty_pages\":false,"
                "\"huge_pages\":\"None\"}");
    assert_fault(f, "PATCH", "/machine-config", "{}", "Empty PATCH request.");
    assert_fault(f, "PATCH", "/machine-config", "{\"smt\":null}", "Empty PATCH request.");
}

static void test_routes_static_template_is_deprecated_and_outlives_a_put(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/machine-config",
                "{\"vcpu_count\":1,\"mem_size_mib\":1,\"cpu_template\":\"T2CL\"}");
    assert_true(f->response.deprecated);
    assert_done(f, "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":2}");
    assert_false(f->response.deprecated);
    assert_int_equal(f->machine->config.cpu_template, CPU_TEMPLATE_T2CL);
    assert_done(f, "PATCH", "/machine-config", "{\"cpu_template\":\"None\"}");
    assert_true(f->response.deprecated);
    assert_int_equal(f->machine->config.cpu_template, CPU_TEMPLATE_NONE);
    assert_int_equal(metrics.deprecated_api.deprecated_http_api_calls, 2);
    /* A refusal for the phase tells it too. */
    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "PATCH", "/machine-config", "{\"cpu_template\":\"T2\"}", AFTER);
    assert_true(f->response.deprecated);
}

static void test_routes_later_of_two_cpu_templates_counts(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PATCH", "/machine-config", "{\"cpu_template\":\"T2\"}");
    assert_done(f, "PUT", "/cpu-config", "{\"kvm_capabilities\":[\"!56\"]}");
    assert_int_equal(f->machine->config.cpu_template, CPU_TEMPLATE_NONE);
    assert_non_null(f->machine->cpu_template);
    assert_int_equal(f->machine->cpu_template->capability[0].number, 56);
    assert_true(f->machine->cpu_template->capability[0].removed);
    assert_done(f, "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}");
    assert_non_null(f->machine->cpu_template);
    assert_done(f, "PATCH", "/machine-config", "{\"cpu_template\":\"T2\"}");
    assert_null(f->machine->cpu_template);
}

static void test_routes_put_the_prefix_of_the_resource_before_refusals(void **state)
{
    static const char *const cases[][4] = {
        {"PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}",
         "Machine config error: No."},
        {"PATCH", "/machine-config", "{\"vcpu_count\":1}", "Machine config error: No."},
        {"PUT", "/boot-source", "{\"kernel_image_path\":\"k\"}", "Boot source error: No."},
        {"PUT", "/drives/a", "{\"drive_id\":\"a\",\"is_root_device\":false}",
         "Drive config error: Unable to create the virtio block device: Invalid block config."},
        {"PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", "Start microvm error: No."},
    };
    struct fixture *f = *state;

    f->machine->refusal = "No.";
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_fault(f, cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "PATCH", "/vm", "{\"state\":\"Paused\"}", "Internal VMM error: No.");
}

/* ---- devices ---- */

static void test_routes_drive_reaches_the_machine_with_all_it_says(void **state)
{
    struct fixture *f = *state;
    const struct blk_config *drive;

    assert_done(f, "PUT", "/drives/d_1",
                "{\"drive_id\":\"d_1\",\"is_root_device\":true,\"path_on_host\":\"disk\","
                "\"partuuid\":\"0eaa91a0-01\",\"is_read_only\":true,\"cache_type\":\"Writeback\","
                "\"io_engine\":\"Async\",\"rate_limiter\":{\"bandwidth\":{\"size\":1,"
                "\"refill_time\":2,\"one_time_burst\":3}},\"socket\":null}");
    drive = blk_config(f->machine->devices.drive[0].blk);
    assert_string_equal(drive->id, "d_1");
    assert_string_equal(drive->partuuid, "0eaa91a0-01");
    assert_true(drive->is_root && drive->read_only && drive->has_limiter);
    assert_int_equal(drive->cache, BLK_CACHE_WRITEBACK);
    assert_int_equal(drive->engine, BLK_ENGINE_ASYNC);
    assert_int_equal(drive->limiter.bandwidth.one_time_burst, 3);
    assert_false(drive->limiter.has_ops);
}

static void test_routes_drive_is_a_file_or_a_socket_and_no_mixture(void **state)
{
    static const char *const mixtures[] = {
        "{\"drive_id\":\"a\",\"is_root_device\":false}",
        "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\",\"socket\":\"s\"}",
        "{\"drive_id\":\"a\",\"is_root_device\":false,\"socket\":\"s\",\"is_read_only\":true}",
        "{\"drive_id\":\"a\",\"is_root_device\":false,\"socket\":\"s\",\"io_engine\":\"Sync\"}",
        "{\"drive_id\":\"a\",\"is_root_device\":false,\"socket\":\"s\",\"rate_limiter\":{}}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(mixtures); i++)
        assert_fault(f, "PUT", "/drives/a", mixtures[i],
                     "Drive config error: Unable to create the virtio block device: Invalid block "
                     "config.");
}

static void test_routes_drive_patch_changes_path_and_limiter(void **state)
{
    struct fixture *f = *state;
    struct blk *blk;

    assert_int_equal(files_make_sparse("bigger", 8192), 0);
    assert_done(f, "PUT", "/drives/a",
                "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\"}");
    blk = f->machine->devices.drive[0].blk;
    f->machine->state = MACHINE_RUNNING;
    assert_done(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\",\"path_on_host\":\"bigger\"}");
    assert_string_equal(blk_config(blk)->path, "bigger");
    assert_done(f, "PATCH", "/drives/a",
                "{\"drive_id\":\"a\",\"rate_limiter\":{\"ops\":{\"size\":7,\"refill_time\":8}}}");
    assert_int_equal(blk_config(blk)->limiter.ops.size, 7);
    assert_string_equal(blk_config(blk)->path, "bigger");
    assert_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\",\"rate_limiter\":null}",
                 "Drive config error: Unable to patch the block device: Block: Running method "
                 "expected different backend. Please verify the request arguments.");
    assert_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\",\"path_on_host\":\"missing\"}",
                 "Drive config error: Unable to patch the block device: Block: Virtio backend "
                 "error: Error manipulating the backing file: No such file or directory (os error "
                 "2) missing Please verify the request arguments.");
}

static void test_routes_serial_file_is_opened_when_the_machine_starts(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/serial", "{\"serial_out_path\":\"first\"}");
    assert_done(f, "PUT", "/serial", "{\"serial_out_path\":\"second\"}");
    assert_int_equal(f->machine->serial_sets, 0);
    assert_done(f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
    assert_int_equal(f->machine->serial_sets, 1);
    assert_string_equal(f->machine->serial_path, "second");
}

static void test_routes_vm_config_shows_what_was_configured_in_order(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/boot-source",
                "{\"boot_args\":\"q\\\"\",\"kernel_image_path\":\"/k\",\"initrd_path\":null}");
    assert_done(f, "PUT", "/drives/a",
                "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\","
                "\"discard\":true}");
    assert_done(f, "PUT", "/entropy",
                "{\"rate_limiter\":{\"ops\":{\"refill_time\":2,\"size\":1,\"more\":0}}}");
    assert_says(
        f, "/vm/config",
        "{\"balloon\":null,\"drives\":[{\"drive_id\":\"a\",\"partuuid\":null,\"is_root_device\":"
        "false,\"cache_type\":\"Unsafe\",\"is_read_only\":false,\"path_on_host\":\"disk\","
        "\"rate_limiter\":null,\"io_engine\":\"Sync\",\"socket\":null,\"discard\":true}],"
        "\"boot-source\":{\"kernel_image_path\":\"/k\",\"initrd_path\":null,\"boot_args\":"
        "\"q\\\"\"},\"cpu-config\":null,\"logger\":null,\"machine-config\":{\"vcpu_count\":1,"
        "\"mem_size_mib\":128,\"smt\":false,\"track_dirty_pages\":false,\"huge_pages\":\"None\"},"
        "\"metrics\":null,\"mmds-config\":null,\"network-interfaces\":[],\"vsock\":null,"
        "\"entropy\":{\"rate_limiter\":{\"bandwidth\":null,\"ops\":{\"size\":1,"
        "\"one_time_burst\":null,\"refill_time\":2}}},\"pmem\":[],\"memory-hotplug\":null}");
}

/* ---- life, metadata, counters ---- */

static void test_routes_start_pause_resume_and_keys(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
    assert_done(f, "PATCH", "/vm", "{\"state\":\"Paused\"}");
    assert_done(f, "PATCH", "/vm", "{\"state\":\"Resumed\"}");
    assert_done(f, "PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
    assert_done(f, "PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
    assert_int_equal(f->machine->starts, 1);
    assert_int_equal(f->machine->pauses, 1);
    assert_int_equal(f->machine->resumes, 1);
    assert_int_equal(f->machine->ctrl_alt_dels, 1);
}

static void test_routes_failed_start_can_be_tried_again(void **state)
{
    struct fixture *f = *state;

    f->machine->refusal = "Not now.";
    assert_fault(f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}",
                 "Start microvm error: Not now.");
    f->machine->refusal = NULL;
    assert_done(f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
}

static void test_routes_mmds_holds_until_the_start(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/mmds", "{\"b\":1,\"a\":2}");
    assert_done(f, "PATCH", "/mmds", "{\"b\":null}");
    assert_says(f, "/mmds", "{\"a\":2}");
    assert_fault(f, "PUT", "/mmds", "{bad", JSON "key must be a string at line 1 column 2.");
    f->machine->state = MACHINE_RUNNING;
    assert_fault(f, "GET", "/mmds", NULL, "MMDS error: The MMDS data store is not initialized.");
    assert_fault(f, "PUT", "/mmds", "{}", "MMDS error: The MMDS data store is not initialized.");
}

static void test_routes_mmds_over_its_limit_is_413(void **state)
{
    struct fixture *f = *state;
    char body[120];

    snprintf(body, sizeof(body), "{\"a\":\"%0100d\"}", 0);
    assert_int_equal(ask(f, "PUT", "/mmds", body), 413);
    assert_string_equal(f->response.body,
                        "{\"fault_message\":\"MMDS limit exceeded error: The MMDS patch request "
                        "doesn't fit.\"}");
}

static void test_routes_mmds_config_without_version_2_is_deprecated(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "PUT", "/mmds/config", "{\"network_interfaces\":[\"a\"]}"), 400);
    assert_true(f->response.deprecated);
    assert_int_equal(
        ask(f, "PUT", "/mmds/config", "{\"network_interfaces\":[],\"version\":\"V2\"}"), 400);
    assert_false(f->response.deprecated);
}

static void test_routes_count_requests_and_failures(void **state)
{
    struct fixture *f = *state;

    ask(f, "GET", "/", NULL);
    ask(f, "GET", "/version", NULL);
    ask(f, "PUT", "/entropy", "{}");
    ask(f, "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}");
    ask(f, "PUT", "/machine-config", "{");
    ask(f, "PUT", "/drives/a-b", "{}");
    ask(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\"}");
    assert_int_equal(metrics.get_api_requests.instance_info_count, 1);
    assert_int_equal(metrics.get_api_requests.vmm_version_count, 1);
    assert_int_equal(metrics.put_api_requests.machine_cfg_count, 2);
    assert_int_equal(metrics.put_api_requests.machine_cfg_fails, 1);
    assert_int_equal(metrics.put_api_requests.drive_fails, 1);
    assert_int_equal(metrics.patch_api_requests.drive_count, 1);
    assert_int_equal(metrics.patch_api_requests.drive_fails, 1);
}

/* ---- the log ---- */

static void assert_log_contains(const char *text, bool expected)
{
    static char log[8192];
    int fd = open("log", O_RDONLY);
    ssize_t n = read(fd, log, sizeof(log) - 1);

    assert_true(n >= 0);
    log[n] = '\0';
    close(fd);
    if ((strstr(log, text) != NULL) != expected)
        fail_msg("%s `%s` in:\n%s", expected ? "no" : "a", text, log);
}

static void test_routes_log_requests_and_answers(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/logger", "{\"log_path\":\"log\",\"level\":\"Debug\"}");
    assert_done(f, "PUT", "/entropy", "{}");
    assert_done(f, "PUT", "/mmds", "{\"secret\":1}");
    assert_fault(f, "PATCH", "/vm", "{\"state\":\"Paused\"}", BEFORE);
    assert_log_contains(":fc_api] The API server received a Put request on \"/entropy\" with body "
                        "\"{}\".\n",
                        true);
    assert_log_contains("The API server received a Put request on \"/mmds\".\n", true);
    assert_log_contains("secret", false);
    assert_log_contains("with body \"{\\\"state\\\":\\\"Paused\\\"}\".\n", true);
    assert_log_contains("The request was executed successfully. Status code: 204 No Content.\n",
                        true);
    assert_log_contains("Received Error. Status code: 400 Bad Request. Message: " BEFORE "\n",
                        true);
    assert_log_contains("Total previous API call duration: ", true);
}

static void test_routes_logger_keeps_what_is_left_out_but_for_the_level(void **state)
{
    struct fixture *f = *state;

    assert_done(f, "PUT", "/logger",
                "{\"log_path\":\"log\",\"level\":\"Error\",\"show_level\":true}");
    assert_done(f, "PUT", "/entropy", "{}");
    assert_log_contains("entropy", false);
    assert_done(f, "PUT", "/logger", "{}"); /* back to Info */
    assert_done(f, "PUT", "/entropy", "{}");
    assert_log_contains(":INFO] The API server received a Put request on \"/entropy\"", true);
    assert_fault(f, "PUT", "/logger", "{\"log_path\":\"no/dir\"}",
                 "Logger error: Failed to open target file: No such file or directory (os error "
                 "2)");
}

/* ---- metrics: opened once in a process, so the last ones ---- */

static void test_routes_metrics_refuse_in_the_words_that_clients_know(void **state)
{
    struct fixture *f = *state;

    assert_fault(f, "PUT", "/metrics", "{}",
                 JSON "missing field `metrics_path` at line 1 column 2.");
    assert_fault(f, "PUT", "/metrics", "{\"metrics_path\":5}",
                 JSON "invalid type: integer `5`, expected path string at line 1 column 17.");
    assert_fault(f, "PUT", "/metrics", "{\"metrics_path\":\"m\",\"properties\":{\"a\":1}}",
                 JSON "invalid type: integer `1`, expected a string at line 1 column 39.");
    assert_fault(f, "PUT", "/metrics", "{\"metrics_path\":\"m\",\"properties\":[]}",
                 JSON "invalid type: sequence, expected a map at line 1 column 33.");
    assert_fault(
        f, "PUT", "/metrics", "{\"metrics_path\":\"m\",\"properties\":{\"a\\u0000b\":\"c\"}}",
        JSON "invalid value: a string with a NUL character, expected a name at line 1 column 44.");
    assert_fault(
        f, "PUT", "/metrics", "{\"metrics_path\":\"m\",\"properties\":{\"a\":\"b\\u0000\"}}",
        JSON
        "invalid value: a string with a NUL character, expected a string at line 1 column 47.");
    assert_fault(f, "PUT", "/metrics", "{\"metrics_path\":\"no/m\"}",
                 "Metrics error: Cannot initialize the metrics system due to bad user input: No "
                 "such file or directory (os error 2)");
}

static void test_routes_metrics_are_opened_once_and_flushed_on_request(void **state)
{
    struct fixture *f = *state;
    char text[64] = "";
    int fd;

    assert_done(f, "PUT", "/metrics",
                "{\"metrics_path\":\"m\",\"emit_id\":true,\"properties\":{\"a\":\"b\"},\"x\":[1]}");
    assert_fault(f, "PUT", "/metrics", "{\"metrics_path\":\"m2\"}",
                 "Metrics error: Cannot initialize the metrics system due to bad user input: "
                 "Reinitialization of metrics not allowed.");
    fd = open("m", O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 0);
    f->machine->state = MACHINE_RUNNING;
    assert_done(f, "PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
    assert_int_equal(read(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    assert_non_null(strstr(text, ",\"id\":\"vm-1\",\"pro"));
    close(fd);
}

static void test_routes_metrics_that_do_not_fit_into_their_file_are_400(void **state)
{
    struct fixture *f = *state;
    struct rlimit all, none;

    f->machine->state = MACHINE_RUNNING;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = all.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    ask(f, "PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    assert_int_equal(f->response.status, 400);
    assert_non_null(strstr(f->response.body, "File too large"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_routes_check_the_body_before_the_path),
        TEST(test_routes_name_what_they_do_not_know),
        TEST(test_routes_ignore_slashes_and_segments_that_do_not_matter),
        TEST(test_routes_judge_in_order_id_body_match_phase),
        TEST(test_routes_keep_the_phases),
        TEST(test_routes_refuse_hot_plug_without_pci),
        TEST(test_routes_say_what_is_not_there),
        TEST(test_routes_tell_the_state_of_the_machine),
        TEST(test_routes_timeline_has_the_stages_that_were_reached),
        TEST(test_routes_machine_put_resets_what_it_leaves_out),
        TEST(test_routes_machine_patch_changes_only_what_it_says),
        TEST(test_routes_static_template_is_deprecated_and_outlives_a_put),
        TEST(test_routes_later_of_two_cpu_templates_counts),
        TEST(test_routes_put_the_prefix_of_the_resource_before_refusals),
        TEST(test_routes_drive_reaches_the_machine_with_all_it_says),
        TEST(test_routes_drive_is_a_file_or_a_socket_and_no_mixture),
        TEST(test_routes_drive_patch_changes_path_and_limiter),
        TEST(test_routes_serial_file_is_opened_when_the_machine_starts),
        TEST(test_routes_vm_config_shows_what_was_configured_in_order),
        TEST(test_routes_start_pause_resume_and_keys),
        TEST(test_routes_failed_start_can_be_tried_again),
        TEST(test_routes_mmds_holds_until_the_start),
        TEST(test_routes_mmds_over_its_limit_is_413),
        TEST(test_routes_mmds_config_without_version_2_is_deprecated),
        TEST(test_routes_count_requests_and_failures),
        TEST(test_routes_log_requests_and_answers),
        TEST(test_routes_logger_keeps_what_is_left_out_but_for_the_level),
        TEST(test_routes_metrics_refuse_in_the_words_that_clients_know),
        TEST(test_routes_metrics_are_opened_once_and_flushed_on_request),
        TEST(test_routes_metrics_that_do_not_fit_into_their_file_are_400),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
