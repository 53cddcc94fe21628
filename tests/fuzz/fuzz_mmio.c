/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_mmio: the input is a list of accesses to the window of an entropy device, of every width and
 * at every place, among changes of guest memory and turns of the loop. Whatever they are, the
 * status is one of those that the steps lead to, and a reset brings the device back.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/mmio.h"
#include "virtio/rng.h"
#include "vmm/base/log.h"

#include <string.h>

#include <sys/mman.h>

#define RAM  MIB
#define BASE UINT64_C(0xc0001000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mem mem;
static _Alignas(4096) uint8_t page[VIRTIO_MMIO_WINDOW];

struct access {
    uint16_t kind, offset;
    uint32_t value;
};

/* The registers in an order that makes a whole start likely. */
static const uint16_t registers[] = {0x70, 0x14, 0x24, 0x20, 0x30, 0x38, 0x80, 0x84, 0x90, 0x94,
                                     0xa0, 0xa4, 0x44, 0x50, 0x64, 0x60, 0x10, 0x34, 0xfc, 0xb0};

static void step(struct bus *bus, struct loop *loop, const struct access *a)
{
    static const uint8_t status[] = {0, 1, 3, 11, 15, 0x80, 0x8f, 4};
    uint64_t data = a->value;
    unsigned len = 1u << (a->kind >> 8) % 4;

    switch (a->kind % 8) {
    case 0:
        bus_write(bus, BASE + a->offset % VIRTIO_MMIO_WINDOW, &data, len);
        break;
    case 1:
        bus_read(bus, BASE + a->offset % VIRTIO_MMIO_WINDOW, &data, len);
        break;
    case 2:
    case 3:
        bus_write(bus, BASE + registers[a->offset % ARRAY_SIZE(registers)], &data, 4);
        break;
    case 4:
        data = status[a->value % sizeof(status)];
        bus_write(bus, BASE + 0x70, &data, 4);
        break;
    case 5:
        memcpy(mem.region[0].hva + a->offset, &a->value, sizeof(a->value));
        break;
    case 6:
        fake_loop_end_turn(loop);
        break;
    default:
        if (fake_loop_count(loop) > 0)
            fake_loop_complete(loop, 0, 1, a->value & 1);
        break;
    }
}

static void check_page(struct bus *bus)
{
    for (uint64_t offset = 0; offset < 0x110; offset += 4) {
        uint32_t value;

        bus_read(bus, BASE + offset, &value, sizeof(value));
        BUG_ON(memcmp(&value, page + offset, sizeof(value)) != 0);
    }
}

static uint32_t read_status(struct bus *bus)
{
    uint32_t status;

    BUG_ON(!bus_read(bus, BASE + 0x70, &status, sizeof(status)));
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_env env = {.mem = &mem};
    struct irq_line line = {.gsi = 5};
    struct virtio_mmio_place place = {.base = GPA(BASE), .line = &line, .page = page};
    struct virtio_mmio *mmio;
    struct bus bus = {0};
    struct rng *rng;
    uint32_t zero = 0;

    log_set_options(&(struct log_options){.level = LOG_OFF});
    if (mem.count == 0)
        BUG_ON(mem_create(&mem, RAM, MEM_PAGES_DEFAULT, true, NULL) < 0);
    memset(page, 0, sizeof(page));
    madvise(mem.region[0].hva, RAM, MADV_DONTNEED);
    BUG_ON(loop_create(&env.loop, NULL) < 0);
    BUG_ON(rng_create(&rng, &env, &(struct rng_config){0}, NULL) < 0);
    BUG_ON(virtio_mmio_create(&mmio, &env, rng_dev(rng), &place, &bus, NULL) < 0);

    for (; size >= sizeof(struct access); size -= sizeof(struct access)) {
        struct access a;
        uint32_t status;

        memcpy(&a, data, sizeof(a));
        data += sizeof(a);
        step(&bus, env.loop, &a);
        check_page(&bus);
        status = read_status(&bus) & 0x3f;
        BUG_ON(status != 0 && status != 1 && status != 3 && status != 11 && status != 15);
    }
    bus_write(&bus, BASE + 0x70, &zero, sizeof(zero));
    BUG_ON(read_status(&bus) != 0);
    fake_loop_end_turn(env.loop);

    virtio_mmio_destroy(mmio);
    virtio_dev_destroy(rng_dev(rng));
    loop_destroy(env.loop);
    return 0;
}
