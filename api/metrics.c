/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c: the tables of names, the line, the file. */
#include "api/metrics.h"

#include "api/json_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS (60 * NSEC_PER_SEC)

/*
 * Names stand in the rows themselves: pointers would need relocation when the program starts, which
 * makes private copies of these pages.
 */
enum kind { COUNTER, GAUGE, AGGREGATE };
struct row {
    unsigned char kind;
    char name[31];
};

#define ROW_COUNTER(name)   {COUNTER, #name},
#define ROW_GAUGE(name)     {GAUGE, #name},
#define ROW_AGGREGATE(name) {AGGREGATE, #name},
#define ROWS(group, list)                                                                          \
    static const struct row rows_##group[] = {list(ROW_COUNTER, ROW_GAUGE, ROW_AGGREGATE)};
METRICS_GROUPS(ROWS)

static const struct group {
    const char *name;
    const struct row *rows;
    size_t count, at; /* in struct metrics */
} groups[] = {
#define GROUP_ROW(group, list)                                                                     \
    {#group, rows_##group, ARRAY_SIZE(rows_##group), offsetof(struct metrics, group)},
    METRICS_GROUPS(GROUP_ROW)
#undef GROUP_ROW
};

static struct {
    int fd;
    const char *id;
    char *properties;
    struct machine *machine; /* NULL until it runs */
    struct loop *loop;
    struct loop_timer minute;
    volatile sig_atomic_t flushing;
    bool torn; /* the file ends with the beginning of a line that was dropped */

    /* What the line before said. */
    struct metrics last;
    struct metrics_block last_drive[DEVICES_MAX];
} state = {.fd = -1};

/* One line; with 32 drives it needs about 40 KiB. Pages that are never reached cost nothing. */
static char line[160 * KIB];

/* ---- the line ---- */

static void write_aggregate(struct json_writer *w, const struct metric_agg *now, uint64_t last_sum)
{
    json_write_begin(w, '{');
    json_write_key(w, "min_us");
    json_write_unsigned(w, now->min_us);
    json_write_key(w, "max_us");
    json_write_unsigned(w, now->max_us);
    json_write_key(w, "sum_us");
    json_write_unsigned(w, now->sum_us - last_sum);
    json_write_end(w, '}');
}

/* A group is words, and three of them for an aggregate: `now` and `last` walk along with
 * the rows. */
static void write_group(struct json_writer *w, const struct row *rows, size_t count,
                        const void *group, const void *last_group)
{
    const uint64_t *now = group, *last = last_group;

    json_write_begin(w, '{');
    for (size_t i = 0; i < count; i++) {
        json_write_key(w, rows[i].name);
        if (rows[i].kind == AGGREGATE) {
            const struct metric_agg *agg = (const void *)now;

            write_aggregate(w, agg, ((const struct metric_agg *)(const void *)last)->sum_us);
            now += sizeof(*agg) / sizeof(*now);
            last += sizeof(*agg) / sizeof(*last);
        } else {
            json_write_unsigned(w, rows[i].kind == GAUGE ? *now : *now - *last);
            now++;
            last++;
        }
    }
    json_write_end(w, '}');
}

static void add_aggregate(struct metric_agg *sum, const struct metric_agg *one)
{
    if (one->sum_us && (sum->sum_us == 0 || one->min_us < sum->min_us))
        sum->min_us = one->min_us;
    sum->max_us = MAX(sum->max_us, one->max_us);
    sum->sum_us += one->sum_us;
}

static void add_drive(struct metrics_block *sum, const struct metrics_block *drive)
{
#define ADD_COUNTER(name)   sum->name += drive->name;
#define ADD_AGGREGATE(name) add_aggregate(&sum->name, &drive->name);
    METRICS_BLOCK(ADD_COUNTER, ADD_COUNTER, ADD_AGGREGATE)
#undef ADD_COUNTER
#undef ADD_AGGREGATE
}

static unsigned drive_count(void)
{
    return state.machine ? machine_devices(state.machine)->drive_count : 0;
}

static struct blk *drive(unsigned index)
{
    return machine_devices(state.machine)->drive[index].blk;
}

/* A group for each drive, before what is the same for every machine. */
static void write_drives(struct json_writer *w, struct metrics_block *sum)
{
    char key[160] = "block_";

    for (unsigned i = 0; i < drive_count(); i++) {
        struct blk *blk = drive(i);
        const struct metrics_block *now = blk_metrics(blk);

        strncpy(key + 6, blk_config(blk)->id, sizeof(key) - 7);
        json_write_key(w, key);
        write_group(w, rows_block, ARRAY_SIZE(rows_block), now, &state.last_drive[i]);
        add_drive(sum, now);
    }
}

static void write_line(struct json_writer *w, struct metrics *now)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    json_write_begin(w, '{');
    json_write_key(w, "utc_timestamp_ms");
    json_write_unsigned(w, (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NSEC_PER_MSEC);
    if (state.id) {
        json_write_key(w, "id");
        json_write_string(w, state.id);
    }
    if (state.properties) {
        json_write_key(w, "properties");
        json_write_raw(w, state.properties, strlen(state.properties));
    }
    write_drives(w, &now->block);
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        json_write_key(w, groups[i].name);
        write_group(w, groups[i].rows, groups[i].count, (const char *)now + groups[i].at,
                    (const char *)&state.last + groups[i].at);
    }
    json_write_end(w, '}');
}

/* ---- the file ---- */

/*
 * All of it or an error. What a full FIFO has taken of a line cannot be taken back, so the next one
 * begins with a line feed, lest a reader lose that too.
 */
static int put(const char *text, size_t len)
{
    if (state.torn && write(state.fd, "\n", 1) < 0)
        return -errno;
    state.torn = false;
    for (size_t done = 0; done < len;) {
        ssize_t n = write(state.fd, text + done, len - done);

        if (n < 0 && errno != EINTR) {
            state.torn = done > 0;
            return -errno;
        }
        done += n < 0 ? 0 : (size_t)n;
    }
    return 0;
}

/* Only what has been written is over; a dropped line's increases stand in the next one. */
static void remember(const struct metrics *now)
{
    state.last = *now;
    for (unsigned i = 0; i < drive_count(); i++)
        state.last_drive[i] = *blk_metrics(drive(i));
}

static int flush(void)
{
    struct metrics now = metrics;
    struct json_writer w;
    size_t len;
    int ret;

    json_writer_open_in(&w, line, sizeof(line) - 1);
    write_line(&w, &now);
    if (!json_writer_finish(&w, &len)) {
        metric_add(&metrics.logger.metrics_fails, 1);
        return -ENOSPC;
    }
    line[len] = '\n';
    ret = put(line, len + 1);
    if (ret)
        metric_add(&metrics.logger.missed_metrics_count, 1);
    else
        remember(&now);
    return ret;
}

int metrics_flush(struct err *e)
{
    int ret;

    if (state.fd < 0 || state.flushing)
        return 0;
    state.flushing = 1;
    ret = flush();
    state.flushing = 0;
    if (ret && e)
        return err_set(e, ret, "The metrics could not be written: %s", err_os(ret));
    return ret;
}

static void minute_done(struct op *op, int res, bool more)
{
    (void)op;
    (void)more;
    state.minute.armed = false;
    if (res == -ECANCELED)
        return;
    (void)metrics_flush(NULL); /* counted */
    loop_timer_start(state.loop, &state.minute, PERIOD_NS);
}

int metrics_open(const char *path, const char *id, const char *properties, struct err *e)
{
    char *copy = NULL;
    int fd;

    if (state.fd >= 0)
        return err_set(e, -EEXIST,
                       "Cannot initialize the metrics system due to bad user input: "
                       "Reinitialization of metrics not allowed.");
    /* O_RDWR: opening a FIFO for writing alone would fail without a reader. */
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
    if (fd < 0)
        return err_set(e, -errno, "Cannot initialize the metrics system due to bad user input: %s",
                       err_os(-errno));
    if (properties) {
        copy = strdup(properties);
        if (!copy) {
            close(fd);
            return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
        }
    }
    state.id = id;
    state.properties = copy;
    state.fd = fd;
    return 0;
}

void metrics_start(struct loop *loop, struct machine *machine)
{
    state.loop = loop;
    state.machine = machine;
    if (state.fd < 0)
        return;
    (void)metrics_flush(NULL); /* counted */
    state.minute.op.done = minute_done;
    loop_timer_start(loop, &state.minute, PERIOD_NS);
}
