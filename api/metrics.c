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
#define KEY_MAX   1100 /* of a group; ids that come by the API are shorter than a request line */

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
ROWS(vhost_user_block, METRICS_VHOST_USER_BLOCK)

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

static int file = -1; /* apart, so that the rest, which is large, begins as zeroes */

static struct {
    const char *id;
    char *properties;
    struct machine *machine; /* NULL until it runs */
    struct loop *loop;
    struct loop_timer minute;
    volatile sig_atomic_t flushing;
    bool torn; /* the file ends with the beginning of a line that was dropped */

    /* What the line before said. */
    struct metrics last;
    struct metrics_block last_block[DEVICES_MAX];
    struct metrics_vhost_user_block last_vhost_user_block[DEVICES_MAX];
    struct metrics_net last_net[DEVICES_MAX];
    struct metrics_pmem last_pmem[DEVICES_MAX];
} state;

/* One line; with as many devices as can be started it needs about 40 KiB. Pages that are never
 * reached cost nothing. */
static char line[160 * KIB];

/* ---- the line ---- */

static void write_aggregate(struct json_writer *w, const struct metric_agg *now, uint64_t last_sum)
{
    json_write_begin(w, '{');
    json_member_unsigned(w, "min_us", now->min_us);
    json_member_unsigned(w, "max_us", now->max_us);
    json_member_unsigned(w, "sum_us", now->sum_us - last_sum);
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

/* ---- devices of which there are several ---- */

/* The counters of one device; NULL = it has none of this kind. */
static const void *block_of(const struct devices *devices, unsigned i, const char **id)
{
    const struct drive *drive = &devices->drive[i];

    *id = drive_id(drive);
    return drive->blk ? blk_metrics(drive->blk) : NULL;
}

static const void *vhost_user_block_of(const struct devices *devices, unsigned i, const char **id)
{
    const struct drive *drive = &devices->drive[i];

    *id = drive_id(drive);
    return drive->vhost ? vhost_user_blk_metrics(drive->vhost) : NULL;
}

static const void *net_of(const struct devices *devices, unsigned i, const char **id)
{
    *id = net_config(devices->net[i])->id;
    return net_metrics(devices->net[i]);
}

static const void *pmem_of(const struct devices *devices, unsigned i, const char **id)
{
    *id = pmem_config(devices->pmem[i])->id;
    return pmem_metrics(devices->pmem[i]);
}

/* A group for each device, and the group of the machine that is their sum. */
static const struct kind_of_device {
    const char *name;
    const struct row *rows;
    size_t row_count, size; /* of its struct */
    size_t count_at;        /* in struct devices: how many there are */
    const void *(*of)(const struct devices *devices, unsigned i, const char **id);
    void *last;    /* an array of its structs */
    size_t sum_at; /* in struct metrics, or NO_SUM */
} kinds[] = {
#define NO_SUM SIZE_MAX
#define KIND(kind, counter, sum)                                                                   \
    {                                                                                              \
#kind, rows_##kind, ARRAY_SIZE(rows_##kind), sizeof(struct metrics_##kind),                \
            offsetof(struct devices, counter), kind##_of, state.last_##kind, sum                   \
    }
    KIND(block, drive_count, offsetof(struct metrics, block)),
    KIND(vhost_user_block, drive_count, NO_SUM),
    KIND(net, net_count, offsetof(struct metrics, net)),
    KIND(pmem, pmem_count, offsetof(struct metrics, pmem)),
#undef KIND
};

static unsigned device_count(const struct kind_of_device *kind)
{
    const char *devices = state.machine ? (const char *)machine_devices(state.machine) : NULL;

    return devices ? *(const unsigned *)(const void *)(devices + kind->count_at) : 0;
}

/* Walks along the rows as write_group does. */
static void add_group(const struct kind_of_device *kind, void *to, const void *group)
{
    uint64_t *sum = to;
    const uint64_t *one = group;

    for (size_t i = 0; i < kind->row_count; i++) {
        size_t words = 1;

        if (kind->rows[i].kind == AGGREGATE) {
            add_aggregate((struct metric_agg *)(void *)sum,
                          (const struct metric_agg *)(const void *)one);
            words = sizeof(struct metric_agg) / sizeof(*sum);
        } else {
            *sum += *one;
        }
        sum += words;
        one += words;
    }
}

static void write_device(struct json_writer *w, const struct kind_of_device *kind, unsigned i,
                         struct metrics *now)
{
    const char *id;
    const void *group = kind->of(machine_devices(state.machine), i, &id);
    char key[KEY_MAX] = {0}, *at;

    if (!group)
        return;
    at = stpcpy(stpcpy(key, kind->name), "_"); /* no snprintf: we may be in a signal handler */
    memcpy(at, id, MIN(strlen(id), (size_t)(key + sizeof(key) - 1 - at)));
    json_write_key(w, key);
    write_group(w, kind->rows, kind->row_count, group, (char *)kind->last + i * kind->size);
    if (kind->sum_at != NO_SUM)
        add_group(kind, (char *)now + kind->sum_at, group);
}

/* Before what is the same for every machine, since the sums stand there. */
static void write_devices(struct json_writer *w, struct metrics *now)
{
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned i = 0; i < device_count(&kinds[k]); i++)
            write_device(w, &kinds[k], i, now);
    }
}

static void remember_devices(void)
{
    const char *id;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned i = 0; i < device_count(&kinds[k]); i++) {
            const void *group = kinds[k].of(machine_devices(state.machine), i, &id);

            if (group)
                memcpy((char *)kinds[k].last + i * kinds[k].size, group, kinds[k].size);
        }
    }
}

/* ---- the whole line ---- */

static void write_line(struct json_writer *w, struct metrics *now)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    json_write_begin(w, '{');
    json_member_unsigned(w, "utc_timestamp_ms",
                         (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NSEC_PER_MSEC);
    if (state.id)
        json_member_string(w, "id", state.id);
    if (state.properties) {
        json_write_key(w, "properties");
        json_write_raw(w, state.properties, strlen(state.properties));
    }
    write_devices(w, now);
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
    if (state.torn && write(file, "\n", 1) < 0)
        return -errno;
    state.torn = false;
    for (size_t done = 0; done < len;) {
        ssize_t n = write(file, text + done, len - done);

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
    remember_devices();
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

    if (file < 0 || state.flushing)
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

    if (file >= 0)
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
    file = fd;
    return 0;
}

bool metrics_have_file(void)
{
    return file >= 0;
}

void metrics_forget(void)
{
    const char *id = state.id;
    char *properties = state.properties;

    file = -1;
    memset(&metrics, 0, sizeof(metrics));
    memset(&state, 0, sizeof(state));
    state.id = id;
    state.properties = properties;
}

int metrics_inherit(const char *path, const char *id, struct err *e)
{
    char *properties = state.properties;
    int rc = metrics_open(path, state.id ? id : NULL, properties, e);

    if (rc == 0) /* it has a copy of its own */
        free(properties);
    return rc;
}

void metrics_start(struct loop *loop, struct machine *machine)
{
    state.loop = loop;
    state.machine = machine;
    state.minute.armed = false;
    if (file < 0 || !machine)
        return;
    (void)metrics_flush(NULL); /* counted */
    state.minute.op.done = minute_done;
    loop_timer_start(loop, &state.minute, PERIOD_NS);
}
