/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_saved_devices.c: what a state file says of devices makes the same devices again, but for
 * what is overridden.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/unit.h"
#include "vmm/saved_devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file {
    uint8_t bytes[64 * KIB];
    size_t len;
};

struct fixture {
    struct mem mem;
    struct virtio_env env;
    struct devices saved, loaded;
    struct file first, second;
    char *dir;
    struct err e;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fake_devices = (struct fake_devices){0};
    f->env.mem = &f->mem;
    assert_int_equal(loop_create(&f->env.loop, &f->e), 0);
    devices_init(&f->saved, &f->env);
    devices_init(&f->loaded, &f->env);
    f->dir = files_enter_temporary("saved");
    assert_int_equal(files_make_sparse("disk", 4096), 0);
    assert_int_equal(files_make_sparse("disk2", 8192), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    devices_destroy(&f->loaded);
    devices_destroy(&f->saved);
    assert_int_equal(fake_devices.alive, 0);
    loop_destroy(f->env.loop);
    files_leave(f->dir);
    free(f);
    return 0;
}

static void done(struct fixture *f, int rc)
{
    if (rc)
        fail_msg("%s", f->e.text);
}

static char *answer(void *owner, const char *request, size_t len, size_t *answer_len)
{
    (void)owner;
    (void)request;
    (void)len;
    (void)answer_len;
    return NULL;
}

static const struct mmds_service service = {.answer = answer};

static void write_devices(struct fixture *f, const struct devices *devices, struct file *file)
{
    struct state_writer w;

    state_writer_begin(&w, file->bytes, sizeof(file->bytes));
    saved_devices_write(devices, NULL, &w);
    done(f, state_writer_end(&w, &file->len, &f->e));
}

static int load(struct fixture *f, const struct saved_overrides *overrides)
{
    struct state_reader r;
    int rc;

    done(f, state_reader_begin(&r, f->first.bytes, f->first.len, &f->e));
    rc = saved_devices_check(r, overrides, &f->e);
    if (rc == 0)
        rc = saved_devices_read(&f->loaded, overrides, &r, &f->e);
    return rc ? rc : state_reader_end(&r, &f->e);
}

static void add_drives(struct fixture *f)
{
    done(f, devices_set_drive(&f->saved,
                              &(struct blk_config){
                                  .id = (char[]){"data"},
                                  .path = (char[]){"disk2"},
                                  .read_only = true,
                                  .engine = BLK_ENGINE_ASYNC,
                                  .has_limiter = true,
                                  .limiter = {.has_ops = true,
                                              .ops = {.size = 5,
                                                      .refill_ms = 6,
                                                      .has_burst = true,
                                                      .one_time_burst = 7}},
                              },
                              &f->e));
    done(f, devices_set_drive(&f->saved,
                              &(struct blk_config){.id = (char[]){"root"},
                                                   .path = (char[]){"disk"},
                                                   .is_root = true,
                                                   .partuuid = (char[]){"abc"},
                                                   .cache = BLK_CACHE_WRITEBACK},
                              &f->e));
}

static void add_nets(struct fixture *f)
{
    done(f, devices_set_net(&f->saved,
                            &(struct net_config){
                                .id = (char[]){"eth0"},
                                .tap = (char[]){"tap0"},
                                .has_mac = true,
                                .mac = {6, 1, 2, 3, 4, 5},
                                .has_rx_limiter = true,
                                .rx_limiter = {.has_bandwidth = true,
                                               .bandwidth = {.size = 1000, .refill_ms = 10}},
                            },
                            &f->e));
    done(f, devices_set_net(
                &f->saved,
                &(struct net_config){
                    .id = (char[]){"eth1"}, .tap = (char[]){"tap1"}, .has_mtu = true, .mtu = 9000},
                &f->e));
}

static void add_everything(struct fixture *f)
{
    char *on[] = {(char[]){"eth1"}};

    done(f, devices_set_balloon(&f->saved,
                                &(struct balloon_config){.amount_mib = 3,
                                                         .deflate_on_oom = true,
                                                         .stats_interval_s = 2,
                                                         .free_page_reporting = true},
                                &f->e));
    add_drives(f);
    add_nets(f);
    done(f, devices_set_pmem(&f->saved,
                             &(struct pmem_config){
                                 .id = (char[]){"p"}, .path = (char[]){"disk"}, .read_only = true},
                             &f->e));
    done(f, devices_set_vsock(
                &f->saved, &(struct vsock_config){.guest_cid = 33, .uds_path = (char[]){"v.sock"}},
                &f->e));
    done(f,
         devices_set_entropy(
             &f->saved,
             &(struct rng_config){.has_limiter = true,
                                  .limiter = {.has_ops = true, .ops = {.size = 8, .refill_ms = 9}}},
             &f->e));
    done(f,
         devices_set_hotplug(&f->saved,
                             &(struct hotplug_config){
                                 .total_size_mib = 256, .block_size_mib = 4, .slot_size_mib = 128},
                             &f->e));
    done(f, devices_set_mmds(&f->saved,
                             &(struct mmds_config){.version = MMDS_V2,
                                                   .address = 0xa9fe0a0b,
                                                   .has_address = true,
                                                   .imds_compat = true,
                                                   .interface = on,
                                                   .n_interfaces = 1},
                             &service, &f->e));
}

static void test_saved_devices_are_the_same_again(void **state)
{
    const struct saved_overrides none = {.mmds = &service};
    struct fixture *f = *state;

    add_everything(f);
    write_devices(f, &f->saved, &f->first);
    done(f, load(f, &none));
    write_devices(f, &f->loaded, &f->second);

    assert_int_equal(f->second.len, f->first.len);
    assert_memory_equal(f->second.bytes, f->first.bytes, f->first.len);
    /* And not only by their own account. */
    assert_int_equal(devices_list(&f->loaded, NULL, 0), devices_list(&f->saved, NULL, 0));
    assert_string_equal(drive_id(&f->loaded.drive[0]), "root");
    assert_string_equal(blk_config(f->loaded.drive[0].blk)->partuuid, "abc");
    assert_int_equal(blk_config(f->loaded.drive[1].blk)->limiter.ops.one_time_burst, 7);
    assert_int_equal(net_config(f->loaded.net[0])->mac[5], 5);
    assert_int_equal(net_config(f->loaded.net[1])->mtu, 9000);
    assert_null(f->loaded.mmds_endpoint[0]);
    assert_non_null(f->loaded.mmds_endpoint[1]);
    assert_int_equal(f->loaded.mmds->address, 0xa9fe0a0b);
    assert_int_equal(vsock_config(f->loaded.vsock)->guest_cid, 33);
    assert_int_equal(balloon_config(f->loaded.balloon)->stats_interval_s, 2);
}

static void test_saved_devices_of_machine_without_any_are_none(void **state)
{
    const struct saved_overrides none = {.mmds = &service};
    struct fixture *f = *state;

    write_devices(f, &f->saved, &f->first);
    done(f, load(f, &none));
    assert_int_equal(devices_list(&f->loaded, NULL, 0), 0);
}

static void test_saved_devices_take_other_tap_and_socket(void **state)
{
    struct net_override other = {.id = (char[]){"eth1"}, .tap = (char[]){"tap7"}};
    const struct saved_overrides overrides = {
        .net = &other, .net_count = 1, .uds_path = "w.sock", .mmds = &service};
    struct fixture *f = *state;

    add_everything(f);
    write_devices(f, &f->saved, &f->first);
    done(f, load(f, &overrides));

    assert_string_equal(net_config(f->loaded.net[0])->tap, "tap0");
    assert_string_equal(net_config(f->loaded.net[1])->tap, "tap7");
    assert_string_equal(vsock_config(f->loaded.vsock)->uds_path, "w.sock");
}

static void test_saved_devices_take_other_files(void **state)
{
    struct drive_override drive = {.id = (char[]){"root"}, .path = (char[]){"clone"}};
    struct pmem_override pmem = {.id = (char[]){"p"}, .path = (char[]){"disk2"}};
    const struct saved_overrides overrides = {
        .drive = &drive, .drive_count = 1, .pmem = &pmem, .pmem_count = 1, .mmds = &service};
    struct fixture *f = *state;

    assert_int_equal(files_make_sparse("clone", 4096), 0);
    add_everything(f);
    write_devices(f, &f->saved, &f->first);
    done(f, load(f, &overrides));

    assert_string_equal(blk_config(f->loaded.drive[0].blk)->path, "clone");
    assert_string_equal(blk_config(f->loaded.drive[1].blk)->path, "disk2");
    assert_string_equal(pmem_config(f->loaded.pmem[0])->path, "disk2");
}

static void test_saved_drive_whose_file_has_another_size_is_refused(void **state)
{
    struct drive_override drive = {.id = (char[]){"root"}, .path = (char[]){"disk2"}};
    const struct saved_overrides overrides = {.drive = &drive, .drive_count = 1};
    struct fixture *f = *state;

    add_drives(f);
    write_devices(f, &f->saved, &f->first);
    assert_int_equal(load(f, &overrides), -EINVAL);
    assert_string_equal(f->e.text, "Drive root: disk2 has 16 sectors, and 8 when the snapshot was "
                                   "made.");
}

/* ---- drives with an overlay ---- */

static void forget_layers(struct blk_overlay_config *overlay)
{
    while (overlay->layer_count > 0)
        free(overlay->layer[--overlay->layer_count]);
}

/* One with a layer and an overlay that holds a block each: as a create leaves it beside "s". */
static void save_with_layers(struct fixture *f, unsigned more_layers)
{
    struct blk_config config = {
        .id = (char[]){"root"}, .path = (char[]){"disk2"}, .overlay.type = BLK_OVERLAY_MEMORY};
    struct saved_layers layers;
    struct state_writer w;

    for (unsigned i = 0; i <= more_layers; i++) {
        struct overlay *overlay;

        done(f, devices_set_drive(&f->saved, &config, &f->e));
        overlay = (struct overlay *)(uintptr_t)blk_overlay(f->saved.drive[0].blk);
        *overlay_top(overlay, i * LAYER_BLOCK, LAYER_BLOCK).memory = (uint8_t)(0x40 + i);
        assert_int_equal(overlay_take(overlay, i, i), 0);
        done(f, saved_layers_open(&layers, &f->saved, "./s", &f->e));
        done(f, saved_layers_write(&layers, true, &f->e));
        state_writer_begin(&w, f->first.bytes, sizeof(f->first.bytes));
        saved_devices_write(&f->saved, &layers, &w);
        done(f, state_writer_end(&w, &f->first.len, &f->e));
        forget_layers(&config.overlay);
        for (unsigned k = 0; k < layers.count; k++)
            config.overlay.layer[config.overlay.layer_count++] = strdup(layers.layer[k].path);
        saved_layers_close(&layers, true);
    }
    forget_layers(&config.overlay);
}

static void holds(const struct fixture *f, uint64_t block, uint8_t byte)
{
    struct overlay_place place =
        overlay_find(blk_overlay(f->loaded.drive[0].blk), block * LAYER_BLOCK, LAYER_BLOCK);
    uint8_t found = 0;

    assert_non_null(place.file);
    assert_int_equal(pread(place.file->fd, &found, 1, (off_t)place.offset), 1);
    assert_int_equal(found, byte);
}

static void test_saved_drive_goes_on_over_its_layers_in_memory(void **state)
{
    const struct saved_overrides here = {.mmds = &service, .state_path = "./s"};
    struct fixture *f = *state;
    const struct blk_overlay_config *overlay;

    save_with_layers(f, 1);
    done(f, load(f, &here));
    overlay = &blk_config(f->loaded.drive[0].blk)->overlay;
    assert_int_equal(overlay->type, BLK_OVERLAY_MEMORY);
    assert_int_equal(overlay->layer_count, 2);
    assert_int_equal(strncmp(overlay->layer[0], "./s.root.", 9), 0);
    holds(f, 0, 0x40);
    holds(f, 1, 0x41);
    assert_int_equal(blk_overlay(f->loaded.drive[0].blk)->written, 0);
}

/* Beside the state file, wherever that is by now. */
static void test_saved_layers_move_with_their_state(void **state)
{
    const struct saved_overrides moved = {.mmds = &service, .state_path = "elsewhere/s"};
    struct fixture *f = *state;

    save_with_layers(f, 0);
    assert_int_equal(system("mkdir elsewhere && mv s.root.*.overlay elsewhere"), 0);
    done(f, load(f, &moved));
    holds(f, 0, 0x40);
}

static void test_saved_drive_goes_on_in_a_file_that_is_named(void **state)
{
    struct drive_override drive = {
        .id = (char[]){"root"},
        .has_overlay = true,
        .overlay = {.type = BLK_OVERLAY_FILE, .path = (char[]){"top"}},
    };
    const struct saved_overrides overrides = {
        .drive = &drive, .drive_count = 1, .mmds = &service, .state_path = "./s"};
    struct fixture *f = *state;

    save_with_layers(f, 1);
    done(f, load(f, &overrides));
    holds(f, 1, 0x41);
    assert_int_equal(blk_overlay(f->loaded.drive[0].blk)->type, BLK_OVERLAY_FILE);
    assert_int_equal(access("top", F_OK), 0);
}

static void test_saved_drive_without_overlay_can_have_one_over_its_file(void **state)
{
    struct drive_override drive = {
        .id = (char[]){"root"}, .has_overlay = true, .overlay.type = BLK_OVERLAY_MEMORY};
    const struct saved_overrides overrides = {
        .drive = &drive, .drive_count = 1, .mmds = &service, .state_path = "./s"};
    struct fixture *f = *state;

    add_drives(f);
    write_devices(f, &f->saved, &f->first);
    done(f, load(f, &overrides));
    assert_non_null(blk_overlay(f->loaded.drive[0].blk));
    assert_null(blk_overlay(f->loaded.drive[1].blk));
}

static void test_saved_drive_over_other_layers_than_its_own_is_refused(void **state)
{
    const struct saved_overrides here = {.mmds = &service, .state_path = "./s"};
    struct fixture *f = *state;

    save_with_layers(f, 0);
    /* Another snapshot's layer, which fits as well, by this one's name. */
    assert_int_equal(system("mv s.root.*.overlay first"), 0);
    save_with_layers(f, 0);
    assert_int_equal(system("mv first s.root.*.overlay"), 0);
    assert_int_equal(load(f, &here), -EINVAL);
    assert_non_null(strstr(f->e.text, "The topmost layer is another one than the snapshot was made "
                                      "with: ./s.root."));
}

static void test_saved_drive_over_a_flat_file_needs_no_layers(void **state)
{
    struct drive_override drive = {
        .id = (char[]){"root"},
        .path = (char[]){"flat"},
        .has_overlay = true,
        .overlay = {.type = BLK_OVERLAY_MEMORY, .has_layers = true},
    };
    const struct saved_overrides overrides = {
        .drive = &drive, .drive_count = 1, .mmds = &service, .state_path = "./s"};
    struct fixture *f = *state;

    save_with_layers(f, 1);
    assert_int_equal(files_make_sparse("flat", 8192), 0);
    done(f, load(f, &overrides));
    assert_int_equal(blk_overlay(f->loaded.drive[0].blk)->count, 0);
}

static void test_saved_drive_of_a_fork_keeps_file_and_layers(void **state)
{
    struct drive_override drive = {.id = (char[]){"root"}, .path = (char[]){"disk"}};
    struct saved_overrides overrides = {.mmds = &service,
                                        .forked_from = &((struct fixture *)*state)->saved};
    struct fixture *f = *state;

    done(f, devices_set_drive(&f->saved,
                              &(struct blk_config){.id = (char[]){"root"},
                                                   .path = (char[]){"disk"},
                                                   .overlay.type = BLK_OVERLAY_MEMORY},
                              &f->e));
    write_devices(f, &f->saved, &f->first);
    overrides.drive = &drive;
    overrides.drive_count = 1;
    assert_int_equal(load(f, &overrides), -EINVAL);
    assert_string_equal(f->e.text, "Drive root: a fork lies on the file and the layers of its "
                                   "parent; only an overlay of its own can be named.");
    overrides.drive_count = 0;
    done(f, load(f, &overrides));
    assert_non_null(blk_overlay(f->loaded.drive[0].blk));
    assert_null(blk_overlay(f->saved.drive[0].blk));
}

static void test_saved_devices_refuse_overrides_of_what_is_not_there(void **state)
{
    struct net_override other = {.id = (char[]){"eth7"}, .tap = (char[]){"tap7"}};
    struct drive_override drive = {.id = (char[]){"roo"}, .path = (char[]){"disk"}};
    struct pmem_override pmem = {.id = (char[]){"pp"}, .path = (char[]){"disk"}};
    const struct saved_overrides net = {.net = &other, .net_count = 1},
                                 vsock = {.uds_path = "w.sock"},
                                 drives = {.drive = &drive, .drive_count = 1},
                                 pmems = {.pmem = &pmem, .pmem_count = 1};
    struct fixture *f = *state;

    add_nets(f);
    write_devices(f, &f->saved, &f->first);
    assert_int_equal(load(f, &net), -ENOENT);
    assert_string_equal(f->e.text, "Unknown Network Device.");
    assert_int_equal(load(f, &vsock), -ENOENT);
    assert_string_equal(f->e.text, "Unknown Vsock Device.");
    assert_int_equal(load(f, &drives), -ENOENT);
    assert_string_equal(f->e.text, "The snapshot has no drive roo.");
    assert_int_equal(load(f, &pmems), -ENOENT);
    assert_string_equal(f->e.text, "The snapshot has no persistent memory pp.");
    assert_int_equal(devices_list(&f->loaded, NULL, 0), 0);
}

static void test_saved_drive_whose_file_is_gone_names_it(void **state)
{
    const struct saved_overrides none = {.mmds = &service};
    struct fixture *f = *state;

    add_drives(f);
    write_devices(f, &f->saved, &f->first);
    assert_int_equal(unlink("disk2"), 0);
    assert_int_equal(load(f, &none), -ENOENT);
    assert_non_null(strstr(f->e.text, "No such file or directory (os error 2) disk2"));
}

/* The first section is `devices`: how many drives there are is its first number. */
static void test_saved_devices_in_absurd_number_are_refused(void **state)
{
    struct saved_counts_bytes {
        uint32_t drives, nets, pmems;
        uint8_t rest[8];
    } counts = {.drives = DEVICES_MAX + 1};
    const struct state_desc *desc = &saved_counts_desc;
    const struct saved_overrides none = {.mmds = &service};
    struct fixture *f = *state;
    struct state_writer w;

    assert_int_equal(desc->size, sizeof(counts));
    state_writer_begin(&w, f->first.bytes, sizeof(f->first.bytes));
    state_write(&w, desc, 0, &counts, 1);
    done(f, state_writer_end(&w, &f->first.len, &f->e));
    assert_int_equal(load(f, &none), -EINVAL);
    assert_string_equal(f->e.text, "The snapshot has more devices than a machine can have.");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_saved_devices_are_the_same_again),
        TEST(test_saved_devices_of_machine_without_any_are_none),
        TEST(test_saved_devices_take_other_tap_and_socket),
        TEST(test_saved_devices_take_other_files),
        TEST(test_saved_drive_whose_file_has_another_size_is_refused),
        TEST(test_saved_drive_goes_on_over_its_layers_in_memory),
        TEST(test_saved_layers_move_with_their_state),
        TEST(test_saved_drive_goes_on_in_a_file_that_is_named),
        TEST(test_saved_drive_without_overlay_can_have_one_over_its_file),
        TEST(test_saved_drive_over_other_layers_than_its_own_is_refused),
        TEST(test_saved_drive_over_a_flat_file_needs_no_layers),
        TEST(test_saved_drive_of_a_fork_keeps_file_and_layers),
        TEST(test_saved_devices_refuse_overrides_of_what_is_not_there),
        TEST(test_saved_drive_whose_file_is_gone_names_it),
        TEST(test_saved_devices_in_absurd_number_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
