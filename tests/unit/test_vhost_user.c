/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/block/vhost_user.c: the test is the back end, at the other end of a socket. */
#include "tests/support/files.h"
#include "tests/support/text.h"
#include "tests/support/vhost_server.h"
#include "tests/unit/unit.h"
#include "virtio/block/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define REPLY    5u /* version 1, and the bit of a reply */
#define LIMIT_NS (50 * NSEC_PER_MSEC)

struct fixture {
    struct vhost_user conn;
    int peer;
    struct vhost_user_call first, second;
    int told[2];      /* what the calls were told, ... */
    unsigned answers; /* ... and how many were */
};

static struct fixture *told; /* the running test's, for `done` */

static void first_done(struct vhost_user_call *call, int rc)
{
    assert_ptr_equal(call, &told->first);
    told->told[0] = rc;
    told->answers++;
}

static void second_done(struct vhost_user_call *call, int rc)
{
    assert_ptr_equal(call, &told->second);
    assert_int_equal(told->answers, 1); /* in the order of the questions */
    told->told[1] = rc;
    told->answers++;
}

static void set_up(struct fixture *f)
{
    int fds[2];

    *f = (struct fixture){.first.done = first_done, .second.done = second_done};
    told = f;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    vhost_user_open(&f->conn, fds[0]);
    f->peer = fds[1];
}

static void tear_down(struct fixture *f)
{
    vhost_user_close(&f->conn);
    close(f->peer);
}

/* Whatever the front end has sent; returns its length. */
static size_t read_peer(struct fixture *f, void *to, size_t room)
{
    ssize_t n = recv(f->peer, to, room, MSG_DONTWAIT);

    return n < 0 ? 0 : (size_t)n;
}

static void write_peer(struct fixture *f, const void *from, size_t len)
{
    assert_int_equal(send(f->peer, from, len, MSG_NOSIGNAL), len);
}

static void answer(struct fixture *f, uint32_t request, uint32_t flags, uint32_t size,
                   const void *payload, size_t len)
{
    uint32_t header[3] = {request, flags, size};

    write_peer(f, header, sizeof(header));
    if (len > 0)
        write_peer(f, payload, len);
}

static void answer_u64(struct fixture *f, uint32_t request, uint64_t value)
{
    answer(f, request, REPLY, sizeof(value), &value, sizeof(value));
}

/* ---- sending ---- */

static void test_vhost_user_messages_have_the_specified_form(void **state)
{
    static const uint32_t features[] = {2, 1, 8, 0x12345678, 0x9abcdef0};
    static const uint32_t base[] = {10, 1, 8, 0, 0x4321};
    static const uint32_t owner[] = {3, 1, 0};
    struct fixture f;
    uint32_t came[32];

    (void)state;
    set_up(&f);
    assert_int_equal(vhost_user_send_u64(&f.conn, VHOST_USER_SET_FEATURES, 0x9abcdef012345678), 0);
    assert_int_equal(read_peer(&f, came, sizeof(came)), sizeof(features));
    assert_memory_equal(came, features, sizeof(features));

    assert_int_equal(vhost_user_send_vring(&f.conn, VHOST_USER_SET_VRING_BASE, 0x4321), 0);
    assert_int_equal(read_peer(&f, came, sizeof(came)), sizeof(base));
    assert_memory_equal(came, base, sizeof(base));

    assert_int_equal(vhost_user_send(&f.conn, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0), 0);
    assert_int_equal(read_peer(&f, came, sizeof(came)), sizeof(owner));
    assert_memory_equal(came, owner, sizeof(owner));
    tear_down(&f);
}

/* Receives one message with its descriptors. */
static unsigned receive_fds(struct fixture *f, void *to, size_t room, int *fds)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec iov = {to, room};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    unsigned count;

    assert_true(recvmsg(f->peer, &message, 0) > 0);
    if (!CMSG_FIRSTHDR(&message))
        return 0;
    assert_int_equal(control.head.cmsg_type, SCM_RIGHTS);
    count = (unsigned)((control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(&control.head), count * sizeof(int));
    return count;
}

static bool same_file(int a, int b)
{
    struct stat one, other;

    assert_int_equal(fstat(a, &one), 0);
    assert_int_equal(fstat(b, &other), 0);
    return one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

static void test_vhost_user_memory_goes_with_a_file_for_each_region(void **state)
{
    struct {
        uint32_t head[3], count, padding;
        uint64_t region[8][4];
    } __attribute__((packed)) came;
    /* Of persistent memory a back end gets as much as its file has, and nothing it cannot write. */
    struct mem_region devices[] = {
        {.gpa = GPA(600 * GIB), .size = 2 * MIB},
        {.gpa = GPA(700 * GIB), .size = 2 * MIB, .read_only = true},
        {.gpa = GPA(800 * GIB), .size = 2 * MIB}, /* of no file at all */
    };
    struct fixture f;
    struct mem mem;
    int fds[8], file = memfd_create("pmem", MFD_CLOEXEC);

    (void)state;
    set_up(&f);
    assert_int_equal(ftruncate(file, MIB + 100), 0);
    assert_int_equal(mem_create_shared(&mem, 4 * GIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        devices[i].hva = mem.region[0].hva + i * MIB;
        devices[i].fd = i < 2 ? file : -1;
        assert_int_equal(mem_add_region(&mem, &devices[i], NULL), 0);
    }
    assert_int_equal(vhost_user_send_memory(&f.conn, &mem), 0);

    assert_int_equal(receive_fds(&f, &came, sizeof(came), fds), 3);
    assert_int_equal(came.head[0], 5);
    assert_int_equal(came.head[2], 8 + 3 * 32);
    assert_int_equal(came.count, 3);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(came.region[i][0], mem.region[i].gpa.v);
        assert_int_equal(came.region[i][1], mem.region[i].size);
        assert_int_equal(came.region[i][2], (uintptr_t)mem.region[i].hva);
        assert_true(same_file(fds[i], mem.fd));
    }
    assert_int_equal(came.region[0][3], 0);
    assert_int_equal(came.region[1][3], 3 * GIB); /* where it begins in the file */
    assert_int_equal(came.region[2][0], 600 * GIB);
    assert_int_equal(came.region[2][1], MIB);
    assert_int_equal(came.region[2][3], 0);
    assert_true(same_file(fds[2], file));
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
    close(file);
    mem_destroy(&mem);
    tear_down(&f);
}

static void test_vhost_user_private_memory_is_not_handed_over(void **state)
{
    struct fixture f;
    struct mem mem;
    uint8_t came[16];

    (void)state;
    set_up(&f);
    assert_int_equal(mem_create(&mem, 2 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(vhost_user_send_memory(&f.conn, &mem), -EINVAL);
    assert_int_equal(read_peer(&f, came, sizeof(came)), 0);
    mem_destroy(&mem);
    tear_down(&f);
}

static void test_vhost_user_sending_to_a_back_end_that_left_is_an_error_and_no_signal(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    close(f.peer);
    f.peer = -1;
    assert_int_equal(vhost_user_send_u64(&f.conn, VHOST_USER_SET_FEATURES, 0), -EPIPE);
    tear_down(&f);
}

static void test_vhost_user_sending_never_waits_for_a_back_end_that_does_not_read(void **state)
{
    struct fixture f;
    int rc = 0;

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < 1000000 && rc == 0; i++)
        rc = vhost_user_send_u64(&f.conn, VHOST_USER_SET_FEATURES, 0);
    assert_int_equal(rc, -EAGAIN);
    tear_down(&f);
}

/* ---- answers ---- */

static void test_vhost_user_answers_go_to_the_questions_in_their_order(void **state)
{
    struct {
        uint32_t index, num;
    } base = {0, 77};
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    assert_int_equal(vhost_user_ask_vring_base(&f.conn, &f.second), 0);
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    assert_true(f.first.pending && f.second.pending);
    answer_u64(&f, 1, 0x1122334455667788);
    answer(&f, 11, REPLY, 8, &base, sizeof(base));
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    assert_int_equal(f.answers, 2);
    assert_int_equal(f.told[0], 0);
    assert_int_equal(f.told[1], 0);
    assert_int_equal(f.first.reply.u64, 0x1122334455667788);
    assert_int_equal(f.second.reply.vring.num, 77);
    tear_down(&f);
}

static void test_vhost_user_answer_may_come_byte_by_byte(void **state)
{
    const uint32_t message[5] = {1, REPLY, 8, 0xcafe, 0};
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    for (size_t i = 0; i < sizeof(message); i++) {
        assert_int_equal(f.answers, 0);
        write_peer(&f, (const char *)message + i, 1);
        assert_int_equal(vhost_user_receive(&f.conn), 0);
    }
    assert_int_equal(f.answers, 1);
    assert_int_equal(f.first.reply.u64, 0xcafe);
    tear_down(&f);
}

/* A configuration of 60 bytes as it is asked for and told. */
struct config_answer {
    uint32_t offset, size, flags;
    uint8_t bytes[60];
};

static void test_vhost_user_configuration_is_asked_for_and_told(void **state)
{
    struct config_answer told_config = {.size = 60};
    struct fixture f;
    uint32_t came[32];

    (void)state;
    set_up(&f);
    memset(told_config.bytes, 0x5a, sizeof(told_config.bytes));
    assert_int_equal(vhost_user_ask_config(&f.conn, &f.first, 60), 0);
    assert_int_equal(read_peer(&f, came, sizeof(came)), 12 + 72);
    assert_int_equal(came[0], 24);
    assert_int_equal(came[2], 72);
    assert_int_equal(came[4], 60);
    answer(&f, 24, REPLY, 72, &told_config, sizeof(told_config));
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    assert_int_equal(f.answers, 1);
    assert_memory_equal(f.first.reply.config.bytes, told_config.bytes, 60);
    tear_down(&f);
}

static void
test_vhost_user_empty_configuration_is_a_refusal_and_the_connection_goes_on(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(vhost_user_ask_config(&f.conn, &f.first, 60), 0);
    answer(&f, 24, REPLY, 0, NULL, 0);
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    assert_int_equal(f.told[0], -EREMOTEIO);
    f.answers = 0;
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    answer_u64(&f, 1, 5);
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    assert_int_equal(f.first.reply.u64, 5);
    tear_down(&f);
}

static void test_vhost_user_descriptors_in_an_answer_are_not_kept(void **state)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    uint32_t reply[5] = {1, REPLY, 8, 1, 0};
    struct iovec iov = {reply, sizeof(reply)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct fixture f;
    int next, after;

    (void)state;
    set_up(&f);
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    memcpy(CMSG_DATA(&control.head), &f.peer, sizeof(int));
    assert_int_equal(sendmsg(f.peer, &message, 0), sizeof(reply));
    next = dup(f.peer);
    close(next);
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    assert_int_equal(f.answers, 1);
    after = dup(f.peer);
    assert_int_equal(after, next); /* no descriptor was taken in between */
    close(after);
    tear_down(&f);
}

/* ---- lies ---- */

struct lie {
    const char *what;
    uint32_t request, flags, size; /* of the answer's header */
    uint32_t payload[2];           /* its first words; the rest is 0 */
    size_t len;                    /* of payload that really follows */
};

static void expect_broken(enum vhost_user_request asked, const struct lie *lie)
{
    struct fixture f;
    uint8_t payload[512] = {0};
    int rc;

    set_up(&f);
    if (asked == VHOST_USER_GET_CONFIG)
        rc = vhost_user_ask_config(&f.conn, &f.first, 60);
    else if (asked == VHOST_USER_GET_VRING_BASE)
        rc = vhost_user_ask_vring_base(&f.conn, &f.first);
    else
        rc = vhost_user_ask_u64(&f.conn, &f.first, asked);
    assert_int_equal(rc, 0);
    memcpy(payload, lie->payload, sizeof(lie->payload));
    answer(&f, lie->request, lie->flags, lie->size, payload, lie->len);
    if (vhost_user_receive(&f.conn) != -EPROTO)
        fail_msg("%s is taken for an answer", lie->what);
    assert_int_equal(f.answers, 0);
    vhost_user_end(&f.conn, -EPROTO);
    assert_int_equal(f.told[0], -EPROTO);
    tear_down(&f);
}

static void test_vhost_user_answers_that_lie_end_the_connection(void **state)
{
    static const struct lie numbers[] = {
        {"another request", 2, REPLY, 8, {0}, 8},
        {"no reply at all", 1, 1, 8, {0}, 8},
        {"another version", 1, 6, 8, {0}, 8},
        {"unknown flags", 1, REPLY | 16, 8, {0}, 8},
        {"a short answer", 1, REPLY, 4, {0}, 4},
        {"an empty answer", 1, REPLY, 0, {0}, 0},
        {"a long answer", 1, REPLY, 16, {0}, 16},
        {"an endless answer", 1, REPLY, UINT32_MAX, {0}, 512},
    };
    static const struct lie bases[] = {
        {"the base of another vring", 11, REPLY, 8, {1, 5}, 8},
        {"a base beyond 16 bits", 11, REPLY, 8, {0, 65536}, 8},
        {"an empty base", 11, REPLY, 0, {0}, 0},
    };
    static const struct lie configs[] = {
        {"a configuration from elsewhere", 24, REPLY, 72, {4, 60}, 72},
        {"a configuration of another size", 24, REPLY, 72, {0, 61}, 72},
        {"a configuration of no size", 24, REPLY, 72, {0, 0}, 72},
        {"a longer configuration", 24, REPLY, 73, {0, 61}, 73},
        {"only the head of one", 24, REPLY, 12, {0, 0}, 12},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        expect_broken(VHOST_USER_GET_FEATURES, &numbers[i]);
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
        expect_broken(VHOST_USER_GET_VRING_BASE, &bases[i]);
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
        expect_broken(VHOST_USER_GET_CONFIG, &configs[i]);
}

static void test_vhost_user_message_nobody_asked_for_ends_the_connection(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    answer_u64(&f, 1, 0);
    assert_int_equal(vhost_user_receive(&f.conn), -EPROTO);
    tear_down(&f);
}

/* ---- ends ---- */

static void test_vhost_user_end_tells_every_question_and_nothing_can_be_sent(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    assert_int_equal(vhost_user_ask_vring_base(&f.conn, &f.second), 0);
    close(f.peer);
    assert_int_equal(vhost_user_receive(&f.conn), -ECONNRESET);
    vhost_user_end(&f.conn, -ECONNRESET);
    vhost_user_end(&f.conn, -EPROTO); /* once is enough */
    assert_int_equal(f.told[0], -ECONNRESET);
    assert_int_equal(f.told[1], -ECONNRESET);
    assert_int_equal(vhost_user_send_u64(&f.conn, VHOST_USER_SET_FEATURES, 0), -ENOTCONN);
    assert_int_equal(vhost_user_receive(&f.conn), 0);
    f.peer = -1;
    tear_down(&f);
}

/* The call may live on the stack of whoever waits: nothing may look at it afterwards. */
static void test_vhost_user_wait_ends_at_the_deadline_and_so_does_the_connection(void **state)
{
    struct fixture f;
    uint64_t start = now_ns();

    (void)state;
    set_up(&f);
    f.first.deadline_ns = start + LIMIT_NS;
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    write_peer(&f, &(uint32_t){1}, 4); /* a beginning is not an answer */
    assert_int_equal(vhost_user_wait(&f.conn, &f.first), -ETIMEDOUT);
    assert_true(now_ns() - start >= LIMIT_NS);
    assert_true(now_ns() - start < 20 * LIMIT_NS);
    assert_false(f.first.pending);
    assert_true(f.conn.over);
    assert_null(f.conn.calls);
    tear_down(&f);
}

static void test_vhost_user_wait_returns_the_answer_or_the_end(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    f.first.deadline_ns = now_ns() + 100 * LIMIT_NS;
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    answer_u64(&f, 1, 9);
    assert_int_equal(vhost_user_wait(&f.conn, &f.first), 0);
    assert_int_equal(f.first.reply.u64, 9);
    assert_int_equal(vhost_user_ask_u64(&f.conn, &f.first, VHOST_USER_GET_FEATURES), 0);
    close(f.peer);
    f.peer = -1;
    assert_int_equal(vhost_user_wait(&f.conn, &f.first), -ECONNRESET);
    tear_down(&f);
}

/* ---- connecting ---- */

static void expect_no_connection(const char *path, int rc, const char *words)
{
    struct vhost_user conn;
    struct err e = {0};

    assert_int_equal(vhost_user_connect(&conn, path, now_ns() + LIMIT_NS, &e), rc);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
    vhost_user_close(&conn);
}

static void test_vhost_user_connect_says_why_not(void **state)
{
    char *dir = files_make_temporary("vhost");
    char *socket_path = text_format("%s/s", dir), *file = text_format("%s/f", dir);
    char long_path[200];
    struct vhost_user conns[64];
    int listener = vhost_server_listen(socket_path), rc = 0;
    unsigned n = 0;

    (void)state;
    memset(long_path, 'a', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = '\0';
    assert_int_equal(files_write(file, "", 0), 0);
    expect_no_connection("", -ENOENT, "No such file or directory (os error 2)");
    expect_no_connection("/no/such/socket", -ENOENT,
                         "UDS Unix stream: No such file or directory (os error 2)");
    expect_no_connection(long_path, -ENAMETOOLONG, "File name too long (os error 36)");
    expect_no_connection(file, -ECONNREFUSED, "Connection refused (os error 111)");
    /* One that accepts nobody takes a few into its backlog; then there is a limit. */
    while (rc == 0 && n < ARRAY_SIZE(conns))
        rc = vhost_user_connect(&conns[n++], socket_path, now_ns() + LIMIT_NS, NULL);
    assert_int_equal(rc, -ETIMEDOUT);
    assert_true(n > 1);
    while (n > 0)
        vhost_user_close(&conns[--n]);
    close(listener);
    expect_no_connection(socket_path, -ECONNREFUSED, "Connection refused (os error 111)");
    files_remove_tree(dir);
    free(socket_path);
    free(file);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vhost_user_messages_have_the_specified_form),
        cmocka_unit_test(test_vhost_user_memory_goes_with_a_file_for_each_region),
        cmocka_unit_test(test_vhost_user_private_memory_is_not_handed_over),
        cmocka_unit_test(test_vhost_user_sending_to_a_back_end_that_left_is_an_error_and_no_signal),
        cmocka_unit_test(test_vhost_user_sending_never_waits_for_a_back_end_that_does_not_read),
        cmocka_unit_test(test_vhost_user_answers_go_to_the_questions_in_their_order),
        cmocka_unit_test(test_vhost_user_answer_may_come_byte_by_byte),
        cmocka_unit_test(test_vhost_user_configuration_is_asked_for_and_told),
        cmocka_unit_test(
            test_vhost_user_empty_configuration_is_a_refusal_and_the_connection_goes_on),
        cmocka_unit_test(test_vhost_user_descriptors_in_an_answer_are_not_kept),
        cmocka_unit_test(test_vhost_user_answers_that_lie_end_the_connection),
        cmocka_unit_test(test_vhost_user_message_nobody_asked_for_ends_the_connection),
        cmocka_unit_test(test_vhost_user_end_tells_every_question_and_nothing_can_be_sent),
        cmocka_unit_test(test_vhost_user_wait_ends_at_the_deadline_and_so_does_the_connection),
        cmocka_unit_test(test_vhost_user_wait_returns_the_answer_or_the_end),
        cmocka_unit_test(test_vhost_user_connect_says_why_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
