/* SPDX-License-Identifier: Apache-2.0 */
/* log.c: one line a message, one write a line. */
#include "vmm/base/log.h"

#include "vmm/base/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <linux/major.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LINES_PER_WINDOW 10
#define WINDOW_NS        (5 * NSEC_PER_SEC)

static struct {
    pthread_mutex_t lock;
    int fd;
    bool may_block; /* standard output, shared with others: asked by poll before each write */
    bool has_path;
    time_t second; /* whose text is in `time`: it costs more than the rest of a line's head */
    char time[sizeof("2026-11-24T18:23:44")];
    char id[65];
    char module[256];
    struct log_options options;
} logger = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .fd = STDOUT_FILENO,
    .may_block = true,
    .id = "anonymous-instance",
    .options = {.level = LOG_INFO},
};

static _Thread_local const char *thread_name = "main";

static const char *const level_names[] = {
    [LOG_OFF] = "Off",   [LOG_ERROR] = "Error", [LOG_WARN] = "Warn",
    [LOG_INFO] = "Info", [LOG_DEBUG] = "Debug", [LOG_TRACE] = "Trace",
};

/* As the lines show them. */
static const char *const level_labels[] = {
    [LOG_OFF] = "OFF",   [LOG_ERROR] = "ERROR", [LOG_WARN] = "WARN",
    [LOG_INFO] = "INFO", [LOG_DEBUG] = "DEBUG", [LOG_TRACE] = "TRACE",
};

void log_set_id(const char *id)
{
    snprintf(logger.id, sizeof(logger.id), "%s", id);
}

void log_set_options(const struct log_options *options)
{
    pthread_mutex_lock(&logger.lock);
    logger.options = *options;
    snprintf(logger.module, sizeof(logger.module), "%s", options->module ? options->module : "");
    pthread_mutex_unlock(&logger.lock);
}

/*
 * A terminal that nobody reads has room for a byte, says poll, and then makes a line wait. Its
 * description is shared with whoever started us, so we open one of our own that does not wait. In a
 * jail, where there is no /proc, the jailer has done so.
 */
static int standard_output(void)
{
    int own = isatty(STDOUT_FILENO)
                  ? open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
                  : -1;

    return own < 0 ? STDOUT_FILENO : own;
}

/* Whether a write may have to wait: not where the description says that it does not, and not to a
 * file or to a memory device such as /dev/null. */
static bool may_block(int fd)
{
    struct stat st;

    if (fcntl(fd, F_GETFL) & O_NONBLOCK)
        return false;
    return fstat(fd, &st) ||
           !(S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && major(st.st_rdev) == MEM_MAJOR));
}

int log_set_path(const char *path, struct err *e)
{
    int fd;

    if (path) {
        /* O_RDWR: opening a FIFO for writing alone would fail without a reader. */
        fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
        if (fd < 0)
            return err_set(e, -errno, "%s", err_os(-errno));
    } else {
        fd = standard_output();
    }
    pthread_mutex_lock(&logger.lock);
    if (logger.fd != STDOUT_FILENO)
        close(logger.fd);
    logger.fd = fd;
    logger.may_block = may_block(fd);
    logger.has_path = path != NULL;
    pthread_mutex_unlock(&logger.lock);
    return 0;
}

bool log_has_path(void)
{
    return logger.has_path;
}

void log_forget_path(void)
{
    logger.fd = STDOUT_FILENO;
    logger.may_block = true;
    logger.has_path = false;
}

void log_set_thread(const char *name)
{
    thread_name = name;
}

int log_level_parse(const char *name, enum log_level *level)
{
    if (strcasecmp(name, "warning") == 0)
        name = "warn";
    for (unsigned i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* A line goes out whole or not at all; one that would block is counted, not waited for. */
static void put(const char *line, size_t len)
{
    struct pollfd out = {.fd = logger.fd, .events = POLLOUT};

    if (logger.may_block && poll(&out, 1, 0) == 0) {
        metric_add(&metrics.logger.missed_log_count, 1);
        return;
    }
    if (write(logger.fd, line, len) != (ssize_t)len)
        metric_add(&metrics.logger.missed_log_count, 1);
}

static const char *local_time(time_t second)
{
    struct tm tm;

    if (second != logger.second) {
        localtime_r(&second, &tm);
        strftime(logger.time, sizeof(logger.time), "%Y-%m-%dT%H:%M:%S", &tm);
        logger.second = second;
    }
    return logger.time;
}

static size_t format_head(char *to, size_t room, enum log_level level, const char *thread,
                          const char *file, int line)
{
    struct timespec t;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &t);
    n = (size_t)snprintf(to, room, "%s.%09ld [%s:%s", local_time(t.tv_sec), t.tv_nsec, logger.id,
                         thread);
    if (logger.options.show_level)
        n += (size_t)snprintf(to + n, room - n, ":%s", level_labels[level]);
    if (logger.options.show_origin)
        n += (size_t)snprintf(to + n, room - n, ":%s:%d", file, line);
    n += (size_t)snprintf(to + n, room - n, "] ");
    return n;
}

/* Whether the site may write now. On the first line after a silence, *missed is what the silence
 * hid. */
static bool within_budget(struct log_site *site, uint32_t *missed)
{
    uint64_t now = now_ns();

    *missed = 0;
    if (now - site->window_start_ns >= WINDOW_NS || site->window_start_ns == 0) {
        site->window_start_ns = now;
        site->lines = 0;
        *missed = site->suppressed;
        site->suppressed = 0;
    }
    if (site->lines < LINES_PER_WINDOW) {
        site->lines++;
        return true;
    }
    site->suppressed++;
    metric_add(&metrics.logger.rate_limited_log_count, 1);
    return false;
}

static bool wanted(enum log_level level, const char *file)
{
    return level <= logger.options.level &&
           strncmp(file, logger.module, strlen(logger.module)) == 0;
}

/* A message may hold what a client sent: that must neither forge a line nor talk to a terminal. */
static void hide_controls(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            text[i] = '?';
    }
}

static void put_line(enum log_level level, const char *thread, const char *file, int line,
                     const char *fmt, va_list args) __printf(5, 0);

static void put_line(enum log_level level, const char *thread, const char *file, int line,
                     const char *fmt, va_list args)
{
    /* PIPE_BUF: a longer line could be torn apart by another writer, and bodies can be
     * long anyway. */
    char text[PIPE_BUF];
    size_t n = format_head(text, sizeof(text), level, thread, file, line);
    int more = vsnprintf(text + n, sizeof(text) - n - 1, fmt, args);

    if (more > 0)
        n += MIN((size_t)more, sizeof(text) - n - 2);
    hide_controls(text, n);
    text[n++] = '\n';
    put(text, n);
}

static void put_summary(uint32_t missed, const char *thread, const char *file, int line,
                        const char *fmt, ...) __printf(5, 6);

static void put_summary(uint32_t missed, const char *thread, const char *file, int line,
                        const char *fmt, ...)
{
    va_list args;

    if (missed == 0)
        return;
    va_start(args, fmt);
    put_line(LOG_WARN, thread, file, line, fmt, args);
    va_end(args);
}

void log_write(struct log_site *site, enum log_level level, const char *thread, const char *file,
               int line, const char *fmt, ...)
{
    va_list args;
    uint32_t missed = 0;

    if (!thread)
        thread = thread_name;
    pthread_mutex_lock(&logger.lock);
    if (wanted(level, file) && (!site || within_budget(site, &missed))) {
        put_summary(missed, thread, file, line, "%u messages were suppressed here", missed);
        va_start(args, fmt);
        put_line(level, thread, file, line, fmt, args);
        va_end(args);
    }
    pthread_mutex_unlock(&logger.lock);
}

void log_try_write(enum log_level level, const char *file, int line, const char *fmt, ...)
{
    va_list args;

    if (pthread_mutex_trylock(&logger.lock))
        return;
    if (wanted(level, file)) {
        va_start(args, fmt);
        put_line(level, thread_name, file, line, fmt, args);
        va_end(args);
    }
    pthread_mutex_unlock(&logger.lock);
}
