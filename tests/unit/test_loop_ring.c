/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of what vmm/base/loop.c does to its ring before anyone uses it: the restriction to its own
 * opcodes, and the sentence for each way in which a host refuses a ring. It includes the source,
 * because no verb can submit what must be refused.
 */
#include "tests/unit/unit.h"
#include "vmm/base/loop.c"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct refused {
    struct op op;
    struct loop *loop;
    int res;
};

static void refused_done(struct op *op, int res, bool more)
{
    struct refused *r = container_of(op, struct refused, op);

    (void)more;
    r->res = res;
    loop_stop(r->loop);
}

static int submit_opcode(uint8_t opcode)
{
    struct refused r = {.op = {.done = refused_done}};
    struct io_uring_sqe *sqe;

    alarm(30);
    assert_int_equal(loop_create(&r.loop, NULL), 0);
    sqe = get_sqe(r.loop);
    io_uring_prep_rw(opcode, sqe, -1, NULL, 0, 0);
    io_uring_sqe_set_data(sqe, &r.op);
    loop_run(r.loop);
    loop_destroy(r.loop);
    alarm(0);
    return r.res;
}

static bool is_allowed(unsigned opcode)
{
    return memchr(allowed_opcodes, (int)opcode, sizeof(allowed_opcodes)) != NULL;
}

static void test_ring_refuses_every_opcode_without_verb(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < IORING_OP_LAST; opcode++)
        if (!is_allowed(opcode))
            assert_int_equal(submit_opcode((uint8_t)opcode), -EACCES);
}

static void test_ring_accepts_opcode_of_verb(void **state)
{
    (void)state;
    assert_int_equal(submit_opcode(IORING_OP_READV), -EBADF); /* looked at, and its fd is -1 */
}

/* From here on the system call gives `code`, as under a container's filter or the sysctl. */
static void forbid(unsigned number, int code)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
        _exit(2);
}

/* What loop_create says in a process where the system call gives `code`. */
static struct err create_where(unsigned number, int code)
{
    struct err e = {0};
    struct loop *loop;
    int ends[2], status;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        forbid(number, code);
        e.code = loop_create(&loop, &e);
        _exit(write(ends[1], &e, sizeof(e)) == sizeof(e) ? 0 : 1);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], &e, sizeof(e));
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status == 2 << 8)
        skip(); /* no seccomp here */
    assert_int_equal(n, sizeof(e));
    return e;
}

static void test_loop_create_where_ring_is_forbidden_names_sysctl(void **state)
{
    struct err e = create_where(SYS_io_uring_setup, EPERM);

    (void)state;
    assert_int_equal(e.code, -EPERM);
    assert_non_null(strstr(e.text, "kernel.io_uring_disabled"));
    assert_non_null(strstr(e.text, "seccomp"));
}

static void test_loop_create_where_ring_may_be_made_but_not_used_names_seccomp(void **state)
{
    struct err e = create_where(SYS_io_uring_enter, EPERM);

    (void)state;
    assert_int_equal(e.code, -EPERM);
    assert_non_null(strstr(e.text, "seccomp"));
}

static void test_loop_create_where_ring_is_hidden_names_sysctl(void **state)
{
    struct err e = create_where(SYS_io_uring_setup, ENOSYS);

    (void)state;
    assert_int_equal(e.code, -ENOSYS);
    assert_non_null(strstr(e.text, "kernel.io_uring_disabled"));
}

static void test_loop_create_on_old_kernel_names_version_needed(void **state)
{
    struct err e = create_where(SYS_io_uring_setup, EINVAL);

    (void)state;
    assert_int_equal(e.code, -EINVAL);
    assert_non_null(strstr(e.text, "Linux 6.1"));
}

static void test_loop_create_without_memory_gives_reason(void **state)
{
    struct err e = create_where(SYS_io_uring_setup, ENOMEM);

    (void)state;
    assert_int_equal(e.code, -ENOMEM);
    assert_non_null(strstr(e.text, "Cannot allocate memory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_refuses_every_opcode_without_verb),
        cmocka_unit_test(test_ring_accepts_opcode_of_verb),
        cmocka_unit_test(test_loop_create_where_ring_is_forbidden_names_sysctl),
        cmocka_unit_test(test_loop_create_where_ring_may_be_made_but_not_used_names_seccomp),
        cmocka_unit_test(test_loop_create_where_ring_is_hidden_names_sysctl),
        cmocka_unit_test(test_loop_create_on_old_kernel_names_version_needed),
        cmocka_unit_test(test_loop_create_without_memory_gives_reason),
    };
    struct loop *loop = NULL;
    struct err e;

    if (loop_create(&loop, &e))
        return e.code == -EPERM || e.code == -ENOSYS ? UNIT_SKIPPED : 1;
    loop_destroy(loop);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
