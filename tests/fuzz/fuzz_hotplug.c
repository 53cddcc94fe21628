/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_hotplug: the input is a list of commands to a guest whose memory can be plugged: requests of
 * any kind at any address, cut in any way, in RAM and in plugged memory, rings in memory that is
 * then unplugged, bytes of guest memory changed anywhere, other sizes asked for, resets, pauses.
 *
 * After each, what the device says agrees with itself and with translation: the size plugged is
 * that of the blocks that can be reached, and no more than was ever asked for.
 */
#include "tests/fuzz/fuzz_device.h"
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/memory/hotplug.h"
#include "vmm/base/late_write.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define RAM        (8 * MIB)
#define QUEUE_SIZE 64
#define TOTAL_MIB  256
#define BLOCK      (2 * MIB)
#define BLOCKS     (TOTAL_MIB * MIB / BLOCK)

struct config_space {
    uint64_t block_size, node, addr, region_size, usable, plugged, requested;
};

struct fixture {
    struct loop *loop;
    struct hotplug *hotplug;
    struct virtio_dev *dev;
    struct guest_driver driver;
    uint64_t start, asked; /* asked: the most that ever was, in bytes */
    unsigned held;
};

static struct mem mem;

static struct config_space config_space(const struct fixture *f)
{
    struct config_space config;

    virtio_dev_read_config(f->dev, 0, &config, sizeof(config));
    return config;
}

/* An address: of a block, beside one, or anywhere. */
static uint64_t take_address(const struct fixture *f, struct input *in)
{
    uint32_t how = take(in, 1);

    if (how < 200)
        return f->start + take(in, 1) % (BLOCKS + 2) * BLOCK;
    if (how < 240)
        return f->start + take(in, 3);
    return (uint64_t)take(in, 4) << 32 | take(in, 4);
}

static void add_request(struct fixture *f, struct input *in)
{
    struct {
        uint16_t type, padding[3];
        uint64_t addr;
        uint16_t blocks, padding2[3];
    } request = {.type = (uint16_t)(take(in, 1) % 5)};
    unsigned how = take(in, 1);
    uint32_t lens[2] = {24, 10};
    struct guest_buffer buffer[4];
    unsigned count = 0;

    request.addr = take_address(f, in);
    request.blocks = (uint16_t)(how & 1 ? take(in, 1) % 8 : take(in, 2));
    if (f->driver.heap + 64 > RAM - MIB && f->driver.heap < f->start)
        f->driver.heap = 4 * MIB;
    for (unsigned part = 0; part < 2; part++) {
        uint64_t gpa = guest_alloc(&f->driver, 32);

        if (how & 2 && part == 1) /* the answer goes into memory that may be plugged */
            gpa = take_address(f, in);
        if (how & 4) /* cut in two, or one byte short */
            lens[part] -= take(in, 1) % 3;
        buffer[count++] = (struct guest_buffer){gpa, lens[part] / 2, part};
        buffer[count++] =
            (struct guest_buffer){gpa + lens[part] / 2, lens[part] - lens[part] / 2, part};
        if (part == 0 && mem_write(&mem, GPA(gpa), &request, sizeof(request)) < 0)
            return; /* the heap was in memory that is unplugged */
    }
    /* Nor is there a ring any more to put a chain in. */
    if (!mem_writable(&mem, GPA(f->driver.desc), 4096) ||
        !mem_writable(&mem, GPA(f->driver.indirect), 4096))
        return;
    guest_add(&f->driver, buffer, count);
}

/* The rings are in RAM, or at the start of a block if it is plugged. */
static void restart(struct fixture *f, struct input *in)
{
    uint64_t base = 0x1000, block = f->start + take(in, 1) % BLOCKS * BLOCK;
    bool inside = take(in, 1) & 1 && mem_writable(&mem, GPA(block), BLOCK);

    memset(mem.region[0].hva, 0, 64 * KIB);
    if (inside) {
        memset(mem_writable(&mem, GPA(block), 64 * KIB), 0, 64 * KIB);
        base = block;
    }
    guest_driver_init(&f->driver, &mem, base, inside ? 16 : QUEUE_SIZE);
    if (inside)
        f->driver.heap = 4 * MIB;
    guest_start(f->dev, &f->driver, virtio_dev_features(f->dev));
}

static void ask_for(struct fixture *f, struct input *in)
{
    uint32_t mib = take(in, 1) & 1 ? take(in, 1) * 2 : take(in, 4);

    if (hotplug_update(f->hotplug, mib, NULL) == 0)
        f->asked = MAX(f->asked, mib * MIB);
}

static void change_memory(struct fixture *f, struct input *in)
{
    uint16_t gpa = (uint16_t)take(in, 2), value = (uint16_t)take(in, 2);

    (void)f;
    BUG_ON(mem_write(&mem, GPA(gpa), &value, sizeof(value)) < 0);
}

static void command(struct fixture *f, struct input *in)
{
    switch (take(in, 1) % 9) {
    case 0:
    case 1:
    case 2:
        add_request(f, in);
        break;
    case 3:
    case 4:
        virtio_dev_kick(f->dev, 0);
        break;
    case 5:
        ask_for(f, in);
        break;
    case 6:
        change_memory(f, in);
        break;
    case 7:
        restart(f, in);
        break;
    default:
        if (take(in, 1) % 2)
            fake_loop_end_turn(f->loop);
        else
            fuzz_pause_or_resume(f->dev, &f->held);
        break;
    }
}

static void check(const struct fixture *f)
{
    struct config_space config = config_space(f);
    uint64_t reached = 0;

    for (uint64_t block = 0; block < BLOCKS; block++) {
        if (!mem_readable(&mem, GPA(f->start + block * BLOCK), BLOCK))
            continue;
        reached += BLOCK;
        BUG_ON(block * BLOCK >= config.usable);
    }
    BUG_ON(config.plugged != reached || reached > f->asked);
    BUG_ON(config.usable > config.region_size || config.usable < config.requested);
}

static void mend(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (!late_write_allow(info->si_addr)) {
        struct sigaction action = {.sa_handler = SIG_DFL};

        sigaction(signal, &action, NULL); /* and again, for the sanitizer's report */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct hotplug_config config = {
        .total_size_mib = TOTAL_MIB, .block_size_mib = 2, .slot_size_mib = 128};
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
    struct input in = {data, data + size};
    struct virtio_env env = fuzz_env(&mem, RAM);
    struct fixture f = {.loop = env.loop};

    sigaction(SIGSEGV, &action, NULL);
    BUG_ON(hotplug_create(&f.hotplug, &env, &config, NULL) < 0);
    f.dev = hotplug_dev(f.hotplug);
    BUG_ON(hotplug_map(f.hotplug, NULL) < 0);
    f.start = config_space(&f).addr;
    restart(&f, &(struct input){0});

    while (in.at < in.end) {
        command(&f, &in);
        check(&f);
    }

    fake_loop_settle(f.loop);
    check(&f);
    BUG_ON(!virtio_dev_is_idle(f.dev));
    virtio_dev_destroy(f.dev);
    BUG_ON(mem.device_count != 0);
    loop_destroy(f.loop);
    return 0;
}
