/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/base/loop.c on the real ring, with real files, sockets and eventfds. A test that
 * waits for something that never comes is ended by an alarm.
 */
#include "tests/unit/unit.h"
#include "vmm/base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/un.h>

/* An operation that remembers its completions and stops the loop after `stop_after` of them. */
struct watched {
    struct op op;
    struct loop *loop;
    unsigned count, stop_after;
    int res;
    bool more;
};

static void watched_done(struct op *op, int res, bool more)
{
    struct watched *w = container_of(op, struct watched, op);

    w->count++;
    w->res = res;
    w->more = more;
    if (w->count == w->stop_after)
        loop_stop(w->loop);
}

static struct watched watch(struct loop *loop, unsigned stop_after)
{
    return (struct watched){
        .op = {.done = watched_done}, .loop = loop, .stop_after = stop_after, .res = INT_MIN};
}

static int setup(void **state)
{
    alarm(30);
    return loop_create((struct loop **)state, NULL);
}

static int teardown(void **state)
{
    loop_destroy(*state);
    alarm(0);
    return 0;
}

static int make_event(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static void signal_event(int fd)
{
    uint64_t one = 1;

    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* ---- poll ---- */

static void test_loop_poll_completes_when_readable(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    int fd = make_event();

    loop_poll(loop, &w.op, fd, false);
    signal_event(fd);
    loop_run(loop);

    assert_true(w.res & POLLIN);
    assert_false(w.more);
    close(fd);
}

/* Signals its eventfd again from each completion, never reads it, and cancels after the third. */
struct ringer {
    struct watched w;
    int fd;
};

static void ringer_done(struct op *op, int res, bool more)
{
    struct ringer *r = container_of(op, struct ringer, w.op);

    watched_done(op, res, more);
    if (r->w.count < 3)
        signal_event(r->fd);
    else if (r->w.count == 3)
        loop_cancel(r->w.loop, &r->w.op);
    if (!more)
        loop_stop(r->w.loop);
}

static void test_loop_multishot_poll_sees_each_signal_of_event_never_read(void **state)
{
    struct loop *loop = *state;
    struct ringer r = {.w = watch(loop, 0), .fd = make_event()};
    uint64_t total;

    r.w.op.done = ringer_done;
    loop_poll(loop, &r.w.op, r.fd, true);
    signal_event(r.fd);
    loop_run(loop);

    assert_int_equal(r.w.count, 4); /* three signals and the end */
    assert_int_equal(r.w.res, -ECANCELED);
    assert_false(r.w.more);
    assert_int_equal(read(r.fd, &total, sizeof(total)), sizeof(total));
    assert_int_equal(total, 3);
    close(r.fd);
}

/* ---- files ---- */

static int make_file(const char *contents)
{
    int fd = memfd_create("loop", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, contents, strlen(contents)), strlen(contents));
    return fd;
}

static void test_loop_readv_fills_vectors_from_offset(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    char one[4] = "", two[8] = "";
    struct iovec iov[] = {{one, 3}, {two, 7}};
    int fd = make_file("0123456789abcdef");

    loop_readv(loop, &w.op, fd, iov, 2, 4);
    loop_run(loop);

    assert_int_equal(w.res, 10);
    assert_string_equal(one, "456");
    assert_string_equal(two, "789abcd");
    close(fd);
}

static void test_loop_readv_at_end_of_file_is_short(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    char data[8];
    struct iovec iov = {data, sizeof(data)};
    int fd = make_file("0123");

    loop_readv(loop, &w.op, fd, &iov, 1, 2);
    loop_run(loop);

    assert_int_equal(w.res, 2);
    close(fd);
}

static void test_loop_writev_writes_vectors_at_offset(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    char one[] = "AB", two[] = "CDE", back[11] = "";
    struct iovec iov[] = {{one, 2}, {two, 3}};
    int fd = make_file("0123456789");

    loop_writev(loop, &w.op, fd, iov, 2, 3);
    loop_run(loop);

    assert_int_equal(w.res, 5);
    assert_int_equal(pread(fd, back, 10, 0), 10);
    assert_string_equal(back, "012ABCDE89");
    close(fd);
}

static void test_loop_vectors_without_offset_use_position_of_file(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    char data[4] = "";
    struct iovec iov = {data, 3};
    int fd = make_file("0123456789");

    assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
    loop_readv(loop, &w.op, fd, &iov, 1, (uint64_t)-1);
    loop_run(loop);

    assert_string_equal(data, "567");
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 8);
    close(fd);
}

static void test_loop_failing_operation_completes_with_errno(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    char data[4];
    struct iovec iov = {data, sizeof(data)};
    int fd = make_event();

    close(fd);
    loop_readv(loop, &w.op, fd, &iov, 1, 0);
    loop_run(loop);

    assert_int_equal(w.res, -EBADF);
    assert_false(w.more);
}

static void test_loop_fsync_completes_for_data_and_for_all(void **state)
{
    struct loop *loop = *state;
    char path[] = "/tmp/mayfly-loop-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    for (int datasync = 0; datasync < 2; datasync++) {
        struct watched w = watch(loop, 1);

        loop_fsync(loop, &w.op, fd, datasync);
        loop_run(loop);
        assert_int_equal(w.res, 0);
    }
    close(fd);
}

static void test_loop_fallocate_punches_hole_and_keeps_size(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    static char page[4096], zeros[4096];
    int fd = make_file("");

    memset(page, 'x', sizeof(page));
    for (int i = 0; i < 3; i++)
        assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
    loop_fallocate(loop, &w.op, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096);
    loop_run(loop);

    assert_int_equal(w.res, 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 3 * 4096);
    assert_int_equal(pread(fd, page, 4096, 4096), 4096);
    assert_memory_equal(page, zeros, 4096);
    assert_int_equal(pread(fd, page, 1, 4095), 1);
    assert_int_equal(page[0], 'x');
    close(fd);
}

/* ---- sockets ---- */

struct acceptor {
    struct watched w;
    int listener;
    bool many; /* one operation accepts them all */
    int fds[3];
};

static void acceptor_done(struct op *op, int res, bool more)
{
    struct acceptor *a = container_of(op, struct acceptor, w.op);

    if (a->w.count < ARRAY_SIZE(a->fds))
        a->fds[a->w.count] = res;
    watched_done(op, res, more);
    if (res < 0) {
        loop_stop(a->w.loop);
        return;
    }
    if (!a->many)
        loop_accept(a->w.loop, op, a->listener);
    if (a->w.count == ARRAY_SIZE(a->fds))
        loop_cancel(a->w.loop, op);
}

static int connect_to(const struct sockaddr_un *addr, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)addr, len), 0);
    return fd;
}

static void assert_accepts(struct loop *loop, bool many)
{
    struct acceptor a = {.w = watch(loop, 0), .many = many};
    struct sockaddr_un addr = {.sun_family = AF_UNIX}; /* the kernel picks an abstract name */
    socklen_t len = sizeof(addr);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), clients[3];

    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);

    a.listener = listener;
    a.w.op.done = acceptor_done;
    (many ? loop_accept_many : loop_accept)(loop, &a.w.op, listener);
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = connect_to(&addr, len);
    loop_run(loop);

    assert_int_equal(a.w.count, 4);
    assert_int_equal(a.w.res, -ECANCELED);
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        char byte = 0;

        assert_true(fcntl(a.fds[i], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(write(clients[i], "c", 1), 1);
        assert_int_equal(read(a.fds[i], &byte, 1), 1);
        close(clients[i]);
        close(a.fds[i]);
    }
    close(listener);
}

static void test_loop_accept_gives_every_connection_until_cancelled(void **state)
{
    assert_accepts(*state, false);
}

static void test_loop_accept_many_goes_on_until_cancelled(void **state)
{
    assert_accepts(*state, true);
}

static void test_loop_send_and_recv_move_bytes(void **state)
{
    struct loop *loop = *state;
    struct watched sent = watch(loop, 0), got = watch(loop, 1);
    char data[8] = "";
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    loop_recv(loop, &got.op, ends[1], data, sizeof(data));
    loop_send(loop, &sent.op, ends[0], "hello", 5);
    loop_run(loop);

    assert_int_equal(sent.res, 5);
    assert_int_equal(got.res, 5);
    assert_string_equal(data, "hello");
    close(ends[0]);
    close(ends[1]);
}

static void test_loop_recv_from_peer_that_left_gives_zero(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    char data[8];
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    close(ends[0]);
    loop_recv(loop, &w.op, ends[1], data, sizeof(data));
    loop_run(loop);

    assert_int_equal(w.res, 0);
    close(ends[1]);
}

/* Without MSG_NOSIGNAL this test would die of SIGPIPE. */
static void test_loop_send_to_peer_that_left_fails_without_signal(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    close(ends[0]);
    loop_send(loop, &w.op, ends[1], "x", 1);
    loop_run(loop);

    assert_int_equal(w.res, -EPIPE);
    close(ends[1]);
}

/* ---- timers ---- */

struct timed {
    struct loop_timer timer;
    struct loop *loop;
    int res;
    unsigned count;
};

static void timed_done(struct op *op, int res, bool more)
{
    struct timed *t = container_of(op, struct timed, timer.op);

    (void)more;
    t->timer.armed = false;
    t->count++;
    t->res = res;
    loop_stop(t->loop);
}

static struct timed timed(struct loop *loop)
{
    return (struct timed){.timer.op.done = timed_done, .loop = loop};
}

static void test_loop_timer_ends_after_its_time(void **state)
{
    struct timed t = timed(*state);
    uint64_t begin = now_ns();

    loop_timer_start(*state, &t.timer, 20 * NSEC_PER_MSEC);
    assert_true(t.timer.armed);
    loop_run(*state);

    assert_int_equal(t.res, -ETIME);
    assert_true(now_ns() - begin >= 20 * NSEC_PER_MSEC);
}

static void test_loop_timer_can_be_started_again(void **state)
{
    struct timed t = timed(*state);

    for (unsigned i = 1; i <= 3; i++) {
        loop_timer_start(*state, &t.timer, NSEC_PER_MSEC);
        loop_run(*state);
        assert_int_equal(t.count, i);
    }
}

static void test_loop_timer_of_more_than_a_second_is_cancelled_at_once(void **state)
{
    struct timed t = timed(*state);
    uint64_t begin = now_ns();

    loop_timer_start(*state, &t.timer, 3600 * NSEC_PER_SEC + 5);
    loop_cancel(*state, &t.timer.op);
    loop_run(*state);

    assert_int_equal(t.res, -ECANCELED);
    assert_int_equal(t.count, 1);
    assert_true(now_ns() - begin < 10 * NSEC_PER_SEC);
}

/* ---- cancel ---- */

static void test_loop_cancel_gives_exactly_one_last_completion(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 1);
    struct timed later = timed(loop);
    int fd = make_event();

    loop_poll(loop, &w.op, fd, false);
    loop_cancel(loop, &w.op);
    loop_run(loop);
    assert_int_equal(w.res, -ECANCELED);
    assert_false(w.more);

    loop_timer_start(loop, &later.timer, 5 * NSEC_PER_MSEC);
    loop_run(loop);
    assert_int_equal(w.count, 1);
    close(fd);
}

static void test_loop_cancel_of_completed_operation_is_harmless(void **state)
{
    struct loop *loop = *state;
    struct watched w = watch(loop, 0);
    struct timed later = timed(loop);
    int fd = make_event();

    signal_event(fd);
    loop_poll(loop, &w.op, fd, false);
    loop_cancel(loop, &w.op);
    loop_timer_start(loop, &later.timer, 5 * NSEC_PER_MSEC);
    loop_run(loop);

    assert_int_equal(w.count, 1);
    assert_false(w.more);
    loop_cancel(loop, &w.op);
    loop_timer_start(loop, &later.timer, 5 * NSEC_PER_MSEC);
    loop_run(loop);
    assert_int_equal(w.count, 1);
    close(fd);
}

/* ---- more at once than the rings hold ---- */

struct flood {
    struct op op;
    struct batch_hook hook;
    struct loop *loop;
    unsigned left, in_batch, largest_batch;
};

static void flood_batch(struct batch_hook *hook)
{
    struct flood *f = container_of(hook, struct flood, hook);

    f->largest_batch = MAX(f->largest_batch, f->in_batch);
    f->in_batch = 0;
}

static void flood_done(struct op *op, int res, bool more)
{
    struct flood *f = container_of(op, struct flood, op);

    (void)more;
    assert_int_equal(res, 1);
    f->in_batch++;
    loop_at_batch_end(f->loop, &f->hook);
    if (--f->left == 0)
        loop_stop(f->loop);
}

static struct flood run_flood(struct loop *loop, unsigned n)
{
    struct flood f = {.op = {.done = flood_done}, .hook = {.run = flood_batch}, .loop = loop};
    static char byte;
    struct iovec iov = {&byte, 1};
    int fd = make_file("0123456789");

    f.left = n;
    for (unsigned i = 0; i < n; i++)
        loop_readv(loop, &f.op, fd, &iov, 1, i % 10);
    loop_run(loop);
    close(fd);
    return f;
}

static void test_loop_more_operations_than_submission_entries_all_complete(void **state)
{
    assert_int_equal(run_flood(*state, 300).left, 0);
}

static void test_loop_more_operations_than_completion_entries_all_complete(void **state)
{
    assert_int_equal(run_flood(*state, 3000).left, 0);
}

static void test_loop_batches_are_bounded(void **state)
{
    assert_in_range(run_flood(*state, 1000).largest_batch, 1, 64);
}

/* ---- end of batch ---- */

struct batch {
    struct batch_hook hook;
    struct watched one, other;
    unsigned runs, seen;
};

static void batch_run(struct batch_hook *hook)
{
    struct batch *b = container_of(hook, struct batch, hook);

    b->runs++;
    b->seen = b->one.count + b->other.count;
}

static void batch_one_done(struct op *op, int res, bool more)
{
    struct batch *b = container_of(op, struct batch, one.op);

    watched_done(op, res, more);
    loop_at_batch_end(b->one.loop, &b->hook);
    loop_at_batch_end(b->one.loop, &b->hook);
}

static void batch_other_done(struct op *op, int res, bool more)
{
    struct batch *b = container_of(op, struct batch, other.op);

    watched_done(op, res, more);
    loop_at_batch_end(b->other.loop, &b->hook);
}

static void test_loop_hook_runs_once_after_all_completions_of_batch(void **state)
{
    struct loop *loop = *state;
    struct batch b = {.hook = {.run = batch_run}, .one = watch(loop, 0), .other = watch(loop, 1)};
    int fd = make_event();

    b.one.op.done = batch_one_done;
    b.other.op.done = batch_other_done;
    signal_event(fd); /* so that both complete while they are submitted */
    loop_poll(loop, &b.one.op, fd, false);
    loop_poll(loop, &b.other.op, fd, false);
    loop_run(loop);

    assert_int_equal(b.runs, 1);
    assert_int_equal(b.seen, 2);
    close(fd);
}

struct stopper {
    struct batch_hook hook;
    struct loop *loop;
    unsigned runs;
};

static void stopper_run(struct batch_hook *hook)
{
    struct stopper *s = container_of(hook, struct stopper, hook);

    s->runs++;
    loop_stop(s->loop);
}

static void test_loop_hook_armed_before_run_needs_no_completion(void **state)
{
    struct stopper s = {.hook = {.run = stopper_run}, .loop = *state};

    loop_lock(*state);
    loop_at_batch_end(*state, &s.hook);
    loop_unlock(*state);
    loop_run(*state);

    assert_int_equal(s.runs, 1);
    assert_false(s.hook.armed);
}

/* ---- other threads ---- */

struct call {
    struct deferred deferred;
    struct loop *loop;
    unsigned runs, again;
    bool on_loop_thread;
};

static void call_run(struct deferred *deferred)
{
    struct call *call = container_of(deferred, struct call, deferred);

    call->runs++;
    call->on_loop_thread = loop_is_current(call->loop);
    if (call->again-- > 0)
        loop_defer(call->loop, deferred);
    else
        loop_stop(call->loop);
}

static void *defer_from_thread(void *arg)
{
    struct call *call = arg;

    loop_lock(call->loop);
    assert_false(loop_is_current(call->loop));
    loop_defer(call->loop, &call->deferred);
    loop_defer(call->loop, &call->deferred);
    loop_unlock(call->loop);
    return NULL;
}

static void test_loop_defer_from_other_thread_runs_once_on_loop_thread(void **state)
{
    struct call call = {.deferred = {.run = call_run}, .loop = *state};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, defer_from_thread, &call), 0);
    loop_run(*state);
    pthread_join(thread, NULL);

    assert_int_equal(call.runs, 1);
    assert_true(call.on_loop_thread);
    assert_false(call.deferred.queued);
}

static void test_loop_deferred_call_may_queue_itself_again(void **state)
{
    struct call call = {.deferred = {.run = call_run}, .loop = *state, .again = 4};

    loop_lock(*state);
    loop_defer(*state, &call.deferred);
    loop_unlock(*state);
    loop_run(*state);

    assert_int_equal(call.runs, 5);
}

struct order {
    struct deferred deferred[3];
    struct loop *loop;
    char text[4];
};

static void order_append(struct order *o, char c)
{
    o->text[strlen(o->text)] = c;
    if (strlen(o->text) == 3)
        loop_stop(o->loop);
}

static void order_a(struct deferred *d)
{
    order_append(container_of(d, struct order, deferred[0]), 'a');
}

static void order_b(struct deferred *d)
{
    order_append(container_of(d, struct order, deferred[1]), 'b');
}

static void order_c(struct deferred *d)
{
    order_append(container_of(d, struct order, deferred[2]), 'c');
}

/* Work that leaves new work behind in every turn, as a guest that never lets its device rest. */
static void busy_run(struct deferred *deferred)
{
    struct call *call = container_of(deferred, struct call, deferred);

    call->runs++;
    loop_defer(call->loop, deferred);
}

static void test_loop_sees_completions_while_there_is_always_work_left(void **state)
{
    struct loop *loop = *state;
    struct call call = {.deferred = {.run = busy_run}, .loop = loop};
    struct watched w = watch(loop, 1);
    int fd = make_event();

    loop_poll(loop, &w.op, fd, true);
    loop_defer(loop, &call.deferred);
    signal_event(fd);
    loop_run(loop); /* the alarm ends a loop that never looks at its ring */

    assert_int_equal(w.count, 1);
    assert_true(call.runs > 0);
    close(fd);
}

static void test_loop_deferred_calls_run_in_order(void **state)
{
    struct order o = {.deferred = {{.run = order_a}, {.run = order_b}, {.run = order_c}},
                      .loop = *state};

    loop_lock(*state);
    for (size_t i = 0; i < ARRAY_SIZE(o.deferred); i++)
        loop_defer(*state, &o.deferred[i]);
    loop_unlock(*state);
    loop_run(*state);

    assert_string_equal(o.text, "abc");
}

/* Work of three steps, with a call that comes while the second is made. */
struct idling {
    struct idle_work work;
    struct order order;
};

static void idling_call(struct deferred *deferred)
{
    order_append(container_of(deferred, struct order, deferred[0]), 'x');
}

static bool idling_step(struct idle_work *work)
{
    struct idling *idling = container_of(work, struct idling, work);
    char step = (char)('1' + strlen(idling->order.text));

    if (step == '2')
        loop_defer(idling->order.loop, &idling->order.deferred[0]);
    order_append(&idling->order, step);
    return step != '2';
}

static void test_loop_makes_idle_work_step_by_step_and_others_in_between(void **state)
{
    struct idling idling = {
        .work.step = idling_step,
        .order = {.deferred = {{.run = idling_call}}, .loop = *state},
    };

    loop_when_idle(*state, &idling.work);
    loop_run(*state);

    assert_string_equal(idling.order.text, "12x");
}

/* What has come is seen before the next step. */
static bool signalling_step(struct idle_work *work)
{
    struct idling *idling = container_of(work, struct idling, work);

    order_append(&idling->order, 's');
    return true;
}

static void test_loop_sees_completions_before_idle_work(void **state)
{
    struct loop *loop = *state;
    struct idling idling = {.work.step = signalling_step, .order.loop = loop};
    struct watched w = watch(loop, 1);
    int fd = make_event();

    loop_poll(loop, &w.op, fd, false);
    signal_event(fd);
    loop_when_idle(loop, &idling.work);
    loop_run(loop);

    assert_int_equal(w.count, 1);
    assert_string_equal(idling.order.text, "");
    close(fd);
}

static void *stop_from_thread(void *arg)
{
    usleep(5000);
    loop_lock(arg);
    loop_stop(arg);
    loop_unlock(arg);
    return NULL;
}

static void test_loop_stop_from_other_thread_ends_run(void **state)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, *state), 0);
    loop_run(*state);
    pthread_join(thread, NULL);

    assert_false(loop_is_current(*state));
}

/* What a vCPU does that writes 0 to a device's status: waits until the loop has drained it. */
struct drained {
    struct call call;
    pthread_cond_t cond;
    bool waiting, empty, seen;
};

static void drained_run(struct deferred *deferred)
{
    struct drained *d = container_of(deferred, struct drained, call.deferred);

    assert_true(d->waiting); /* we hold the lock, so the waiter gave it up */
    d->empty = true;
    pthread_cond_broadcast(&d->cond);
}

static void *wait_until_empty(void *arg)
{
    struct drained *d = arg;

    loop_lock(d->call.loop);
    loop_defer(d->call.loop, &d->call.deferred);
    d->waiting = true;
    while (!d->empty)
        loop_cond_wait(d->call.loop, &d->cond);
    d->seen = true;
    loop_stop(d->call.loop);
    loop_unlock(d->call.loop);
    return NULL;
}

static void test_loop_cond_wait_lets_loop_do_what_is_waited_for(void **state)
{
    struct drained d = {.call = {.deferred = {.run = drained_run}, .loop = *state},
                        .cond = PTHREAD_COND_INITIALIZER};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, wait_until_empty, &d), 0);
    loop_run(*state);
    pthread_join(thread, NULL);

    assert_true(d.seen);
}

/* ---- waiting inside a callback ---- */

struct nested {
    struct watched outer, inner;
    struct loop *loop;
    int event;
    bool returned;
};

static bool inner_is_done(void *arg)
{
    return ((struct nested *)arg)->inner.count > 0;
}

static void nested_outer_done(struct op *op, int res, bool more)
{
    struct nested *n = container_of(op, struct nested, outer.op);

    watched_done(op, res, more);
    loop_poll(n->loop, &n->inner.op, n->event, false);
    signal_event(n->event);
    loop_wait(n->loop, inner_is_done, n);
    n->returned = true;
    loop_stop(n->loop);
}

static void test_loop_wait_in_callback_goes_on_with_other_completions(void **state)
{
    struct loop *loop = *state;
    struct nested n = {.outer = watch(loop, 0), .inner = watch(loop, 0), .loop = loop};
    int fd = make_event();

    n.event = make_event();
    n.outer.op.done = nested_outer_done;
    loop_poll(loop, &n.outer.op, fd, false);
    signal_event(fd);
    loop_run(loop);

    assert_true(n.returned);
    assert_int_equal(n.outer.count, 1);
    assert_int_equal(n.inner.count, 1);
    close(fd);
    close(n.event);
}

struct flagged {
    struct call call;
    bool flag;
};

static bool flag_is_set(void *arg)
{
    return ((struct flagged *)arg)->flag;
}

static void *set_flag(void *arg)
{
    struct flagged *f = arg;

    usleep(5000);
    loop_lock(f->call.loop);
    f->flag = true;
    loop_wake(f->call.loop);
    loop_unlock(f->call.loop);
    return NULL;
}

static void wait_for_flag(struct deferred *deferred)
{
    struct flagged *f = container_of(deferred, struct flagged, call.deferred);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, set_flag, f), 0);
    loop_wait(f->call.loop, flag_is_set, f);
    pthread_join(thread, NULL);
    loop_stop(f->call.loop);
}

static void test_loop_wake_makes_wait_look_again(void **state)
{
    struct flagged f = {.call = {.deferred = {.run = wait_for_flag}, .loop = *state}};

    loop_lock(*state);
    loop_defer(*state, &f.call.deferred);
    loop_unlock(*state);
    loop_run(*state);

    assert_true(f.flag);
}

static void test_loop_wait_for_what_is_true_returns_at_once(void **state)
{
    struct flagged f = {.flag = true};

    loop_lock(*state);
    loop_wait(*state, flag_is_set, &f);
    loop_unlock(*state);
}

static void test_loop_destroy_accepts_null(void **state)
{
    (void)state;
    loop_destroy(NULL);
}

/* Ends a run of the loop after the turn in which what was queued before has reached the kernel. */
struct last_turn {
    struct deferred deferred;
    struct loop *loop;
};

static void end_run(struct deferred *deferred)
{
    loop_stop(container_of(deferred, struct last_turn, deferred)->loop);
}

static void never_done(struct op *op, int res, bool more)
{
    (void)op;
    (void)res;
    (void)more;
    fail_msg("an abandoned operation has called its owner");
}

/* Whether anybody has the read end of a pipe. */
static bool has_reader(int write_end)
{
    struct pollfd look = {.fd = write_end, .events = POLLOUT};

    assert_int_equal(poll(&look, 1, 0), 1);
    return !(look.revents & POLLERR);
}

static void test_loop_abandon_lets_go_of_what_operations_hold(void **state)
{
    struct last_turn last = {.deferred = {.run = end_run}};
    struct op op = {.done = never_done};
    char byte;
    struct iovec iov = {&byte, 1};
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(loop_create(&last.loop, NULL), 0);
    loop_lock(last.loop);
    loop_readv(last.loop, &op, ends[0], &iov, 1, UINT64_MAX);
    loop_defer(last.loop, &last.deferred);
    loop_unlock(last.loop);
    loop_run(last.loop);
    close(ends[0]);
    assert_true(has_reader(ends[1]));
    loop_abandon(last.loop);
    assert_false(has_reader(ends[1]));
    close(ends[1]);
    loop_destroy(last.loop);
}

#define LOOP_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_loop_poll_completes_when_readable),
        LOOP_TEST(test_loop_multishot_poll_sees_each_signal_of_event_never_read),
        LOOP_TEST(test_loop_readv_fills_vectors_from_offset),
        LOOP_TEST(test_loop_readv_at_end_of_file_is_short),
        LOOP_TEST(test_loop_writev_writes_vectors_at_offset),
        LOOP_TEST(test_loop_vectors_without_offset_use_position_of_file),
        LOOP_TEST(test_loop_failing_operation_completes_with_errno),
        LOOP_TEST(test_loop_fsync_completes_for_data_and_for_all),
        LOOP_TEST(test_loop_fallocate_punches_hole_and_keeps_size),
        LOOP_TEST(test_loop_accept_gives_every_connection_until_cancelled),
        LOOP_TEST(test_loop_accept_many_goes_on_until_cancelled),
        LOOP_TEST(test_loop_send_and_recv_move_bytes),
        LOOP_TEST(test_loop_recv_from_peer_that_left_gives_zero),
        LOOP_TEST(test_loop_send_to_peer_that_left_fails_without_signal),
        LOOP_TEST(test_loop_timer_ends_after_its_time),
        LOOP_TEST(test_loop_timer_can_be_started_again),
        LOOP_TEST(test_loop_timer_of_more_than_a_second_is_cancelled_at_once),
        LOOP_TEST(test_loop_cancel_gives_exactly_one_last_completion),
        LOOP_TEST(test_loop_cancel_of_completed_operation_is_harmless),
        LOOP_TEST(test_loop_more_operations_than_submission_entries_all_complete),
        LOOP_TEST(test_loop_more_operations_than_completion_entries_all_complete),
        LOOP_TEST(test_loop_batches_are_bounded),
        LOOP_TEST(test_loop_hook_runs_once_after_all_completions_of_batch),
        LOOP_TEST(test_loop_hook_armed_before_run_needs_no_completion),
        LOOP_TEST(test_loop_defer_from_other_thread_runs_once_on_loop_thread),
        LOOP_TEST(test_loop_deferred_call_may_queue_itself_again),
        LOOP_TEST(test_loop_sees_completions_while_there_is_always_work_left),
        LOOP_TEST(test_loop_deferred_calls_run_in_order),
        LOOP_TEST(test_loop_stop_from_other_thread_ends_run),
        LOOP_TEST(test_loop_cond_wait_lets_loop_do_what_is_waited_for),
        LOOP_TEST(test_loop_makes_idle_work_step_by_step_and_others_in_between),
        LOOP_TEST(test_loop_sees_completions_before_idle_work),
        LOOP_TEST(test_loop_wait_in_callback_goes_on_with_other_completions),
        LOOP_TEST(test_loop_wake_makes_wait_look_again),
        LOOP_TEST(test_loop_wait_for_what_is_true_returns_at_once),
        cmocka_unit_test(test_loop_abandon_lets_go_of_what_operations_hold),
        cmocka_unit_test(test_loop_destroy_accepts_null),
    };
    struct loop *loop;
    struct err e;

    if (loop_create(&loop, &e)) {
        print_message("skipped: %s\n", e.text);
        return e.code == -EPERM || e.code == -ENOSYS ? UNIT_SKIPPED : 1;
    }
    loop_destroy(loop);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
