/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mayflyctl.c: the command that talks to a monitor. It shows what it asks and what comes back, so
 * that reading its output teaches the API.
 */
#include "api/client.h"
#include "api/ctl_image.h"
#include "api/ctl_snapshot.h"
#include "api/timeline_draw.h"
#include "vmm/args.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/ioctl.h>

/* A body from a file or stdin may not be longer: a config is KiB, the metadata store 50. */
#define INPUT_LIMIT (64 * MIB)

/* Of a longer body only the beginning is shown. */
#define SHOWN_MAX 2000

enum exit_status { OK = 0, REFUSED = 1, FAILED = 2 };

struct options {
    const char *socket, *svg;
    unsigned wait_ms;
    bool trace, body_only;
};

static const char usage[] =
    "Usage: mayflyctl [OPTION]... METHOD PATH [BODY | @FILE | -]\n"
    "       mayflyctl [OPTION]... timeline [--svg FILE]\n"
    "       mayflyctl snapshot inspect [--memory FILE] [--json] STATE-FILE\n"
    "       mayflyctl image commit [--base FILE] --output NEW LAYER...\n"
    "       mayflyctl image info LAYER...\n"
    "\n"
    "Sends one request to a monitor's API socket and shows request and answer. BODY is JSON;\n"
    "@FILE reads it from a file, - from standard input. `timeline` draws where the time of the\n"
    "boot went (GET /timeline). `snapshot` looks at the files of one: mayflyctl snapshot --help.\n"
    "`image` works on the layers of drives: mayflyctl image --help.\n"
    "\n"
    "  -s, --socket PATH      the socket (default: $MAYFLY_SOCKET, else " ARGS_DEFAULT_API_SOCK
    ")\n"
    "  -w, --wait-socket MS   wait that long for the socket to appear and accept\n"
    "  -v, --trace            show the same request as a curl command first, and how long the\n"
    "                         answer took\n"
    "  -b, --body             print only the answer's body, as it came\n"
    "      --svg FILE         with timeline: draw it into FILE\n"
    "  -h, --help             this text\n"
    "      --version          the version\n"
    "\n"
    "Exit status: 0 for an answer of 200 to 299, 1 for any other answer, 2 for wrong usage or\n"
    "when there is no answer.\n"
    "\n"
    "Examples:\n"
    "  mayflyctl -s /tmp/vm.sock GET /\n"
    "  mayflyctl -s /tmp/vm.sock PUT /actions '{\"action_type\":\"InstanceStart\"}'\n"
    "  mayflyctl -s /tmp/vm.sock PUT /mmds @metadata.json\n"
    "  mayflyctl -s /tmp/vm.sock timeline --svg boot.svg\n";

static int complain(const char *text)
{
    fprintf(stderr, "mayflyctl: %s\n", text);
    return FAILED;
}

static int misuse(const char *text)
{
    fprintf(stderr, "mayflyctl: %s. See mayflyctl --help.\n", text);
    return FAILED;
}

/* ---- options ---- */

static bool parse_ms(const char *text, unsigned *ms)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (!isdigit((unsigned char)text[0]) || *end || value > 3600000UL)
        return false;
    *ms = (unsigned)value;
    return true;
}

/* -1: go on; else the status to exit with. */
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { SVG = 256, VERSION };
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'}, {"wait-socket", required_argument, NULL, 'w'},
        {"trace", no_argument, NULL, 'v'},        {"body", no_argument, NULL, 'b'},
        {"svg", required_argument, NULL, SVG},    {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, VERSION},  {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "s:w:vbh", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o->socket = optarg;
            break;
        case 'w':
            if (!parse_ms(optarg, &o->wait_ms))
                return misuse("--wait-socket takes milliseconds, at most 3600000");
            break;
        case 'v':
            o->trace = true;
            break;
        case 'b':
            o->body_only = true;
            break;
        case SVG:
            o->svg = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return OK;
        case VERSION:
            puts("mayflyctl v" MAYFLY_VERSION);
            return OK;
        default:
            return misuse("that is no option of mine");
        }
    }
    return -1;
}

/* ---- the body ---- */

static char *read_stream(FILE *in, size_t *len, struct err *e)
{
    size_t size = 4096, n;
    char *text = malloc(size), *larger;

    for (*len = 0; text; text = larger) {
        n = fread(text + *len, 1, size - *len - 1, in);
        *len += n;
        if (n == 0)
            break;
        size *= 2;
        larger = size <= INPUT_LIMIT ? realloc(text, size) : NULL;
        if (!larger)
            free(text);
    }
    if (!text) {
        err_set(e, -EFBIG, "larger than any request may be");
        return NULL;
    }
    text[*len] = '\0';
    if (!ferror(in))
        return text;
    err_set(e, -EIO, "%s", err_os(-errno));
    free(text);
    return NULL;
}

/* The body that the argument means, malloc'ed. */
static char *read_body(const char *argument, size_t *len, struct err *e)
{
    const char *name = argument[0] == '@' ? argument + 1 : argument;
    char *text;
    FILE *in;

    if (argument[0] != '@' && strcmp(argument, "-") != 0) {
        *len = strlen(argument);
        text = strdup(argument);
        if (!text)
            err_set(e, -ENOMEM, "Not enough memory for the request");
        return text;
    }
    if (argument[0] != '@') {
        text = read_stream(stdin, len, e);
        if (!text)
            err_prefix(e, "Cannot read standard input: ");
        return text;
    }
    in = fopen(name, "re");
    if (!in) {
        err_set(e, -errno, "Cannot open %s: %s", name, err_os(-errno));
        return NULL;
    }
    text = read_stream(in, len, e);
    fclose(in);
    if (!text)
        err_prefix(e, "Cannot read %s: ", name);
    return text;
}

/* ---- showing ---- */

/* Quoted for a shell, where it must be. */
static void put_quoted(const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@,";

    if (*text && !text[strspn(text, plain)]) {
        fputs(text, stdout);
        return;
    }
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
    putchar('\'');
}

static void show_curl(const struct options *o, const char *method, const char *path,
                      const char *body)
{
    fputs("$ curl --unix-socket ", stdout);
    put_quoted(o->socket);
    if (strcmp(method, "GET") != 0)
        printf(" -X %s", method);
    if (body) {
        fputs(" -H 'Content-Type: application/json' -d ", stdout);
        put_quoted(body);
    }
    fputs(" http://localhost", stdout);
    put_quoted(path);
    putchar('\n');
}

static void show_request(const char *method, const char *path, const char *body)
{
    printf("> %s %s", method, path);
    if (body && strlen(body) > SHOWN_MAX)
        printf(" %.*s... (%zu bytes)\n", SHOWN_MAX, body, strlen(body));
    else if (body)
        printf(" %s%s", body, body[0] && body[strlen(body) - 1] == '\n' ? "" : "\n");
    else
        putchar('\n');
    fflush(stdout);
}

/* Each line of text behind a mark. */
static void show_lines(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        printf("  %.*s\n", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

/* The status, and the time it took if that is not 0; then an error's message, or the value laid out
 * for reading, or whatever came. */
static void show_answer(const struct client_answer *answer, double ms)
{
    json_t *value = json_loadb(answer->body, answer->body_len, JSON_DECODE_ANY, NULL);
    const char *fault = json_string_value(json_object_get(value, "fault_message"));
    char *laid_out = value ? json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;

    printf("< %d", answer->status);
    if (ms > 0)
        printf(" after %.2f ms", ms);
    printf("%s%s\n", fault ? " " : "", fault ? fault : "");
    if (!fault && answer->body_len)
        show_lines(laid_out ? laid_out : answer->body);
    free(laid_out);
    json_decref(value);
}

/* ---- commands ---- */

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int ask(const struct options *o, const char *method, const char *path, const char *body,
               size_t body_len, struct client_answer *answer)
{
    struct err e;
    int fd = client_connect(o->socket, o->wait_ms, &e), rc = fd;

    if (fd >= 0) {
        rc = client_request(fd, method, path, body, body_len, answer, &e);
        close(fd);
    }
    return rc < 0 ? complain(e.text) : OK;
}

static int status_of(const struct client_answer *answer)
{
    return answer->status >= 200 && answer->status < 300 ? OK : REFUSED;
}

static int request(const struct options *o, char *method, const char *path, const char *argument)
{
    struct client_answer answer;
    char *body = NULL;
    size_t len = 0;
    struct err e;
    double begin;
    int rc;

    for (char *p = method; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    if (argument) {
        body = read_body(argument, &len, &e);
        if (!body)
            return complain(e.text);
    }
    if (o->trace)
        show_curl(o, method, path, body);
    if (!o->body_only)
        show_request(method, path, body);
    begin = now_ms();
    rc = ask(o, method, path, body, len, &answer);
    free(body);
    if (rc)
        return rc;
    if (o->body_only)
        fwrite(answer.body, 1, answer.body_len, stdout);
    else
        show_answer(&answer, o->trace ? now_ms() - begin : 0);
    free(answer.body);
    return status_of(&answer);
}

static int write_svg(const char *path, const struct timeline_points *points)
{
    FILE *out = fopen(path, "we");
    bool failed = !out;

    if (out) {
        timeline_draw_svg(out, points);
        failed = ferror(out) != 0;
        failed |= fclose(out) != 0;
    }
    if (!failed)
        return OK;
    fprintf(stderr, "mayflyctl: Cannot write %s: %s\n", path, strerror(errno));
    return FAILED;
}

/* Columns of the terminal, or a page's. */
static unsigned terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 60)
        return MIN(size.ws_col, 140);
    return 100;
}

static int timeline(const struct options *o)
{
    struct timeline_points points;
    struct client_answer answer;
    struct err e;
    int rc;

    if (o->trace)
        show_curl(o, "GET", "/timeline", NULL);
    rc = ask(o, "GET", "/timeline", NULL, 0, &answer);
    if (rc)
        return rc;
    if (status_of(&answer) != OK) {
        show_answer(&answer, 0);
        rc = REFUSED;
    } else if (timeline_parse(answer.body, answer.body_len, &points, &e)) {
        rc = complain(e.text);
    } else {
        timeline_draw_text(stdout, &points, terminal_width());
        rc = o->svg ? write_svg(o->svg, &points) : OK;
    }
    free(answer.body);
    return rc;
}

int main(int argc, char **argv)
{
    const char *from_environment = getenv("MAYFLY_SOCKET");
    struct options o = {.socket = from_environment ? from_environment : ARGS_DEFAULT_API_SOCK};
    char **args;
    int rc, n;

    if (argc > 1 && strcmp(argv[1], "snapshot") == 0)
        return ctl_snapshot(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "image") == 0)
        return ctl_image(argc - 1, argv + 1);
    rc = parse_options(argc, argv, &o);
    if (rc >= 0)
        return rc;
    n = argc - optind;
    args = argv + optind;
    if (n == 1 && strcmp(args[0], "timeline") == 0)
        return timeline(&o);
    if (n < 2 || n > 3)
        return misuse("a method and a path are needed, and a body at most");
    if (args[1][0] != '/')
        return misuse("the path begins with a slash");
    return request(&o, args[0], args[1], n == 3 ? args[2] : NULL);
}
