/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_devices.c: the devices of a machine: order, what replaces what, what excludes what, and what
 * the metadata service is connected to.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/unit.h"
#include "vmm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    struct mem mem;
    struct virtio_env env;
    struct devices devices;
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
    devices_init(&f->devices, &f->env);
    f->dir = files_enter_temporary("devices");
    assert_int_equal(files_make_sparse("disk", 4096), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    devices_destroy(&f->devices);
    assert_int_equal(fake_devices.alive, 0);
    loop_destroy(f->env.loop);
    files_leave(f->dir);
    free(f);
    return 0;
}

/* ---- drives ---- */

static int set_drive(struct fixture *f, const char *id, bool is_root)
{
    char name[16];
    struct blk_config config = {.id = name, .path = (char[]){"disk"}, .is_root = is_root};

    snprintf(name, sizeof(name), "%s", id);
    return devices_set_drive(&f->devices, &config, &f->e);
}

static int set_vhost_user_drive(struct fixture *f, const char *id, bool is_root)
{
    char name[16];
    struct vhost_user_blk_config config = {.id = name, .socket = (char[]){"s"}, .is_root = is_root};

    snprintf(name, sizeof(name), "%s", id);
    return devices_set_vhost_user_drive(&f->devices, &config, &f->e);
}

/* The ids in order, one character each. */
static void assert_drives(const struct fixture *f, const char *ids)
{
    char now[DEVICES_MAX + 1] = {0};

    for (unsigned i = 0; i < f->devices.drive_count; i++)
        now[i] = *drive_id(&f->devices.drive[i]);
    assert_string_equal(now, ids);
}

static void test_devices_root_drive_is_first_and_the_others_keep_their_order(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_drive(f, "a", false), 0);
    assert_int_equal(set_vhost_user_drive(f, "b", false), 0);
    assert_int_equal(set_drive(f, "r", true), 0);
    assert_drives(f, "rab");
    assert_true(f->devices.drive[2].vhost && !f->devices.drive[2].blk);
}

static void test_devices_drive_that_becomes_the_root_changes_places_with_the_first(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_drive(f, "a", false), 0);
    assert_int_equal(set_drive(f, "b", false), 0);
    assert_int_equal(set_drive(f, "c", false), 0);
    assert_int_equal(set_drive(f, "c", true), 0);
    assert_drives(f, "cba");
    assert_int_equal(set_drive(f, "c", true), 0);
    assert_drives(f, "cba");
    assert_int_equal(set_drive(f, "c", false), 0);
    assert_drives(f, "cba");
    assert_int_equal(set_drive(f, "b", true), 0);
    assert_drives(f, "bca");
}

static void test_devices_drive_of_one_kind_replaces_one_of_the_other(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_drive(f, "a", true), 0);
    assert_int_equal(set_vhost_user_drive(f, "a", true), 0);
    assert_drives(f, "a");
    assert_null(f->devices.drive[0].blk);
    assert_int_equal(set_drive(f, "a", true), 0);
    assert_null(f->devices.drive[0].vhost);
    assert_int_equal(fake_devices.alive, 0);
}

static void test_devices_second_root_drive_is_refused_and_nothing_changed(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_vhost_user_drive(f, "a", true), 0);
    assert_int_equal(set_drive(f, "b", false), 0);
    assert_int_equal(set_drive(f, "b", true), -EEXIST);
    assert_string_equal(f->e.text, "A root block device already exists!");
    assert_int_equal(set_vhost_user_drive(f, "c", true), -EEXIST);
    assert_drives(f, "ab");
    assert_false(drive_is_root(&f->devices.drive[1]));
}

static void test_devices_failed_drive_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct blk_config config = {.id = (char[]){"a"}, .path = (char[]){"missing"}};

    assert_int_equal(set_drive(f, "a", false), 0);
    assert_int_equal(devices_set_drive(&f->devices, &config, &f->e), -ENOENT);
    assert_string_equal(blk_config(f->devices.drive[0].blk)->path, "disk");
}

static void test_devices_have_room_for_many_drives_and_say_when_it_ends(void **state)
{
    struct fixture *f = *state;
    char id[16];

    for (unsigned i = 0; i < DEVICES_MAX; i++) {
        snprintf(id, sizeof(id), "d%u", i);
        assert_int_equal(set_drive(f, id, false), 0);
    }
    assert_int_equal(set_drive(f, "more", false), -ENOSPC);
    assert_string_equal(f->e.text, "A machine has room for 64 drives at most.");
    assert_int_equal(set_drive(f, "d63", false), 0);
}

/* ---- interfaces ---- */

static int set_net(struct fixture *f, const char *id, const char *tap, uint8_t last_of_mac)
{
    char name[16], tap_name[16];
    struct net_config config = {.id = name,
                                .tap = tap_name,
                                .has_mac = last_of_mac != 0,
                                .mac = {6, 0, 0, 0, 0xab, last_of_mac}};

    snprintf(name, sizeof(name), "%s", id);
    snprintf(tap_name, sizeof(tap_name), "%s", tap);
    return devices_set_net(&f->devices, &config, &f->e);
}

static void assert_interfaces(const struct fixture *f, const char *ids)
{
    char now[DEVICES_MAX + 1] = {0};

    for (unsigned i = 0; i < f->devices.net_count; i++)
        now[i] = *net_config(f->devices.net[i])->id;
    assert_string_equal(now, ids);
}

static void test_devices_mac_of_another_interface_is_refused_and_nothing_changed(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_net(f, "a", "t0", 1), 0);
    assert_int_equal(set_net(f, "b", "t1", 2), 0);
    assert_int_equal(set_net(f, "b", "t1", 1), -EEXIST);
    assert_string_equal(f->e.text, "The MAC address is already in use: 06:00:00:00:ab:01");
    assert_interfaces(f, "ab");
    assert_int_equal(net_config(f->devices.net[1])->mac[5], 2);
    assert_int_equal(set_net(f, "a", "t0", 1), 0); /* its own */
    assert_int_equal(set_net(f, "c", "t2", 0), 0); /* none at all, twice */
    assert_int_equal(set_net(f, "d", "t3", 0), 0);
}

static void test_devices_interface_set_again_comes_behind_the_others(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_net(f, "a", "t0", 0), 0);
    assert_int_equal(set_net(f, "b", "t1", 0), 0);
    assert_int_equal(set_net(f, "c", "t2", 0), 0);
    assert_int_equal(set_net(f, "a", "t9", 0), 0);
    assert_interfaces(f, "cba");
    assert_string_equal(net_config(devices_find_net(&f->devices, "a"))->tap, "t9");
    assert_int_equal(fake_devices.alive, 3);
}

static void test_devices_interface_that_fails_when_set_again_is_gone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_net(f, "a", "t0", 0), 0);
    fake_devices.refusal = "Busy.";
    assert_int_equal(set_net(f, "a", "t1", 0), -EIO);
    assert_null(devices_find_net(&f->devices, "a"));
    assert_int_equal(fake_devices.alive, 0);
}

static void test_devices_mtu_has_a_least_value(void **state)
{
    struct fixture *f = *state;
    struct net_config config = {
        .id = (char[]){"a"}, .tap = (char[]){"t"}, .has_mtu = true, .mtu = 67};

    assert_int_equal(devices_set_net(&f->devices, &config, &f->e), -EINVAL);
    assert_string_equal(f->e.text,
                        "Could not create the network device: MTU 67 is out of range [68, 65535]");
    config.mtu = 68;
    assert_int_equal(devices_set_net(&f->devices, &config, &f->e), 0);
    config.mtu = UINT16_MAX;
    assert_int_equal(devices_set_net(&f->devices, &config, &f->e), 0);
}

static void test_devices_interface_limiter_that_limits_nothing_is_not_shown(void **state)
{
    struct fixture *f = *state;
    struct net_config config = {.id = (char[]){"a"},
                                .tap = (char[]){"t"},
                                .has_rx_limiter = true,
                                .has_tx_limiter = true,
                                .tx_limiter = {.has_ops = true, .ops = {5, 6, 0, false}}};

    assert_int_equal(devices_set_net(&f->devices, &config, &f->e), 0);
    assert_false(net_config(f->devices.net[0])->has_rx_limiter);
    assert_true(net_config(f->devices.net[0])->has_tx_limiter);
    assert_int_equal(net_config(f->devices.net[0])->tx_limiter.ops.size, 5);
}

/* ---- the root ---- */

static int set_pmem(struct fixture *f, const char *id, bool is_root)
{
    char name[16];
    struct pmem_config config = {.id = name, .path = (char[]){"disk"}, .is_root = is_root};

    snprintf(name, sizeof(name), "%s", id);
    return devices_set_pmem(&f->devices, &config, &f->e);
}

static void test_devices_root_is_a_drive_or_persistent_memory_but_not_both(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_drive(f, "a", true), 0);
    assert_int_equal(set_pmem(f, "p", true), -EEXIST);
    assert_string_equal(f->e.text, "Attempt to add pmem as a root device while the root device "
                                   "defined as a block device");
    assert_int_equal(f->devices.pmem_count, 0);
    assert_int_equal(set_drive(f, "a", false), 0);
    assert_int_equal(set_pmem(f, "p", true), 0);
    assert_int_equal(set_drive(f, "a", true), -EEXIST);
    assert_string_equal(f->e.text, "Attempt to add block as a root device while the root device "
                                   "defined as a pmem device");
    assert_int_equal(set_vhost_user_drive(f, "v", true), -EEXIST);
    assert_false(drive_is_root(&f->devices.drive[0]));
    assert_int_equal(set_pmem(f, "p", false), 0);
    assert_int_equal(set_drive(f, "a", true), 0);
}

static void test_devices_second_root_pmem_is_refused_but_not_the_same_again(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_pmem(f, "p", true), 0);
    assert_int_equal(set_pmem(f, "q", false), 0);
    assert_int_equal(set_pmem(f, "q", true), -EEXIST);
    assert_string_equal(f->e.text, "A root pmem device already exist");
    assert_false(pmem_config(f->devices.pmem[1])->is_root);
    assert_int_equal(set_pmem(f, "p", true), 0);
    assert_int_equal(f->devices.pmem_count, 2);
}

/* ---- the metadata service ---- */

static int set_mmds(struct fixture *f, char **interfaces, size_t count)
{
    static const struct mmds_service service;
    struct mmds_config config = {
        .address = MMDS_ADDRESS_DEFAULT, .interface = interfaces, .n_interfaces = count};

    return devices_set_mmds(&f->devices, &config, &service, &f->e);
}

static bool has_mmds(struct fixture *f, const char *id)
{
    return fake_net_mmds(devices_find_net(&f->devices, id)) != NULL;
}

static void test_devices_mmds_is_reached_over_the_interfaces_named_and_no_others(void **state)
{
    char a[] = "a", b[] = "b", *both[] = {b, a, b}, *one[] = {b};
    struct fixture *f = *state;

    assert_int_equal(set_net(f, "a", "t0", 0), 0);
    assert_int_equal(set_net(f, "b", "t1", 0), 0);
    assert_int_equal(set_net(f, "c", "t2", 0), 0);
    assert_int_equal(set_mmds(f, both, 3), 0);
    assert_true(has_mmds(f, "a") && has_mmds(f, "b") && !has_mmds(f, "c"));
    assert_int_equal(set_mmds(f, one, 1), 0);
    assert_true(!has_mmds(f, "a") && has_mmds(f, "b") && !has_mmds(f, "c"));
}

static void test_devices_mmds_of_an_unknown_interface_is_refused_and_nothing_changed(void **state)
{
    char a[] = "a", no[] = "no", *good[] = {a}, *bad[] = {a, no};
    struct fixture *f = *state;

    assert_int_equal(set_net(f, "a", "t0", 0), 0);
    assert_int_equal(set_mmds(f, bad, 2), -ENOENT);
    assert_null(f->devices.mmds);
    assert_int_equal(set_mmds(f, good, 1), 0);
    assert_int_equal(set_mmds(f, bad, 2), -ENOENT);
    assert_true(has_mmds(f, "a"));
}

static void test_devices_mmds_forgets_an_interface_that_is_set_again(void **state)
{
    char a[] = "a", b[] = "b", *both[] = {a, b};
    struct fixture *f = *state;

    assert_int_equal(set_net(f, "a", "t0", 0), 0);
    assert_int_equal(set_net(f, "b", "t1", 0), 0);
    assert_int_equal(set_mmds(f, both, 2), 0);
    assert_int_equal(set_net(f, "a", "t0", 0), 0);
    assert_true(!has_mmds(f, "a") && has_mmds(f, "b"));
    assert_non_null(f->devices.mmds);
    assert_int_equal(set_net(f, "b", "t1", 0), 0);
    assert_null(f->devices.mmds); /* nobody reaches it any more */
}

/* ---- the socket device ---- */

static int set_vsock(struct fixture *f, const char *path)
{
    char copy[16];
    struct vsock_config config = {.guest_cid = 3, .uds_path = copy};

    snprintf(copy, sizeof(copy), "%s", path);
    return devices_set_vsock(&f->devices, &config, &f->e);
}

static void test_devices_vsock_set_again_takes_its_socket_away_first(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(files_write("v", "", 0), 0); /* the fake makes none */
    assert_int_equal(set_vsock(f, "v"), 0);
    assert_int_equal(set_vsock(f, "w"), 0);
    assert_int_equal(access("v", F_OK), -1);
    assert_string_equal(vsock_config(f->devices.vsock)->uds_path, "w");
    assert_int_equal(set_vsock(f, "w"), 0); /* its file is gone already */
    assert_int_equal(fake_devices.alive, 1);
}

static void test_devices_vsock_that_fails_when_set_again_is_gone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(set_vsock(f, "v"), 0);
    fake_devices.refusal = "Taken.";
    assert_int_equal(set_vsock(f, "w"), -EIO);
    assert_null(f->devices.vsock);
}

static void test_devices_vsock_leaves_its_socket_at_the_end(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(files_write("v", "", 0), 0);
    assert_int_equal(set_vsock(f, "v"), 0);
    devices_destroy(&f->devices);
    assert_int_equal(access("v", F_OK), 0);
}

/* ---- order ---- */

static void test_devices_list_has_the_order_of_places_and_counts_beyond_its_room(void **state)
{
    struct fixture *f = *state;
    struct virtio_dev *list[8] = {0};
    struct rng_config rng = {0};

    assert_int_equal(devices_set_entropy(&f->devices, &rng, &f->e), 0);
    assert_int_equal(set_vsock(f, "v"), 0);
    assert_int_equal(set_net(f, "n", "t", 0), 0);
    assert_int_equal(set_drive(f, "d", false), 0);
    assert_int_equal(devices_list(&f->devices, list, 2), 4);
    assert_null(list[2]);
    assert_int_equal(devices_list(&f->devices, list, ARRAY_SIZE(list)), 4);
    assert_string_equal(list[0]->ops->name, "virtio-blk");
    assert_string_equal(list[1]->ops->name, "fake-net");
    assert_string_equal(list[2]->ops->name, "fake-vsock");
    assert_string_equal(list[3]->ops->name, "virtio-rng");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_devices_root_drive_is_first_and_the_others_keep_their_order),
        TEST(test_devices_drive_that_becomes_the_root_changes_places_with_the_first),
        TEST(test_devices_drive_of_one_kind_replaces_one_of_the_other),
        TEST(test_devices_second_root_drive_is_refused_and_nothing_changed),
        TEST(test_devices_failed_drive_leaves_the_old_one),
        TEST(test_devices_have_room_for_many_drives_and_say_when_it_ends),
        TEST(test_devices_mac_of_another_interface_is_refused_and_nothing_changed),
        TEST(test_devices_interface_set_again_comes_behind_the_others),
        TEST(test_devices_interface_that_fails_when_set_again_is_gone),
        TEST(test_devices_mtu_has_a_least_value),
        TEST(test_devices_interface_limiter_that_limits_nothing_is_not_shown),
        TEST(test_devices_root_is_a_drive_or_persistent_memory_but_not_both),
        TEST(test_devices_second_root_pmem_is_refused_but_not_the_same_again),
        TEST(test_devices_mmds_is_reached_over_the_interfaces_named_and_no_others),
        TEST(test_devices_mmds_of_an_unknown_interface_is_refused_and_nothing_changed),
        TEST(test_devices_mmds_forgets_an_interface_that_is_set_again),
        TEST(test_devices_vsock_set_again_takes_its_socket_away_first),
        TEST(test_devices_vsock_that_fails_when_set_again_is_gone),
        TEST(test_devices_vsock_leaves_its_socket_at_the_end),
        TEST(test_devices_list_has_the_order_of_places_and_counts_beyond_its_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
