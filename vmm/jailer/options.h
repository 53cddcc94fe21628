/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h owns the jailer's command line: its options, what their values may be and the sentence
 * for each that may not. The words are Firecracker's, which its clients match on. Pure: nothing is
 * opened, resolved or printed here.
 */
#ifndef MAYFLY_JAILER_OPTIONS_H
#define MAYFLY_JAILER_OPTIONS_H

#include "vmm/base/err.h"

#include <sys/types.h>

#define JAILER_BASE_DIR "/srv/jailer"

enum { JAILER_CGROUP_SETTINGS_MAX = 64, JAILER_NO_FILE_DEFAULT = 2048 };

enum jailer_action { JAILER_RUN, JAILER_SHOW_HELP, JAILER_SHOW_VERSION };

/* One --cgroup FILE=VALUE. */
struct cgroup_setting {
    char file[64];       /* "cpu.shares" */
    char controller[32]; /* "cpu" */
    const char *value;   /* not empty */
};

/* Strings point into argv; NULL = not given. */
struct jailer_options {
    enum jailer_action action;
    const char *id, *exec_file;
    const char *base_dir; /* --chroot-base-dir, with its default */
    uid_t uid;
    gid_t gid;
    const char *netns;
    bool daemonize, new_pid_ns;

    unsigned cgroup_version;   /* 1 or 2 */
    const char *parent_cgroup; /* NULL: named as the executable */
    struct cgroup_setting cgroups[JAILER_CGROUP_SETTINGS_MAX];
    unsigned n_cgroups;

    uint64_t no_file; /* RLIMIT_NOFILE */
    uint64_t fsize;   /* RLIMIT_FSIZE, when has_fsize */
    bool has_fsize;

    char **monitor_args; /* what stands behind the first bare `--`; NULL ends it */
};

/*
 * Reads argv[1] and on. An option is `--name` or `--name value`; --cgroup and --resource-limit may
 * be repeated. `--help`, `-h` and `--version` win over everything else, even mistakes. -EINVAL with
 * a sentence.
 */
int jailer_options_parse(struct jailer_options *o, int argc, char **argv,
                         struct err *e) __must_check;

/* The text of --help. */
const char *jailer_options_help(void);

#endif
