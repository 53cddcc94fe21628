/* SPDX-License-Identifier: Apache-2.0 */
/* serial.c: requests about the serial port. */
#include "api/api.h"
#include "api/body_tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct schema_member serial_members[] = {
    {"serial_out_path", SCHEMA_PATH, SCHEMA_NULLABLE, SCHEMA_AT(struct serial_config, out_path)},
    {"rate_limiter", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct serial_config, limiter, has_limiter), .object = &token_bucket_schema},
};
const struct schema serial_schema =
    SCHEMA("struct SerialConfig", serial_members, .lets_unknown = false);

int api_set_serial(struct api *api, const struct serial_config *config, struct err *e)
{
    char *path = config->out_path ? strdup(config->out_path) : NULL;

    if (config->out_path && !path)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    free(api->serial.out_path);
    api->serial = *config;
    api->serial.out_path = path;
    api->has_serial = true;
    return 0;
}

int act_serial(struct call *call, struct err *e)
{
    return api_set_serial(call->api, &call->body.serial, e);
}
