/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest with much memory that notices when it stood still, for the figures of a fork:
 *
 *     tiny=ticks mib=N    writes to every page of N MiB from 16 MiB on, says READY, and then a dot
 * for every tenth of a millisecond (at 2.5 GHz); obeys what it is sent: a                   writes
 * to every page again: "ALL" w                   writes to the next 8 MiB: "WRITES cycles" g the
 * longest time since the last g in which it did nothing: "GAP cycles", never less than a dot takes
 */

#include "tiny.h"

#define PAGE        4096UL
#define AREA        0x1000000UL
#define WRITES_SIZE 0x800000UL
#define TICK_CYCLES 250000UL
#define LOOK_TICKS  8 /* an exit more, so not at every tick */

static uint64_t area_size, next_write, last, longest;

static void touch(uint64_t from, uint64_t size)
{
    for (uint64_t at = from; at < from + size; at += PAGE)
        (*(volatile uint64_t *)at)++;
}

/* Spins until the next tick is due. */
static void watch_clock(void)
{
    uint64_t begin = rdtsc(), now;

    do {
        now = rdtsc();
        if (now - last > longest)
            longest = now - last;
        last = now;
    } while (now - begin < TICK_CYCLES);
}

static void obey(uint8_t command)
{
    uint64_t begin = rdtsc();

    if (command == 'a') {
        touch(AREA, area_size);
        print("\nALL\n");
    } else if (command == 'w') {
        touch(AREA + next_write, WRITES_SIZE);
        print("\nWRITES %u\n", rdtsc() - begin);
        next_write = (next_write + WRITES_SIZE) % area_size;
    } else if (command == 'g') {
        print("\nGAP %u\n", longest);
        longest = 0;
    }
    last = rdtsc();
}

void mode_ticks(void)
{
    uint8_t command;

    area_size = option("mib", 8) << 20;
    touch(AREA, area_size);
    receive_always();
    print("READY\n");
    last = rdtsc();
    for (unsigned int tick = 0;; tick++) {
        watch_clock();
        print(".");
        if (tick % LOOK_TICKS == 0 && take_byte(&command))
            obey(command);
    }
}
