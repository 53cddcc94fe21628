/* SPDX-License-Identifier: Apache-2.0 */
/* handlers_host.c: requests about the host's side: log, metrics, the metadata store. */
#include "api/api.h"
#include "api/logger.h"
#include "api/metrics.h"

#include <errno.h>
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

int check_mmds_config(struct call *call, struct err *e)
{
    (void)e;
    if (call->body.mmds_config.version == MMDS_V1) {
        call->response->deprecated = true;
        metric_add(&metrics.deprecated_api.deprecated_http_api_calls, 1);
    }
    return 0;
}

/*
 * Until network interfaces exist, MMDS is bound to none, and then only a machine that has not been
 * started has a store.
 */
static int check_store(const struct call *call, struct err *e)
{
    if (machine_state(call->api->machine) != MACHINE_NOT_STARTED)
        return err_set(e, -ENODEV, "MMDS error: The MMDS data store is not initialized.");
    return 0;
}

int act_mmds_get(struct call *call, struct err *e)
{
    struct api_response *response = call->response;

    if (check_store(call, e))
        return e->code;
    response->body = mmds_store_get(call->api->mmds, &response->body_len);
    if (!response->body)
        return err_set(e, -ENOMEM, "Out of memory.");
    response->status = 200;
    return 0;
}

static int change_store(struct call *call, bool patch, struct err *e)
{
    const struct api_request *request = call->request;
    struct err why;
    int ret;

    if (check_store(call, e))
        return e->code;
    if (patch)
        ret = mmds_store_patch(call->api->mmds, request->body, request->body_len, &why);
    else
        ret = mmds_store_put(call->api->mmds, request->body, request->body_len, &why);
    if (ret == -EINVAL)
        return err_set(e, ret,
                       "An error occurred when deserializing the json body of a request: %.4096s.",
                       why.text);
    return ret ? err_set(e, ret, "%s", why.text) : 0;
}

int act_mmds_put(struct call *call, struct err *e)
{
    return change_store(call, false, e);
}

int act_mmds_patch(struct call *call, struct err *e)
{
    return change_store(call, true, e);
}
