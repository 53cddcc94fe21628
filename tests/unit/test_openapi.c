/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_openapi.c: api/openapi.json and the implementation say the same: operations and the rows of
 * routes.c, schemas and the tables of members, examples and what is read, answers and what is
 * shown.
 */
#include "api/routes.h"
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/openapi_doc.h"
#include "tests/unit/routes_fixture.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_BODY "content", "application/json"

/* The operation that is being looked at, for messages. */
static char where[200];

static const char *const method_names[METHOD_COUNT] = {"get", "put", "patch", "delete"};

static int load(void **state)
{
    json_error_t error;

    (void)state;
    openapi_doc = json_load_file(MAYFLY_SOURCE "/api/openapi.json", JSON_REJECT_DUPLICATES, &error);
    if (!openapi_doc)
        fail_msg("openapi.json: %s at line %d", error.text, error.line);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    json_decref(openapi_doc);
    return 0;
}

static void name_row(const struct route *route, char *path, size_t room)
{
    size_t len = 0;

    path[0] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(route->path) && route->path[i]; i++)
        len += (size_t)snprintf(path + len, room - len, "/%s", route->path[i]);
    if (route->has_id)
        snprintf(path + len, room - len, "/{");
    else if (len == 0)
        snprintf(path, room, "/");
    snprintf(where, sizeof(where), "%s %s", method_names[route->method], path);
}

/* The operation that describes a row; NULL = none. */
static json_t *operation_of(const struct route *route)
{
    json_t *found;
    const char *name;
    char path[100];

    name_row(route, path, sizeof(path));
    if (!route->has_id)
        return at(openapi_doc, "paths", path, method_names[route->method]);
    json_object_foreach (json_object_get(openapi_doc, "paths"), name, found) {
        if (strncmp(name, path, strlen(path)) == 0)
            return json_object_get(found, method_names[route->method]);
    }
    return NULL;
}

static void assert_fits(json_t *value, json_t *schema, const char *what)
{
    if (!openapi_fits(value, schema))
        fail_msg("%s: %s does not fit its schema", where, what);
}

/* Every example of a body or an answer. */
static void check_examples(json_t *holder)
{
    json_t *content = at(holder, JSON_BODY), *example;
    const char *name;

    json_object_foreach (json_object_get(content, "examples"), name, example)
        assert_fits(json_object_get(example, "value"), json_object_get(content, "schema"), name);
}

/* ---- operations and rows ---- */

static const char *phase_name(enum phase phase)
{
    static const char *const names[] = {
        [PHASE_ANY] = "any",
        [PHASE_BEFORE_START] = "before-start",
        [PHASE_AFTER_START] = "after-start",
        [PHASE_CONFIGURE_OR_PLUG] = "configure-or-plug",
        [PHASE_UNPLUG] = "unplug",
    };

    return names[phase];
}

static void check_operation(const struct route *route, json_t *operation)
{
    const char *phase = json_string_value(json_object_get(operation, "x-phase"));
    bool has_body = json_object_get(operation, "requestBody") != NULL;

    if (!phase || strcmp(phase, phase_name(route->phase)) != 0)
        fail_msg("%s: the phase is %s", where, phase_name(route->phase));
    if (route->has_id != (json_array_size(json_object_get(operation, "parameters")) == 1))
        fail_msg("%s: one parameter for the id", where);
    if (openapi_flag(operation, "x-mayfly-not-yet") != (route->act == NULL))
        fail_msg("%s: is it supported or not?", where);
    if (!json_is_string(json_object_get(operation, "summary")) ||
        !json_is_string(json_object_get(operation, "operationId")))
        fail_msg("%s: a summary and an operationId", where);
    if (route->schema && !has_body)
        fail_msg("%s: its body is not described", where);
    if (has_body && (route->method == GET || route->method == DELETE))
        fail_msg("%s: there is no body", where);
    if (!at(operation, "responses", "400"))
        fail_msg("%s: how it is refused", where);
    if (route->act && !at(operation, "responses", "200") &&
        (route->method == GET || !at(operation, "responses", "204")))
        fail_msg("%s: what comes of it", where);
}

static void test_openapi_every_row_is_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        json_t *operation = operation_of(&routes[i]);

        if (!operation)
            fail_msg("%s is not described", where);
        check_operation(&routes[i], operation);
    }
}

static bool has_row(json_t *operation)
{
    for (size_t i = 0; i < routes_count; i++) {
        if (operation_of(&routes[i]) == operation)
            return true;
    }
    return false;
}

static void test_openapi_every_operation_has_a_row_and_its_own_id(void **state)
{
    json_t *path, *operation, *ids = json_object();
    const char *path_name, *method;

    (void)state;
    json_object_foreach (json_object_get(openapi_doc, "paths"), path_name, path) {
        json_object_foreach (path, method, operation) {
            const char *id = json_string_value(json_object_get(operation, "operationId"));

            if (!has_row(operation))
                fail_msg("%s %s is not implemented", method, path_name);
            if (json_object_get(ids, id))
                fail_msg("%s %s: operationId %s twice", method, path_name, id);
            json_object_set_new(ids, id, json_true());
        }
    }
    json_decref(ids);
}

static bool is_addition(const char *path)
{
    static const char *const ours[] = {"/timeline", "/snapshot/background", "/snapshot/fork"};

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        if (strcmp(path, ours[i]) == 0)
            return true;
    }
    return false;
}

static void test_openapi_additions_are_marked(void **state)
{
    json_t *path, *operation;
    const char *path_name, *method;

    (void)state;
    json_object_foreach (json_object_get(openapi_doc, "paths"), path_name, path) {
        json_object_foreach (path, method, operation) {
            if (openapi_flag(operation, "x-mayfly-addition") != is_addition(path_name))
                fail_msg("%s %s: an addition or not?", method, path_name);
        }
    }
}

/* ---- schemas and tables ---- */

static void compare_table(json_t *schema, const struct schema *table);

static const char *type_name(const struct schema_member *member)
{
    switch (member->type) {
    case SCHEMA_BOOL:
        return "boolean";
    case SCHEMA_U8:
    case SCHEMA_U16:
    case SCHEMA_U32:
    case SCHEMA_U64:
    case SCHEMA_USIZE:
        return "integer";
    case SCHEMA_STRING:
    case SCHEMA_PATH:
    case SCHEMA_NAMES:
        return "string";
    case SCHEMA_OBJECT:
        return "object";
    case SCHEMA_CUSTOM:
        break;
    }
    return NULL; /* the examples must do */
}

/* What is described may be narrower than what is read, where the rest is refused later. */
static void compare_range(json_t *property, const struct schema_member *member)
{
    static const json_int_t max[] = {
        [SCHEMA_U8] = UINT8_MAX, [SCHEMA_U16] = UINT16_MAX, [SCHEMA_U32] = UINT32_MAX};
    const char *format = json_string_value(json_object_get(property, "format"));
    json_t *most = json_object_get(property, "maximum");

    if (json_integer_value(json_object_get(property, "minimum")) < 0)
        fail_msg("%s: %s can be negative", where, member->name);
    if (member->type == SCHEMA_U64 || member->type == SCHEMA_USIZE) {
        if (!format || strcmp(format, "uint64") != 0)
            fail_msg("%s: %s has 64 bits", where, member->name);
    } else if (!most || json_integer_value(most) > max[member->type]) {
        fail_msg("%s: %s is at most %lld", where, member->name, (long long)max[member->type]);
    }
}

static void compare_names(json_t *property, const struct schema_member *member)
{
    json_t *names = json_object_get(property, "enum");

    if (json_array_size(names) != member->names->count)
        fail_msg("%s: %s is one of %zu", where, member->name, member->names->count);
    for (size_t i = 0; i < member->names->count; i++) {
        json_t *name = json_string(member->names->names[i]);

        if (!openapi_is_listed(name, names))
            fail_msg("%s: %s may be %s", where, member->name, member->names->names[i]);
        json_decref(name);
    }
}

static void compare_member(json_t *property, const struct schema_member *member)
{
    const char *type = type_name(member);
    const char *described = json_string_value(json_object_get(openapi_bare(property), "type"));

    if (!!(member->rules & SCHEMA_NULLABLE) != openapi_flag(property, "nullable"))
        fail_msg("%s: %s may be null, or not?", where, member->name);
    if (!!(member->rules & SCHEMA_HIDDEN) != openapi_flag(property, "x-mayfly-addition"))
        fail_msg("%s: %s is an addition, or not?", where, member->name);
    if (type && (!described || strcmp(type, described) != 0))
        fail_msg("%s: %s is of type %s", where, member->name, type);
    if (type && strcmp(type, "integer") == 0)
        compare_range(property, member);
    if (member->type == SCHEMA_NAMES)
        compare_names(property, member);
    if (member->type == SCHEMA_OBJECT)
        compare_table(openapi_bare(property), member->object);
}

static void compare_table(json_t *schema, const struct schema *table)
{
    json_t *properties = json_object_get(schema, "properties"), *name;
    json_t *required = json_object_get(schema, "required");
    bool open = openapi_flag(schema, "additionalProperties");

    if (open != table->lets_unknown)
        fail_msg("%s: %s ignores unknown members, or not?", where, table->name);
    if (json_object_size(properties) != table->count)
        fail_msg("%s: %s has %zu members", where, table->name, table->count);
    for (size_t i = 0; i < table->count; i++) {
        const struct schema_member *member = &table->members[i];
        json_t *property = json_object_get(properties, member->name);

        if (!property)
            fail_msg("%s: %s has a member %s", where, table->name, member->name);
        compare_member(property, member);
        name = json_string(member->name);
        if (!!(member->rules & SCHEMA_REQUIRED) != openapi_is_listed(name, required))
            fail_msg("%s: %s is required, or not?", where, member->name);
        json_decref(name);
    }
}

static void test_openapi_schemas_of_bodies_are_the_tables(void **state)
{
    unsigned count = 0;

    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        json_t *operation = operation_of(&routes[i]);

        if (!routes[i].schema)
            continue;
        compare_table(openapi_bare(at(operation, "requestBody", JSON_BODY, "schema")),
                      routes[i].schema);
        count++;
    }
    assert_true(count > 15);
}

/* ---- examples ---- */

/* Hands the example to the table as a body. The struct has room for any. */
static void read_example(const struct route *route, json_t *example, const char *name)
{
    struct call call = {0};
    struct json_cursor c;
    char *text = json_dumps(example, 0);

    json_open(&c, text, strlen(text));
    if (schema_read(&c, route->schema, &call.body) || json_finish(&c))
        fail_msg("%s: example %s: %s", where, name, json_error(&c));
    if (route->release)
        route->release(&call);
    json_close(&c);
    free(text);
}

static void test_openapi_examples_of_bodies_are_read_and_show_every_member(void **state)
{
    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        json_t *body = json_object_get(operation_of(&routes[i]), "requestBody"), *example,
               *property;
        json_t *shown = json_object();
        const char *name;

        check_examples(body);
        json_object_foreach (at(body, JSON_BODY, "examples"), name, example) {
            if (routes[i].schema)
                read_example(&routes[i], json_object_get(example, "value"), name);
            json_object_update(shown, json_object_get(example, "value"));
        }
        json_object_foreach (
            json_object_get(openapi_bare(at(body, JSON_BODY, "schema")), "properties"), name,
            property) {
            if (!json_object_get(shown, name))
                fail_msg("%s: no example has %s", where, name);
        }
        json_decref(shown);
    }
}

static void test_openapi_examples_of_answers_fit_their_schemas(void **state)
{
    json_t *response;
    const char *status;

    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        json_object_foreach (json_object_get(operation_of(&routes[i]), "responses"), status,
                             response)
            check_examples(openapi_resolve(response));
    }
}

static void look_for_references(json_t *node, json_t *used)
{
    const char *ref = json_string_value(json_object_get(node, "$ref")), *name;
    json_t *member;
    size_t i;

    if (ref) {
        if (!openapi_resolve(node))
            fail_msg("%s is nowhere", ref);
        json_object_set_new(used, ref, json_true());
    }
    json_object_foreach (node, name, member)
        look_for_references(member, used);
    json_array_foreach (node, i, member)
        look_for_references(member, used);
}

static void test_openapi_refers_to_what_is_there_and_to_all_of_it(void **state)
{
    json_t *used = json_object(), *kind, *component;
    const char *kind_name, *name;
    char ref[100];

    (void)state;
    look_for_references(openapi_doc, used);
    json_object_foreach (json_object_get(openapi_doc, "components"), kind_name, kind) {
        json_object_foreach (kind, name, component) {
            snprintf(ref, sizeof(ref), "#/components/%s/%s", kind_name, name);
            if (!json_object_get(used, ref))
                fail_msg("%s is not used", ref);
        }
    }
    json_decref(used);
}

/* ---- what the implementation shows ---- */

static void configure(struct fixture *f)
{
#define LIMITER                                                                                    \
    "{\"bandwidth\":{\"size\":1,\"one_time_burst\":2,\"refill_time\":3},"                          \
    "\"ops\":{\"size\":4,\"refill_time\":5}}"
    static const char *const requests[][2] = {
        {"/boot-source", "{\"kernel_image_path\":\"k\",\"initrd_path\":\"i\",\"boot_args\":\"b\"}"},
        {"/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":256,\"cpu_template\":\"T2\"}"},
        {"/drives/a",
         "{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"disk\",\"partuuid\":\"p\","
         "\"discard\":true,\"rate_limiter\":" LIMITER "}"},
        {"/drives/b", "{\"drive_id\":\"b\",\"is_root_device\":false,\"socket\":\"s\"}"},
        {"/network-interfaces/a",
         "{\"iface_id\":\"a\",\"host_dev_name\":\"t\",\"guest_mac\":\"06:00:00:00:00:01\","
         "\"mtu\":1400,\"rx_rate_limiter\":" LIMITER "}"},
        {"/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}"},
        {"/entropy", "{\"rate_limiter\":" LIMITER "}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        assert_done(f, "PUT", requests[i][0], requests[i][1]);
}

/* Devices that a fake machine can have, too. */
static void configure_memory(struct fixture *f)
{
    static const char *const requests[][2] = {
        {"/pmem/a", "{\"id\":\"a\",\"path_on_host\":\"disk\",\"rate_limiter\":" LIMITER "}"},
        {"/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1,"
                     "\"free_page_hinting\":true}"},
        {"/hotplug/memory", "{\"total_size_mib\":1024}"},
        {"/mmds/config", "{\"network_interfaces\":[\"a\"],\"version\":\"V2\"}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        (void)ask(f, "PUT", requests[i][0], requests[i][1]);
}

static void check_answer(struct fixture *f, const struct route *route)
{
    json_t *operation = operation_of(route), *answer;
    char path[100];

    name_row(route, path, sizeof(path));
    if (ask(f, "GET", path, NULL) != 200)
        fail_msg("%s: %s", where, f->response.body);
    answer = json_loads(f->response.body, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    assert_fits(answer, at(operation, "responses", "200", JSON_BODY, "schema"), f->response.body);
    json_decref(answer);
}

/* Whether the machine as it is has an answer: after the start, metadata only with the service. */
static bool can_answer(const struct fixture *f, const struct route *route)
{
    bool started = f->machine->state != MACHINE_NOT_STARTED;

    if (route->method != GET || !route->act)
        return false;
    if (route->path[0] && strcmp(route->path[0], "mmds") == 0)
        return !started || f->machine->devices.mmds;
    return started || route->phase != PHASE_AFTER_START;
}

static void check_answers(struct fixture *f)
{
    for (size_t i = 0; i < routes_count; i++) {
        if (can_answer(f, &routes[i]))
            check_answer(f, &routes[i]);
    }
}

static void test_openapi_answers_fit_their_schemas(void **state)
{
    struct fixture *f = *state;

    configure(f);
    configure_memory(f);
    check_answers(f);
    f->machine->state = MACHINE_RUNNING;
    check_answers(f);
}

static void test_openapi_refusals_fit_their_schema(void **state)
{
    struct fixture *f = *state;
    json_t *answer;

    assert_int_equal(ask(f, "PUT", "/actions", "{}"), 400);
    answer = json_loads(f->response.body, 0, NULL);
    assert_fits(answer, at(openapi_doc, "components", "responses", "Refused", JSON_BODY, "schema"),
                f->response.body);
    json_decref(answer);
}

#define WITH_MACHINE(name) cmocka_unit_test_setup_teardown(name, routes_set_up, routes_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openapi_every_row_is_described),
        cmocka_unit_test(test_openapi_every_operation_has_a_row_and_its_own_id),
        cmocka_unit_test(test_openapi_additions_are_marked),
        cmocka_unit_test(test_openapi_schemas_of_bodies_are_the_tables),
        cmocka_unit_test(test_openapi_examples_of_bodies_are_read_and_show_every_member),
        cmocka_unit_test(test_openapi_examples_of_answers_fit_their_schemas),
        cmocka_unit_test(test_openapi_refers_to_what_is_there_and_to_all_of_it),
        WITH_MACHINE(test_openapi_answers_fit_their_schemas),
        WITH_MACHINE(test_openapi_refusals_fit_their_schema),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
