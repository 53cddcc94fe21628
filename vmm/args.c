/* SPDX-License-Identifier: Apache-2.0 */
/* args.c: the table of options, and the loop that reads them. */
#include "vmm/args.h"

#include "vmm/name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { FLAG, TEXT, SIZE, MICROSECONDS };

struct option {
    const char *name;
    enum kind kind;
    size_t at;        /* in struct args: a bool, or a const char * */
    size_t number_at; /* SIZE, MICROSECONDS: the number */
    const char *value_name;
    const char *help;
    const char *needs, *excludes; /* names of other options */
};

#define AT(member) offsetof(struct args, member)

/* Sorted by name: the order in which --help lists them and in which their rules are checked. */
static const struct option options[] = {
    {"api-sock", TEXT, AT(api_sock), 0, "PATH",
     "the API's Unix socket (default " ARGS_DEFAULT_API_SOCK ")", NULL, NULL},
    {"boot-timer", FLAG, AT(boot_timer), 0, NULL,
     "give the guest a register to tell that it has booted", NULL, NULL},
    {"config-file", TEXT, AT(config_file), 0, "PATH",
     "configure and start the microVM from this JSON file", NULL, NULL},
    {"describe-snapshot", TEXT, AT(describe_snapshot), 0, "PATH",
     "print the version of a state file's format", NULL, NULL},
    {"enable-pci", FLAG, AT(enable_pci), 0, NULL,
     "attach devices by PCI, not MMIO (not supported yet)", NULL, NULL},
    {"http-api-max-payload-size", SIZE, AT(payload_limit_text), AT(payload_limit), "BYTES",
     "largest body of an API request (default 51200)", NULL, NULL},
    {"id", TEXT, AT(id), 0, "ID", "1 to 64 letters, digits, hyphens (default " ARGS_DEFAULT_ID ")",
     NULL, NULL},
    {"level", TEXT, AT(level), 0, "LEVEL",
     "Off, Error, Warning, Info (the default), Debug or Trace", NULL, NULL},
    {"log-path", TEXT, AT(log_path), 0, "PATH",
     "file or FIFO for the log (default: standard output)", NULL, NULL},
    {"metadata", TEXT, AT(metadata), 0, "PATH", "JSON file with the guest's first metadata", NULL,
     NULL},
    {"metrics-path", TEXT, AT(metrics_path), 0, "PATH", "file or FIFO for the metrics", NULL, NULL},
    {"mmds-size-limit", SIZE, AT(mmds_limit_text), AT(mmds_limit), "BYTES",
     "largest metadata (default: as --http-api-max-payload-size)", NULL, NULL},
    {"module", TEXT, AT(module), 0, "PREFIX", "log only from source files that begin so", NULL,
     NULL},
    {"no-api", FLAG, AT(no_api), 0, NULL, "serve no API; needs --config-file", "config-file", NULL},
    {"no-seccomp", FLAG, AT(no_seccomp), 0, NULL, "install no system call filters", NULL,
     "seccomp-filter"},
    {"parent-cpu-time-us", MICROSECONDS, AT(parent_cpu_time_us_text), AT(parent_cpu_time_us), "US",
     "for the jailer: CPU time that it used itself", NULL, NULL},
    {"seccomp-filter", TEXT, AT(seccomp_filter), 0, "PATH",
     "filters to install instead of our own (not supported yet)", NULL, "no-seccomp"},
    {"show-level", FLAG, AT(show_level), 0, NULL, "put the level into each log line", NULL, NULL},
    {"show-log-origin", FLAG, AT(show_log_origin), 0, NULL,
     "put the source file and line into each log line", NULL, NULL},
    {"snapshot-version", FLAG, AT(snapshot_version), 0, NULL,
     "print the version of the state files that are written here", NULL, NULL},
    {"start-time-cpu-us", MICROSECONDS, AT(start_time_cpu_us_text), AT(start_time_cpu_us), "US",
     "for the jailer: process CPU clock when it started us", NULL, NULL},
    {"start-time-us", MICROSECONDS, AT(start_time_us_text), AT(start_time_us), "US",
     "for the jailer: monotonic clock when it started us", NULL, NULL},
};

/* ---- errors ---- */

/* `s` in double quotes, its own quotes, backslashes and control characters escaped. */
static void quote(char *out, size_t room, const char *s)
{
    size_t n = 0;

    out[n++] = '"';
    for (; *s && n + 8 < room; s++) {
        if (*s == '"' || *s == '\\')
            out[n++] = '\\';
        if ((unsigned char)*s >= 0x20)
            out[n++] = *s;
        else
            n += (size_t)snprintf(out + n, room - n, "\\u{%x}", (unsigned char)*s);
    }
    out[n++] = '"';
    out[n] = '\0';
}

/* Below the sentence in *e what Firecracker would say: `kind` and the names in it. */
static int as_known(struct err *e, const char *kind, const char *first, const char *second)
{
    size_t len = strlen(e->text);
    char a[1024], b[256] = "";

    quote(a, sizeof(a), first);
    if (second)
        quote(b, sizeof(b), second);
    snprintf(e->text + len, sizeof(e->text) - len, "\nError: ParseArguments(%s(%s%s%s))", kind, a,
             second ? ", " : "", b);
    return e->code;
}

/* ---- reading ---- */

static const struct option *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    }
    return NULL;
}

static bool *flag_of(struct args *args, const struct option *option)
{
    return (bool *)((char *)args + option->at);
}

static const char **text_of(struct args *args, const struct option *option)
{
    return (const char **)(void *)((char *)args + option->at);
}

static bool is_given(struct args *args, const struct option *option)
{
    return option->kind == FLAG ? *flag_of(args, option) : *text_of(args, option) != NULL;
}

/* Options end at a bare `--`. */
static int count_options(int argc, char **argv)
{
    int n = 1;

    while (n < argc && strcmp(argv[n], "--") != 0)
        n++;
    return n;
}

static bool contains(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], word) == 0)
            return true;
    }
    return false;
}

static bool begins_with_dashes(const char *word)
{
    return strncmp(word, "--", 2) == 0;
}

/* Reads the option at argv[i]; the index behind it, or -EINVAL. */
static int read_option(struct args *args, int i, int argc, char **argv, struct err *e)
{
    const char *name = begins_with_dashes(argv[i]) ? argv[i] + 2 : argv[i];
    const struct option *option = name != argv[i] ? find(name) : NULL;

    if (!option) {
        err_set(e, -EINVAL, "There is no option `%.1000s`; --help lists them all.", argv[i]);
        return as_known(e, "UnexpectedArgument", name, NULL);
    }
    if (is_given(args, option)) {
        err_set(e, -EINVAL, "--%s is given twice.", name);
        return as_known(e, "DuplicateArgument", name, NULL);
    }
    if (option->kind == FLAG) {
        *flag_of(args, option) = true;
        return i + 1;
    }
    if (i + 1 == argc || begins_with_dashes(argv[i + 1])) {
        err_set(e, -EINVAL, "--%s needs a value.", name);
        return as_known(e, "MissingValue", name, NULL);
    }
    *text_of(args, option) = argv[i + 1];
    return i + 2;
}

static int check_rules(struct args *args, struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        const struct option *o = &options[i];
        const struct option *needed = o->needs ? find(o->needs) : NULL;
        const struct option *excluded = o->excludes ? find(o->excludes) : NULL;

        if (!is_given(args, o))
            continue;
        if (needed && !is_given(args, needed)) {
            err_set(e, -EINVAL, "--%s needs --%s.", o->name, o->needs);
            return as_known(e, "MissingArgument", o->needs, NULL);
        }
        if (excluded && is_given(args, excluded)) {
            err_set(e, -EINVAL, "--%s and --%s exclude each other.", o->name, o->excludes);
            return as_known(e, "ForbiddenArgument", o->name, o->excludes);
        }
    }
    return 0;
}

/* Decimal digits only, as clients know it: no sign, no spaces. */
static int read_number(const struct option *option, const char *text, uint64_t *value,
                       struct err *e)
{
    size_t digits = strspn(text, "0123456789");

    errno = 0;
    *value = strtoull(text, NULL, 10);
    if (digits == 0 || text[digits] || errno)
        return err_set(e, -EINVAL, "Error: --%s takes a whole number, not `%s`.", option->name,
                       text);
    return 0;
}

static int read_numbers(struct args *args, struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        const struct option *o = &options[i];
        char *number = (char *)args + o->number_at;
        uint64_t value;

        if ((o->kind != SIZE && o->kind != MICROSECONDS) || !is_given(args, o))
            continue;
        if (read_number(o, *text_of(args, o), &value, e))
            return -EINVAL;
        if (o->kind == SIZE)
            *(size_t *)(void *)number = value;
        else
            *(uint64_t *)(void *)number = value;
    }
    return 0;
}

int args_parse(struct args *args, int argc, char **argv, struct err *e)
{
    int ret;

    *args = (struct args){.payload_limit = SIZE_MAX, .mmds_limit = SIZE_MAX};
    argc = count_options(argc, argv);
    if (contains(argc, argv, "--help") || contains(argc, argv, "-h"))
        args->action = ARGS_SHOW_HELP;
    else if (contains(argc, argv, "--version"))
        args->action = ARGS_SHOW_VERSION;
    if (args->action != ARGS_RUN)
        return 0;
    for (int i = 1; i < argc;) {
        i = read_option(args, i, argc, argv, e);
        if (i < 0)
            return i;
    }
    ret = check_rules(args, e);
    if (ret == 0)
        ret = read_numbers(args, e);
    if (!args->api_sock)
        args->api_sock = ARGS_DEFAULT_API_SOCK;
    if (!args->id)
        args->id = ARGS_DEFAULT_ID;
    return ret ? ret : instance_id_check(args->id, "Error: --id", e);
}

/* One line: the option, its value, and what it does from the same column on. */
static void print_option(FILE *out, const char *name, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s %s", name, value ? value : "");
    fprintf(out, "  %-36s%s\n", left, help);
}

char *args_help(void)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    fprintf(out, "Runs one microVM, told what to do over a Unix socket or by a file.\n\n"
                 "usage: mayfly [options]\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        print_option(out, options[i].name, options[i].value_name, options[i].help);
    print_option(out, "help, -h", NULL, "print this");
    print_option(out, "version", NULL, "print the versions");
    fprintf(out,
            "\nThe process ends with 0 when the guest asked for it, 1 after an error, 153 for\n"
            "bad options, 152 for a bad --level.\n");
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
