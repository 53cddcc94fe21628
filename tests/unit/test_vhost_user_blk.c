/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of a drive behind a socket, over the fake loop, a queue in shared guest memory, and a real
 * back end (tests/support/vhost_server) that the test moves step by step.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/support/vhost_server.h"
#include "tests/unit/unit.h"
#include "virtio/block/vhost_user_blk.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define RAM          (16 * MIB)
#define QUEUE_SIZE   64
#define DISK_SECTORS 2048
#define UNTOUCHED    0xee
#define BIT(n)       (UINT64_C(1) << (n))
#define GET_CONFIG   24
#define GET_BASE     11
#define SET_BASE     10

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8 };

struct fixture {
    struct mem mem;
    struct loop *loop;
    struct vhost_user_blk *blk;
    struct virtio_dev *dev;
    struct guest_driver driver;
    struct vhost_server server;
    char path[64];
    int disk, kick, call;
    unsigned config_interrupts;
};

struct guest_request {
    uint64_t header, data, status;
    uint16_t head;
};

static void interrupt(void *owner, enum virtio_interrupt why)
{
    struct fixture *f = owner;

    f->config_interrupts += why == VIRTIO_INTERRUPT_CONFIG;
}

static void nothing(void *owner)
{
    (void)owner;
}

static const struct virtio_transport_ops transport = {interrupt, nothing, nothing, nothing};

static void *serve_until_config(void *server)
{
    struct vhost_server *s = server;
    int rc = 0;

    for (unsigned i = 0; i < 100 && rc >= 0 && s->count[GET_CONFIG] == 0; i++)
        rc = vhost_server_step(s, 100);
    return NULL;
}

/* Makes the drive, a thread playing the back end meanwhile. */
static int try_create(struct fixture *f, struct vhost_server_options options, enum blk_cache cache,
                      struct err *e)
{
    struct virtio_env env = {.mem = &f->mem, .loop = f->loop};
    struct vhost_user_blk_config config = {.id = (char[]){"d"}, .socket = (char[]){"/s"}};
    pthread_t thread;
    int fds[2], rc;

    config.cache = cache;
    options.disk = f->path;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(vhost_server_open(&f->server, &options, fds[1]), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve_until_config, &f->server), 0);
    rc = vhost_user_blk_open(&f->blk, &env, &config, fds[0], e);
    pthread_join(thread, NULL);
    return rc;
}

static void set_up_empty(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    log_set_options(&(struct log_options){.level = LOG_OFF});
    assert_int_equal(mem_create_shared(&f->mem, RAM, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    f->disk = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->disk, DISK_SECTORS * 512), 0);
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->disk);
    f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void create(struct fixture *f, struct vhost_server_options options, enum blk_cache cache)
{
    struct err e = {0};

    set_up_empty(f);
    assert_int_equal(try_create(f, options, cache, &e), 0);
    f->dev = vhost_user_blk_dev(f->blk);
    virtio_dev_attach(f->dev, &transport, f);
    f->dev->kick_fd[0] = f->kick;
    f->dev->call_fd = f->call;
}

static void wait_a_little(struct loop *loop, void *arg);

static void start(struct fixture *f)
{
    fake_loop_on_wait(f->loop, wait_a_little, f);
    memset(f->mem.region[0].hva, 0, 64 * KIB);
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, virtio_dev_features(f->dev)), 15);
}

static void tear_down(struct fixture *f)
{
    if (f->dev)
        virtio_dev_destroy(f->dev);
    vhost_server_close(&f->server);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
    close(f->disk);
    close(f->kick);
    close(f->call);
}

/* Completes the poll of the back end's socket if it is readable; false if it is not. */
static bool see_socket(struct fixture *f)
{
    for (unsigned i = 0; i < fake_loop_count(f->loop); i++) {
        const struct fake_op *op = fake_loop_op(f->loop, i);
        struct pollfd fd = {.fd = op->fd, .events = POLLIN};

        if (op->verb != FAKE_POLL || op->cancelled || poll(&fd, 1, 0) <= 0)
            continue;
        fake_loop_complete(f->loop, i, fd.revents, true);
        return true;
    }
    return false;
}

/* Until neither side has anything to do. */
static void settle(struct fixture *f)
{
    unsigned turns = 0;
    bool busy;

    do {
        fake_loop_settle(f->loop);
        busy = f->server.fd >= 0 && vhost_server_step(&f->server, 0) > 0;
        busy |= see_socket(f);
    } while (busy && turns++ < 1000);
    assert_true(turns < 1000);
}

/* Lets the timers that are armed now end. */
static void pass_time(struct fixture *f)
{
    for (unsigned i = 0; i < fake_loop_count(f->loop); i++) {
        if (fake_loop_op(f->loop, i)->verb != FAKE_TIMER)
            continue;
        fake_loop_complete(f->loop, i, fake_loop_carry_out(f->loop, i), false);
        break;
    }
    settle(f);
}

/* While the device waits, the back end works and time passes. */
static void wait_a_little(struct loop *loop, void *arg)
{
    (void)loop;
    usleep(1000);
    settle(arg);
    pass_time(arg);
}

/* A kick as KVM makes it; an interrupt is wanted for the next used entry. */
static void kick(struct fixture *f)
{
    uint64_t one = 1;

    guest_set_used_event(&f->driver, f->driver.used_idx);
    assert_int_equal(write(f->kick, &one, sizeof(one)), sizeof(one));
    settle(f);
}

static struct guest_request add(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len,
                                bool indirect)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {type, 0, sector};
    struct guest_request request = {
        .header = guest_alloc(&f->driver, sizeof(header)),
        .data = guest_alloc(&f->driver, len),
        .status = guest_alloc(&f->driver, 1),
    };
    bool fills = type == IN || type == GET_ID;
    struct guest_buffer chain[] = {
        {request.header, 16, false}, {request.data, len, fills}, {request.status, 1, true}};
    uint8_t untouched = UNTOUCHED;

    guest_write(&f->driver, request.header, &header, sizeof(header));
    guest_write(&f->driver, request.status, &untouched, 1);
    request.head =
        indirect ? guest_add_indirect(&f->driver, chain, 3) : guest_add(&f->driver, chain, 3);
    return request;
}

static uint8_t status_of(const struct fixture *f, const struct guest_request *request)
{
    uint8_t status;

    guest_read(&f->driver, request->status, &status, 1);
    return status;
}

/* Interrupts since the last call. */
static uint64_t take_calls(const struct fixture *f)
{
    uint64_t count = 0;

    return read(f->call, &count, sizeof(count)) > 0 ? count : 0;
}

static void expect_done(struct fixture *f, const struct guest_request *request)
{
    struct virtq_used_elem used;

    assert_true(guest_take_used(&f->driver, &used));
    assert_int_equal(used.id, request->head);
    assert_int_equal(status_of(f, request), 0);
}

/* Writes a sector and reads it back, to see that all of the way is open. */
static void expect_works(struct fixture *f, uint64_t sector, uint8_t fill)
{
    struct guest_request out = add(f, OUT, sector, 512, false), in;
    uint8_t data[512], back[512];

    memset(data, fill, sizeof(data));
    guest_write(&f->driver, out.data, data, sizeof(data));
    kick(f);
    expect_done(f, &out);
    assert_int_equal(pread(f->disk, back, sizeof(back), (off_t)sector * 512), sizeof(back));
    assert_memory_equal(back, data, sizeof(data));
    in = add(f, IN, sector, 512, true);
    kick(f);
    expect_done(f, &in);
    guest_read(&f->driver, in.data, back, sizeof(back));
    assert_memory_equal(back, data, sizeof(data));
}

/* ---- creation ---- */

static void test_vhost_user_blk_offers_what_the_back_end_offers(void **state)
{
    static const struct {
        struct vhost_server_options options;
        enum blk_cache cache;
        uint64_t offered;
    } cases[] = {
        {{0}, BLK_CACHE_UNSAFE, BIT(2) | BIT(28) | BIT(29) | BIT(32)},
        {{0}, BLK_CACHE_WRITEBACK, BIT(2) | BIT(9) | BIT(28) | BIT(29) | BIT(32)},
        {{.read_only = true}, BLK_CACHE_UNSAFE, BIT(2) | BIT(5) | BIT(28) | BIT(29) | BIT(32)},
        {{.without = BIT(9)}, BLK_CACHE_WRITEBACK, BIT(2) | BIT(28) | BIT(29) | BIT(32)},
        {{.without = BIT(29)}, BLK_CACHE_UNSAFE, BIT(2) | BIT(28) | BIT(32)},
        {{.without = BIT(2) | BIT(28)}, BLK_CACHE_UNSAFE, BIT(29) | BIT(32)},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;

        create(&f, cases[i].options, cases[i].cache);
        assert_int_equal(virtio_dev_features(f.dev), cases[i].offered);
        assert_int_equal(vhost_user_blk_read_only(f.blk), cases[i].options.read_only);
        tear_down(&f);
    }
}

static void test_vhost_user_blk_back_end_without_the_essentials_is_refused(void **state)
{
    static const struct vhost_server_options cases[] = {
        {.without = BIT(VHOST_SERVER_VERSION_1)},
        {.without = BIT(VHOST_SERVER_PROTOCOL)},
        {.no_config = true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct err e = {0};

        set_up_empty(&f);
        assert_int_equal(try_create(&f, cases[i], BLK_CACHE_UNSAFE, &e), -ENOTSUP);
        assert_string_equal(e.text, "Unable to create the virtio block device: Vhost user backend "
                                    "error: The back end does not offer what a drive needs (virtio "
                                    "1, the protocol feature CONFIG): /s");
        tear_down(&f);
    }
}

static void test_vhost_user_blk_silent_back_end_is_refused_after_a_second(void **state)
{
    struct vhost_user_blk_config config = {.id = (char[]){"d"}, .socket = (char[]){"/s"}};
    uint64_t begin = now_ns();
    struct vhost_user_blk *blk;
    struct virtio_env env;
    struct fixture f;
    struct err e = {0};
    int fds[2];

    (void)state;
    set_up_empty(&f);
    f.server.fd = f.server.disk = f.server.kick = f.server.call = -1;
    env = (struct virtio_env){.mem = &f.mem, .loop = f.loop};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(vhost_user_blk_open(&blk, &env, &config, fds[0], &e), -ETIMEDOUT);
    assert_true(now_ns() - begin < 3 * NSEC_PER_SEC);
    assert_non_null(strstr(e.text, "The back end does not answer: /s"));
    close(fds[1]);
    tear_down(&f);
}

static void test_vhost_user_blk_configuration_is_the_back_ends(void **state)
{
    struct fixture f;
    uint64_t capacity;
    uint32_t segments;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, DISK_SECTORS);
    virtio_dev_read_config(f.dev, 12, &segments, sizeof(segments));
    assert_int_equal(segments, VIRTQUEUE_SIZE_DEFAULT - 2); /* no more than our queue takes */
    assert_true(vhost_user_blk_metrics(f.blk)->init_time_us > 0);
    tear_down(&f);
}

static void test_vhost_user_blk_configuration_cannot_be_written(void **state)
{
    struct fixture f;
    uint64_t capacity = 1;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    virtio_dev_write_config(f.dev, 0, &capacity, sizeof(capacity));
    virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, DISK_SECTORS);
    assert_int_equal(vhost_user_blk_metrics(f.blk)->cfg_fails, 1);
    tear_down(&f);
}

/* A second PUT of a drive: over the same connection, of which the back end has but one. */
static void test_vhost_user_blk_configured_again_keeps_its_connection(void **state)
{
    struct vhost_user_blk_config config = {
        .id = (char[]){"d"}, .socket = (char[]){"/s"}, .is_root = true, .partuuid = (char[]){"u"}};
    struct fixture f;
    pthread_t thread;
    uint64_t capacity;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    assert_int_equal(ftruncate(f.disk, 2 * DISK_SECTORS * 512), 0);
    config.cache = BLK_CACHE_WRITEBACK;
    f.server.count[GET_CONFIG] = 0;
    assert_int_equal(pthread_create(&thread, NULL, serve_until_config, &f.server), 0);
    assert_int_equal(vhost_user_blk_configure(f.blk, &config), 0);
    pthread_join(thread, NULL);
    assert_true(vhost_user_blk_config(f.blk)->is_root);
    assert_string_equal(vhost_user_blk_config(f.blk)->partuuid, "u");
    assert_true(virtio_dev_features(f.dev) & BIT(VHOST_SERVER_FLUSH));
    virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 2 * DISK_SECTORS);

    config.socket = (char[]){"/other"};
    assert_int_equal(vhost_user_blk_configure(f.blk, &config), -EXDEV);
    config.socket = (char[]){"/s"};
    config.is_root = false;
    vhost_server_close(&f.server);
    assert_true(vhost_user_blk_configure(f.blk, &config) < 0);
    assert_true(vhost_user_blk_config(f.blk)->is_root); /* as it was */
    tear_down(&f);
}

/* ---- requests ---- */

static void test_vhost_user_blk_requests_are_served_by_the_back_end(void **state)
{
    struct fixture f;
    struct guest_request id, flush;
    char serial[20];

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_WRITEBACK);
    start(&f);
    expect_works(&f, 7, 0x42);
    assert_int_equal(take_calls(&f), 2);
    flush = add(&f, FLUSH, 0, 0, false);
    id = add(&f, GET_ID, 0, 20, false);
    kick(&f);
    expect_done(&f, &flush);
    expect_done(&f, &id);
    guest_read(&f.driver, id.data, serial, sizeof(serial));
    assert_string_equal(serial, "vhost-server");
    assert_int_equal(f.server.flushes, 1);
    assert_int_equal(f.server.features, virtio_dev_features(f.dev) | BIT(VHOST_SERVER_PROTOCOL));
    tear_down(&f);
}

/* Kicks and interrupts are the back end's business: our loop looks at its socket only. */
static void test_vhost_user_blk_eventfds_are_not_polled(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    assert_int_equal(fake_loop_count(f.loop), 0);
    start(&f);
    settle(&f);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_POLL), 1);
    assert_int_not_equal(fake_loop_op(f.loop, 0)->fd, f.kick);
    assert_int_not_equal(fake_loop_op(f.loop, 0)->fd, f.call);
    tear_down(&f);
}

/* A kick that no ioeventfd caught comes through us; it must arrive, however many there are. */
static void test_vhost_user_blk_kicks_that_come_to_us_are_passed_on(void **state)
{
    struct fixture f;
    struct guest_request first, second;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    first = add(&f, IN, 0, 512, false);
    virtio_dev_kick(f.dev, 0);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_WRITEV), 1);
    second = add(&f, IN, 1, 512, false);
    virtio_dev_kick(f.dev, 0);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_WRITEV), 1);
    settle(&f);
    expect_done(&f, &first);
    expect_done(&f, &second);
    tear_down(&f);
}

static void test_vhost_user_blk_poll_that_ends_begins_again(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    fake_loop_complete(f.loop, 0, POLLIN, false);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_POLL), 1);
    expect_works(&f, 1, 1);
    tear_down(&f);
}

static void test_vhost_user_blk_driver_without_a_queue_starts_nothing(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    fake_loop_on_wait(f.loop, wait_a_little, &f);
    virtio_dev_write_status(f.dev, 1);
    virtio_dev_write_status(f.dev, 3);
    virtio_dev_write_features(f.dev, 1, 1);
    virtio_dev_write_status(f.dev, 11);
    virtio_dev_write_status(f.dev, 15);
    assert_int_equal(f.dev->s.status, 15);
    settle(&f);
    assert_false(f.server.started);
    virtio_dev_write_status(f.dev, 0);
    assert_true(virtio_dev_is_idle(f.dev));
    start(&f);
    expect_works(&f, 1, 1);
    tear_down(&f);
}

/* ---- pause, resume, reset ---- */

static void pause_it(struct fixture *f)
{
    virtio_dev_quiesce(f->dev);
    assert_false(virtio_dev_is_idle(f->dev));
    settle(f);
}

static void test_vhost_user_blk_pause_stops_the_ring_and_resume_goes_on_where_it_was(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    for (unsigned i = 0; i < 200; i++) /* the indices pass the queue's end several times */
        expect_works(&f, i, (uint8_t)i);
    pause_it(&f);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_false(f.server.started);
    assert_int_equal(f.dev->queue[0].s.next_avail, 400);
    assert_int_equal(f.dev->queue[0].s.next_used, 400);

    request = add(&f, IN, 0, 512, false);
    kick(&f);
    assert_int_equal(status_of(&f, &request), UNTOUCHED);
    virtio_dev_resume(f.dev);
    settle(&f);
    expect_done(&f, &request);
    expect_works(&f, 9, 9);
    tear_down(&f);
}

/* Not before all is returned is the back end asked to stop: some cannot stand that. */
static void test_vhost_user_blk_pause_asks_only_when_every_request_is_returned(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    f.server.hold = true;
    request = add(&f, OUT, 3, 512, false); /* without a kick: that comes from us */
    pause_it(&f);
    for (unsigned i = 0; i < 5; i++)
        pass_time(&f);
    assert_int_equal(f.server.held_count, 1);
    assert_int_equal(f.server.count[GET_BASE], 0);
    assert_false(virtio_dev_is_idle(f.dev));

    vhost_server_release(&f.server);
    f.server.hold = false;
    pass_time(&f);
    assert_int_equal(f.server.count[GET_BASE], 1);
    assert_true(virtio_dev_is_idle(f.dev));
    expect_done(&f, &request);
    assert_int_equal(f.dev->queue[0].s.next_avail, 1);
    virtio_dev_resume(f.dev);
    expect_works(&f, 9, 9);
    tear_down(&f);
}

/* A guest that goes on adding requests while it resets finds the back end stopped in the middle. */
static void test_vhost_user_blk_pause_ends_only_when_requests_taken_are_returned(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    f.server.hold = true;
    request = add(&f, OUT, 3, 512, false);
    kick(&f);
    assert_int_equal(f.server.held_count, 1);
    guest_write16(&f.driver, f.driver.avail + 2, 0x4000); /* not to be believed */
    pause_it(&f); /* this back end answers although it is not through */
    assert_int_equal(f.server.count[GET_BASE], 1);
    assert_false(virtio_dev_is_idle(f.dev));
    for (unsigned i = 0; i < 5; i++)
        pass_time(&f);
    assert_false(virtio_dev_is_idle(f.dev));

    guest_write16(&f.driver, f.driver.avail + 2, 1);
    vhost_server_release(&f.server);
    f.server.hold = false;
    pass_time(&f);
    assert_true(virtio_dev_is_idle(f.dev));
    expect_done(&f, &request);
    assert_int_equal(f.dev->queue[0].s.next_avail, 1);
    virtio_dev_resume(f.dev);
    expect_works(&f, 9, 9);
    tear_down(&f);
}

static void test_vhost_user_blk_resume_before_the_ring_has_stopped_starts_it_again(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    virtio_dev_quiesce(f.dev);
    virtio_dev_resume(f.dev);
    settle(&f);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_true(f.server.started);
    assert_int_equal(f.server.count[GET_BASE], 1);
    expect_works(&f, 1, 1);

    virtio_dev_quiesce(f.dev);
    virtio_dev_resume(f.dev);
    virtio_dev_quiesce(f.dev);
    settle(&f);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_false(f.server.started);
    virtio_dev_resume(f.dev);
    expect_works(&f, 2, 2);
    tear_down(&f);
}

static void test_vhost_user_blk_driver_may_reset_and_start_again(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    for (unsigned i = 0; i < 3; i++) {
        expect_works(&f, i, (uint8_t)i);
        virtio_dev_write_status(f.dev, 0);
        assert_false(f.server.started);
        start(&f);
        settle(&f);
        assert_true(f.server.started);
        assert_int_equal(f.server.next_avail, 0);
    }
    tear_down(&f);
}

/* A vCPU that resets waits for the loop's thread, which asks the back end. */
static void test_vhost_user_blk_reset_by_a_vcpu_waits_for_the_back_end(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    request = add(&f, OUT, 3, 512, false);
    assert_int_equal(write(f.kick, &(uint64_t){1}, 8), 8);
    fake_loop_set_current(f.loop, false);
    virtio_dev_write_status(f.dev, 0);
    fake_loop_set_current(f.loop, true);
    assert_int_equal(f.dev->s.status, 0);
    assert_false(f.server.started);
    /* It was served before the reset or not at all. */
    assert_true(f.server.served == (status_of(&f, &request) == 0));
    start(&f);
    expect_works(&f, 5, 5);
    tear_down(&f);
}

/* ---- back ends that fail ---- */

static void expect_lost(struct fixture *f)
{
    assert_true(virtio_dev_is_idle(f->dev));
    assert_int_equal(f->dev->s.status, 15 | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(f->config_interrupts, 1);
    assert_int_equal(fake_loop_count_verb(f->loop, FAKE_POLL), 0);
}

static void leave(struct fixture *f)
{
    shutdown(f->server.fd, SHUT_RDWR);
    vhost_server_close(&f->server);
}

static void test_vhost_user_blk_death_of_the_back_end_stops_the_device(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    expect_works(&f, 1, 1);
    leave(&f);
    settle(&f);
    expect_lost(&f);
    virtio_dev_quiesce(f.dev);
    assert_true(virtio_dev_is_idle(f.dev));
    virtio_dev_resume(f.dev);
    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(f.dev->s.status, 0);
    guest_start(f.dev, &f.driver, virtio_dev_features(f.dev));
    assert_int_equal(f.dev->s.status, 15 | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(vhost_user_blk_metrics(f.blk)->activate_fails, 1);
    tear_down(&f);
}

static void test_vhost_user_blk_death_in_the_middle_of_a_pause_ends_the_pause(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    virtio_dev_quiesce(f.dev);
    leave(&f);
    settle(&f);
    expect_lost(&f);
    tear_down(&f);
}

static void test_vhost_user_blk_lies_of_the_back_end_stop_the_device(void **state)
{
    static const uint32_t lie[] = {24, 5, 0};
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    assert_int_equal(send(f.server.fd, lie, sizeof(lie), 0), sizeof(lie));
    settle(&f);
    expect_lost(&f);
    tear_down(&f);
}

static void test_vhost_user_blk_back_end_that_does_not_stop_is_lost_after_five_seconds(void **state)
{
    struct fixture f;
    uint64_t begin = now_ns();

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    f.server.mute = true;
    virtio_dev_quiesce(f.dev);
    virtio_dev_drain(f.dev);
    assert_true(now_ns() - begin >= 5 * NSEC_PER_SEC);
    expect_lost(&f);
    tear_down(&f);
}

/* A pause must not cost a machine with a slow back end its disk. */
static void test_vhost_user_blk_requests_not_returned_in_five_seconds_hold_up_nothing(void **state)
{
    struct fixture f;
    uint64_t begin = now_ns();
    struct guest_request request;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    f.server.hold = true;
    request = add(&f, OUT, 3, 512, false);
    kick(&f);
    virtio_dev_quiesce(f.dev);
    virtio_dev_drain(f.dev);
    assert_true(now_ns() - begin >= 5 * NSEC_PER_SEC);
    assert_int_equal(f.dev->s.status, 15);
    virtio_dev_resume(f.dev);
    settle(&f);
    f.server.hold = false;
    vhost_server_release(&f.server);
    settle(&f);
    expect_done(&f, &request);
    expect_works(&f, 1, 1);
    tear_down(&f);
}

/* The guest may write where the back end counts; then the count says nothing, and nothing waits. */
static void test_vhost_user_blk_used_index_that_the_guest_wrote_holds_up_nothing(void **state)
{
    struct fixture f;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    expect_works(&f, 1, 1);
    guest_write16(&f.driver, f.driver.used + 2, 0x1234);
    virtio_dev_quiesce(f.dev);
    settle(&f);
    assert_true(virtio_dev_is_idle(f.dev));
    tear_down(&f);
}

/* ---- updates ---- */

static void test_vhost_user_blk_update_fetches_the_configuration_anew(void **state)
{
    struct fixture f;
    uint64_t capacity;
    uint32_t generation;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    generation = f.dev->s.config_generation;
    assert_int_equal(ftruncate(f.disk, 3 * DISK_SECTORS * 512), 0);
    assert_int_equal(vhost_user_blk_update(f.blk, NULL), 0);
    virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 3 * DISK_SECTORS);
    assert_int_equal(f.config_interrupts, 1);
    assert_int_equal(f.dev->s.config_generation, generation + 1);
    expect_works(&f, 2 * DISK_SECTORS, 5);
    tear_down(&f);
}

static void test_vhost_user_blk_update_that_is_refused_changes_nothing(void **state)
{
    static const uint32_t refusal[] = {24, 5, 0};
    struct fixture f;
    struct err e;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    f.server.mute = true;
    assert_int_equal(send(f.server.fd, refusal, sizeof(refusal), 0), sizeof(refusal));
    assert_int_equal(vhost_user_blk_update(f.blk, &e), -EREMOTEIO);
    assert_string_equal(e.text, "Vhost user backend error: The back end cannot tell its "
                                "configuration: /s");
    assert_int_equal(vhost_user_blk_metrics(f.blk)->cfg_fails, 1);
    assert_int_equal(f.config_interrupts, 0);
    f.server.mute = false;
    expect_works(&f, 1, 1);
    tear_down(&f);
}

static void test_vhost_user_blk_update_by_a_silent_back_end_ends_after_a_second(void **state)
{
    struct fixture f;
    uint64_t begin = now_ns();
    struct err e;

    (void)state;
    create(&f, (struct vhost_server_options){0}, BLK_CACHE_UNSAFE);
    start(&f);
    settle(&f);
    f.server.mute = true;
    assert_int_equal(vhost_user_blk_update(f.blk, &e), -ETIMEDOUT);
    assert_true(now_ns() - begin < 4 * NSEC_PER_SEC);
    expect_lost(&f);
    assert_int_equal(vhost_user_blk_update(f.blk, &e), -ENOTCONN);
    assert_non_null(strstr(e.text, "has closed the connection"));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vhost_user_blk_offers_what_the_back_end_offers),
        cmocka_unit_test(test_vhost_user_blk_back_end_without_the_essentials_is_refused),
        cmocka_unit_test(test_vhost_user_blk_silent_back_end_is_refused_after_a_second),
        cmocka_unit_test(test_vhost_user_blk_configuration_is_the_back_ends),
        cmocka_unit_test(test_vhost_user_blk_configuration_cannot_be_written),
        cmocka_unit_test(test_vhost_user_blk_configured_again_keeps_its_connection),
        cmocka_unit_test(test_vhost_user_blk_requests_are_served_by_the_back_end),
        cmocka_unit_test(test_vhost_user_blk_eventfds_are_not_polled),
        cmocka_unit_test(test_vhost_user_blk_kicks_that_come_to_us_are_passed_on),
        cmocka_unit_test(test_vhost_user_blk_poll_that_ends_begins_again),
        cmocka_unit_test(test_vhost_user_blk_driver_without_a_queue_starts_nothing),
        cmocka_unit_test(test_vhost_user_blk_pause_stops_the_ring_and_resume_goes_on_where_it_was),
        cmocka_unit_test(test_vhost_user_blk_pause_asks_only_when_every_request_is_returned),
        cmocka_unit_test(test_vhost_user_blk_pause_ends_only_when_requests_taken_are_returned),
        cmocka_unit_test(test_vhost_user_blk_resume_before_the_ring_has_stopped_starts_it_again),
        cmocka_unit_test(test_vhost_user_blk_driver_may_reset_and_start_again),
        cmocka_unit_test(test_vhost_user_blk_reset_by_a_vcpu_waits_for_the_back_end),
        cmocka_unit_test(test_vhost_user_blk_death_of_the_back_end_stops_the_device),
        cmocka_unit_test(test_vhost_user_blk_death_in_the_middle_of_a_pause_ends_the_pause),
        cmocka_unit_test(test_vhost_user_blk_lies_of_the_back_end_stop_the_device),
        cmocka_unit_test(
            test_vhost_user_blk_back_end_that_does_not_stop_is_lost_after_five_seconds),
        cmocka_unit_test(test_vhost_user_blk_requests_not_returned_in_five_seconds_hold_up_nothing),
        cmocka_unit_test(test_vhost_user_blk_used_index_that_the_guest_wrote_holds_up_nothing),
        cmocka_unit_test(test_vhost_user_blk_update_fetches_the_configuration_anew),
        cmocka_unit_test(test_vhost_user_blk_update_that_is_refused_changes_nothing),
        cmocka_unit_test(test_vhost_user_blk_update_by_a_silent_back_end_ends_after_a_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
