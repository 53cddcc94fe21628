/* SPDX-License-Identifier: Apache-2.0 */
/* saved_tables.h owns the list of all tables that sections of a state file may have, for who looks
 * at a file without loading it. Any thread. */
#ifndef MAYFLY_VMM_SAVED_TABLES_H
#define MAYFLY_VMM_SAVED_TABLES_H

#include "vmm/base/state.h"

/* The table of the sections with that name; NULL = there is none. */
const struct state_desc *saved_table(const char *name);

#endif
