/* SPDX-License-Identifier: Apache-2.0 */
/* timeline.c: one clock reading a stage. */
#include "vmm/base/timeline.h"

static uint64_t stamp[TIMELINE_COUNT];

static const char *const names[TIMELINE_COUNT] = {
    [TIMELINE_EXEC] = "exec",       [TIMELINE_API] = "api",
    [TIMELINE_CONFIG] = "config",   [TIMELINE_VM] = "vm",
    [TIMELINE_MEMORY] = "memory",   [TIMELINE_KERNEL] = "kernel",
    [TIMELINE_DEVICES] = "devices", [TIMELINE_FIRST_RUN] = "first_instruction",
    [TIMELINE_INIT] = "init",
};

void timeline_stamp(enum timeline_stage stage)
{
    if (stamp[stage] == 0)
        stamp[stage] = now_ns();
}

static struct timeline_guest guest[TIMELINE_GUEST_MAX];
static unsigned guest_count;

void timeline_stamp_guest(uint8_t value)
{
    for (unsigned i = 0; i < guest_count; i++) {
        if (guest[i].value == value)
            return;
    }
    if (guest_count < TIMELINE_GUEST_MAX)
        guest[guest_count++] = (struct timeline_guest){.ns = now_ns(), .value = value};
}

const struct timeline_guest *timeline_guest(unsigned index)
{
    return index < guest_count ? &guest[index] : NULL;
}

void timeline_forget(enum timeline_stage first)
{
    for (unsigned i = first; i < TIMELINE_COUNT; i++)
        stamp[i] = 0;
}

void timeline_restart(void)
{
    timeline_forget(TIMELINE_EXEC);
    guest_count = 0;
    timeline_stamp(TIMELINE_EXEC);
}

static enum timeline_shell shell;

void timeline_set_shell(enum timeline_shell found)
{
    shell = found;
}

const char *timeline_shell(void)
{
    static const char *const words[] = {
        [TIMELINE_SHELL_UNKNOWN] = NULL, [TIMELINE_SHELL_NONE] = "none", [TIMELINE_SHELL_VM] = "vm",
        [TIMELINE_SHELL_VCPU] = "vcpu",  [TIMELINE_SHELL_LEFT] = "left",
    };

    return words[shell];
}

uint64_t timeline_ns(enum timeline_stage stage)
{
    return stamp[stage];
}

const char *timeline_name(enum timeline_stage stage)
{
    return names[stage];
}
