/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_requests.c: requests, one a line ("PUT /vsock {...}"), to an API over a machine without KVM.
 * Oracles: every answer has a status that there is, a body where it must have one, and that is
 * JSON; a refused request before the start leaves the configuration as it was, but for the
 * interface or socket device that it was to replace; what GET /vm/config shows is taken back as a
 * config file and then shown again.
 */
#include "api/config_file.h"
#include "api/json_text.h"
#include "api/logger.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "api/vm_config.h"
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "vmm/base/utf8.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUESTS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Files that requests make stay in a directory of ours; libFuzzer's own are named from where it was
 * started. */
static int home, ours = -1;
static char *path_of_ours;

static void remove_ours(void)
{
    files_remove_tree(path_of_ours);
    free(path_of_ours);
}

static void go(int directory)
{
    if (fchdir(directory))
        abort();
}

static void set_up(void)
{
    struct logger_body quiet = {.level = LOG_OFF};
    struct err e;

    if (ours < 0) {
        path_of_ours = files_make_temporary("fuzz");
        home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ours = open(path_of_ours, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        atexit(remove_ours);
    }
    go(ours);
    if (files_make_sparse("disk", 4096) || logger_update(&quiet, &e))
        abort();
    fake_devices = (struct fake_devices){0};
}

static void open_api(struct api *api)
{
    static const struct machine_options options;
    struct err e;

    *api = (struct api){.id = "fuzz"};
    if (loop_create(&api->loop, &e) || machine_create(&api->machine, api->loop, &options, &e) ||
        mmds_store_create(&api->mmds, 1000, &e))
        abort();
}

static void close_api(struct api *api)
{
    free(api->serial.out_path);
    metrics_start(api->loop, NULL);
    machine_destroy(api->machine);
    mmds_store_destroy(api->mmds);
    mmds_tokens_destroy(api->mmds_http.tokens);
    loop_destroy(api->loop);
}

static char *show(struct machine *machine)
{
    struct json_writer w;
    char *text;

    json_writer_open(&w);
    vm_config_write(&w, machine);
    text = json_writer_finish(&w, NULL);
    if (!text)
        abort();
    return text;
}

/* ---- oracles ---- */

static void check_answer(const struct api_response *response)
{
    char *why = NULL;
    json_t *value;

    if (response->status != 200 && response->status != 204 && response->status != 400 &&
        response->status != 413)
        abort();
    if (!response->body != (response->status == 204))
        abort();
    if (!response->body)
        return;
    value = json_parse(response->body, response->body_len, &why);
    if (!value)
        abort();
    json_decref(value);
    free(why);
}

/* Whether a refusal may take a device away. */
static bool may_remove(const char *path)
{
    return strstr(path, "network-interfaces") || strstr(path, "vsock");
}

/* What is shown gives the same again; a configuration without a kernel is not one to start from. */
static void check_round_trip(struct machine *machine)
{
    char *first = show(machine), *second;
    struct api again;
    struct err e;

    open_api(&again);
    if (config_file_run(&again, "shown", first, strlen(first), &e)) {
        if (!strstr(e.text, "No such file")) /* a socket device may have taken it away */
            abort();
        free(first);
        close_api(&again);
        return;
    }
    second = show(again.machine);
    if (strcmp(first, second) != 0)
        abort();
    free(first);
    free(second);
    close_api(&again);
}

/* ---- requests ---- */

static void ask(struct api *api, const char *method, const char *path, const char *body)
{
    struct api_request request = {.method = method,
                                  .path = path,
                                  .body = body ? body : "",
                                  .body_len = body ? strlen(body) : 0,
                                  .has_body = body != NULL};
    struct api_response response = {.status = 204};
    bool started = machine_state(api->machine) != MACHINE_NOT_STARTED;
    char *before = show(api->machine), *after;

    routes_handle(api, &request, &response);
    check_answer(&response);
    after = show(api->machine);
    if (response.status == 400 && !started && !may_remove(path) && strcmp(before, after) != 0)
        abort();
    free(before);
    free(after);
    free(response.body);
}

/* No way out of our directory, not even by an escape. */
static bool is_safe(const char *body)
{
    return !strpbrk(body, "/\\") && !strstr(body, "..");
}

static void ask_line(struct api *api, char *line)
{
    static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE"};
    char *method = strsep(&line, " "), *path = strsep(&line, " ");

    /* A path that is no UTF-8 is refused before it comes here. */
    if (!path || utf8_valid_prefix(path, strlen(path), NULL) != strlen(path) ||
        (line && !is_safe(line)))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (strcmp(method, methods[i]) == 0)
            ask(api, method, path, line && *line ? line : NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size), *rest = text, *line;
    struct api api;

    set_up();
    open_api(&api);
    for (int i = 0; i < REQUESTS_MAX && (line = strsep(&rest, "\n")); i++)
        ask_line(&api, line);
    if (machine_boot_source(api.machine)->kernel_path)
        check_round_trip(api.machine);
    close_api(&api);
    if (fake_devices.alive)
        abort();
    free(text);
    go(home);
    return 0;
}
