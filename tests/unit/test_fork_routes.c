/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of api/snapshots/fork.c: what is asked of the machine, and what is refused before. */
#include "api/logger.h"
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"

#include <string.h>
#include <unistd.h>

#define FORK            "Fork error: "
#define CHILDREN(list)  "{\"children\":[" list "]}"
#define CHILD(more)     "{\"api_sock\":\"a.sock\"" more "}"
#define ONE_CHILD(more) CHILDREN(CHILD(more))

static void assert_forked(struct fixture *f, const char *body, const char *answer)
{
    if (ask(f, "PUT", "/snapshot/fork", body) != 200)
        fail_msg("%s: %s", body, f->response.body);
    assert_string_equal(f->response.body, answer);
}

/* Refused, and nothing of it is left. */
static void assert_no_fork(struct fixture *f, const char *body, const char *why)
{
    unsigned before = f->machine->forks;

    assert_fault(f, "PUT", "/snapshot/fork", body, why);
    assert_int_equal(f->machine->forks, before);
    assert_true(access("a.sock", F_OK) != 0);
    assert_true(access("b.sock", F_OK) != 0);
}

static void test_fork_answers_each_childs_pid_and_socket_in_order(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_forked(f, CHILDREN(CHILD("") ",{\"api_sock\":\"b.sock\",\"id\":\"b-1\"}"),
                  "{\"children\":[{\"pid\":100,\"api_sock\":\"a.sock\"},"
                  "{\"pid\":101,\"api_sock\":\"b.sock\"}]}");
    assert_int_equal(access("a.sock", F_OK), 0);
    assert_int_equal(access("b.sock", F_OK), 0);
}

static void test_fork_before_the_start_is_refused(void **state)
{
    assert_no_fork(*state, ONE_CHILD(""),
                   "The requested operation is not supported before starting the microVM.");
}

static void test_fork_that_fails_leaves_no_socket(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    f->machine->refusal = "for a reason";
    assert_no_fork(f, ONE_CHILD(""), FORK "for a reason");
}

static void test_fork_into_an_existing_socket_leaves_it_and_makes_none(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_int_equal(files_write("old.sock", "", 0), 0);
    assert_no_fork(f, CHILDREN(CHILD("") ",{\"api_sock\":\"old.sock\"}"),
                   FORK "Cannot make the API socket old.sock: something of that name exists; if "
                        "no monitor uses it any more, remove it");
    assert_int_equal(access("old.sock", F_OK), 0);
}

static void test_fork_of_none_or_too_many_is_refused(void **state)
{
    struct fixture *f = *state;
    char body[129 * 32] = "{\"children\":[{\"api_sock\":\"a\"}";

    f->machine->state = MACHINE_RUNNING;
    assert_no_fork(f, CHILDREN(""), FORK "A fork makes 1 to 128 children, not 0.");
    for (int i = 0; i < 128; i++)
        strcat(body, ",{\"api_sock\":\"a\"}");
    strcat(body, "]}");
    assert_no_fork(f, body, FORK "A fork makes 1 to 128 children, not 129.");
}

static void test_fork_with_a_bad_id_is_refused(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_no_fork(f, ONE_CHILD(",\"id\":\"a b\""),
                   FORK "id takes letters, digits and hyphens, not ` ` (at 1).");
    assert_no_fork(f, ONE_CHILD(",\"id\":\"\""),
                   FORK "id takes 1 to 64 letters, digits and hyphens, not 0 bytes.");
}

static void test_fork_without_a_name_for_each_thing_the_parent_has_is_refused(void **state)
{
    struct fixture *f = *state;
    struct logger_body log = {.level = LOG_OFF, .log_path = (char[]){"parent.log"}};
    struct err e;

    assert_done(f, "PUT", "/network-interfaces/eth0",
                "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\"}");
    assert_done(f, "PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v.sock\"}");
    assert_done(f, "PUT", "/serial", "{\"serial_out_path\":\"console\"}");
    f->machine->state = MACHINE_RUNNING;
#define NET    ",\"network_overrides\":[{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap1\"}]"
#define VSOCK  ",\"vsock_override\":{\"uds_path\":\"w.sock\"}"
#define SERIAL ",\"serial_out_path\":\"other\""
#define STAYS  ": the one of this machine stays this machine's."
    assert_no_fork(f, ONE_CHILD(VSOCK SERIAL),
                   FORK "a.sock: it needs network_overrides for every interface" STAYS);
    assert_no_fork(f, ONE_CHILD(NET SERIAL), FORK "a.sock: it needs a vsock_override" STAYS);
    assert_no_fork(f, ONE_CHILD(NET VSOCK), FORK "a.sock: it needs a serial_out_path" STAYS);
    assert_int_equal(logger_update(&log, &e), 0);
    assert_no_fork(f, ONE_CHILD(NET VSOCK SERIAL), FORK "a.sock: it needs a log_path" STAYS);
    assert_int_equal(log_set_path(NULL, &e), 0);
    assert_int_equal(ask(f, "PUT", "/snapshot/fork", ONE_CHILD(NET VSOCK SERIAL)), 200);
}

static void test_fork_with_overrides_of_what_is_not_there_is_refused(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_no_fork(f, ONE_CHILD(NET), FORK "a.sock: there is no interface eth0.");
    assert_no_fork(f, ONE_CHILD(VSOCK), FORK "a.sock: there is no vsock device.");
}

static void test_fork_into_a_missing_cgroup_is_refused(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_no_fork(f, ONE_CHILD(",\"cgroup\":\"missing\""),
                   FORK "a.sock: the cgroup missing cannot be opened: No such file or directory "
                        "(os error 2)");
}

static void test_fork_bodies_that_are_wrong_are_refused(void **state)
{
    struct fixture *f = *state;

    f->machine->state = MACHINE_RUNNING;
    assert_no_fork(f, "{}", JSON "missing field `children` at line 1 column 2.");
    assert_no_fork(f, CHILDREN("{}"), JSON "missing field `api_sock` at line 1 column 15.");
    assert_no_fork(f, CHILDREN(CHILD(",\"x\":1")),
                   JSON "unknown field `x`, expected one of `api_sock`, `id`, `resume_vm`, "
                        "`cgroup`, `serial_out_path`, `log_path`, `metrics_path`, "
                        "`network_overrides`, `vsock_override` at line 1 column 37.");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fork_answers_each_childs_pid_and_socket_in_order),
        TEST(test_fork_before_the_start_is_refused),
        TEST(test_fork_that_fails_leaves_no_socket),
        TEST(test_fork_into_an_existing_socket_leaves_it_and_makes_none),
        TEST(test_fork_of_none_or_too_many_is_refused),
        TEST(test_fork_with_a_bad_id_is_refused),
        TEST(test_fork_without_a_name_for_each_thing_the_parent_has_is_refused),
        TEST(test_fork_with_overrides_of_what_is_not_there_is_refused),
        TEST(test_fork_into_a_missing_cgroup_is_refused),
        TEST(test_fork_bodies_that_are_wrong_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
