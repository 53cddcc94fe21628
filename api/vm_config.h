/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_config.h owns the JSON form of a machine's configuration as the user gave it: GET /vm/config
 * and GET /machine-config. Members come in Firecracker's order; the whole can be fed back as a
 * config file.
 */
#ifndef MAYFLY_API_VM_CONFIG_H
#define MAYFLY_API_VM_CONFIG_H

#include "api/json_writer.h"
#include "vmm/machine.h"

void machine_config_write(struct json_writer *w, const struct machine_config *config);

/* Its parts, a function a file of devices/. NULL = not configured. */
void limiter_write(struct json_writer *w, const char *key, bool given,
                   const struct rate_limiter_config *limiter);
void balloon_write(struct json_writer *w, const struct devices *devices);
void drives_write(struct json_writer *w, const struct devices *devices);
void interfaces_write(struct json_writer *w, const struct devices *devices);
void vsock_write(struct json_writer *w, const struct vsock_config *vsock);
void pmem_write(struct json_writer *w, const struct devices *devices);
void hotplug_write(struct json_writer *w, const struct hotplug *hotplug);
void mmds_config_write(struct json_writer *w, const struct devices *devices);
void entropy_write(struct json_writer *w, const struct rng_config *entropy);

/* The whole. */
void vm_config_write(struct json_writer *w, struct machine *machine);

#endif
