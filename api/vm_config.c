/* SPDX-License-Identifier: Apache-2.0 */
/* vm_config.c: see vm_config.h. */
#include "api/vm_config.h"

#include "api/bodies.h"

static void write_boot_source(struct json_writer *w, const struct boot_source *source)
{
    json_write_begin(w, '{');
    json_member_string(w, "kernel_image_path", source->kernel_path ? source->kernel_path : "");
    json_member_string(w, "initrd_path", source->initrd_path);
    json_member_string(w, "boot_args", source->boot_args);
    json_write_end(w, '}');
}

void machine_config_write(struct json_writer *w, const struct machine_config *config)
{
    json_write_begin(w, '{');
    json_member_unsigned(w, "vcpu_count", config->vcpu_count);
    json_member_unsigned(w, "mem_size_mib", config->mem_size_mib);
    json_member_bool(w, "smt", config->smt);
    if (config->cpu_template != CPU_TEMPLATE_NONE)
        json_member_string(w, "cpu_template", cpu_template_name(config->cpu_template));
    json_member_bool(w, "track_dirty_pages", config->track_dirty_pages);
    json_member_string(w, "huge_pages", huge_pages_names[config->huge_pages]);
    json_write_end(w, '}');
}

/* cpu-config, logger and metrics are always null, as in Firecracker. */
void vm_config_write(struct json_writer *w, struct machine *machine)
{
    const struct devices *devices = machine_devices(machine);

    json_write_begin(w, '{');
    json_write_key(w, "balloon");
    balloon_write(w, devices);
    json_write_key(w, "drives");
    drives_write(w, devices);
    json_write_key(w, "boot-source");
    write_boot_source(w, machine_boot_source(machine));
    json_member_null(w, "cpu-config");
    json_member_null(w, "logger");
    json_write_key(w, "machine-config");
    machine_config_write(w, machine_config(machine));
    json_member_null(w, "metrics");
    json_write_key(w, "mmds-config");
    mmds_config_write(w, devices);
    json_write_key(w, "network-interfaces");
    interfaces_write(w, devices);
    json_write_key(w, "vsock");
    vsock_write(w, devices->vsock ? vsock_config(devices->vsock) : NULL);
    json_write_key(w, "entropy");
    entropy_write(w, devices->rng ? &devices->rng_config : NULL);
    json_write_key(w, "pmem");
    pmem_write(w, devices);
    json_write_key(w, "memory-hotplug");
    hotplug_write(w, devices->hotplug);
    json_write_end(w, '}');
}
