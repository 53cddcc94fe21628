/* SPDX-License-Identifier: Apache-2.0 */
/* handlers_host.c: requests about the host's side: log and metrics. */
#include "api/api.h"
#include "api/logger.h"
#include "api/metrics.h"

#include <stdlib.h>

void prepare_logger(struct call *call)
{
    call->body.logger.level = LOG_INFO;
}

int act_logger(struct call *call, struct err *e)
{
    return logger_update(&call->body.logger, e);
}

int act_metrics(struct call *call, struct err *e)
{
    const struct metrics_body *body = &call->body.metrics;

    return metrics_open(body->path, body->emit_id ? call->api->id : NULL, body->properties, e);
}

void release_metrics(struct call *call)
{
    free(call->body.metrics.properties);
}
