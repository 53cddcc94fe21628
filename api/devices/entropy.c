/* SPDX-License-Identifier: Apache-2.0 */
/* entropy.c: requests about the entropy device. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

static const struct schema_member entropy_members[] = {RATE_LIMITER(struct rng_config)};
const struct schema entropy_schema =
    SCHEMA("struct EntropyDeviceConfig", entropy_members, .lets_unknown = false);

int act_entropy(struct call *call, struct err *e)
{
    return devices_set_entropy(machine_devices(call->api->machine), &call->body.entropy, e);
}

void entropy_write(struct json_writer *w, const struct rng_config *entropy)
{
    if (!entropy) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    limiter_write(w, "rate_limiter", entropy->has_limiter, &entropy->limiter);
    json_write_end(w, '}');
}
