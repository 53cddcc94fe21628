/* SPDX-License-Identifier: Apache-2.0 */
/* What came, told in the form of the recordings. */
#include "tests/conformance/inspect.h"

#include "tests/support/clock.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

enum { RUN_MS = 5000 };

static json_t *describe_headers(const struct api_answer *a)
{
    json_t *headers = json_object();
    for (unsigned i = 0; i < a->n_headers; i++) {
        const struct api_header *h = &a->headers[i];
        bool length = !strcasecmp(h->name, "Content-Length");
        json_object_set_new(headers, h->name, length ? json_true() : json_string(h->value));
    }
    return headers;
}

json_t *inspect_answer(struct api_answer *a, const struct places *places)
{
    json_t *answer = json_pack("{s:i}", "status", a->status);
    places_restore(places, &a->body);
    if (strcmp(a->version, "1.1"))
        json_object_set_new(answer, "version", json_string(a->version));
    if (a->body.len) {
        json_t *body = json_loadb(a->body.data, a->body.len, JSON_DECODE_ANY, NULL);
        const char *kind = body ? "body" : "body_text";
        json_object_set_new(answer, kind, body ? body : json_string(a->body.data));
    }
    json_object_set_new(answer, "headers", describe_headers(a));
    return answer;
}

json_t *inspect_stream(const struct text *bytes, const struct places *places, bool first_only)
{
    json_t *answers = json_array();
    json_t *result = json_pack("{s:o}", "answers", answers);
    size_t at = 0;
    while (at < bytes->len && !(first_only && json_array_size(answers))) {
        struct api_answer a;
        long took = api_parse(&a, bytes->data + at, bytes->len - at);
        if (took <= 0) {
            json_object_set_new(result, "rest", json_string(bytes->data + at));
            break;
        }
        json_array_append_new(answers, inspect_answer(&a, places));
        api_answer_free(&a);
        at += (size_t)took;
    }
    return result;
}

json_t *inspect_end(const struct process *p)
{
    if (WIFSIGNALED(p->status))
        return json_pack("{s:s}", "signal", signal_word(WTERMSIG(p->status)));
    return json_pack("{s:i}", "exit", WEXITSTATUS(p->status));
}

static bool asks_for(const json_t *what, const char *word)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(what, "report"), i, item) {
        if (!strcmp(json_string_value(item), word))
            return true;
    }
    return false;
}

static json_t *file_type(mode_t mode)
{
    const char *word = S_ISREG(mode)    ? "file"
                       : S_ISSOCK(mode) ? "socket"
                       : S_ISDIR(mode)  ? "directory"
                                        : "other";
    return json_string(word);
}

static json_int_t count_lines(const struct text *t)
{
    json_int_t lines = 0;
    for (size_t i = 0; i < t->len; i++)
        lines += t->data[i] == '\n';
    return lines;
}

/* Appends the path of every value inside nested objects. */
static void collect_keys(json_t *object, const char *prefix, json_t *keys)
{
    const char *key;
    json_t *value;
    json_object_foreach (object, key, value) {
        char *path = text_format("%s%s%s", prefix, *prefix ? "." : "", key);
        if (json_is_object(value) && json_object_size(value))
            collect_keys(value, path, keys);
        else
            json_array_append_new(keys, json_string(path));
        free(path);
    }
}

static int by_string(const void *a, const void *b)
{
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

static json_t *sorted_strings(json_t *array)
{
    size_t n = json_array_size(array);
    json_t **items = calloc(n + 1, sizeof(*items));
    if (!items)
        abort();
    for (size_t i = 0; i < n; i++)
        items[i] = json_incref(json_array_get(array, i));
    qsort(items, n, sizeof(*items), by_string);
    json_t *sorted = json_array();
    for (size_t i = 0; i < n; i++)
        if (!i || by_string(&items[i - 1], &items[i]))
            json_array_append(sorted, items[i]);
    for (size_t i = 0; i < n; i++)
        json_decref(items[i]);
    free(items);
    json_decref(array);
    return sorted;
}

/* The last line that is not blank, without its line end; "" when there is none. */
static char *last_line(const char *text)
{
    const char *end = text + strlen(text);
    while (end > text && strchr("\r\n \t", end[-1]))
        end--;
    const char *start = end;
    while (start > text && start[-1] != '\n')
        start--;
    return strndup(start, (size_t)(end - start));
}

static json_t *last_line_keys(const struct text *t)
{
    char *line = last_line(text_str(t));
    json_t *object = json_loads(line, 0, NULL);
    json_t *keys = json_array();
    collect_keys(object, "", keys);
    json_decref(object);
    free(line);
    return sorted_strings(keys);
}

static json_t *which_contained(const json_t *needles, const struct text *t)
{
    json_t *found = json_object();
    size_t i;
    json_t *needle;
    json_array_foreach (needles, i, needle) {
        const char *s = json_string_value(needle);
        json_object_set_new(found, s, json_boolean(text_contains(t, s)));
    }
    return found;
}

static void inspect_contents(json_t *answer, const json_t *check, const char *path)
{
    struct text t = {0};
    text_read_file(&t, path);
    if (asks_for(check, "lines"))
        json_object_set_new(answer, "lines", json_integer(count_lines(&t)));
    if (asks_for(check, "contains"))
        json_object_set_new(answer, "contains",
                            which_contained(json_object_get(check, "contains"), &t));
    if (asks_for(check, "last_line_keys"))
        json_object_set_new(answer, "keys", last_line_keys(&t));
    text_free(&t);
}

json_t *inspect_file(const json_t *check, const struct places *places)
{
    char *path = places_expand(places, json_string_value(json_object_get(check, "file")));
    json_t *answer = json_object();
    struct stat st;
    bool exists = lstat(path, &st) == 0;
    json_object_set_new(answer, "exists", json_boolean(exists));
    if (exists) {
        json_object_set_new(answer, "type", file_type(st.st_mode));
        if (asks_for(check, "size"))
            json_object_set_new(answer, "size", json_integer(st.st_size));
        if (asks_for(check, "nonempty"))
            json_object_set_new(answer, "nonempty", json_boolean(st.st_size > 0));
        if (S_ISREG(st.st_mode))
            inspect_contents(answer, check, path);
    }
    free(path);
    return answer;
}

/* Skips the `time [id:thread] ` in front of a log line. */
static const char *without_log_prefix(const char *line)
{
    const char *space = strchr(line, ' ');
    if (!space || space == line || space[1] != '[')
        return line;
    const char *end = strstr(space, "] ");
    const char *colon = strchr(space, ':');
    return end && colon && colon < end ? end + 2 : line;
}

static json_t *spoken(const struct text *t)
{
    char *line = last_line(text_str(t));
    json_t *word = json_string(without_log_prefix(line));
    free(line);
    return word;
}

/* Appends the long option names at the head of one line of a help text. */
static void names_of_line(json_t *names, const char *line)
{
    for (;;) {
        line += strspn(line, " \t,");
        size_t length =
            strspn(line, "-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
        if (*line != '-' || !length)
            return;
        if (length > 2 && line[1] == '-')
            json_array_append_new(names, json_stringn(line, length));
        line += length;
    }
}

static json_t *option_names(const struct text *help)
{
    json_t *names = json_array();
    const char *line = text_str(help);
    while (line) {
        names_of_line(names, line);
        line = strchr(line, '\n');
        if (line)
            line++;
    }
    return sorted_strings(names);
}

static json_t *first_line(const struct text *t)
{
    return json_stringn(text_str(t), strcspn(text_str(t), "\r\n"));
}

static void inspect_words(json_t *answer, const json_t *run, const struct process *p)
{
    bool usual = !json_object_get(run, "report");
    if (usual || asks_for(run, "stdout"))
        json_object_set_new(answer, "stdout", spoken(&p->out_text));
    if (usual || asks_for(run, "stderr"))
        json_object_set_new(answer, "stderr", spoken(&p->err_text));
    if (asks_for(run, "first_stdout"))
        json_object_set_new(answer, "first_stdout", first_line(&p->out_text));
    if (asks_for(run, "option_names"))
        json_object_set_new(answer, "option_names", option_names(&p->out_text));
}

json_t *inspect_run(const json_t *run, const char *program, const struct places *places)
{
    const char *argv[24] = {program};
    char *expanded[16];
    size_t n = json_array_size(json_object_get(run, "args"));
    for (size_t i = 0; i < n && i < 16; i++) {
        json_t *arg = json_array_get(json_object_get(run, "args"), i);
        argv[1 + i] = expanded[i] = places_expand(places, json_string_value(arg));
    }
    json_int_t within = json_integer_value(json_object_get(run, "within_ms"));
    struct process p;
    struct process_spec spec = {
        .argv = argv, .cwd = places->dir, .out = PROCESS_PIPE, .err = PROCESS_PIPE};
    json_t *answer = json_pack("{s:b}", "running", 1);
    if (process_start(&p, &spec) == 0) {
        if (process_wait(&p, within ? (int)within : RUN_MS)) {
            json_decref(answer);
            answer = inspect_end(&p);
        }
        places_restore(places, &p.out_text);
        places_restore(places, &p.err_text);
        inspect_words(answer, run, &p);
        process_end(&p);
    }
    for (size_t i = 0; i < n && i < 16; i++)
        free(expanded[i]);
    return answer;
}

void inspect_latin1(struct text *out, const struct text *utf8)
{
    const unsigned char *s = (const unsigned char *)text_str(utf8);
    for (size_t i = 0; i < utf8->len; i++) {
        unsigned char byte = s[i];
        if (byte >= 0xc2 && byte <= 0xc3 && i + 1 < utf8->len)
            byte = (unsigned char)((byte & 3) << 6 | (s[++i] & 0x3f));
        text_append(out, &byte, 1);
    }
}
