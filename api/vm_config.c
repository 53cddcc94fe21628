/* SPDX-License-Identifier: Apache-2.0 */
/* vm_config.c: see vm_config.h. */
#include "api/vm_config.h"

#include "api/bodies.h"

static void write_bucket(struct json_writer *w, const char *key, bool given,
                         const struct token_bucket_config *bucket)
{
    json_write_key(w, key);
    if (!given) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    json_write_key(w, "size");
    json_write_unsigned(w, bucket->size);
    json_write_key(w, "one_time_burst");
    if (bucket->has_burst)
        json_write_unsigned(w, bucket->one_time_burst);
    else
        json_write_null(w);
    json_write_key(w, "refill_time");
    json_write_unsigned(w, bucket->refill_ms);
    json_write_end(w, '}');
}

static void write_limiter(struct json_writer *w, bool given,
                          const struct rate_limiter_config *limiter)
{
    json_write_key(w, "rate_limiter");
    if (!given) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    write_bucket(w, "bandwidth", limiter->has_bandwidth, &limiter->bandwidth);
    write_bucket(w, "ops", limiter->has_ops, &limiter->ops);
    json_write_end(w, '}');
}

static void write_drive(struct json_writer *w, const struct blk_config *drive)
{
    json_write_begin(w, '{');
    json_write_key(w, "drive_id");
    json_write_string(w, drive->id);
    json_write_key(w, "partuuid");
    json_write_string(w, drive->partuuid);
    json_write_key(w, "is_root_device");
    json_write_bool(w, drive->is_root);
    json_write_key(w, "cache_type");
    json_write_string(w, cache_names[drive->cache]);
    json_write_key(w, "is_read_only");
    json_write_bool(w, drive->read_only);
    json_write_key(w, "path_on_host");
    json_write_string(w, drive->path);
    write_limiter(w, drive->has_limiter, &drive->limiter);
    json_write_key(w, "io_engine");
    json_write_string(w, engine_name(drive->engine));
    json_write_key(w, "socket");
    json_write_null(w);
    if (drive->discard) {
        json_write_key(w, "discard");
        json_write_bool(w, true);
    }
    json_write_end(w, '}');
}

static void write_drives(struct json_writer *w, const struct devices *devices)
{
    json_write_begin(w, '[');
    for (unsigned i = 0; i < devices->drive_count; i++)
        write_drive(w, blk_config(devices->drive[i].blk));
    json_write_end(w, ']');
}

static void write_boot_source(struct json_writer *w, const struct boot_source *source)
{
    json_write_begin(w, '{');
    json_write_key(w, "kernel_image_path");
    json_write_string(w, source->kernel_path ? source->kernel_path : "");
    json_write_key(w, "initrd_path");
    json_write_string(w, source->initrd_path);
    json_write_key(w, "boot_args");
    json_write_string(w, source->boot_args);
    json_write_end(w, '}');
}

static void write_entropy(struct json_writer *w, const struct rng_config *entropy)
{
    if (!entropy) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    write_limiter(w, entropy->has_limiter, &entropy->limiter);
    json_write_end(w, '}');
}

void machine_config_write(struct json_writer *w, const struct machine_config *config)
{
    json_write_begin(w, '{');
    json_write_key(w, "vcpu_count");
    json_write_unsigned(w, config->vcpu_count);
    json_write_key(w, "mem_size_mib");
    json_write_unsigned(w, config->mem_size_mib);
    json_write_key(w, "smt");
    json_write_bool(w, config->smt);
    if (config->cpu_template != CPU_TEMPLATE_NONE) {
        json_write_key(w, "cpu_template");
        json_write_string(w, cpu_template_name(config->cpu_template));
    }
    json_write_key(w, "track_dirty_pages");
    json_write_bool(w, config->track_dirty_pages);
    json_write_key(w, "huge_pages");
    json_write_string(w, huge_pages_names[config->huge_pages]);
    json_write_end(w, '}');
}

static void write_nulls(struct json_writer *w, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_write_key(w, keys[i]);
        json_write_null(w);
    }
}

static void write_empty_list(struct json_writer *w, const char *key)
{
    json_write_key(w, key);
    json_write_begin(w, '[');
    json_write_end(w, ']');
}

/* Always null: cpu-config, logger and metrics, as in Firecracker; the devices that are
 * not built. */
void vm_config_write(struct json_writer *w, struct machine *machine)
{
    const struct devices *devices = machine_devices(machine);
    static const char *const before[] = {"cpu-config", "logger"};
    static const char *const after[] = {"metrics", "mmds-config"};

    json_write_begin(w, '{');
    json_write_key(w, "balloon");
    json_write_null(w);
    json_write_key(w, "drives");
    write_drives(w, devices);
    json_write_key(w, "boot-source");
    write_boot_source(w, machine_boot_source(machine));
    write_nulls(w, before, ARRAY_SIZE(before));
    json_write_key(w, "machine-config");
    machine_config_write(w, machine_config(machine));
    write_nulls(w, after, ARRAY_SIZE(after));
    write_empty_list(w, "network-interfaces");
    json_write_key(w, "vsock");
    json_write_null(w);
    json_write_key(w, "entropy");
    write_entropy(w, devices->rng ? &devices->rng_config : NULL);
    write_empty_list(w, "pmem");
    json_write_key(w, "memory-hotplug");
    json_write_null(w);
    json_write_end(w, '}');
}
