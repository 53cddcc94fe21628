/* SPDX-License-Identifier: Apache-2.0 */
/* balloon.c: the device as such: its configuration space, its queues, and what clients ask of it.
 */
#include "virtio/memory/balloon.h"

#include "virtio/memory/balloon_parts.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define F_MUST_TELL_HOST (UINT64_C(1) << 0)
#define F_STATS_VQ       (UINT64_C(1) << 1)
#define F_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define F_FREE_PAGE_HINT (UINT64_C(1) << 3)
#define F_REPORTING      (UINT64_C(1) << 5)

/* The configuration space has no room for more pages. */
#define AMOUNT_MAX_MIB (UINT32_MAX / BALLOON_PAGES_PER_MIB)

/* Requests served in one turn of the loop, if they are small. */
#define TURN_MAX 16

static const struct state_field fields[] = {
    STATE_FIELD(struct balloon_state, num_pages),
    STATE_FIELD(struct balloon_state, actual),
    STATE_FIELD(struct balloon_state, hint_cmd),
    STATE_FIELD(struct balloon_state, last_run),
    STATE_FIELD(struct balloon_state, guest_cmd),
    STATE_FIELD(struct balloon_state, has_guest_cmd),
    STATE_FIELD(struct balloon_state, acknowledge),
    STATE_FIELD(struct balloon_state, has_stats),
    STATE_ARRAY(struct balloon_state, stat),
};
const struct state_desc balloon_state_desc =
    STATE_DESC("virtio-balloon", 1, struct balloon_state, fields);

/* ---- configuration space --------------------------------------------------------------------- */

static uint64_t balloon_features(const struct virtio_dev *dev)
{
    const struct balloon_config *config = &to_balloon(dev)->config;

    return F_MUST_TELL_HOST | (config->stats_interval_s ? F_STATS_VQ : 0) |
           (config->deflate_on_oom ? F_DEFLATE_ON_OOM : 0) |
           (config->free_page_hinting ? F_FREE_PAGE_HINT : 0) |
           (config->free_page_reporting ? F_REPORTING : 0);
}

bool balloon_tells(const struct balloon *balloon)
{
    return virtio_dev_has(&balloon->dev, F_MUST_TELL_HOST);
}

static const void *balloon_space(const struct virtio_dev *dev, size_t *len)
{
    *len = BALLOON_CONFIG_SIZE;
    return &to_balloon(dev)->s;
}

/* The driver says how much the balloon holds; the rest is ours to say. */
static void balloon_write_space(struct virtio_dev *dev, uint64_t offset, const void *from,
                                unsigned len)
{
    const uint64_t first = offsetof(struct balloon_state, actual), end = first + sizeof(uint32_t);
    char *space = (char *)&to_balloon(dev)->s;

    for (unsigned i = 0; i < len; i++)
        if (offset + i >= first && offset + i < end)
            space[offset + i] = ((const char *)from)[i];
}

/* ---- queues ---------------------------------------------------------------------------------- */

static bool has_role(const struct balloon *balloon, enum balloon_role role)
{
    static const uint64_t feature[BALLOON_ROLES] = {
        [BALLOON_STATISTICS] = F_STATS_VQ,
        [BALLOON_HINTS] = F_FREE_PAGE_HINT,
        [BALLOON_REPORTS] = F_REPORTING,
    };

    return !feature[role] || virtio_dev_has(&balloon->dev, feature[role]);
}

/*
 * Which queue is for what. The standard gives each a number of its own; Linux counts only those
 * that there are, so that reports may come in queue 2. What tells the two apart is which queues the
 * driver has set up.
 */
static void number_queues(struct balloon *balloon)
{
    bool own_numbers = true;
    unsigned next = 0;

    for (unsigned role = 0; role < BALLOON_ROLES; role++)
        if (has_role(balloon, role) && !balloon->dev.queue[role].s.ready)
            own_numbers = false;
    memset(balloon->role, BALLOON_ROLES, sizeof(balloon->role));
    for (unsigned role = 0; role < BALLOON_ROLES; role++)
        if (has_role(balloon, role))
            balloon->role[own_numbers ? role : next++] = (uint8_t)role;
}

/* Linux's driver kicks the statistics queue before DRIVER_OK, when nobody listens: look at all of
 * them. */
static int balloon_activate(struct virtio_dev *dev)
{
    struct balloon *balloon = to_balloon(dev);

    number_queues(balloon);
    balloon_hints_forget(balloon);
    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        virtio_dev_kick_later(dev, q);
    return 0;
}

static void balloon_kick(struct virtio_dev *dev, unsigned q)
{
    struct balloon *balloon = to_balloon(dev);

    balloon_begin_turn(balloon);
    switch (balloon->role[q]) {
    case BALLOON_INFLATE:
        metric_add(&metrics.balloon.inflate_count, 1);
        virtio_dev_serve(dev, q, TURN_MAX, balloon_serve_inflate);
        break;
    case BALLOON_DEFLATE:
        metric_add(&metrics.balloon.deflate_count, 1);
        virtio_dev_serve(dev, q, TURN_MAX, balloon_serve_deflate);
        break;
    case BALLOON_STATISTICS:
        virtio_dev_serve(dev, q, TURN_MAX, balloon_serve_stats);
        balloon_stats_arm(balloon);
        break;
    case BALLOON_HINTS:
        virtio_dev_serve(dev, q, TURN_MAX, balloon_serve_hints);
        break;
    case BALLOON_REPORTS:
        virtio_dev_serve(dev, q, TURN_MAX, balloon_serve_reports);
        break;
    default: /* a queue that is for nothing */
        break;
    }
}

static void balloon_quiesce(struct virtio_dev *dev)
{
    struct balloon *balloon = to_balloon(dev);

    balloon_pages_quiesce(balloon);
    balloon_stats_quiesce(balloon);
    memset(balloon->progress, 0, sizeof(balloon->progress));
}

/* With its driver the balloon's pages are gone, and the run of hints. */
static void balloon_reset(struct virtio_dev *dev)
{
    to_balloon(dev)->s.actual = 0;
    balloon_hints_forget(to_balloon(dev));
}

static void *balloon_saved(struct virtio_dev *dev)
{
    return &to_balloon(dev)->s;
}

static void balloon_destroy(struct virtio_dev *dev)
{
    free(to_balloon(dev));
}

#define BALLOON_OPS(queues)                                                                        \
    {                                                                                              \
        .name = "virtio-balloon", .device_id = 5, .n_queues = (queues),                            \
        .queue_size_max = VIRTQUEUE_SIZE_DEFAULT, .state = &balloon_state_desc,                    \
        .features = balloon_features, .config = balloon_space,                                     \
        .write_config = balloon_write_space, .activate = balloon_activate, .kick = balloon_kick,   \
        .quiesce = balloon_quiesce, .reset = balloon_reset, .saved = balloon_saved,                \
        .destroy = balloon_destroy,                                                                \
    }

/* As many queues as the last one that is offered needs: each costs the start of the machine an
 * ioeventfd. */
static const struct virtio_dev_ops *choose_ops(const struct balloon_config *config)
{
    static const struct virtio_dev_ops ops[BALLOON_ROLES] = {
        [BALLOON_DEFLATE] = BALLOON_OPS(BALLOON_DEFLATE + 1),
        [BALLOON_STATISTICS] = BALLOON_OPS(BALLOON_STATISTICS + 1),
        [BALLOON_HINTS] = BALLOON_OPS(BALLOON_HINTS + 1),
        [BALLOON_REPORTS] = BALLOON_OPS(BALLOON_REPORTS + 1),
    };

    if (config->free_page_reporting)
        return &ops[BALLOON_REPORTS];
    if (config->free_page_hinting)
        return &ops[BALLOON_HINTS];
    return &ops[config->stats_interval_s ? BALLOON_STATISTICS : BALLOON_DEFLATE];
}

int balloon_create(struct balloon **out, const struct virtio_env *env,
                   const struct balloon_config *config, struct err *e)
{
    struct balloon *balloon;

    if (config->amount_mib > AMOUNT_MAX_MIB)
        return err_set(e, -EINVAL, "Amount of pages requested is too large.");
    balloon = calloc(1, sizeof(*balloon));
    if (!balloon)
        return err_set(e, -ENOMEM, "Error creating the balloon device: %s", err_os(-ENOMEM));
    virtio_dev_init(&balloon->dev, choose_ops(config), env);
    balloon->dev.event_fails = &metrics.balloon.event_fails;
    balloon->dev.activate_fails = &metrics.balloon.activate_fails;
    balloon->config = *config;
    balloon->s.num_pages = config->amount_mib * BALLOON_PAGES_PER_MIB;
    balloon_pages_init(balloon);
    balloon_stats_init(balloon);
    *out = balloon;
    return 0;
}

struct virtio_dev *balloon_dev(struct balloon *balloon)
{
    return &balloon->dev;
}

const struct balloon_config *balloon_config(const struct balloon *balloon)
{
    return &balloon->config;
}

/* ---- what clients ask ------------------------------------------------------------------------ */

int balloon_update(struct balloon *balloon, uint32_t amount_mib, struct err *e)
{
    if (!balloon->dev.active)
        return err_set(e, -EINVAL, "Balloon: Device not activated yet.");
    if (amount_mib > MIN(mem_size(balloon->dev.env.mem) / MIB, AMOUNT_MAX_MIB))
        return err_set(e, -EINVAL, "Balloon: Requested memory should be less than %uMiB",
                       amount_mib);
    balloon->config.amount_mib = amount_mib;
    balloon->s.num_pages = amount_mib * BALLOON_PAGES_PER_MIB;
    virtio_dev_config_changed(&balloon->dev);
    return 0;
}

int balloon_update_stats(struct balloon *balloon, uint16_t interval_s, struct err *e)
{
    uint16_t old = balloon->config.stats_interval_s;

    if (interval_s == old)
        return 0;
    if (interval_s == 0 || old == 0)
        return err_set(e, -EINVAL,
                       "Balloon: Statistics cannot be enabled/disabled after activation.");
    balloon->config.stats_interval_s = interval_s;
    balloon_stats_restart(balloon);
    return 0;
}

int balloon_stats(struct balloon *balloon, struct balloon_stats *stats, struct err *e)
{
    const struct balloon_state *s = &balloon->s;

    if (balloon->config.stats_interval_s == 0)
        return err_set(e, -EINVAL, "Balloon: Received stats query when stats are disabled.");
    *stats = (struct balloon_stats){
        .target_pages = s->num_pages,
        .actual_pages = s->actual,
        .target_mib = s->num_pages / BALLOON_PAGES_PER_MIB,
        .actual_mib = s->actual / BALLOON_PAGES_PER_MIB,
    };
    for (unsigned i = 0; i < BALLOON_STATS; i++) {
        stats->has[i] = s->has_stats >> i & 1;
        stats->value[i] = s->stat[i];
    }
    return 0;
}
