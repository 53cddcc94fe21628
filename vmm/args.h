/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.h owns the command line: its options, its rules and its help. An option is `--name` or
 * `--name value`; there is no `--name=value`, a value does not begin with `--`, nothing is given
 * twice, and a bare `--` ends the options. getopt_long allows all of that, so the parser is ours:
 * one table and one loop. Pure: nothing is opened or printed here.
 */
#ifndef MAYFLY_VMM_ARGS_H
#define MAYFLY_VMM_ARGS_H

#include "vmm/base/err.h"

#define ARGS_DEFAULT_API_SOCK "/run/firecracker.socket"
#define ARGS_DEFAULT_ID       "anonymous-instance"

enum args_action { ARGS_RUN, ARGS_SHOW_HELP, ARGS_SHOW_VERSION };

/* Strings point into argv; NULL = not given. */
struct args {
    enum args_action action;
    const char *api_sock; /* with its default */
    const char *id;       /* with its default */
    const char *config_file, *metadata;
    const char *log_path, *level, *module, *metrics_path;
    const char *seccomp_filter, *describe_snapshot;
    const char *payload_limit_text, *mmds_limit_text;
    const char *start_time_us_text, *start_time_cpu_us_text, *parent_cpu_time_us_text;
    bool no_api, no_seccomp, show_level, show_log_origin, boot_timer, enable_pci, snapshot_version;

    /* Of the texts above, read as numbers. */
    size_t payload_limit; /* --http-api-max-payload-size; SIZE_MAX when not given */
    size_t mmds_limit;    /* --mmds-size-limit; SIZE_MAX when not given */
    uint64_t start_time_us, start_time_cpu_us, parent_cpu_time_us; /* 0 when not given */
};

/*
 * Reads argv[1] and on. `--help`, `-h` and `--version` win over everything else, even mistakes.
 * -EINVAL with a sentence, and below it a line with the words that clients of Firecracker know.
 */
int args_parse(struct args *args, int argc, char **argv, struct err *e) __must_check;

/* The text of --help, in malloc'ed memory; NULL when memory is out. */
char *args_help(void);

#endif
