/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_template_json.h owns the text form of custom CPU templates (PUT /cpu-config, `cpu-config` in
 * the config file): lists of capabilities, of CPUID leaves with changes to their registers, of
 * MSRs. A change is a bitmap, `0`, `1` and `x` (keep) from the highest bit to the lowest; bits that
 * it does not reach are kept.
 */
#ifndef MAYFLY_API_CPU_TEMPLATE_JSON_H
#define MAYFLY_API_CPU_TEMPLATE_JSON_H

#include "api/schema.h"
#include "vmm/config.h"

/* Reads into a struct cpu_template that begins as zeroes. */
extern const struct schema cpu_template_schema;

/* Frees the arrays, also those of a template that was read in part. */
void cpu_template_release(struct cpu_template *cpu_template);

/* Moves *from, which is left empty, to memory that machine_set_cpu_template takes over. NULL when
 * memory is out. */
struct cpu_template *cpu_template_move(struct cpu_template *from) __must_check;

#endif
