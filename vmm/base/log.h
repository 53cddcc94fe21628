/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h owns the log: four useful levels, one line a message, never blocking the machine.
 *
 * A line reads `2026-01-31T12:00:00.123456789 [id:thread] message`, with `:LEVEL` and `:file:line`
 * inside the brackets when asked for. A call site that repeats itself is limited to 10 lines in 5
 * seconds, so a guest cannot flood the log; what was swallowed is counted and summed up in one line
 * later. A line that a full pipe refuses is dropped and counted (metrics.logger.missed_log_count).
 *
 * Any thread may log; the log has a lock of its own, a leaf.
 */
#ifndef MAYFLY_BASE_LOG_H
#define MAYFLY_BASE_LOG_H

#include "vmm/base/err.h"

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

struct log_options {
    enum log_level level;
    bool show_level;
    bool show_origin;
    const char *module; /* show only files whose path begins with this, e.g. "virtio"; NULL = all */
};

/* One static struct a call site: its budget of lines. */
struct log_site {
    uint64_t window_start_ns;
    uint32_t lines;
    uint32_t suppressed;
};

/* The instance id inside the brackets; copied. */
void log_set_id(const char *id);

/* Copies the options (the module string too). */
void log_set_options(const struct log_options *options);

/*
 * Sends the log to `path`: a file, created if missing and appended to, or a FIFO, opened without
 * waiting for a reader. On failure the log goes on where it went. NULL = standard output, where it
 * goes before the first call too, but only from then on without ever waiting for a terminal.
 */
int log_set_path(const char *path, struct err *e) __must_check;

/* Whether it goes to a path of its own rather than to standard output. */
bool log_has_path(void);

/* In a forked child: the log is standard output's again, until log_set_path says otherwise; what
 * the parent had opened is not closed. */
void log_forget_path(void);

/* The calling thread's name in the brackets: "main" until set; a string that outlives
 * the thread. */
void log_set_thread(const char *name);

/* The level from its name in any case (`Warning` is `Warn`); -EINVAL if there is none of
 * that name. */
int log_level_parse(const char *name, enum log_level *level) __must_check;

/* Writes one line. Call through the macros below. `thread` NULL = the calling thread's name. */
void log_write(struct log_site *site, enum log_level level, const char *thread, const char *file,
               int line, const char *fmt, ...) __printf(6, 7);

/*
 * For signal handlers: writes a line unless the log is in use, by this thread or another, which
 * would mean to wait for it; then there is no line. The format may only hold %d and %s.
 */
#define log_in_signal(level, ...) log_try_write(level, __FILE__, __LINE__, __VA_ARGS__)
void log_try_write(enum log_level level, const char *file, int line, const char *fmt, ...)
    __printf(4, 5);

#define LOG_AT(level, thread, ...)                                                                 \
    do {                                                                                           \
        static struct log_site log_site_;                                                          \
        log_write(&log_site_, level, thread, __FILE__, __LINE__, __VA_ARGS__);                     \
    } while (0)

#define log_error(...) LOG_AT(LOG_ERROR, NULL, __VA_ARGS__)
#define log_warn(...)  LOG_AT(LOG_WARN, NULL, __VA_ARGS__)
#define log_info(...)  LOG_AT(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_DEBUG, NULL, __VA_ARGS__)

/*
 * Lines about API requests, which clients look for: they carry the name of the thread that serves
 * the API in Firecracker (there is no such thread here) and are never rate limited.
 */
#define log_api(level, ...) log_write(NULL, level, "fc_api", __FILE__, __LINE__, __VA_ARGS__)

#endif
