/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml.h owns a writer of ACPI Machine Language, as much of it as it takes to list devices
 * (ACPI 6.5: chapter 20 for the encoding, 6.4 for resource descriptors). Everything is appended to
 * a buffer of the caller's; running out of it is the caller's bug.
 *
 * Named objects hold values; scopes, devices and packages hold what is written until aml_end():
 *
 *     size_t device = aml_device(&aml, "COM1");
 *     aml_name(&aml, "_UID");
 *     aml_integer(&aml, 0);
 *     aml_end(&aml, device);
 */
#ifndef MAYFLY_BOOT_AML_H
#define MAYFLY_BOOT_AML_H

#include "vmm/base/util.h"

struct aml {
    uint8_t *bytes;
    size_t len, size;
};

/* Names are of exactly four characters, filled up with `_`. */
void aml_name(struct aml *aml, const char *name); /* the value follows */

/* Values. */
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text); /* ASCII */
void aml_eisa_id(struct aml *aml, const char *id);  /* "PNP0501": three letters, four hex digits */

/* Things that hold others: each returns a mark for aml_end(). */
size_t aml_scope_system_bus(struct aml *aml); /* \_SB_ */
size_t aml_device(struct aml *aml, const char *name);
size_t aml_package(struct aml *aml, uint8_t count); /* `count` values follow */
size_t aml_event_method(struct aml *aml);           /* _EVT, called with the interrupt's GSI */
size_t aml_if_event(struct aml *aml, uint32_t gsi); /* in that method: if it is this one's */
void aml_end(struct aml *aml, size_t mark);

/* Tells whoever listens at the device `name`, which the scope has, that something of it changed. */
void aml_notify(struct aml *aml, const char *name, uint8_t value);

/* What a device occupies: collected here, then written as the value of its _CRS. */
struct aml_resources {
    size_t len;
    uint8_t bytes[64];
};

void aml_use_memory(struct aml_resources *use, uint32_t address, uint32_t size);
void aml_use_ports(struct aml_resources *use, uint16_t first, uint8_t count);
/* Edge-triggered, active high, not shared: as the lines of irq.h are. */
void aml_use_interrupt(struct aml_resources *use, uint32_t gsi);
void aml_resources(struct aml *aml, const struct aml_resources *use);

#endif
