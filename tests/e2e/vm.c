/* SPDX-License-Identifier: Apache-2.0 */
/* Monitors in tests: start, configure, watch, end; each step checked. */
#include "tests/e2e/vm.h"

#include "tests/e2e/e2e.h"
#include "tests/support/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <sys/wait.h>

enum { VMS_MAX = 64, TAIL = 1500 };

static struct vm vms[VMS_MAX];
static unsigned n_vms;

static void tell_tail(const char *what, const struct text *t)
{
    if (!t->len)
        return;
    const char *tail = text_str(t) + (t->len > TAIL ? t->len - TAIL : 0);
    printf("%s ended:\n", what);
    for (; *tail; tail++) {
        unsigned char c = (unsigned char)*tail;
        if (c == '\n' || (c >= ' ' && c < 0x7f))
            putchar(c);
        else if (c != '\r')
            printf("\\x%02x", c);
    }
    putchar('\n');
}

/* What the monitors last said: only the few latest of many. */
static void tell_consoles(void)
{
    for (unsigned i = n_vms > 3 ? n_vms - 3 : 0; i < n_vms; i++) {
        struct process *p = &vms[i].monitor.process;
        process_pump(p, 0);
        printf("monitor %u: %s\n", i, process_how(p));
        tell_tail("its standard output", &p->out_text);
        tell_tail("its standard error", &p->err_text);
        struct text log = {0};
        text_read_file(&log, vms[i].log);
        tell_tail("its log", &log);
        text_free(&log);
    }
}

static struct vm *take_vm(void)
{
    if (n_vms == VMS_MAX)
        FAIL("too many monitors in one test");
    struct vm *vm = &vms[n_vms++];
    vm->dir = text_format("%s/vm%u", e2e_dir, n_vms);
    if (mkdir(vm->dir, 0755) < 0)
        FAIL("cannot make %s", vm->dir);
    vm->log = text_format("%s/log", vm->dir);
    e2e_on_failure(tell_consoles);
    return vm;
}

struct vm *vm_spawn(struct monitor_spec spec)
{
    struct vm *vm = take_vm();
    const char *args[MONITOR_ARGS_MAX] = {"--log-path", vm->log};
    if (!spec.no_socket) {
        for (unsigned i = 0; spec.args && spec.args[i] && i + 3 < MONITOR_ARGS_MAX; i++)
            args[i + 2] = spec.args[i];
        spec.args = args;
    }
    spec.program = e2e.monitor;
    spec.dir = vm->dir;
    int ret = monitor_start(&vm->monitor, &spec, e2e_ms(VM_MS));
    if (ret && ret != -ECHILD)
        FAIL("the monitor's socket does not accept: %s", strerror(-ret));
    return vm;
}

struct vm *vm_new(const char *const *args)
{
    struct vm *vm = vm_spawn((struct monitor_spec){
        .args = args, .in = PROCESS_PIPE, .out = PROCESS_PIPE, .err = PROCESS_PIPE});
    if (vm->monitor.process.ended)
        FAIL("the monitor ended at once: %s", process_how(&vm->monitor.process));
    return vm;
}

struct vm *vm_launch(const struct process_spec *command, const char *socket)
{
    struct vm *vm = take_vm();
    int ret = monitor_launch(&vm->monitor, command, socket, e2e_ms(VM_MS));
    if (ret)
        FAIL("no monitor came up behind %s: %s; %s", command->argv[0], strerror(-ret),
             process_how(&vm->monitor.process));
    return vm;
}

struct vm *vm_adopt(const char *socket)
{
    struct vm *vm = take_vm();
    vm->monitor.socket = strdup(socket);
    vm->monitor.process = (struct process){
        .pidfd = -1, .in = -1, .out = -1, .err = -1, .terminal = -1, .slave = -1, .ended = true};
    return vm;
}

/* Sends a request that must be answered; returns the status, with the body in `a`. */
static int call(struct vm *vm, struct api_answer *a, const char *method, const char *path,
                const char *body)
{
    process_pump(&vm->monitor.process, 0);
    enum api_outcome outcome = monitor_call(&vm->monitor, a, method, path, body, e2e_ms(VM_MS));
    if (outcome != API_ANSWERED)
        FAIL("%s %s: %s", method, path, api_outcome_word(outcome));
    return a->status;
}

static void must_be_204(struct vm *vm, const char *method, const char *path, const char *format,
                        va_list list) __attribute__((format(printf, 4, 0)));

static void must_be_204(struct vm *vm, const char *method, const char *path, const char *format,
                        va_list list)
{
    char *body;
    struct api_answer a;
    if (vasprintf(&body, format, list) < 0)
        abort();
    if (call(vm, &a, method, path, body) != 204)
        FAIL("%s %s %s: answered %d %s", method, path, body, a.status, text_str(&a.body));
    api_answer_free(&a);
    free(body);
}

void vm_put(struct vm *vm, const char *path, const char *body, ...)
{
    va_list list;
    va_start(list, body);
    must_be_204(vm, "PUT", path, body, list);
    va_end(list);
}

void vm_patch(struct vm *vm, const char *path, const char *body, ...)
{
    va_list list;
    va_start(list, body);
    must_be_204(vm, "PATCH", path, body, list);
    va_end(list);
}

static json_t *must_be_200(struct vm *vm, const char *method, const char *path, const char *body)
{
    struct api_answer a;
    if (call(vm, &a, method, path, body) != 200)
        FAIL("%s %s: answered %d %s", method, path, a.status, text_str(&a.body));
    json_t *json = json_loads(text_str(&a.body), JSON_DECODE_ANY, NULL);
    if (!json)
        FAIL("%s %s: not JSON: %s", method, path, text_str(&a.body));
    api_answer_free(&a);
    return json;
}

json_t *vm_get(struct vm *vm, const char *path)
{
    return must_be_200(vm, "GET", path, NULL);
}

json_t *vm_put_answered(struct vm *vm, const char *path, const char *body)
{
    return must_be_200(vm, "PUT", path, body);
}

void vm_refused(struct vm *vm, const char *method, const char *path, const char *part,
                const char *body, ...)
{
    va_list list;
    char *filled;
    struct api_answer a;
    va_start(list, body);
    if (vasprintf(&filled, body, list) < 0)
        abort();
    va_end(list);
    if (call(vm, &a, method, path, *filled ? filled : NULL) != 400)
        FAIL("%s %s %s: expected 400, answered %d %s", method, path, filled, a.status,
             text_str(&a.body));
    json_t *json = json_loads(text_str(&a.body), 0, NULL);
    const char *message = json_string_value(json_object_get(json, "fault_message"));
    if (!message || !strstr(message, part))
        FAIL("%s %s %s: expected a fault message with \"%s\", answered %s", method, path, filled,
             part, text_str(&a.body));
    json_decref(json);
    api_answer_free(&a);
    free(filled);
}

const char *vm_state(struct vm *vm)
{
    json_t *info = vm_get(vm, "/");
    const char *state = json_string_value(json_object_get(info, "state"));
    if (!state)
        FAIL("GET / tells no state");
    state = strdup(state);
    json_decref(info);
    return state;
}

void vm_start(struct vm *vm)
{
    vm_put(vm, "/actions", "{\"action_type\":\"InstanceStart\"}");
}

void vm_boot(struct vm *vm, const char *kernel, const char *boot_args)
{
    json_t *config = vm_get(vm, "/machine-config");
    json_int_t memory = json_integer_value(json_object_get(config, "mem_size_mib"));
    if (memory == 128) /* nobody chose: the default is more than these guests need */
        vm_patch(vm, "/machine-config", "{\"mem_size_mib\":64}");
    json_decref(config);
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\",\"boot_args\":\"%s\"}", kernel,
           boot_args);
    vm_start(vm);
}

void vm_expect(struct vm *vm, const char *text)
{
    if (!monitor_expect(&vm->monitor, text, e2e_ms(VM_MS)))
        FAIL("the guest did not say \"%s\"", text);
}

void vm_type(struct vm *vm, const char *text)
{
    int ret = monitor_type(&vm->monitor, text);
    if (ret)
        FAIL("cannot type at the console: %s", strerror(-ret));
}

static void must_end(struct vm *vm)
{
    if (!process_wait(&vm->monitor.process, e2e_ms(VM_MS)))
        FAIL("the monitor still runs");
}

void vm_exits(struct vm *vm, int code)
{
    must_end(vm);
    int status = vm->monitor.process.status;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
        FAIL("expected exit %d, came %s", code, process_how(&vm->monitor.process));
}

void vm_dies(struct vm *vm, int signal)
{
    must_end(vm);
    int status = vm->monitor.process.status;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != signal)
        FAIL("expected death by signal %d, came %s", signal, process_how(&vm->monitor.process));
}

void vm_has_ended(pid_t pid)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(2000)) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return;
    }
    FAIL("process %d still exists", (int)pid);
}

const char *vm_out(struct vm *vm)
{
    process_pump(&vm->monitor.process, 0);
    return text_str(&vm->monitor.process.out_text);
}

const char *vm_err(struct vm *vm)
{
    process_pump(&vm->monitor.process, 0);
    return text_str(&vm->monitor.process.err_text);
}

const char *vm_log(struct vm *vm)
{
    struct text log = {0};
    text_read_file(&log, vm->log);
    return text_str(&log);
}

unsigned vm_taken_mib(struct vm *vm)
{
    char *path = text_format("/proc/%d/smaps_rollup", (int)vm->monitor.process.pid);
    struct text t = {0};
    if (text_read_file(&t, path))
        FAIL("%s cannot be read", path);
    const char *pss = strstr(t.data, "\nPss:");
    CHECK(pss != NULL);
    unsigned kib = (unsigned)strtoul(pss + strlen("\nPss:"), NULL, 10);
    text_free(&t);
    free(path);
    return kib / 1024;
}

void vm_metrics(struct vm *vm)
{
    vm_put(vm, "/metrics", "{\"metrics_path\":\"%s\"}", e2e_path("metrics"));
}

long long vm_counted(struct vm *vm, const char *group, const char *counter)
{
    long long sum = 0;
    bool found = false;
    char *line = NULL;
    size_t room = 0;
    vm_put(vm, "/actions", "{\"action_type\":\"FlushMetrics\"}");
    FILE *f = fopen(e2e_path("metrics"), "r");
    CHECK(f != NULL);
    while (getline(&line, &room, f) > 0) {
        json_t *all = json_loads(line, 0, NULL);
        json_t *value = json_object_get(json_object_get(all, group), counter);
        found = found || json_is_integer(value);
        sum += json_integer_value(value);
        json_decref(all);
    }
    fclose(f);
    free(line);
    if (!found)
        FAIL("there is no metric %s.%s", group, counter);
    return sum;
}
