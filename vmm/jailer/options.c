/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: the table of the jailer's options, and a function for each kind of value. */
#include "vmm/jailer/options.h"

#include "vmm/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ID_LENGTH_MAX = 64 };

/* Reads the value of an option into *o. */
typedef int (*read_value_fn)(struct jailer_options *o, const char *value, struct err *e);

static int read_id(struct jailer_options *o, const char *value, struct err *e);
static int read_exec_file(struct jailer_options *o, const char *value, struct err *e);
static int read_uid(struct jailer_options *o, const char *value, struct err *e);
static int read_gid(struct jailer_options *o, const char *value, struct err *e);
static int read_base_dir(struct jailer_options *o, const char *value, struct err *e);
static int read_netns(struct jailer_options *o, const char *value, struct err *e);
static int read_cgroup(struct jailer_options *o, const char *value, struct err *e);
static int read_cgroup_version(struct jailer_options *o, const char *value, struct err *e);
static int read_parent_cgroup(struct jailer_options *o, const char *value, struct err *e);
static int read_resource_limit(struct jailer_options *o, const char *value, struct err *e);

static const struct option {
    const char *name;
    read_value_fn read; /* NULL: a flag */
    size_t flag_at;     /* a flag's place in struct jailer_options */
    bool required, repeatable;
} options[] = {
    {.name = "id", .read = read_id, .required = true},
    {.name = "exec-file", .read = read_exec_file, .required = true},
    {.name = "uid", .read = read_uid, .required = true},
    {.name = "gid", .read = read_gid, .required = true},
    {.name = "chroot-base-dir", .read = read_base_dir},
    {.name = "netns", .read = read_netns},
    {.name = "daemonize", .flag_at = offsetof(struct jailer_options, daemonize)},
    {.name = "new-pid-ns", .flag_at = offsetof(struct jailer_options, new_pid_ns)},
    {.name = "cgroup", .read = read_cgroup, .repeatable = true},
    {.name = "cgroup-version", .read = read_cgroup_version},
    {.name = "parent-cgroup", .read = read_parent_cgroup},
    {.name = "resource-limit", .read = read_resource_limit, .repeatable = true},
};

static const char help[] =
    "Locks a microVM monitor up: a root directory, namespaces, cgroups, limits and a user of its\n"
    "own; then runs it there. Needs to be started as root.\n\n"
    "usage: mayfly-jailer --id ID --exec-file PATH --uid N --gid N [options] [-- ARGS...]\n\n"
    "  --id ID                      1 to 64 letters, digits, hyphens; names the jail\n"
    "  --exec-file PATH             the monitor; a copy of it runs\n"
    "  --uid N                      the user it runs as\n"
    "  --gid N                      the group it runs as\n"
    "  --chroot-base-dir PATH       where jails are made (default " JAILER_BASE_DIR ")\n"
    "  --netns PATH                 the network namespace to join\n"
    "  --new-pid-ns                 run it as process 1 of a new PID namespace; the jailer ends\n"
    "                               with 0 once it runs\n"
    "  --daemonize                  a session of its own, /dev/null for its standard streams; the\n"
    "                               jailer ends with 0 once it runs\n"
    "  --cgroup FILE=VALUE          write VALUE to this file of its cgroup, as in cpu.shares=10;\n"
    "                               repeatable\n"
    "  --cgroup-version N           1 (the default) or 2\n"
    "  --parent-cgroup PATH         the cgroup in which its own is made (default: the name of the\n"
    "                               executable); without --cgroup, and with version 2, the one\n"
    "                               that it joins if it exists\n"
    "  --resource-limit NAME=VALUE  no-file: one more than the highest descriptor (default 2048);\n"
    "                               fsize: bytes in a file it writes; repeatable\n"
    "  --help, -h                   print this\n"
    "  --version                    print the versions\n\n"
    "The jail is BASE/NAME/ID/root, NAME being that of the executable; the PID is in NAME.pid\n"
    "there. ARGS are for the monitor; paths in them are seen from inside the jail. The process\n"
    "ends with 1 after an error, and what it had made is removed again.\n";

const char *jailer_options_help(void)
{
    return help;
}

/* ---- values ---- */

/* Decimal digits only: no sign, no spaces. False also when it does not fit. */
static bool read_number(const char *text, uint64_t max, uint64_t *value)
{
    errno = 0;
    *value = strtoull(text, NULL, 10);
    return *text && !text[strspn(text, "0123456789")] && !errno && *value <= max;
}

static int read_id(struct jailer_options *o, const char *value, struct err *e)
{
    size_t len = strlen(value), bad_len;
    ptrdiff_t bad;

    o->id = value;
    if (len < 1 || len > ID_LENGTH_MAX)
        return err_set(e, -EINVAL,
                       "Invalid instance ID: Invalid len (%zu);  the length must be between 1 "
                       "and %d",
                       len, ID_LENGTH_MAX);
    bad = name_first_odd(value, '-', &bad_len);
    if (bad >= 0)
        return err_set(e, -EINVAL, "Invalid instance ID: Invalid char (%.*s) at position %td",
                       (int)bad_len, value + bad, bad);
    return 0;
}

static int read_exec_file(struct jailer_options *o, const char *value, struct err *e)
{
    (void)e;
    o->exec_file = value;
    return 0;
}

/* The highest number means "unchanged" to chown(2) and setuid(2): nobody's. */
static int read_uid(struct jailer_options *o, const char *value, struct err *e)
{
    uint64_t number;

    if (!read_number(value, UINT32_MAX - 1, &number))
        return err_set(e, -EINVAL, "Invalid uid: %s", value);
    o->uid = (uid_t)number;
    return 0;
}

static int read_gid(struct jailer_options *o, const char *value, struct err *e)
{
    uint64_t number;

    if (!read_number(value, UINT32_MAX - 1, &number))
        return err_set(e, -EINVAL, "Invalid gid: %s", value);
    o->gid = (gid_t)number;
    return 0;
}

static int read_base_dir(struct jailer_options *o, const char *value, struct err *e)
{
    (void)e;
    o->base_dir = value;
    return 0;
}

static int read_netns(struct jailer_options *o, const char *value, struct err *e)
{
    (void)e;
    o->netns = value;
    return 0;
}

/* FILE=VALUE, FILE being CONTROLLER.PROPERTY: a name in a directory, never a path. */
static int read_cgroup(struct jailer_options *o, const char *value, struct err *e)
{
    size_t file_len = strcspn(value, "="), controller_len = strcspn(value, ".=");
    struct cgroup_setting *setting = &o->cgroups[o->n_cgroups];

    if (o->n_cgroups == JAILER_CGROUP_SETTINGS_MAX)
        return err_set(e, -EINVAL, "Invalid format for cgroups: more than %d of them",
                       JAILER_CGROUP_SETTINGS_MAX);
    if (value[file_len] != '=' || !value[file_len + 1])
        return err_set(e, -EINVAL, "Invalid format for cgroups: %s", value);
    if (controller_len == 0 || controller_len >= sizeof(setting->controller) ||
        controller_len + 1 >= file_len || file_len >= sizeof(setting->file) ||
        memchr(value, '/', file_len))
        return err_set(e, -EINVAL, "Cgroup invalid file: %.*s", (int)file_len, value);
    *setting = (struct cgroup_setting){.value = value + file_len + 1};
    memcpy(setting->file, value, file_len);
    memcpy(setting->controller, value, controller_len);
    o->n_cgroups++;
    return 0;
}

static int read_cgroup_version(struct jailer_options *o, const char *value, struct err *e)
{
    if (strcmp(value, "1") != 0 && strcmp(value, "2") != 0)
        return err_set(e, -EINVAL, "%s is an invalid cgroup version specifier", value);
    o->cgroup_version = (unsigned)(value[0] - '0');
    return 0;
}

/* Whether one of the path's parts is `.` or `..`. */
static bool has_dots(const char *path)
{
    while (*path) {
        size_t len = strcspn(path, "/");

        if ((len == 1 || len == 2) && strncmp(path, "..", len) == 0)
            return true;
        path += len + (path[len] == '/');
    }
    return false;
}

static int read_parent_cgroup(struct jailer_options *o, const char *value, struct err *e)
{
    if (value[0] == '/' || has_dots(value))
        return err_set(e, -EINVAL,
                       "Parent cgroup path is invalid. Path should not be absolute or contain "
                       "'..' or '.'");
    o->parent_cgroup = value;
    return 0;
}

static int read_resource_limit(struct jailer_options *o, const char *value, struct err *e)
{
    size_t name_len = strcspn(value, "=");
    uint64_t number;

    if (value[name_len] != '=')
        return err_set(e, -EINVAL, "Invalid format for resources limits: %s", value);
    if (!read_number(value + name_len + 1, UINT64_MAX, &number))
        return err_set(e, -EINVAL, "Invalid limit value for resource: %s: not a whole number",
                       value + name_len + 1);
    if (strncmp(value, "fsize=", name_len + 1) == 0) {
        o->fsize = number;
        o->has_fsize = true;
    } else if (strncmp(value, "no-file=", name_len + 1) == 0) {
        o->no_file = number;
    } else {
        return err_set(e, -EINVAL, "Invalid resource argument: %.*s", (int)name_len, value);
    }
    return 0;
}

/* ---- the words ---- */

static const struct option *find(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (strncmp(word, "--", 2) == 0 && strcmp(options[i].name, word + 2) == 0)
            return &options[i];
    }
    return NULL;
}

/* How many words are the jailer's own; what stands behind them is the monitor's. */
static int split(struct jailer_options *o, int argc, char **argv)
{
    int n = 1;

    while (n < argc && strcmp(argv[n], "--") != 0)
        n++;
    o->monitor_args = argv + MIN(n + 1, argc);
    return MIN(n, argc);
}

static bool contains(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], word) == 0)
            return true;
    }
    return false;
}

/* Reads the option at argv[i]; the index behind it, or -EINVAL. `seen`: one for each option. */
static int read_option(struct jailer_options *o, int i, int argc, char **argv, bool *seen,
                       struct err *e)
{
    const struct option *option = find(argv[i]);

    if (!option)
        return err_set(e, -EINVAL,
                       "Failed to parse arguments: Found argument '%s' which wasn't expected, or "
                       "isn't valid in this context.",
                       argv[i] + (strncmp(argv[i], "--", 2) == 0 ? 2 : 0));
    if (seen[option - options] && !option->repeatable)
        return err_set(e, -EINVAL,
                       "Failed to parse arguments: The argument '%s' was provided more than once.",
                       option->name);
    seen[option - options] = true;
    if (!option->read) {
        *(bool *)((char *)o + option->flag_at) = true;
        return i + 1;
    }
    if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
        return err_set(e, -EINVAL,
                       "Failed to parse arguments: The argument '%s' requires a value, but none "
                       "was supplied.",
                       option->name);
    return option->read(o, argv[i + 1], e) ? -EINVAL : i + 2;
}

static int check_required(const bool *seen, struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (options[i].required && !seen[i])
            return err_set(e, -EINVAL,
                           "Failed to parse arguments: Argument '%s' required, but not found.",
                           options[i].name);
    }
    return 0;
}

int jailer_options_parse(struct jailer_options *o, int argc, char **argv, struct err *e)
{
    bool seen[ARRAY_SIZE(options)] = {false};

    *o = (struct jailer_options){
        .base_dir = JAILER_BASE_DIR, .cgroup_version = 1, .no_file = JAILER_NO_FILE_DEFAULT};
    argc = split(o, argc, argv);
    if (contains(argc, argv, "--help") || contains(argc, argv, "-h"))
        o->action = JAILER_SHOW_HELP;
    else if (contains(argc, argv, "--version"))
        o->action = JAILER_SHOW_VERSION;
    if (o->action != JAILER_RUN)
        return 0;
    for (int i = 1; i < argc;) {
        i = read_option(o, i, argc, argv, seen, e);
        if (i < 0)
            return i;
    }
    return check_required(seen, e);
}
