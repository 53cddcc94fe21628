/* SPDX-License-Identifier: Apache-2.0 */
/* routes_fixture.c: see routes_fixture.h. */
#include "tests/unit/routes_fixture.h"

#include "api/logger.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int routes_set_up(void **state)
{
    static const struct machine_options options;
    struct logger_body quiet = {.level = LOG_OFF};
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e;

    assert_non_null(f);
    assert_int_equal(logger_update(&quiet, &e), 0);
    assert_int_equal(loop_create(&f->api.loop, &e), 0);
    assert_int_equal(machine_create(&f->machine, f->api.loop, &options, &e), 0);
    assert_int_equal(mmds_store_create(&f->api.mmds, 100, &e), 0);
    f->api.machine = f->machine;
    f->api.id = "vm-1";
    f->dir = files_enter_temporary("routes");
    assert_int_equal(files_make_sparse("disk", 4096), 0);
    memset(&metrics, 0, sizeof(metrics));
    fake_devices = (struct fake_devices){0};
    *state = f;
    return 0;
}

int routes_tear_down(void **state)
{
    struct fixture *f = *state;

    free(f->response.body);
    free(f->api.serial.out_path);
    mmds_store_destroy(f->api.mmds);
    mmds_tokens_destroy(f->api.mmds_http.tokens);
    /* Metrics are the process's and must not know a machine that is gone. */
    metrics_start(f->api.loop, NULL);
    machine_destroy(f->machine);
    loop_destroy(f->api.loop);
    files_leave(f->dir);
    free(f);
    return 0;
}

int ask(struct fixture *f, const char *method, const char *path, const char *body)
{
    struct api_request request = {.method = method,
                                  .path = path,
                                  .body = body,
                                  .body_len = body ? strlen(body) : 0,
                                  .has_body = body != NULL};

    free(f->response.body);
    f->response = (struct api_response){.status = 204};
    routes_handle(&f->api, &request, &f->response);
    return f->response.status;
}

void assert_done(struct fixture *f, const char *method, const char *path, const char *body)
{
    if (ask(f, method, path, body) != 204)
        fail_msg("%s %s: %s", method, path, f->response.body);
    assert_null(f->response.body);
}

void assert_says(struct fixture *f, const char *path, const char *text)
{
    assert_int_equal(ask(f, "GET", path, NULL), 200);
    assert_string_equal(f->response.body, text);
    assert_int_equal(f->response.body_len, strlen(text));
}

void assert_fault(struct fixture *f, const char *method, const char *path, const char *body,
                  const char *fault)
{
    struct json_writer w;
    char *expected;

    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_write_key(&w, "fault_message");
    json_write_string(&w, fault);
    json_write_end(&w, '}');
    expected = json_writer_finish(&w, NULL);
    assert_int_equal(ask(f, method, path, body), 400);
    assert_string_equal(f->response.body, expected);
    free(expected);
}
