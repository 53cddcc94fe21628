/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_machine.h owns a machine without KVM: it implements vmm/machine.h with a struct that tests
 * look into. Drives are real ones. What the real machine judges (sizes, kernels) is not judged.
 */
#ifndef MAYFLY_TESTS_UNIT_FAKE_MACHINE_H
#define MAYFLY_TESTS_UNIT_FAKE_MACHINE_H

#include "vmm/machine_fork.h"

struct machine {
    struct virtio_env env;
    enum machine_state state;
    struct machine_config config;
    struct boot_source boot_source; /* strings owned */
    struct cpu_template *cpu_template;
    struct devices devices;
    char *serial_path;
    unsigned saves, loads, forks;
    char *state_path, *mem_path; /* of the last save or load */
    struct machine_save save;    /* the last ones, without what they point to */
    struct machine_load load;
    struct save_report report; /* what machine_save_report tells */
    unsigned starts, pauses, resumes, ctrl_alt_dels, serial_sets;
    int exit_code;
    const char *refusal; /* NULL = all goes well; else every call fails with these words */
};

#endif
