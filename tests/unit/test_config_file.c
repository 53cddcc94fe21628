/* SPDX-License-Identifier: Apache-2.0 */
/* test_config_file.c: the config file over a machine without KVM: order, refusals, other files. */
#include "api/config_file.h"
#include "api/logger.h"
#include "api/vm_config.h"
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

struct fixture {
    struct api api;
    struct machine *machine;
    char *dir;
    struct err e;
};

static int set_up(void **state)
{
    static const struct machine_options options;
    struct logger_body quiet = {.level = LOG_OFF};
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(logger_update(&quiet, &f->e), 0);
    assert_int_equal(loop_create(&f->api.loop, &f->e), 0);
    fake_devices = (struct fake_devices){0};
    assert_int_equal(machine_create(&f->machine, f->api.loop, &options, &f->e), 0);
    f->api.machine = f->machine;
    f->api.id = "vm-1";
    f->dir = files_enter_temporary("config");
    assert_int_equal(files_make_sparse("disk", 4096), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    free(f->api.serial.out_path);
    mmds_tokens_destroy(f->api.mmds_http.tokens);
    machine_destroy(f->machine);
    loop_destroy(f->api.loop);
    files_leave(f->dir);
    free(f);
    return 0;
}

static int run(struct fixture *f, const char *text)
{
    return config_file_run(&f->api, "c.json", text, strlen(text), &f->e);
}

static void assert_refused(struct fixture *f, const char *text, const char *why)
{
    assert_true(run(f, text) < 0);
    assert_string_equal(f->e.text, why);
    assert_int_equal(f->machine->starts, 0);
}

static void assert_runs(struct fixture *f, const char *text)
{
    if (run(f, text))
        fail_msg("%s", f->e.text);
    assert_int_equal(f->machine->starts, 1);
}

#define MINIMAL "\"boot-source\":{\"kernel_image_path\":\"k\"},\"drives\":[]"

static void test_config_file_configures_and_starts(void **state)
{
    struct fixture *f = *state;

    assert_runs(f,
                "{\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":64},"
                "\"boot-source\":{\"kernel_image_path\":\"k\",\"boot_args\":\"a\"},"
                "\"drives\":[{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"disk\"}"
                ",{\"drive_id\":\"b\",\"is_root_device\":false,\"path_on_host\":\"disk\"}],"
                "\"entropy\":{},\"serial\":{\"serial_out_path\":\"s\"},"
                "\"cpu-config\":{\"kvm_capabilities\":[\"!5\"]}}");
    assert_int_equal(f->machine->config.vcpu_count, 2);
    assert_string_equal(f->machine->boot_source.kernel_path, "k");
    assert_string_equal(f->machine->boot_source.boot_args, "a");
    assert_int_equal(f->machine->devices.drive_count, 2);
    assert_string_equal(blk_config(f->machine->devices.drive[1].blk)->id, "b");
    assert_int_equal(blk_config(f->machine->devices.drive[1].blk)->engine, BLK_ENGINE_SYNC);
    assert_true(f->machine->devices.rng);
    assert_string_equal(f->machine->serial_path, "s");
    assert_int_equal(f->machine->cpu_template->capability[0].number, 5);
}

static void test_config_file_makes_interfaces_and_the_socket_device(void **state)
{
    struct fixture *f = *state;
    const struct net_config *net;

    assert_runs(f, "{" MINIMAL ",\"vsock\":{\"guest_cid\":3,\"uds_path\":\"v\"},"
                   "\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"t0\"},"
                   "{\"iface_id\":\"b\",\"host_dev_name\":\"t1\",\"mtu\":1400}]}");
    assert_int_equal(f->machine->devices.net_count, 2);
    net = net_config(f->machine->devices.net[1]);
    assert_string_equal(net->id, "b");
    assert_string_equal(net->tap, "t1");
    assert_int_equal(net->mtu, 1400);
    assert_int_equal(vsock_config(f->machine->devices.vsock)->guest_cid, 3);
    assert_string_equal(vsock_config(f->machine->devices.vsock)->uds_path, "v");
}

static void test_config_file_lets_guests_reach_the_metadata(void **state)
{
    struct fixture *f = *state;
    const struct devices *devices = &f->machine->devices;

    assert_runs(f, "{" MINIMAL ",\"mmds-config\":{\"network_interfaces\":[\"b\"],\"version\":"
                   "\"V2\",\"ipv4_address\":\"169.254.1.2\",\"imds_compat\":true},"
                   "\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"t0\"},"
                   "{\"iface_id\":\"b\",\"host_dev_name\":\"t1\"}]}");
    assert_int_equal(devices->mmds->address, 0xa9fe0102);
    assert_null(devices->mmds_endpoint[0]);
    assert_non_null(devices->mmds_endpoint[1]);
    assert_int_equal(f->api.mmds_http.version, MMDS_V2);
    assert_true(f->api.mmds_http.imds_compat);
}

static void test_config_file_refuses_metadata_without_interfaces(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "{" MINIMAL ",\"mmds-config\":{\"network_interfaces\":[]}}",
                   "c.json: MMMDS config error: The list of network interface IDs that allow "
                   "forwarding MMDS requests is empty.");
    assert_int_equal(f->machine->starts, 0);
}

static void test_config_file_makes_persistent_memory(void **state)
{
    struct fixture *f = *state;
    const struct pmem_config *pmem;

    assert_runs(f,
                "{" MINIMAL ",\"pmem\":[{\"id\":\"a\",\"path_on_host\":\"missing\"},"
                "{\"id\":\"b\",\"path_on_host\":\"p\",\"read_only\":true,\"root_device\":true}]}");
    assert_int_equal(f->machine->devices.pmem_count, 2);
    pmem = pmem_config(f->machine->devices.pmem[1]);
    assert_string_equal(pmem->id, "b");
    assert_string_equal(pmem->path, "p");
    assert_true(pmem->read_only && pmem->is_root && !pmem->has_limiter);
}

static void test_config_file_makes_memory_that_can_be_plugged(void **state)
{
    struct fixture *f = *state;
    const struct hotplug_config *hotplug;

    assert_refused(f, "{" MINIMAL ",\"memory-hotplug\":{\"total_size_mib\":100}}",
                   "c.json: Memory hotplug config error: Total size must not be lower than slot "
                   "size (128 MiB)");
    assert_runs(f, "{" MINIMAL ",\"memory-hotplug\":{\"total_size_mib\":256}}");
    hotplug = hotplug_config(f->machine->devices.hotplug);
    assert_int_equal(hotplug->total_size_mib, 256);
    assert_int_equal(hotplug->block_size_mib, 2);
    assert_int_equal(hotplug->slot_size_mib, 128);
}

static void test_config_file_with_two_persistent_roots_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_refused(f,
                   "{" MINIMAL ",\"pmem\":[{\"id\":\"a\",\"path_on_host\":\"p\",\"root_device\":"
                   "true},{\"id\":\"b\",\"path_on_host\":\"p\",\"root_device\":true}]}",
                   "c.json: Pmem config error: A root pmem device already exist");
}

/* What GET /vm/config shows of the machine, malloc'ed. */
static char *show(struct machine *machine)
{
    struct json_writer w;

    json_writer_open(&w);
    vm_config_write(&w, machine);
    return json_writer_finish(&w, NULL);
}

/* Runs the text on a machine of its own; what that then shows. */
static char *show_after(struct fixture *f, const char *text)
{
    static const struct machine_options options;
    struct api api = {.loop = f->api.loop, .id = "vm-2"};
    char *shown;

    assert_int_equal(machine_create(&api.machine, api.loop, &options, &f->e), 0);
    if (config_file_run(&api, "shown.json", text, strlen(text), &f->e))
        fail_msg("%s", f->e.text);
    shown = show(api.machine);
    mmds_tokens_destroy(api.mmds_http.tokens);
    machine_destroy(api.machine);
    return shown;
}

static void test_config_file_of_what_vm_config_shows_gives_the_same_again(void **state)
{
#define LIMITER                                                                                    \
    "{\"bandwidth\":{\"size\":1,\"one_time_burst\":2,\"refill_time\":3},"                          \
    "\"ops\":{\"size\":18446744073709551615,\"refill_time\":5}}"
    static const char *const texts[] = {
        "{" MINIMAL "}",
        "{\"balloon\":{\"amount_mib\":5,\"deflate_on_oom\":true,\"stats_polling_interval_s\":7,"
        "\"free_page_hinting\":true,\"free_page_reporting\":true},"
        "\"drives\":[{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"disk\","
        "\"rate_limiter\":" LIMITER ",\"io_engine\":\"Async\",\"cache_type\":\"Writeback\"},"
        "{\"drive_id\":\"r\",\"is_root_device\":true,\"socket\":\"s\",\"partuuid\":\"p\"},"
        "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"disk\","
        "\"is_read_only\":false,\"discard\":true}],"
        "\"boot-source\":{\"kernel_image_path\":\"k\",\"initrd_path\":\"i\",\"boot_args\":\"\"},"
        "\"machine-config\":{\"vcpu_count\":4,\"mem_size_mib\":512,\"smt\":true,"
        "\"cpu_template\":\"T2CL\",\"track_dirty_pages\":true,\"huge_pages\":\"2M\"},"
        "\"mmds-config\":{\"network_interfaces\":[\"b\",\"a\"],\"ipv4_address\":\"169.254.9.9\"},"
        "\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"t0\","
        "\"guest_mac\":\"06:00:00:00:00:01\",\"mtu\":68,\"tx_rate_limiter\":" LIMITER "},"
        "{\"iface_id\":\"b\",\"host_dev_name\":\"t\\u00e9\\n\"}],"
        "\"vsock\":{\"vsock_id\":\"v\",\"guest_cid\":3,\"uds_path\":\"v\"},"
        "\"entropy\":{\"rate_limiter\":" LIMITER "},"
        "\"pmem\":[{\"id\":\"p\",\"path_on_host\":\"disk\",\"read_only\":true,"
        "\"rate_limiter\":" LIMITER "}],"
        "\"memory-hotplug\":{\"total_size_mib\":1024,\"block_size_mib\":4,"
        "\"slot_size_mib\":256}}",
        "{" MINIMAL ",\"pmem\":[{\"id\":\"p\",\"path_on_host\":\"disk\",\"root_device\":true,"
        "\"rate_limiter\":{}}],\"entropy\":{}}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        char *first = show_after(*state, texts[i]), *second = show_after(*state, first);

        assert_string_equal(first, second);
        free(first);
        free(second);
    }
}

static void test_config_file_refuses_in_the_order_in_which_it_applies(void **state)
{
    /* Each with one section more that is refused, before the others. */
    static const char *const cases[][2] = {
        {"\"pmem\":[{\"id\":\"p\",\"path_on_host\":\"p\",\"root_device\":true},"
         "{\"id\":\"q\",\"path_on_host\":\"p\",\"root_device\":true}]",
         "Pmem config error: "},
        {"\"mmds-config\":{\"network_interfaces\":[\"no\"]}", "MMMDS config error: "},
        {"\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"t\",\"mtu\":1}]",
         "Network config error: "},
        {"\"metrics\":{\"metrics_path\":\"no/m\"}", "Metrics error: "},
        {"\"logger\":{\"log_path\":\"no/l\"}", "Logger error: "},
    };
    struct fixture *f = *state;
    char text[2000] = "{" MINIMAL ",\"memory-hotplug\":{\"total_size_mib\":1}", wanted[100];
    size_t len = strlen(text);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, ",%s", cases[i][0]);
        strcpy(text + len, "}");
        snprintf(wanted, sizeof(wanted), "c.json: %s", cases[i][1]);
        assert_true(run(f, text) < 0);
        if (strncmp(f->e.text, wanted, strlen(wanted)) != 0)
            fail_msg("%s, not %s", wanted, f->e.text);
    }
    assert_int_equal(f->machine->starts, 0);
}

static void test_config_file_has_defaults_for_the_machine(void **state)
{
    struct fixture *f = *state;

    assert_runs(f, "{" MINIMAL "}");
    assert_int_equal(f->machine->config.vcpu_count, 1);
    assert_int_equal(f->machine->config.mem_size_mib, 128);
    assert_null(f->machine->boot_source.boot_args);
    assert_false(f->machine->devices.rng);
}

static void test_config_file_lets_unknown_keys_and_null_sections_be(void **state)
{
    struct fixture *f = *state;

    assert_runs(f, "{" MINIMAL ",\"unknown\":{\"a\":[1]},\"machine-config\":null,\"logger\":null,"
                   "\"metrics\":null,\"vsock\":null,\"balloon\":null,\"network-interfaces\":[],"
                   "\"pmem\":[],\"cpu-config\":null,\"entropy\":null,\"memory-hotplug\":null,"
                   "\"mmds-config\":null}");
    assert_false(f->machine->devices.rng);
}

static void test_config_file_says_what_is_wrong_and_where(void **state)
{
    static const char *const cases[][2] = {
        {"", "c.json: EOF while parsing a value at line 1 column 0"},
        {"{}", "c.json: missing field `drives` at line 1 column 2"},
        {"{\"drives\":[]}", "c.json: missing field `boot-source` at line 1 column 13"},
        {"{\"drives\":{}}", "c.json: invalid type: map, expected a sequence at line 1 column 10"},
        {"{" MINIMAL ",\n\"logger\":{\"level\":\"x\"}}",
         "c.json: Invalid LevelFilter at line 2 column 22"},
        {"{" MINIMAL "} x", "c.json: trailing characters at line 1 column 55"},
        {"{" MINIMAL ",\"network-interfaces\":null}",
         "c.json: invalid type: null, expected a sequence at line 1 column 78"},
        {"{" MINIMAL ",\"drives\":[]}", "c.json: duplicate field `drives` at line 1 column 61"},
        {"{" MINIMAL ",\"machine-config\":{}}",
         "c.json: missing field `vcpu_count` at line 1 column 72"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_refused(f, cases[i][0], cases[i][1]);
}

static void test_config_file_refusals_name_the_section(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "{" MINIMAL ",\"logger\":{\"log_path\":\"no/l\"}}",
                   "c.json: Logger error: Failed to open target file: No such file or directory "
                   "(os error 2)");
    assert_refused(f, "{" MINIMAL ",\"metrics\":{\"metrics_path\":\"no/m\"}}",
                   "c.json: Metrics error: Cannot initialize the metrics system due to bad user "
                   "input: No such file or directory (os error 2)");
    assert_refused(f,
                   "{\"boot-source\":{\"kernel_image_path\":\"k\"},\"drives\":[{\"drive_id\":\"a\","
                   "\"is_root_device\":false,\"path_on_host\":\"missing\"}]}",
                   "c.json: Drive config error: Unable to create the virtio block device: Virtio "
                   "backend error: Error manipulating the backing file: No such file or directory "
                   "(os error 2) missing");
    fake_devices.refusal = "Busy.";
    assert_refused(f,
                   "{" MINIMAL ",\"network-interfaces\":[{\"iface_id\":\"a\","
                   "\"host_dev_name\":\"t\"}]}",
                   "c.json: Network config error: Busy.");
    assert_refused(f, "{" MINIMAL ",\"vsock\":{\"guest_cid\":3,\"uds_path\":\"v\"}}",
                   "c.json: Vsock config error: Busy.");
    f->machine->refusal = "No.";
    assert_refused(f, "{" MINIMAL "}", "c.json: Boot source error: No.");
}

static void test_config_file_takes_the_cpu_template_from_a_file(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "{" MINIMAL ",\"cpu-config\":\"t\"}",
                   "c.json: Configure CPU error: Cannot read t: No such file or directory (os "
                   "error 2)");
    assert_int_equal(files_write("t", "{\"x\":1}", 7), 0);
    assert_refused(f, "{" MINIMAL ",\"cpu-config\":\"t\"}",
                   "c.json: Configure CPU error: t: unknown field `x`, expected one of "
                   "`kvm_capabilities`, `cpuid_modifiers`, `msr_modifiers` at line 1 column 4");
    assert_int_equal(files_write("t", "{\"kvm_capabilities\":[\"9\"]}", 26), 0);
    assert_runs(f, "{" MINIMAL ",\"cpu-config\":\"t\"}");
    assert_int_equal(f->machine->cpu_template->capability[0].number, 9);
}

static void test_config_file_refuses_a_path_with_a_nul_character(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(files_write("t", "{}", 2), 0);
    assert_refused(f, "{\"cpu-config\":\"t\\u0000x\"," MINIMAL "}",
                   "c.json: invalid value: a string with a NUL character, expected path string at "
                   "line 1 column 24");
}

static void test_config_file_read_gives_whole_files_and_reasons(void **state)
{
    struct fixture *f = *state;
    char *text, *big = calloc(1, 100000);
    size_t len;

    assert_non_null(big);
    memset(big, 'x', 100000);
    assert_int_equal(files_write("big", big, 100000), 0);
    assert_int_equal(config_file_read("big", &text, &len, &f->e), 0);
    assert_int_equal(len, 100000);
    assert_memory_equal(text, big, len);
    assert_int_equal(text[len], '\0');
    free(text);
    free(big);
    assert_int_equal(config_file_read("nothing", &text, &len, &f->e), -ENOENT);
    assert_int_equal(mkdir("d", 0755), 0);
    assert_int_equal(config_file_read("d", &text, &len, &f->e), -EISDIR);
    assert_string_equal(f->e.text, "Cannot read d: Is a directory (os error 21)");
    assert_int_equal(files_make_sparse("huge", CONFIG_FILE_MAX + 1), 0);
    assert_int_equal(config_file_read("huge", &text, &len, &f->e), -EFBIG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_config_file_configures_and_starts),
        TEST(test_config_file_makes_interfaces_and_the_socket_device),
        TEST(test_config_file_lets_guests_reach_the_metadata),
        TEST(test_config_file_refuses_metadata_without_interfaces),
        TEST(test_config_file_makes_persistent_memory),
        TEST(test_config_file_makes_memory_that_can_be_plugged),
        TEST(test_config_file_with_two_persistent_roots_is_refused),
        TEST(test_config_file_of_what_vm_config_shows_gives_the_same_again),
        TEST(test_config_file_refuses_in_the_order_in_which_it_applies),
        TEST(test_config_file_has_defaults_for_the_machine),
        TEST(test_config_file_lets_unknown_keys_and_null_sections_be),
        TEST(test_config_file_says_what_is_wrong_and_where),
        TEST(test_config_file_refusals_name_the_section),
        TEST(test_config_file_takes_the_cpu_template_from_a_file),
        TEST(test_config_file_refuses_a_path_with_a_nul_character),
        TEST(test_config_file_read_gives_whole_files_and_reasons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
