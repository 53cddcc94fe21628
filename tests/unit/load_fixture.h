/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_fixture.h owns machines that are loaded with the real code and no kernel beneath it, in a
 * directory that has what the golden machine's devices stand on (golden/README.md). A program that
 * uses it includes fake_kvm.h and fake_loop.h as well.
 */
#ifndef MAYFLY_TESTS_UNIT_LOAD_FIXTURE_H
#define MAYFLY_TESTS_UNIT_LOAD_FIXTURE_H

#include "vmm/machine.h"

struct loaded {
    struct loop *loop;
    struct machine *machine;
};

/* Makes a directory, with a memory file `mem` of so many bytes, and changes to it. */
void load_fixture_enter(uint64_t mem_size);
void load_fixture_leave(void);

/* A machine from the state file `bytes`. What machine_load returns; end it in any case. */
int load_fixture_load(struct loaded *loaded, const void *bytes, size_t len, struct err *e);

/* Saves it, and loads what was saved last; its state file is "again". */
int load_fixture_save(struct loaded *loaded, struct err *e);
int load_fixture_load_again(struct loaded *loaded, struct err *e);

/* Takes everything apart, as no machine of the monitor is. */
void load_fixture_end(struct loaded *loaded);

#endif
