/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/saved_layers.c, and of vmm/image.c, which makes one of what it leaves: which files
 * are beside a state file when, and what is in them.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/unit.h"
#include "vmm/image.h"
#include "vmm/saved_devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/stat.h>

#define BLOCKS 64
#define SIZE   (BLOCKS * LAYER_BLOCK)

struct fixture {
    struct mem mem;
    struct virtio_env env;
    struct devices devices;
    char *dir;
    struct err e;
};

static void write_base(const char *path)
{
    uint8_t block[LAYER_BLOCK];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        memset(block, (int)(i + 1), sizeof(block));
        assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
    }
    close(fd);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->env.mem = &f->mem;
    assert_int_equal(loop_create(&f->env.loop, &f->e), 0);
    devices_init(&f->devices, &f->env);
    f->dir = files_enter_temporary("layers");
    assert_int_equal(mkdir("snap", 0700), 0);
    write_base("base");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    devices_destroy(&f->devices);
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

static struct overlay *add_drive(struct fixture *f, struct blk_overlay_config overlay)
{
    done(f, devices_set_drive(&f->devices,
                              &(struct blk_config){.id = (char[]){"root"},
                                                   .path = (char[]){"base"},
                                                   .overlay = overlay},
                              &f->e));
    return (struct overlay *)(uintptr_t)blk_overlay(f->devices.drive[0].blk);
}

/* As a guest's write of a whole block does. */
static void put(struct overlay *overlay, uint64_t block, uint8_t byte)
{
    struct overlay_place top = overlay_top(overlay, block * LAYER_BLOCK, LAYER_BLOCK);
    uint8_t bytes[LAYER_BLOCK];

    memset(bytes, byte, sizeof(bytes));
    if (top.memory)
        memcpy(top.memory, bytes, sizeof(bytes));
    else
        assert_int_equal(pwrite(top.file->fd, bytes, sizeof(bytes), (off_t)top.offset),
                         sizeof(bytes));
    assert_int_equal(overlay_take(overlay, block, block), 0);
}

static uint8_t get(const struct overlay *overlay, uint64_t block)
{
    struct overlay_place place = overlay_find(overlay, block * LAYER_BLOCK, LAYER_BLOCK);
    uint8_t byte = 0;

    assert_int_equal(place.len, LAYER_BLOCK);
    if (place.memory)
        return *place.memory;
    assert_int_equal(pread(place.file->fd, &byte, 1, (off_t)place.offset), 1);
    return byte;
}

static void save_as(struct fixture *f, const char *state_path, bool committed, bool lazy)
{
    struct saved_layers layers;

    done(f, saved_layers_open(&layers, &f->devices, state_path, &f->e));
    done(f, saved_layers_write(&layers, lazy, &f->e));
    if (committed)
        saved_layers_sweep(&layers);
    saved_layers_close(&layers, committed);
}

/* A create up to where the state has its name, or does not get one. */
static void save(struct fixture *f, const char *state_path, bool committed)
{
    save_as(f, state_path, committed, true);
}

/* How many files in snap/ have names that begin so; *last = one of them, malloc'ed. */
static unsigned count_files(const char *begin, char **last)
{
    DIR *dir = opendir("snap");
    struct dirent *entry;
    unsigned count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, begin, strlen(begin)) != 0)
            continue;
        if (last && asprintf(last, "snap/%s", entry->d_name) < 0)
            fail();
        count++;
    }
    closedir(dir);
    return count;
}

static void go_on_from(struct fixture *f, char *layer)
{
    devices_destroy(&f->devices);
    add_drive(f, (struct blk_overlay_config){
                     .type = BLK_OVERLAY_MEMORY, .layer = {layer}, .layer_count = 1});
}

/* ---- what is left beside a state ---- */

static void test_overlay_of_either_kind_is_stored_beside_the_state(void **state)
{
    const struct blk_overlay_config kinds[] = {
        {.type = BLK_OVERLAY_MEMORY},
        {.type = BLK_OVERLAY_FILE, .path = (char[]){"top"}},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct overlay *overlay = add_drive(f, kinds[i]);
        char *layer = NULL;

        put(overlay, 5, 0x77);
        put(overlay, 63, 0x78);
        put(overlay, 7, 0);
        save(f, "snap/s", true);
        assert_int_equal(count_files("s.root.", &layer), 1);
        assert_string_equal(layer + strlen(layer) - 8, ".overlay");
        put(overlay, 5, 0x11); /* it goes on in its own */
        go_on_from(f, layer);
        overlay = (struct overlay *)(uintptr_t)blk_overlay(f->devices.drive[0].blk);
        assert_int_equal(get(overlay, 5), 0x77);
        assert_int_equal(get(overlay, 63), 0x78);
        assert_int_equal(get(overlay, 7), 0);
        assert_int_equal(get(overlay, 6), 7);
        free(layer);
    }
}

static void test_overlay_that_holds_nothing_is_not_stored(void **state)
{
    struct fixture *f = *state;

    add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY});
    save(f, "snap/s", true);
    assert_int_equal(count_files("s", NULL), 0);
}

static void test_layers_of_a_create_that_failed_are_gone_and_the_former_ones_stay(void **state)
{
    struct fixture *f = *state;
    char *former = NULL;

    put(add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY}), 1, 1);
    save(f, "snap/s", true);
    assert_int_equal(count_files("s.root.", &former), 1);
    save(f, "snap/s", false);
    assert_int_equal(count_files("s.root.", NULL), 1);
    assert_int_equal(access(former, F_OK), 0);
    save(f, "snap/s", true);
    assert_int_equal(count_files("s.root.", NULL), 1);
    assert_int_equal(access(former, F_OK), -1); /* another one has taken its place */
    free(former);
}

static void test_sweep_takes_nothing_that_is_another_states(void **state)
{
    static const char *const theirs[] = {
        "snap/s.root.0123456789abcdef.overlay.old", "snap/s.x.root.0123456789abcdef.overlay",
        "snap/s2.root.0123456789abcdef.overlay",    "snap/s.root.0123456789ABCDEF.overlay",
        "snap/s.root.0123456789abcde.overlay",      "snap/s.root.overlay",
        "snap/s..0123456789abcdef.overlay",         "snap/s",
    };
    static const char *const ours[] = {
        "snap/s.root.0123456789abcdef.overlay",
        "snap/s.other.fedcba9876543210.overlay",
        "snap/s.root.0123456789abcdef.overlay.mayfly-new",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(theirs); i++)
        assert_int_equal(files_write(theirs[i], "x", 1), 0);
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        assert_int_equal(files_write(ours[i], "x", 1), 0);
    save(f, "snap/s", true);
    for (size_t i = 0; i < ARRAY_SIZE(theirs); i++)
        assert_int_equal(access(theirs[i], F_OK), 0);
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        assert_int_equal(access(ours[i], F_OK), -1);
}

static void test_layer_of_a_former_snapshot_gets_a_name_beside_the_new_one(void **state)
{
    struct fixture *f = *state;
    char *first = NULL;
    struct stat st;

    put(add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY}), 1, 1);
    save(f, "snap/s", true);
    assert_int_equal(count_files("s.root.", &first), 1);
    go_on_from(f, first);
    put((struct overlay *)(uintptr_t)blk_overlay(f->devices.drive[0].blk), 2, 2);
    save(f, "snap/t", true);
    assert_int_equal(count_files("t.root.", NULL), 2);
    assert_int_equal(stat(first, &st), 0);
    assert_int_equal(st.st_nlink, 2);
    save(f, "snap/s", true); /* over the one that it was loaded from */
    assert_int_equal(count_files("s.root.", NULL), 2);
    free(first);
}

static ino_t flushed; /* the last file that was */

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    flushed = st.st_ino;
    return 0;
}

static void test_layer_of_a_snapshot_that_was_not_flushed_is_flushed_for_one_that_is(void **state)
{
    struct fixture *f = *state;
    char *first = NULL;
    struct stat st;

    put(add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY}), 1, 1);
    save_as(f, "snap/s", true, true);
    assert_int_equal(count_files("s.root.", &first), 1);
    assert_int_equal(stat(first, &st), 0);
    go_on_from(f, first);
    flushed = 0;
    save_as(f, "snap/t", true, true);
    assert_int_equal(flushed, 0);
    save_as(f, "snap/t", true, false); /* its name is there */
    assert_int_equal(flushed, st.st_ino);
    flushed = 0;
    save_as(f, "snap/u", true, false);
    assert_int_equal(flushed, st.st_ino);
    free(first);
}

/* Somebody has removed, or replaced, the template that this machine runs from. */
static void test_layer_whose_path_leads_elsewhere_is_copied(void **state)
{
    struct fixture *f = *state;
    char *first = NULL;

    put(add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY}), 1, 0x61);
    save(f, "snap/s", true);
    assert_int_equal(count_files("s.root.", &first), 1);
    go_on_from(f, first);
    assert_int_equal(unlink(first), 0);
    save(f, "snap/t", true);
    free(first);
    assert_int_equal(count_files("t.root.", &first), 1);
    assert_int_equal(files_write("snap/copy", "x", 1), 0);
    go_on_from(f, first);
    assert_int_equal(get(blk_overlay(f->devices.drive[0].blk), 1), 0x61);
    assert_int_equal(unlink(first), 0);
    assert_int_equal(rename("snap/copy", first), 0);
    save(f, "snap/u", true);
    free(first);
    assert_int_equal(count_files("u.root.", &first), 1);
    go_on_from(f, first);
    assert_int_equal(get(blk_overlay(f->devices.drive[0].blk), 1), 0x61);
    free(first);
}

static void test_stack_of_sixteen_layers_is_refused_one_more(void **state)
{
    struct fixture *f = *state;
    struct blk_overlay_config config = {.type = BLK_OVERLAY_MEMORY};
    struct saved_layers layers;

    for (unsigned i = 0; i <= BLK_LAYERS_MAX; i++) {
        char name[32];
        struct layer_id id;
        int fd;

        put(add_drive(f, config), i, 0xee);
        if (i == BLK_LAYERS_MAX)
            break;
        snprintf(name, sizeof(name), "layer%u", i);
        fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(layer_id_make(&id), 0);
        assert_int_equal(overlay_store(blk_overlay(f->devices.drive[0].blk), fd, &id), 0);
        close(fd);
        config.layer[config.layer_count++] = strdup(name);
        devices_destroy(&f->devices);
    }
    assert_int_equal(saved_layers_open(&layers, &f->devices, "snap/s", &f->e), -EMLINK);
    saved_layers_close(&layers, false);
    assert_string_equal(f->e.text,
                        "Drive root: It lies on 16 layers, and more there cannot be: make one of "
                        "them with `mayflyctl image commit`, and go on from that.");
    assert_int_equal(count_files("s", NULL), 0);
    for (unsigned i = 0; i < BLK_LAYERS_MAX; i++)
        free(config.layer[i]);
}

/* It would be a signal that ends the monitor. */
static void test_layer_larger_than_a_file_may_be_is_an_error(void **state)
{
    const struct rlimit small = {.rlim_cur = SIZE / 2, .rlim_max = RLIM_INFINITY};
    const struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    struct fixture *f = *state;
    struct saved_layers layers;

    put(add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY}), 1, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    done(f, saved_layers_open(&layers, &f->devices, "snap/s", &f->e));
    assert_int_equal(saved_layers_write(&layers, true, &f->e), -EFBIG);
    assert_non_null(strstr(f->e.text, "snap/s.root."));
    saved_layers_close(&layers, false);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(count_files("s", NULL), 0);
}

/* ---- one out of many ---- */

/* Two layers, over blocks 1 to 3 and 3 to 5. */
static void make_two(struct fixture *f, char **low, char **high)
{
    struct overlay *overlay = add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_MEMORY});
    struct blk_overlay_config over = {.type = BLK_OVERLAY_FILE, .path = (char[]){"high"}};

    for (uint64_t block = 1; block <= 3; block++)
        put(overlay, block, 0xa0);
    save(f, "snap/low", true);
    assert_int_equal(count_files("low", low), 1);
    devices_destroy(&f->devices);
    over.layer[0] = *low;
    over.layer_count = 1;
    overlay = add_drive(f, over);
    put(overlay, 3, 0xb0);
    put(overlay, 4, 0);
    put(overlay, 5, 0xb0);
    devices_destroy(&f->devices);
    *high = strdup("high");
}

static const uint8_t merged[] = {1, 0xa0, 0xa0, 0xb0, 0, 0xb0, 7};

static void test_image_holds_all_that_base_and_layers_hold(void **state)
{
    struct fixture *f = *state;
    char *layers[2] = {NULL, NULL};
    const struct image_commit commit = {
        .base = "base", .layer = layers, .count = 2, .output = "flat"};
    uint8_t block[LAYER_BLOCK];
    struct stat st;
    int fd;

    make_two(f, &layers[0], &layers[1]);
    done(f, image_commit(&commit, &f->e));
    fd = open("flat", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_int_equal(read(fd, block, sizeof(block)), sizeof(block));
        assert_int_equal(block[0], i < sizeof(merged) ? merged[i] : i + 1);
        assert_int_equal(block[LAYER_BLOCK - 1], block[0]);
    }
    close(fd);
    assert_int_equal(access("flat.mayfly-new", F_OK), -1);
    assert_int_equal(image_commit(&commit, &f->e), -EEXIST);
    free(layers[0]);
    free(layers[1]);
}

static void test_image_of_layers_alone_lies_in_their_place(void **state)
{
    struct fixture *f = *state;
    char *layers[2] = {NULL, NULL};
    const struct image_commit commit = {.layer = layers, .count = 2, .output = "one"};
    const struct overlay *overlay;
    struct image_info info;

    make_two(f, &layers[0], &layers[1]);
    done(f, image_commit(&commit, &f->e));
    done(f, image_info("one", &info, &f->e));
    assert_int_equal(info.blocks, 5);
    assert_true(info.head.complete);
    assert_true(layer_id_is_none(&info.head.below));
    go_on_from(f, (char[]){"one"});
    overlay = blk_overlay(f->devices.drive[0].blk);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(get(overlay, i), i < sizeof(merged) ? merged[i] : i + 1);
    free(layers[0]);
    free(layers[1]);
}

static void test_image_of_what_does_not_lie_on_each_other_is_refused(void **state)
{
    struct fixture *f = *state;
    char *layers[2] = {NULL, NULL}, *turned[2];
    const struct image_commit wrong_order = {.layer = turned, .count = 2, .output = "o"};
    const struct image_commit without_low = {
        .base = "base", .layer = layers + 1, .count = 1, .output = "o"};
    const struct image_commit other_base = {
        .base = "other", .layer = layers, .count = 2, .output = "o"};

    make_two(f, &layers[0], &layers[1]);
    turned[0] = layers[1];
    turned[1] = layers[0];
    assert_int_equal(files_make_sparse("other", SIZE), 0);
    assert_int_equal(image_commit(&wrong_order, &f->e), -EINVAL);
    assert_non_null(strstr(f->e.text, "does not lie on high"));
    assert_int_equal(image_commit(&without_low, &f->e), -EINVAL);
    assert_string_equal(f->e.text, "high does not lie on base.");
    assert_int_equal(image_commit(&other_base, &f->e), -EINVAL);
    assert_non_null(strstr(f->e.text, "lies over another file"));
    assert_int_equal(access("o", F_OK), -1);
    free(layers[0]);
    free(layers[1]);
}

static void test_image_of_an_overlay_in_use_is_refused(void **state)
{
    struct fixture *f = *state;
    char *layer = (char[]){"top"};
    const struct image_commit commit = {.base = "base", .layer = &layer, .count = 1, .output = "o"};

    add_drive(f, (struct blk_overlay_config){.type = BLK_OVERLAY_FILE, .path = layer});
    assert_int_equal(image_commit(&commit, &f->e), -EBUSY);
    assert_string_equal(f->e.text, "top is being written to by another process.");
    devices_destroy(&f->devices);
    done(f, image_commit(&commit, &f->e));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_overlay_of_either_kind_is_stored_beside_the_state),
        TEST(test_overlay_that_holds_nothing_is_not_stored),
        TEST(test_layers_of_a_create_that_failed_are_gone_and_the_former_ones_stay),
        TEST(test_sweep_takes_nothing_that_is_another_states),
        TEST(test_layer_of_a_former_snapshot_gets_a_name_beside_the_new_one),
        TEST(test_layer_of_a_snapshot_that_was_not_flushed_is_flushed_for_one_that_is),
        TEST(test_layer_whose_path_leads_elsewhere_is_copied),
        TEST(test_stack_of_sixteen_layers_is_refused_one_more),
        TEST(test_layer_larger_than_a_file_may_be_is_an_error),
        TEST(test_image_holds_all_that_base_and_layers_hold),
        TEST(test_image_of_layers_alone_lies_in_their_place),
        TEST(test_image_of_what_does_not_lie_on_each_other_is_refused),
        TEST(test_image_of_an_overlay_in_use_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
