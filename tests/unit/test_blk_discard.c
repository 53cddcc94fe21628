/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the block device: sectors given back and zeroed. */
#include "tests/support/fake_loop.h"
#include "tests/unit/blk_fixture.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void set_up_discard(struct fixture *f)
{

    set_up_drive(f, (struct blk_config){.engine = BLK_ENGINE_SYNC, .discard = true});
    assert_true(virtio_dev_features(f->dev) & F_DISCARD);
    assert_true(virtio_dev_features(f->dev) & F_ZEROES);
}

static struct guest_request add_discard(struct fixture *f, uint32_t type, uint64_t sector,
                                        uint32_t sectors, uint32_t flags)
{
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } segment = {sector, sectors, flags};
    struct guest_request request = add(f, type, 0, sizeof(segment));

    guest_write(&f->driver, request.data, &segment, sizeof(segment));
    return request;
}

static void test_blk_discard_and_write_zeroes_choose_their_fallocate(void **state)
{
    static const struct {
        uint32_t type, flags;
        int mode;
    } cases[] = {
        {DISCARD, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
        {WRITE_ZEROES, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE},
        {WRITE_ZEROES, 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;

        set_up_discard(&f);
        request = add_discard(&f, cases[i].type, 8, 16, cases[i].flags);
        kick(&f);
        assert_int_equal(ring(&f)->verb, FAKE_FALLOCATE);
        assert_int_equal(ring(&f)->mode, cases[i].mode);
        assert_int_equal(ring(&f)->offset, 8 * 512);
        assert_int_equal(ring(&f)->len, 16 * 512);
        complete(&f, 0, 0);
        expect_used(&f, &request, 1);
        assert_int_equal(status_of(&f, &request), OK);
        tear_down(&f);
    }
}

static void test_blk_write_zeroes_really_zeroes_where_zero_range_is_unknown(void **state)
{
    struct fixture f;
    struct guest_request request;
    uint8_t sector[512], zeros[512] = {0};

    (void)state;
    set_up_discard(&f); /* a memfd knows holes only, so this needs the second attempt */
    request = add_discard(&f, WRITE_ZEROES, 8, 8, 0);
    expect_status(&f, &request, OK);
    assert_int_equal(pread(f.fd, sector, sizeof(sector), 8 * SECTOR), sizeof(sector));
    assert_memory_equal(sector, zeros, sizeof(sector));
    assert_int_equal(pread(f.fd, sector, sizeof(sector), 16 * SECTOR), sizeof(sector));
    assert_int_equal(sector[0], 17);
    tear_down(&f);
}

static void test_blk_discard_that_the_file_refuses_is_unsupp(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_discard(&f);
    request = add_discard(&f, WRITE_ZEROES, 0, 8, 0);
    kick(&f);
    complete(&f, 0, -EOPNOTSUPP);
    assert_int_equal(ring(&f)->mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    complete(&f, 0, -EOPNOTSUPP);
    assert_int_equal(status_of(&f, &request), UNSUPP);
    tear_down(&f);
}

static void test_blk_discard_judges_its_segment(void **state)
{
    static const struct {
        uint32_t type, sectors, flags;
        uint64_t sector;
        uint8_t want;
    } cases[] = {
        {DISCARD, 8, 1, 0, UNSUPP},
        {DISCARD, 8, 2, 0, UNSUPP},
        {WRITE_ZEROES, 8, 2, 0, UNSUPP},
        {WRITE_ZEROES, 8, 3, 0, UNSUPP},
        {DISCARD, 8, 0, DISK_SECTORS - 7, IOERR},
        {DISCARD, 8, 0, UINT64_MAX - 3, IOERR},
        {WRITE_ZEROES, UINT32_MAX, 0, 0, IOERR},
        {DISCARD, 0, 0, 0, OK},
        {DISCARD, DISK_SECTORS, 0, 0, OK},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;

        set_up_discard(&f);
        request = add_discard(&f, cases[i].type, cases[i].sector, cases[i].sectors, cases[i].flags);
        kick(&f);
        fake_loop_settle(f.loop);
        if (status_of(&f, &request) != cases[i].want)
            fail_msg("case %zu", i);
        tear_down(&f);
    }
}

static void test_blk_discard_of_several_segments_or_a_part_is_ioerr(void **state)
{
    static const uint32_t lengths[] = {0, 8, 15, 17, 32};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct fixture f;
        struct guest_request request;

        set_up_discard(&f);
        request = add(&f, DISCARD, 0, lengths[i]);
        expect_status(&f, &request, IOERR);
        tear_down(&f);
    }
}

static void test_blk_discard_is_refused_for_read_only_and_async_drives(void **state)
{
    static char id[] = "d";
    struct fixture f;
    struct virtio_env env;
    struct blk_config config[] = {
        {.engine = BLK_ENGINE_ASYNC, .discard = true},
        {.engine = BLK_ENGINE_SYNC, .discard = true, .read_only = true},
    };

    (void)state;
    set_up_empty(&f);
    env = (struct virtio_env){&f.mem, f.loop};
    for (size_t i = 0; i < ARRAY_SIZE(config); i++) {
        struct err e;

        config[i].id = id;
        config[i].path = f.path;
        assert_int_equal(blk_create(&f.blk, &env, &config[i], &e), -EINVAL);
    }
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blk_discard_and_write_zeroes_choose_their_fallocate),
        cmocka_unit_test(test_blk_write_zeroes_really_zeroes_where_zero_range_is_unknown),
        cmocka_unit_test(test_blk_discard_that_the_file_refuses_is_unsupp),
        cmocka_unit_test(test_blk_discard_judges_its_segment),
        cmocka_unit_test(test_blk_discard_of_several_segments_or_a_part_is_ioerr),
        cmocka_unit_test(test_blk_discard_is_refused_for_read_only_and_async_drives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
