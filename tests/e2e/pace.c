/* SPDX-License-Identifier: Apache-2.0 */
/* pace.c: see pace.h. */
#include "tests/e2e/pace.h"

#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/support/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long last_count(const char *out)
{
    const char *end = strrchr(out, '\n');

    if (strchr(out, 'X'))
        FAIL("a page is not what it was");
    return end && end - out >= 8 ? strtoul(end - 8, NULL, 16) : 0;
}

unsigned long pace_of(struct vm *vm)
{
    return last_count(vm_out(vm));
}

unsigned long pace_in(const char *console)
{
    struct text t = {0};
    unsigned long pace = text_read_file(&t, console) ? 0 : last_count(text_str(&t));

    text_free(&t);
    return pace;
}

unsigned long counts_beyond(struct vm *vm, unsigned long from)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(1000)) {
        unsigned long pace = pace_of(vm);
        if (pace > from)
            return pace;
    }
    FAIL("it does not count beyond %lu", from);
}

unsigned long counts_beyond_in(const char *console, unsigned long from)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(1000)) {
        unsigned long pace = pace_in(console);
        if (pace > from)
            return pace;
    }
    FAIL("%s: it does not count beyond %lu", console, from);
}

struct vm *pacing(const char *config, const char *const *args)
{
    struct vm *vm = vm_new(args);

    if (*config)
        vm_patch(vm, "/machine-config", "%s", config);
    vm_boot(vm, bare_guest(BARE_PACE), "");
    counts_beyond(vm, 3);
    return vm;
}
