/* SPDX-License-Identifier: Apache-2.0 */
/* The tiny guest as an enemy (guest/tiny/fuzz.c). */
#include "tests/e2e/hostile.h"

#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"

#include <string.h>

enum { HOSTILE_MS = 200000, HOSTILE_OPERATIONS = 100000 };

/* Asks for the state again and again, each time within the usual time, until the guest
 * is through. */
static void answers_until(struct vm *vm, const char *last_words)
{
    int64_t deadline = clock_ms() + e2e_ms(HOSTILE_MS);
    struct api_answer a;
    while (!strstr(vm_out(vm), last_words)) {
        enum api_outcome outcome = monitor_call(&vm->monitor, &a, "GET", "/", NULL, e2e_ms(VM_MS));
        if (outcome == API_ANSWERED)
            CHECK_INT(a.status, 200);
        else if (!strstr(vm_out(vm), last_words))
            FAIL("GET /: %s", api_outcome_word(outcome));
        api_answer_free(&a);
        if (!clock_left(deadline))
            FAIL("the guest is not through");
        clock_sleep(20);
    }
}

void hostile_driver(void (*add_victim)(struct vm *), unsigned device, unsigned bystander,
                    unsigned needs_resets)
{
    const char *other = disk_new("bystander", 2);
    disk_fill(other, 0, 2 * SECTORS_PER_MIB, 77);
    for (unsigned seed = 1; seed <= 2; seed++) {
        struct vm *vm = vm_new(NULL);
        if (bystander == 0)
            linux_drive(vm, "other", other, "");
        add_victim(vm);
        if (bystander != 0)
            linux_drive(vm, "other", other, "");
        vm_boot(
            vm, e2e_guest("tiny.elf"),
            text_format("tiny=fuzz dev=%u seed=%u count=%u", device, seed, HOSTILE_OPERATIONS / 2));
        answers_until(vm, "FUZZ the device works again\n");
        /* An enemy who never got through would prove nothing. */
        CHECK(number_of(vm_out(vm), "needs_reset") > needs_resets);
        CHECK(number_of(vm_out(vm), "completions") > 0);
        vm_exits(vm, 0);
        disk_holds(other, 0, 2 * SECTORS_PER_MIB, 77);
    }
}
