/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c: the monitor's program: options, then loop, machine and API, in the order in which a
 * client can tell; then the loop, until the machine has ended. Nothing is taken apart at the end:
 * that is the kernel's work, and a client waits for the process to be gone.
 */
#include "api/api.h"
#include "api/config_file.h"
#include "api/logger.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "vmm/args.h"
#include "vmm/base/timeline.h"
#include "vmm/inspect.h"
#include "vmm/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/prctl.h>

enum exit_code {
    EXIT_GOOD = 0,
    EXIT_ERROR = 1,
    EXIT_BAD_LEVEL = 152,
    EXIT_BAD_ARGUMENTS = 153,
};

/* Descriptors that the table has room for from the start; see grow_descriptor_table. */
#define DESCRIPTORS 256

/* By write(2), without stdio's buffers. */
static void print(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* The last words, on standard error for a person and in the log, and the end. */
static _Noreturn void leave(int code, const struct err *e)
{
    signals_restore_terminal();
    if (e) {
        print(STDERR_FILENO, e->text);
        print(STDERR_FILENO, "\n");
    }
    if (code)
        log_error("Firecracker exiting with error. exit_code=%d", code);
    else
        log_info("Firecracker exiting successfully. exit_code=0");
    _exit(code);
}

/* The first line of the log, once. */
static void announce(void)
{
    static bool done;

    if (!done)
        log_info("Running Firecracker v" FIRECRACKER_VERSION " (Mayfly v" MAYFLY_VERSION ")");
    done = true;
}

/* Where clients find us while the start goes on; NULL when there is no such file of ours, or the
 * start is over. */
static const char *starting_at;

/* A start that fails takes its socket away again. */
static _Noreturn void fail(struct err *e)
{
    announce();
    if (starting_at)
        unlink(starting_at);
    err_prefix(e, "Error: ");
    leave(EXIT_ERROR, e);
}

/* ---- options ---- */

static _Noreturn void show_help(void)
{
    char *help = args_help();

    print(STDOUT_FILENO, help ? help : "Out of memory.\n");
    leave(help ? EXIT_GOOD : EXIT_ERROR, NULL);
}

static _Noreturn void show_format(const char *version)
{
    char text[INSPECT_VERSION_ROOM + 2];

    snprintf(text, sizeof(text), "v%s\n", version);
    print(STDOUT_FILENO, text);
    leave(EXIT_GOOD, NULL);
}

/* Of what is written here, or of the file that is named. */
static void answer_about_snapshots(const struct args *args)
{
    char version[INSPECT_VERSION_ROOM];
    struct err e;

    if (args->snapshot_version) {
        inspect_own_version(version);
        show_format(version);
    }
    if (!args->describe_snapshot)
        return;
    if (inspect_version(args->describe_snapshot, version, &e)) {
        err_prefix(&e, "Error: --describe-snapshot %s: ", args->describe_snapshot);
        leave(EXIT_ERROR, &e);
    }
    show_format(version);
}

static void parse_args(struct args *args, int argc, char **argv)
{
    struct err e;

    if (args_parse(args, argc, argv, &e))
        leave(EXIT_BAD_ARGUMENTS, &e);
    if (args->action == ARGS_SHOW_HELP)
        show_help();
    if (args->action == ARGS_SHOW_VERSION) {
        print(STDOUT_FILENO, "Firecracker v" FIRECRACKER_VERSION "\nMayfly v" MAYFLY_VERSION "\n");
        leave(EXIT_GOOD, NULL);
    }
    answer_about_snapshots(args);
}

/* Known, listed by --help, and not there yet. */
static void refuse_unsupported(const struct args *args)
{
    const struct {
        bool given;
        const char *name;
    } options[] = {
        {args->seccomp_filter, "--seccomp-filter"},
        {args->enable_pci, "--enable-pci"},
    };
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (!options[i].given)
            continue;
        err_set(&e, -ENOTSUP, "%s is not supported yet by this version of Mayfly.",
                options[i].name);
        fail(&e);
    }
}

static void configure_logger(const struct args *args)
{
    struct logger_body config = {
        .level = LOG_INFO,
        .show_level = args->show_level,
        .show_log_origin = args->show_log_origin,
        .has_show_level = args->show_level,
        .has_show_log_origin = args->show_log_origin,
    };
    struct err e;

    log_set_id(args->id);
    if (log_set_path(NULL, &e))
        fail(&e);
    if (args->level && log_level_parse(args->level, &config.level)) {
        err_set(&e, -EINVAL,
                "There is no log level `%s`.\n"
                "Error: InvalidLogLevel(LevelFilterFromStrError(\"%s\"))",
                args->level, args->level);
        leave(EXIT_BAD_LEVEL, &e);
    }
    /* Strings of argv are only read. */
    memcpy(&config.log_path, &args->log_path, sizeof(config.log_path));
    memcpy(&config.module, &args->module, sizeof(config.module));
    if (logger_update(&config, &e)) {
        err_prefix(&e, "--log-path %s: ", args->log_path);
        fail(&e);
    }
}

/* How long it took to get here since the jailer, which hands over its clocks, was started. */
static void note_startup(const struct args *args)
{
    struct timespec cpu;

    if (args->start_time_us_text)
        metrics.api_server.process_startup_time_us = now_ns() / NSEC_PER_USEC - args->start_time_us;
    if (!args->start_time_cpu_us_text)
        return;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    metrics.api_server.process_startup_time_cpu_us =
        (uint64_t)cpu.tv_sec * 1000000 + (uint64_t)cpu.tv_nsec / NSEC_PER_USEC -
        args->start_time_cpu_us + args->parent_cpu_time_us;
}

/* ---- the process ---- */

/*
 * Whoever started us may have closed a standard stream, and then the next file that is opened takes
 * its number: log and console would go into the metrics file.
 */
static void claim_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDWR | O_NOCTTY); /* the lowest free one: fd */
    }
}

/*
 * The kernel doubles a process's table of descriptors when the 65th is opened, and waits for a
 * grace period of RCU (milliseconds) if it has threads by then, as a machine with many devices has.
 * Once at the start, with one thread, it costs nothing of the kind.
 */
static void grow_descriptor_table(void)
{
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, DESCRIPTORS - 1);

    if (fd >= 0)
        close(fd);
}

static void flush_in_signal(void)
{
    (void)metrics_flush(NULL); /* counted */
}

/* Whoever served the guest's memory is gone. The loop may be waiting for a page: nothing that it
 * owns is touched. */
static void lose_machine(const struct err *e)
{
    flush_in_signal();
    leave(EXIT_ERROR, e);
}

/* A file named on the command line; NULL when none is. */
static char *load(const char *path, size_t *len, struct err *e)
{
    char *text = NULL;

    if (path && config_file_read(path, &text, len, e))
        fail(e);
    return text;
}

static void put_metadata(struct api *api, const char *path, char *text, size_t len, struct err *e)
{
    struct err why;

    if (text && mmds_store_put(api->mmds, text, len, &why)) {
        err_set(e, why.code, "%s: %.4096s", path, why.text);
        fail(e);
    }
    free(text);
}

static size_t payload_limit(const struct args *args)
{
    return args->payload_limit == SIZE_MAX ? API_DEFAULT_MAX_PAYLOAD : args->payload_limit;
}

/*
 * What is named on the command line must be there before a client can see the socket. All that can
 * wait comes later, while clients connect. The listening socket, or -1 without an API.
 */
static int open_for_clients(struct api *api, const struct args *args, struct err *e)
{
    size_t limit = args->mmds_limit == SIZE_MAX ? payload_limit(args) : args->mmds_limit, len = 0;
    char *metadata = load(args->metadata, &len, e);
    int fd = -1;

    if (mmds_store_create(&api->mmds, limit, e))
        fail(e);
    put_metadata(api, args->metadata, metadata, len, e);
    if (args->no_api)
        return fd;
    if (api_server_listen(args->api_sock, &fd, e))
        fail(e);
    starting_at = args->api_sock;
    return fd;
}

/* `listener` is that of open_for_clients. */
static void create_parts(struct api *api, const struct args *args, int listener,
                         struct api_server **server, struct err *e)
{
    struct machine_options options = {
        .boot_timer = args->boot_timer,
        .console_input = true,
        .lost = lose_machine,
    };

    if (loop_create(&api->loop, e))
        fail(e);
    loop_lock(api->loop);
    if (machine_create(&api->machine, api->loop, &options, e))
        fail(e);
    if (listener < 0)
        return;
    if (api_server_create(server, api->loop, listener, api->payload_max, routes_handle, api, e))
        fail(e);
    starting_at = NULL;
    timeline_stamp(TIMELINE_API);
    if (!args->config_file)
        machine_prepare(api->machine);
}

/* As api.h says; the lock is held. */
static _Noreturn void live(struct api *api, struct api_server *server)
{
    int code;

    loop_unlock(api->loop);

    loop_run(api->loop);

    loop_lock(api->loop);
    if (server)
        api_server_flush(server);
    machine_finish_save(api->machine);
    code = machine_exit_code(api->machine);
    log_info("Vmm is stopping.");
    (void)metrics_flush(NULL); /* counted */
    loop_abandon(api->loop);
    leave(code, NULL);
}

int main(int argc, char **argv)
{
    static struct args args;
    static struct api api;
    static struct err e;
    struct api_server *server = NULL;
    char *config;
    size_t config_len;
    int listener;

    timeline_stamp(TIMELINE_EXEC);
    prctl(PR_SET_NAME, "firecracker");
    claim_standard_streams();
    parse_args(&args, argc, argv);
    configure_logger(&args);
    refuse_unsupported(&args);
    if (args.metrics_path && metrics_open(args.metrics_path, NULL, NULL, &e)) {
        err_prefix(&e, "--metrics-path %s: ", args.metrics_path);
        fail(&e);
    }
    api.id = args.id;
    api.payload_max = payload_limit(&args);
    api.live = live;
    config = load(args.config_file, &config_len, &e);
    listener = open_for_clients(&api, &args, &e);
    /* Before the log's first line, which may be one too many for RLIMIT_FSIZE. */
    if (signals_install(flush_in_signal, &e))
        fail(&e);
    announce();
    grow_descriptor_table();
    create_parts(&api, &args, listener, &server, &e);
    note_startup(&args);
    if (config && config_file_run(&api, args.config_file, config, config_len, &e))
        fail(&e);
    free(config);
    live(&api, server);
}
