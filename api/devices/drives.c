/* SPDX-License-Identifier: Apache-2.0 */
/* drives.c: requests about drives. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

#include <errno.h>

const char *const cache_names[] = {"Unsafe", "Writeback"};
_Static_assert(BLK_CACHE_UNSAFE == 0 && BLK_CACHE_WRITEBACK == 1, "numbered as named");

static const char *const engine_names[] = {"Async", "Sync"};
static const int engine_values[] = {BLK_ENGINE_ASYNC, BLK_ENGINE_SYNC};

const char *engine_name(enum blk_engine engine)
{
    return engine_names[engine == BLK_ENGINE_SYNC];
}

static const char *const overlay_names[] = {"Memory", "File"};
static const int overlay_values[] = {BLK_OVERLAY_MEMORY, BLK_OVERLAY_FILE};

static int read_overlay_layers(struct json_cursor *c, void *member)
{
    struct blk_overlay_config *overlay =
        container_of(member, struct blk_overlay_config, layer_count);

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        if (overlay->layer_count == BLK_LAYERS_MAX) {
            json_fail(c, "an overlay lies on 16 layers at most");
            break;
        }
        if (schema_read_string(c, "path string", &overlay->layer[overlay->layer_count]))
            break;
        overlay->layer_count++;
    }
    return json_leave(c);
}
_Static_assert(BLK_LAYERS_MAX == 16, "as said above");

static const struct schema_member overlay_members[] = {
    {"type", SCHEMA_NAMES, SCHEMA_REQUIRED, SCHEMA_AT(struct blk_overlay_config, type),
     .names = NAMES(overlay_names, overlay_values)},
    {"path_on_host", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct blk_overlay_config, path)},
    {"layers", SCHEMA_CUSTOM, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct blk_overlay_config, layer_count, has_layers),
     .read = read_overlay_layers},
};
const struct schema overlay_schema =
    SCHEMA("struct OverlayConfig", overlay_members, .lets_unknown = false);

static const struct schema_member drive_members[] = {
    {"drive_id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct drive_body, config.id)},
    {"partuuid", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct drive_body, config.partuuid)},
    {"is_root_device", SCHEMA_BOOL, SCHEMA_REQUIRED, SCHEMA_AT(struct drive_body, config.is_root)},
    {"cache_type", SCHEMA_NAMES, SCHEMA_TAIL, SCHEMA_AT(struct drive_body, config.cache),
     .names = NAMES(cache_names, NULL)},
    {"is_read_only", SCHEMA_BOOL, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct drive_body, config.read_only, has_read_only)},
    {"path_on_host", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct drive_body, config.path)},
    {"rate_limiter", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct drive_body, config.limiter, config.has_limiter),
     .object = &rate_limiter_schema},
    {"io_engine", SCHEMA_NAMES, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct drive_body, config.engine, has_engine),
     .names = NAMES(engine_names, engine_values)},
    {"socket", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct drive_body, socket)},
    {"discard", SCHEMA_BOOL, SCHEMA_NULLABLE | SCHEMA_HIDDEN,
     SCHEMA_AT(struct drive_body, config.discard)},
    {"overlay", SCHEMA_OBJECT, SCHEMA_NULLABLE | SCHEMA_HIDDEN,
     SCHEMA_AT(struct drive_body, config.overlay), .object = &overlay_schema},
};
const struct schema drive_schema =
    SCHEMA("struct BlockDeviceConfig", drive_members, .lets_unknown = false);

static const struct schema_member drive_patch_members[] = {
    {"drive_id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct drive_patch_body, id)},
    {"path_on_host", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct drive_patch_body, path)},
    RATE_LIMITER(struct drive_patch_body),
};
const struct schema drive_patch_schema =
    SCHEMA("struct BlockDeviceUpdateConfig", drive_patch_members, .lets_unknown = false);

void prepare_drive(struct call *call)
{
    call->body.drive.config.engine = BLK_ENGINE_SYNC;
}

int check_drive(struct call *call, struct err *e)
{
    return call_check_id(call, call->body.drive.config.id, e);
}

int check_drive_patch(struct call *call, struct err *e)
{
    return call_check_id(call, call->body.drive_patch.id, e);
}

/* The whole body of a drive behind a socket is what such drives know. */
static int set_vhost_user_drive(struct api *api, const struct drive_body *drive, struct err *e)
{
    const struct vhost_user_blk_config config = {
        .id = drive->config.id,
        .socket = drive->socket,
        .partuuid = drive->config.partuuid,
        .is_root = drive->config.is_root,
        .cache = drive->config.cache,
    };

    return devices_set_vhost_user_drive(machine_devices(api->machine), &config, e);
}

int api_set_drive(struct api *api, const struct drive_body *drive, struct err *e)
{
    const struct blk_config *config = &drive->config;
    bool mixed = config->path || drive->has_read_only || config->has_limiter || drive->has_engine ||
                 config->overlay.type != BLK_OVERLAY_NONE;

    if (drive->socket && !mixed)
        return set_vhost_user_drive(api, drive, e);
    if (drive->socket && config->overlay.type != BLK_OVERLAY_NONE)
        return err_set(e, -EINVAL,
                       "Unable to create the virtio block device: An overlay lies over a file, and "
                       "cannot be had with a socket.");
    if (drive->socket || !config->path)
        return err_set(e, -EINVAL,
                       "Unable to create the virtio block device: Invalid block config.");
    return devices_set_drive(machine_devices(api->machine), config, e);
}

int act_drive(struct call *call, struct err *e)
{
    return api_set_drive(call->api, &call->body.drive, e);
}

/* What is asked of the other kind of drive than it is. */
static int fail_backend(struct err *e)
{
    return err_set(e, -EINVAL, "Running method expected different backend.");
}

/* Of a drive behind a socket only its own configuration can be read anew. */
static int patch_vhost_user_drive(struct vhost_user_blk *vhost,
                                  const struct drive_patch_body *patch, struct err *e)
{
    struct err why = {0};
    int ret =
        patch->path || patch->has_limiter ? fail_backend(&why) : vhost_user_blk_update(vhost, &why);

    if (ret)
        return err_set(e, ret,
                       "Unable to patch the block device: Block: %s Please verify the request "
                       "arguments.",
                       why.text);
    return 0;
}

int act_drive_patch(struct call *call, struct err *e)
{
    const struct drive_patch_body *patch = &call->body.drive_patch;
    struct drive *drive = devices_find_drive(machine_devices(call->api->machine), patch->id);

    if (!drive)
        return err_set(e, -ENOENT,
                       "Unable to patch the block device: Failed perform action on device: Device "
                       "not found Please verify the request arguments.");
    if (drive->vhost)
        return patch_vhost_user_drive(drive->vhost, patch, e);
    return blk_update(drive->blk, patch->path, patch->has_limiter ? &patch->limiter : NULL, e);
}

static const char *partuuid_of(const struct drive *drive)
{
    return drive->blk ? blk_config(drive->blk)->partuuid
                      : vhost_user_blk_config(drive->vhost)->partuuid;
}

static enum blk_cache cache_of(const struct drive *drive)
{
    return drive->blk ? blk_config(drive->blk)->cache : vhost_user_blk_config(drive->vhost)->cache;
}

static void write_overlay(struct json_writer *w, const struct blk_overlay_config *overlay)
{
    json_write_key(w, "overlay");
    json_write_begin(w, '{');
    json_member_string(w, "type", overlay_names[overlay->type == BLK_OVERLAY_FILE]);
    if (overlay->path)
        json_member_string(w, "path_on_host", overlay->path);
    if (overlay->layer_count > 0) {
        json_write_key(w, "layers");
        json_write_begin(w, '[');
        for (unsigned i = 0; i < overlay->layer_count; i++)
            json_write_string(w, overlay->layer[i]);
        json_write_end(w, ']');
    }
    json_write_end(w, '}');
}

/* What only the other kind of drive has is null; what is an addition is there when it is on. */
static void write_drive(struct json_writer *w, const struct drive *drive)
{
    const struct blk_config *file = drive->blk ? blk_config(drive->blk) : NULL;

    json_write_begin(w, '{');
    json_member_string(w, "drive_id", drive_id(drive));
    json_member_string(w, "partuuid", partuuid_of(drive));
    json_member_bool(w, "is_root_device", drive_is_root(drive));
    json_member_string(w, "cache_type", cache_names[cache_of(drive)]);
    json_write_key(w, "is_read_only");
    if (file)
        json_write_bool(w, file->read_only);
    else
        json_write_null(w);
    json_member_string(w, "path_on_host", file ? file->path : NULL);
    limiter_write(w, "rate_limiter", file && file->has_limiter, file ? &file->limiter : NULL);
    json_member_string(w, "io_engine", file ? engine_name(file->engine) : NULL);
    json_member_string(w, "socket",
                       drive->vhost ? vhost_user_blk_config(drive->vhost)->socket : NULL);
    if (file && file->discard)
        json_member_bool(w, "discard", true);
    if (file && file->overlay.type != BLK_OVERLAY_NONE)
        write_overlay(w, &file->overlay);
    json_write_end(w, '}');
}

void drives_write(struct json_writer *w, const struct devices *devices)
{
    json_write_begin(w, '[');
    for (unsigned i = 0; i < devices->drive_count; i++)
        write_drive(w, &devices->drive[i]);
    json_write_end(w, ']');
}
