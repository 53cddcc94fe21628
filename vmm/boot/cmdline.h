/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmdline.h owns the kernel command line: the user's words, then what the machine adds, and then
 * whatever the user put after a `--` of its own, which Linux hands to init untouched. Pure.
 */
#ifndef MAYFLY_BOOT_CMDLINE_H
#define MAYFLY_BOOT_CMDLINE_H

#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"

struct cmdline {
    size_t len; /* without the NUL */
    char text[LAYOUT_CMDLINE_SIZE];
};

/*
 * Composes the line for `request` (args, root, devices). -EINVAL with a sentence when it would not
 * fit or would hold a byte that is not printable ASCII.
 */
int cmdline_compose(struct cmdline *line, const struct boot_request *request,
                    struct err *e) __must_check;

/* Whether the kernel's part of `args` has `word`, with a value or without. */
bool cmdline_has(const char *args, const char *word);

#endif
