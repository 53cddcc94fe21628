/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_vhost_user: the input plays both neighbours of a drive behind a socket. As the back end it
 * answers what was asked, or lies in header or payload, sends what nobody asked for, signals, is
 * silent, or leaves; as the guest it starts, resets, kicks, and writes into its rings. Whatever
 * they do, a device whose back end has left is idle, and it can be destroyed.
 */
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/block/vhost_user_blk.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define RAM        (2 * MIB)
#define QUEUE_SIZE 64
#define QUESTIONS  8

struct fixture {
    struct input in;
    struct loop *loop;
    struct vhost_user_blk *blk;
    struct virtio_dev *dev;
    struct guest_driver driver;
    int peer; /* the back end's end; -1 = it has left */
    uint32_t question[QUESTIONS];
    unsigned questions;
    unsigned held;
};

static struct mem mem;

/* ---- the back end ---- */

/* Reads what the front end has said; remembers which answers it waits for. */
static void listen_to_it(struct fixture *f)
{
    struct {
        uint32_t request, flags, size;
    } header;
    uint8_t payload[512];

    while (f->peer >= 0 && recv(f->peer, &header, sizeof(header), MSG_DONTWAIT) > 0) {
        BUG_ON(header.size > sizeof(payload) || header.flags != 1);
        if (header.size > 0)
            BUG_ON(recv(f->peer, payload, header.size, MSG_DONTWAIT) != header.size);
        if ((header.request == 1 || header.request == 11 || header.request == 15 ||
             header.request == 24) &&
            f->questions < QUESTIONS)
            f->question[f->questions++] = header.request;
    }
}

static void say(struct fixture *f, const void *what, size_t len)
{
    if (f->peer >= 0)
        (void)!send(f->peer, what, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* An answer to `request`; `how` says which of its words are as they should be. */
static void answer(struct fixture *f, uint32_t request, uint32_t how)
{
    uint32_t message[3 + 18 + 4] = {request, 5, request == 24 ? 72 : 8};
    size_t len;

    if (request == 24)
        message[4] = 60;
    if (request == 1) { /* features: nearly always what is needed */
        message[3] = (how & 1 ? 0x60000000 : 0x40000000) | (take(&f->in, 2) & 0xfff);
        message[4] = 1;
    } else if (request == 15) {
        message[3] = 1 << 9;
    } else if (request == 11) {
        message[4] = take(&f->in, 2);
    } else {
        message[6] = take(&f->in, 4);
        message[9] = take(&f->in, 1);
    }
    if (how >= 0xe0) { /* a lie */
        uint32_t word = take(&f->in, 1) % ARRAY_SIZE(message);

        message[word] = how & 1 ? take(&f->in, 4) : message[word] + take(&f->in, 1);
    }
    len = MIN(12 + (size_t)message[2], sizeof(message));
    if (how >= 0xf8)
        len = take(&f->in, 1) % len;
    say(f, message, len);
}

static void leave(struct fixture *f)
{
    if (f->peer >= 0)
        close(f->peer);
    f->peer = -1;
}

static void answer_one(struct fixture *f)
{
    listen_to_it(f);
    if (f->questions == 0)
        return;
    answer(f, f->question[0], take(&f->in, 1));
    f->questions--;
    memmove(f->question, f->question + 1, f->questions * sizeof(f->question[0]));
}

/* ---- the loop ---- */

/* Completes the polls that have something, and some that have nothing. */
static void see_polls(struct fixture *f, bool all)
{
    for (unsigned i = 0; i < fake_loop_count(f->loop); i++) {
        const struct fake_op *op = fake_loop_op(f->loop, i);
        struct pollfd fd = {.fd = op->fd, .events = POLLIN};

        if (op->verb == FAKE_POLL && !op->cancelled && (poll(&fd, 1, 0) > 0 || all))
            fake_loop_complete(f->loop, i, POLLIN, !(all && take(&f->in, 1) & 1));
    }
}

static void end_timers(struct fixture *f)
{
    for (unsigned i = 0; i < fake_loop_count(f->loop); i++)
        if (fake_loop_op(f->loop, i)->verb == FAKE_TIMER) {
            fake_loop_complete(f->loop, i, -ETIME, false);
            return;
        }
}

/* While the device waits: a back end that lets it wait for ever would take its five seconds. */
static void on_wait(struct loop *loop, void *arg)
{
    struct fixture *f = arg;

    fake_loop_settle(loop);
    if (take(&f->in, 1) % 4 == 0)
        leave(f);
    answer_one(f);
    see_polls(f, false);
    end_timers(f);
}

/* ---- the guest ---- */

static void restart(struct fixture *f)
{
    memset(mem.region[0].hva, 0, 64 * KIB);
    guest_driver_init(&f->driver, &mem, 0x1000, QUEUE_SIZE);
    f->driver.size = take(&f->in, 1) % 8 ? QUEUE_SIZE : (uint16_t)take(&f->in, 2);
    f->driver.used = take(&f->in, 1) % 8 ? f->driver.used : take(&f->in, 4);
    guest_start(f->dev, &f->driver,
                virtio_dev_features(f->dev) &
                    ~(uint64_t)(take(&f->in, 1) % 4 ? 0 : take(&f->in, 4)));
}

static void command(struct fixture *f)
{
    uint8_t bytes[16];
    uint16_t value;

    switch (take(&f->in, 1) % 14) {
    case 0:
    case 1:
        answer_one(f);
        break;
    case 2: /* what nobody asked for */
        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)take(&f->in, 1);
        say(f, bytes, sizeof(bytes));
        break;
    case 3:
        see_polls(f, false);
        break;
    case 4:
        see_polls(f, true);
        break;
    case 5:
        fake_loop_settle(f->loop);
        break;
    case 6:
        fake_loop_end_turn(f->loop);
        break;
    case 7:
        end_timers(f);
        break;
    case 8:
        restart(f);
        break;
    case 9:
        virtio_dev_write_status(f->dev, take(&f->in, 1));
        break;
    case 10:
        if (f->held++ % 2 == 0)
            virtio_dev_quiesce(f->dev);
        else
            virtio_dev_resume(f->dev);
        break;
    case 11:
        virtio_dev_kick(f->dev, take(&f->in, 1) & 1);
        break;
    case 12: /* the used index, or anything */
        value = (uint16_t)take(&f->in, 2);
        if (mem_write(&mem, GPA(take(&f->in, 1) & 1 ? f->driver.used + 2 : take(&f->in, 2)), &value,
                      sizeof(value)) < 0)
            break;
        break;
    default:
        if (take(&f->in, 1) % 4 == 0)
            leave(f);
        else if (vhost_user_blk_update(f->blk, NULL) < 0)
            break;
        break;
    }
}

static bool create(struct fixture *f, const struct virtio_env *env)
{
    static char id[] = "fuzz", path[] = "/fuzz";
    struct vhost_user_blk_config config = {.id = id, .socket = path};
    static const uint32_t questions[] = {1, 15, 24};
    bool lies;
    int fds[2];

    BUG_ON(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0);
    f->peer = fds[1];
    config.cache = take(&f->in, 1) & 1 ? BLK_CACHE_WRITEBACK : BLK_CACHE_UNSAFE;
    /* The answers are there before the questions. After a lie nothing more comes: a front end that
     * waits for the rest of one would take a second each time. */
    lies = take(&f->in, 1) % 8 == 0;
    for (unsigned i = 0; i < ARRAY_SIZE(questions); i++)
        answer(f, questions[i], lies ? take(&f->in, 1) : take(&f->in, 1) % 0xe0);
    if (lies)
        shutdown(f->peer, SHUT_WR);
    return vhost_user_blk_open(&f->blk, env, &config, fds[0], NULL) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fixture f = {.in = {data, data + size}, .peer = -1};
    struct virtio_env env = {.mem = &mem};
    int kick, call;

    log_set_options(&(struct log_options){.level = LOG_OFF});
    if (mem.count == 0)
        BUG_ON(mem_create_shared(&mem, RAM, MEM_PAGES_DEFAULT, false, NULL) < 0);
    BUG_ON(loop_create(&f.loop, NULL) < 0);
    env.loop = f.loop;
    kick = eventfd(0, EFD_NONBLOCK);
    call = eventfd(0, EFD_NONBLOCK);
    if (create(&f, &env)) {
        f.dev = vhost_user_blk_dev(f.blk);
        f.dev->kick_fd[0] = kick;
        f.dev->call_fd = call;
        fake_loop_on_wait(f.loop, on_wait, &f);
        restart(&f);
        while (f.in.at < f.in.end)
            command(&f);
        leave(&f);
        fake_loop_settle(f.loop);
        see_polls(&f, false);
        fake_loop_settle(f.loop);
        BUG_ON(!virtio_dev_is_idle(f.dev));
        virtio_dev_destroy(f.dev);
    }
    leave(&f);
    loop_destroy(f.loop);
    close(kick);
    close(call);
    return 0;
}
