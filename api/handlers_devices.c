/* SPDX-License-Identifier: Apache-2.0 */
/* handlers_devices.c: requests about one device: drives, entropy, the serial port. */
#include "api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void prepare_drive(struct call *call)
{
    call->body.drive.config.engine = BLK_ENGINE_SYNC;
}

static int check_same_id(const struct call *call, const char *body_id, struct err *e)
{
    if (strcmp(call->id, body_id) != 0)
        return err_set(e, -EINVAL, "The id from the path does not match the id from the body!");
    return 0;
}

int check_drive(struct call *call, struct err *e)
{
    return check_same_id(call, call->body.drive.config.id, e);
}

int check_drive_patch(struct call *call, struct err *e)
{
    return check_same_id(call, call->body.drive_patch.id, e);
}

int api_set_drive(struct api *api, const struct drive_body *drive, struct err *e)
{
    const struct blk_config *config = &drive->config;
    bool mixed = config->path || drive->has_read_only || config->has_limiter || drive->has_engine;

    if (drive->socket && !mixed)
        return err_set(e, -ENOTSUP,
                       "Drives behind a vhost-user socket are not supported yet by this version "
                       "of Mayfly.");
    if (drive->socket || !config->path)
        return err_set(e, -EINVAL,
                       "Unable to create the virtio block device: Invalid block config.");
    return devices_set_drive(machine_devices(api->machine), config, e);
}

int act_drive(struct call *call, struct err *e)
{
    return api_set_drive(call->api, &call->body.drive, e);
}

int act_drive_patch(struct call *call, struct err *e)
{
    const struct drive_patch_body *patch = &call->body.drive_patch;
    struct drive *drive = devices_find_drive(machine_devices(call->api->machine), patch->id);

    if (!drive)
        return err_set(e, -ENOENT,
                       "Unable to patch the block device: Failed perform action on device: Device "
                       "not found Please verify the request arguments.");
    return blk_update(drive->blk, patch->path, patch->has_limiter ? &patch->limiter : NULL, e);
}

int act_entropy(struct call *call, struct err *e)
{
    return devices_set_entropy(machine_devices(call->api->machine), &call->body.entropy, e);
}

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

/* There is no balloon yet, which is an answer that clients of Firecracker know. */
int act_balloon_get(struct call *call, struct err *e)
{
    (void)call;
    return err_set(e, -ENODEV, "No balloon device found.");
}
