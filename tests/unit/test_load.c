/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/machine_load.c over all that it stands on but KVM: a machine as each minor version
 * of the format wrote it is loaded, and says what it was; whatever is wrong with its file, under a
 * right checksum too, is refused by a sentence.
 */
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/load_fixture.h"
#include "tests/unit/state_bytes.h"
#include "tests/unit/unit.h"
#include "vmm/machine_parts.h"
#include "vmm/saved_machine.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/state_file.h"
#include "vmm/snapshot/vcpu_parts_x86_64.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/kvm.h>

#define GOLDEN(version) MAYFLY_SOURCE "/tests/unit/golden/machine-" version ".bin"

/* Of each minor version, and how long its memory file is: since 1.1 memory that can be plugged is
 * in it. */
static const struct {
    const char *path;
    uint64_t mem_size;
} golden[] = {
    {GOLDEN("1.0"), 16 * MIB},
    {GOLDEN("1.1"), 144 * MIB},
};

#define NEWEST (ARRAY_SIZE(golden) - 1)

#define AT_ARCHITECTURE 14
#define AT_SECTIONS     16
#define SECTION_VERSION 20
#define SECTION_LEN     28
#define SECTION_HEADER  32

/* ---- files ----------------------------------------------------------------------------------- */

struct file {
    size_t len;
    uint8_t bytes[160 * KIB];
};

static struct file file_at(const char *path)
{
    struct file file;

    file.len = state_bytes_read(path, file.bytes, sizeof(file.bytes));
    return file;
}

static struct file newest(void)
{
    return file_at(golden[NEWEST].path);
}

static void seal(struct file *file)
{
    state_bytes_seal(file->bytes, file->len);
}

static struct state_reader reader_of(const struct file *file)
{
    struct state_reader r;
    struct err e;

    if (state_reader_begin(&r, file->bytes, file->len, &e))
        fail_msg("%s", e.text);
    return r;
}

/* A section as a range of the file, its header and padding included. */
struct place {
    size_t at, len;
};

static struct place place_of(const struct file *file, const char *name, uint32_t index)
{
    struct state_reader r = reader_of(file);
    struct state_section section;

    for (; state_reader_peek(&r, &section); state_reader_skip(&r)) {
        if (strcmp(section.name, name) == 0 && section.index == index)
            return (struct place){r.at, SECTION_HEADER + align_up(section.len, 8)};
    }
    fail_msg("the golden file has no section %s %u", name, index);
    return (struct place){0};
}

/* Puts other bytes in the place of some, and the count of sections up by `more`. */
static void splice(struct file *file, size_t at, size_t old, const void *bytes, size_t len,
                   int more)
{
    uint32_t sections;

    memmove(file->bytes + at + len, file->bytes + at + old, file->len - at - old);
    memcpy(file->bytes + at, bytes, len);
    file->len = file->len - old + len;
    memcpy(&sections, file->bytes + AT_SECTIONS, sizeof(sections));
    sections += (uint32_t)more;
    memcpy(file->bytes + AT_SECTIONS, &sections, sizeof(sections));
    seal(file);
}

/* Another value for element `element` of a field. */
static void put(struct file *file, const struct state_desc *desc, uint32_t index, const char *field,
                uint32_t element, uint64_t value)
{
    size_t at = place_of(file, desc->name, index).at;
    uint32_t version;

    memcpy(&version, file->bytes + at + SECTION_VERSION, sizeof(version));
    at += SECTION_HEADER;
    for (uint32_t i = 0; i < desc->count; i++) {
        const struct state_field *row = &desc->field[i];

        if (strcmp(row->name, field) == 0) {
            memcpy(file->bytes + at + (size_t)element * row->size, &value, row->size);
            seal(file);
            return;
        }
        if (row->since <= version)
            at += (size_t)row->size * row->count;
    }
    fail_msg("%s has no field %s", desc->name, field);
}

/* Other data for a section without a table. */
static void put_bytes(struct file *file, const char *name, uint32_t index, const void *data,
                      size_t len)
{
    struct place old = place_of(file, name, index);
    static uint8_t section[SECTION_HEADER + 64 * KIB];
    uint32_t size = (uint32_t)len;

    memset(section, 0, sizeof(section));
    memcpy(section, file->bytes + old.at, SECTION_HEADER);
    memcpy(section + SECTION_LEN, &size, sizeof(size));
    memcpy(section + SECTION_HEADER, data, len);
    splice(file, old.at, old.len, section, SECTION_HEADER + align_up(len, 8), 0);
}

/* ---- loads ----------------------------------------------------------------------------------- */

static void expect_refused(const struct file *file, const char *sentence)
{
    struct err e = {0};
    struct loaded l;
    int rc = load_fixture_load(&l, file->bytes, file->len, &e);

    load_fixture_end(&l);
    if (rc >= 0)
        fail_msg("a load that should say \"%s\" went well", sentence);
    if (!strstr(e.text, sentence))
        fail_msg("\"%s\" does not say \"%s\"", e.text, sentence);
}

/* Refused in one line, or loaded and then run for as long as anything happens by itself. */
static void expect_sound(const struct file *file)
{
    struct err e = {0};
    struct loaded l;
    int rc = load_fixture_load(&l, file->bytes, file->len, &e);

    if (rc) {
        assert_in_range(strlen(e.text), 20, sizeof(e.text) - 1);
        assert_null(strchr(e.text, '\n'));
    } else {
        assert_int_equal(machine_resume(l.machine, NULL), 0);
        fake_loop_settle(l.loop);
        assert_int_equal(machine_pause(l.machine, NULL), 0);
    }
    load_fixture_end(&l);
}

/* ---- golden machines ------------------------------------------------------------------------- */

static void expect_devices(const struct machine *machine)
{
    const struct devices *d = &machine->devices;

    assert_string_equal(blk_config(d->drive[0].blk)->id, "root");
    assert_true(blk_config(d->drive[0].blk)->is_root);
    assert_int_equal(blk_config(d->drive[0].blk)->limiter.ops.size, 1000);
    assert_string_equal(blk_config(d->drive[1].blk)->path, "data.img");
    assert_true(blk_config(d->drive[1].blk)->read_only);
    assert_int_equal(blk_config(d->drive[1].blk)->engine, BLK_ENGINE_ASYNC);
    assert_int_equal(blk_config(d->drive[1].blk)->cache, BLK_CACHE_WRITEBACK);
    assert_int_equal(d->net_count, 2);
    assert_string_equal(net_config(d->net[0])->tap, "tap0");
    assert_int_equal(net_config(d->net[0])->tx_limiter.bandwidth.one_time_burst, 5000);
    assert_non_null(d->mmds_endpoint[0]);
    assert_null(d->mmds_endpoint[1]);
    assert_int_equal(d->pmem_count, 1);
    assert_string_equal(pmem_config(d->pmem[0])->path, "pmem.img");
    assert_int_equal(vsock_config(d->vsock)->guest_cid, 3);
    assert_int_equal(balloon_config(d->balloon)->amount_mib, 1);
    assert_int_equal(hotplug_config(d->hotplug)->total_size_mib, 128);
    assert_non_null(d->rng);
    assert_int_equal(d->mmds->version, MMDS_V2);
}

static void test_golden_machine_of_each_minor_is_what_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        struct file file = file_at(golden[i].path);
        struct loaded l;
        struct err e;

        assert_int_equal(truncate("mem", (off_t)golden[i].mem_size), 0);
        if (load_fixture_load(&l, file.bytes, file.len, &e))
            fail_msg("%s: %s", golden[i].path, e.text);
        assert_int_equal(machine_state(l.machine), MACHINE_PAUSED);
        assert_int_equal(machine_config(l.machine)->vcpu_count, 2);
        assert_true(machine_config(l.machine)->smt);
        assert_string_equal(machine_boot_source(l.machine)->kernel_path, "guest.elf");
        assert_null(machine_boot_source(l.machine)->initrd_path);
        expect_devices(l.machine);
        assert_int_equal(l.machine->devices.drive_count, i == 0 ? 2 : 3);
        load_fixture_end(&l);
        expect_sound(&file);
    }
}

/* Sections with moments in them, which a save counts from another one; those of the socket device,
 * whose connections a load resets, of the guest's clock, of which half is KVM's report, and of the
 * memory, in which a load tells the guest that it was cloned. */
static bool changes_by_itself(const char *name)
{
    static const char *const names[] = {"machine",      "pit",         "virtio-blk",
                                        "virtio-net",   "virtio-pmem", "virtio-rng",
                                        "virtio-vsock", "kvmclock",    "page-sums"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static void expect_same_sections(const struct file *file, const struct file *again)
{
    struct state_reader a = reader_of(file), b = reader_of(again);
    struct state_section was, is;

    while (state_reader_peek(&a, &was)) {
        assert_true(state_reader_peek(&b, &is));
        assert_string_equal(is.name, was.name);
        assert_int_equal(is.index, was.index);
        assert_int_equal(is.version, was.version);
        if (!changes_by_itself(was.name) &&
            (is.len != was.len || memcmp(is.data, was.data, is.len) != 0))
            fail_msg("section %s %u is not what it was", was.name, was.index);
        state_reader_skip(&a);
        state_reader_skip(&b);
    }
}

static void test_what_was_loaded_is_saved_as_it_was(void **state)
{
    struct file file = newest(), again;
    struct loaded l;

    (void)state;
    assert_int_equal(load_fixture_load(&l, file.bytes, file.len, NULL), 0);
    assert_int_equal(load_fixture_save(&l, NULL), 0);
    load_fixture_end(&l);
    again = file_at("again");
    expect_same_sections(&file, &again);
    assert_int_equal(load_fixture_load_again(&l, NULL), 0);
    load_fixture_end(&l);
}

/* As tools do that copy a snapshot to another place: a path of the same length, a new checksum. */
static void test_path_replaced_in_place_is_the_one_that_is_opened(void **state)
{
    struct file file = newest();
    uint8_t *path = memmem(file.bytes, file.len, "root.img", 9);
    struct loaded l;

    (void)state;
    assert_non_null(path);
    assert_int_equal(rename("root.img", "copy.img"), 0);
    expect_refused(&file, "root.img");
    memcpy(path, "copy.img", 8);
    seal(&file);

    assert_int_equal(load_fixture_load(&l, file.bytes, file.len, NULL), 0);
    assert_string_equal(blk_config(l.machine->devices.drive[0].blk)->path, "copy.img");
    load_fixture_end(&l);
    assert_int_equal(rename("copy.img", "root.img"), 0);
}

/* ---- what is wrong with a file --------------------------------------------------------------- */

static void test_load_of_file_flipped_at_any_byte_is_refused(void **state)
{
    struct file file = newest();

    (void)state;
    for (size_t i = 0; i < file.len; i += i < KIB ? 1 : 61) {
        file.bytes[i] ^= 0x10;
        expect_refused(&file, "Failed to load snapshot state from file");
        file.bytes[i] ^= 0x10;
    }
}

static void test_load_of_header_flipped_at_any_bit_is_refused(void **state)
{
    struct file file = newest();

    (void)state;
    for (size_t bit = 0; bit < STATE_HEADER * 8; bit++) {
        struct file changed = file;

        changed.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        expect_refused(&changed, "Failed to load snapshot state from file");
        if (bit / 8 >= STATE_AT_LEN && bit / 8 < STATE_AT_LEN + 8)
            continue;
        seal(&changed);
        /* An older minor version, or another patch, may be read. */
        if (bit / 8 >= 10 && bit / 8 < 14)
            expect_sound(&changed);
        else
            expect_refused(&changed, "Failed to load snapshot state from file");
    }
}

static void test_load_of_shortened_file_is_refused(void **state)
{
    struct file file = newest();
    size_t whole = file.len;

    (void)state;
    for (file.len = 0; file.len < whole; file.len += file.len < KIB ? 1 : 97)
        expect_refused(&file, "Failed to load snapshot state from file");
}

static void test_load_of_file_of_other_architecture_names_both(void **state)
{
    struct file file = newest();

    (void)state;
    file.bytes[AT_ARCHITECTURE] = 183;
    seal(&file);
    expect_refused(&file, "of architecture 183, this monitor is of architecture 62");
}

/* A drive may have an overlay or none, a snapshot sums or none. */
static bool may_be_left_out(const char *name)
{
    return strcmp(name, "overlay") == 0 || strcmp(name, "page-sums") == 0;
}

static void test_load_without_any_one_section_is_refused(void **state)
{
    const struct file file = newest();
    struct state_reader r = reader_of(&file);
    struct state_section section;

    (void)state;
    for (; state_reader_peek(&r, &section); state_reader_skip(&r)) {
        struct file less = file;

        splice(&less, r.at, SECTION_HEADER + align_up(section.len, 8), "", 0, -1);
        if (may_be_left_out(section.name))
            expect_sound(&less);
        else
            expect_refused(&less, "The snapshot");
    }
}

static void test_load_of_any_section_twice_is_refused(void **state)
{
    const struct file file = newest();
    struct state_reader r = reader_of(&file);
    struct state_section section;

    (void)state;
    for (; state_reader_peek(&r, &section); state_reader_skip(&r)) {
        struct file more = file;

        splice(&more, r.at, 0, file.bytes + r.at, SECTION_HEADER + align_up(section.len, 8), 1);
        expect_refused(&more, "The snapshot");
    }
}

/* Each with the one behind it; those of one name and no index between them are told by content. */
static void test_load_of_any_two_sections_swapped_is_refused(void **state)
{
    const struct file file = newest();
    struct state_reader r = reader_of(&file);
    struct state_section section;

    (void)state;
    while (state_reader_peek(&r, &section)) {
        struct file swapped = file;
        size_t at = r.at, first = SECTION_HEADER + align_up(section.len, 8), second;

        state_reader_skip(&r);
        if (!state_reader_peek(&r, &section))
            break;
        second = SECTION_HEADER + align_up(section.len, 8);
        memcpy(swapped.bytes + at, file.bytes + at + first, second);
        memcpy(swapped.bytes + at + second, file.bytes + at, first);
        seal(&swapped);
        expect_refused(&swapped, "The snapshot has section");
    }
}

/* ---- hostile contents under a right checksum ------------------------------------------------- */

static void test_load_of_hostile_number_is_refused(void **state)
{
    static const struct {
        const struct state_desc *desc;
        uint32_t index;
        const char *field;
        uint32_t element;
        uint64_t value;
        const char *sentence;
    } cases[] = {
        {&saved_machine_desc, 0, "vcpu_count", 0, 0, "a machine that cannot be"},
        {&saved_machine_desc, 0, "vcpu_count", 0, 33, "a machine that cannot be"},
        {&saved_machine_desc, 0, "vcpu_count", 0, 3, "section pic 0 where vcpu-clock 2"},
        {&saved_machine_desc, 0, "vcpu_count", 0, 1, "section vcpu-clock 1 where pic 0"},
        {&saved_machine_desc, 0, "huge_pages", 0, 3, "a machine that cannot be"},
        {&saved_machine_desc, 0, "cpu_template", 0, 99, "a machine that cannot be"},
        {&saved_machine_desc, 0, "mem_size_mib", 0, 0, "of another size than its guest"},
        {&saved_machine_desc, 0, "mem_size_mib", 0, UINT64_MAX, "of another size than its guest"},
        {&mem_map_desc, 0, "size", 0, 0, "not one that a guest can have"},
        {&mem_map_desc, 0, "size", 0, UINT64_MAX - 4095, "not one that a guest can have"},
        {&mem_map_desc, 0, "gpa", 0, 4096, "not that of this monitor"},
        {&saved_counts_desc, 0, "drives", 0, UINT32_MAX, "more devices than a machine can have"},
        {&saved_counts_desc, 0, "nets", 0, UINT32_MAX, "more devices than a machine can have"},
        {&saved_counts_desc, 0, "pmems", 0, UINT32_MAX, "more devices than a machine can have"},
        {&saved_counts_desc, 0, "drives", 0, 1, "section drive 1 where net 0"},
        {&saved_counts_desc, 0, "balloon", 0, 0, "section balloon 0 where drive 0"},
        {&saved_balloon_desc, 0, "amount_mib", 0, UINT32_MAX,
         "Amount of pages requested is too large"},
        {&saved_drive_desc, 1, "is_root", 0, 1, "root"},
        {&saved_vsock_desc, 0, "guest_cid", 0, 2, "vsock"},
        {&saved_net_desc, 0, "has_mtu", 0, 1, "MTU"},
        {&saved_hotplug_desc, 0, "block_size_mib", 0, 0, "Block size must not be lower than 2 MiB"},
        {&saved_hotplug_desc, 0, "block_size_mib", 0, 3, "Block size must be a power of 2"},
        {&saved_hotplug_desc, 0, "slot_size_mib", 0, UINT32_MAX, "Slot size must be a multiple"},
        {&saved_hotplug_desc, 0, "total_size_mib", 0, UINT32_MAX, "multiple of slot size"},
        {&saved_hotplug_desc, 0, "total_size_mib", 0, 0x80000000,
         "Of blocks of 2 MiB there can be"},
        {&virtio_dev_state_desc, 1, "status", 0, UINT32_MAX, "its status is none"},
        {&virtio_dev_state_desc, 1, "status", 0, 4, "its status is none"},
        {&virtio_dev_state_desc, 1, "features", 0, UINT64_MAX, "features that the device does not"},
        {&virtqueue_state_desc, 8, "size_max", 0, 128, "size_max of virtqueue differs"},
        {&virtqueue_state_desc, 8, "ready", 0, 2, "a queue of it is not this device's"},
        {&virtqueue_state_desc, 8, "size", 0, 0, "cannot go on"},
        {&virtqueue_state_desc, 8, "size", 0, 3, "cannot go on"},
        {&virtqueue_state_desc, 8, "size", 0, 0x8000, "cannot go on"},
        {&virtqueue_state_desc, 8, "desc", 0, 1, "cannot go on"},
        {&virtqueue_state_desc, 8, "desc", 0, 16 * MIB - 16, "cannot go on"},
        {&virtqueue_state_desc, 8, "avail", 0, UINT64_MAX - 1, "cannot go on"},
        {&virtqueue_state_desc, 8, "used", 0, 3 * GIB, "cannot go on"},
        {&pmem_state_desc, 6, "start", 0, 0, "saved start of virtio-pmem differs"},
        {&pmem_state_desc, 6, "size", 0, GIB, "saved size of virtio-pmem differs"},
        {&vsock_state_desc, 7, "guest_cid", 0, 4, "saved guest_cid of virtio-vsock differs"},
        {&hotplug_state_desc, 9, "addr", 0, 0, "saved addr of virtio-mem differs"},
        {&hotplug_state_desc, 9, "block_size", 0, 0, "saved block_size of virtio-mem differs"},
        {&hotplug_state_desc, 9, "region_size", 0, 0, "saved region_size of virtio-mem differs"},
        {&serial_state_desc, 0, "rx_head", 0, 64, "none that it can have"},
        {&serial_state_desc, 0, "rx_count", 0, 65, "none that it can have"},
        {&i8042_state_desc, 0, "reply_head", 0, 255, "none that it can have"},
        {&i8042_state_desc, 0, "reply_count", 0, 255, "none that it can have"},
        {&i8042_state_desc, 0, "keyboard_head", 0, 255, "none that it can have"},
        {&i8042_state_desc, 0, "keyboard_count", 0, 255, "none that it can have"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct file file = newest();

        put(&file, cases[i].desc, cases[i].index, cases[i].field, cases[i].element, cases[i].value);
        expect_refused(&file, cases[i].sentence);
    }
}

/* Every field of every table, at its ends and in between. */
static void test_load_of_any_number_at_its_limits_is_refused_or_sound(void **state)
{
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    const struct file file = newest();
    struct state_reader r = reader_of(&file);
    struct state_section section;
    unsigned n = 0;

    (void)state;
    for (; state_reader_peek(&r, &section); state_reader_skip(&r)) {
        size_t at = r.at + SECTION_HEADER;
        /* Of the large ones, which KVM or the guest's driver alone read, a part. */
        size_t len = MIN(section.len, 192u);

        for (size_t i = 0; i < len; i++) {
            struct file changed = file;

            changed.bytes[at + i] = values[n++ % ARRAY_SIZE(values)];
            seal(&changed);
            expect_sound(&changed);
        }
    }
}

static void test_load_of_hostile_text_is_refused(void **state)
{
    static char long_text[20 * KIB];
    struct file file = newest();

    (void)state;
    memset(long_text, 'a', sizeof(long_text));
    put_bytes(&file, "drive-path", 0, long_text, sizeof(long_text));
    expect_refused(&file, "section drive-path is not one text");
    long_text[sizeof(long_text) - 1] = 0;
    put_bytes(&file, "drive-path", 0, long_text, sizeof(long_text));
    expect_refused(&file, "File name too long");
    file = newest();
    put_bytes(&file, "net-tap", 0, long_text + sizeof(long_text) - 17, 17);
    expect_refused(&file, "Invalid interface name");
    file = newest();
    put_bytes(&file, "vsock-path", 0, long_text, sizeof(long_text));
    expect_refused(&file, "VsockUnixBackend");
    file = newest();
    put_bytes(&file, "drive-id", 0, "", 0);
    expect_refused(&file, "section drive-id 0 is empty");
    file = newest();
    put_bytes(&file, "drive-id", 1, "root", 5);
    expect_sound(&file);
    file = newest();
    put_bytes(&file, "boot-args", 0, long_text, sizeof(long_text));
    expect_sound(&file);
}

static void test_load_of_vcpu_with_too_much_is_refused(void **state)
{
    static uint8_t more[20 * KIB];
    struct file file = newest();

    (void)state;
    put_bytes(&file, "vcpu-cpuid", 0, more, 257 * 40);
    expect_refused(&file, "section vcpu-cpuid has 10280 bytes, which is not up to 256 times 40");
    file = newest();
    put_bytes(&file, "vcpu-msr", 1, more, 1025 * 16);
    expect_refused(&file, "section vcpu-msr has 16400 bytes, which is not up to 1024 times 16");
    file = newest();
    put_bytes(&file, "vcpu-xsave", 0, more, 4095);
    expect_refused(&file, "of vCPU 0 has 4095 bytes, not 4096 to 16384");
    file = newest();
    put_bytes(&file, "vcpu-xsave", 0, more, 16385);
    expect_refused(&file, "of vCPU 0 has 16385 bytes, not 4096 to 16384");
    file = newest();
    put_bytes(&file, "vcpu-xsave", 0, more, 8192);
    expect_refused(&file, "Cannot restore the XSAVE area of vCPU 0");
}

static void test_load_of_vcpu_with_a_feature_that_is_not_here_names_it(void **state)
{
    const struct kvm_cpuid_entry2 entry = {.function = 7, .index = 1, .edx = 1u << 4};
    struct file file = newest();

    (void)state;
    put_bytes(&file, "vcpu-cpuid", 1, &entry, sizeof(entry));
    expect_refused(&file, "features that KVM does not offer on this host: avx_vnni_int8.");
}

static void test_load_says_what_kvm_refuses(void **state)
{
    struct file file = newest();

    (void)state;
    fake_kvm_refuse(KVM_SET_SREGS, EINVAL);
    expect_refused(&file, "Cannot restore the segment and control registers of vCPU 0: Invalid");
    fake_kvm_refuse(KVM_CREATE_VM, ENOMEM);
    expect_refused(&file, "Cannot create the VM: ");
    fake_kvm_refuse(KVM_SET_IRQCHIP, ENXIO);
    expect_refused(&file, "Cannot restore interrupt controller 0");
    fake_kvm_refuse(0, 0);
}

/* ---- the memory file ------------------------------------------------------------------------- */

static void test_load_of_memory_file_of_another_size_is_refused(void **state)
{
    struct file file = newest();

    (void)state;
    assert_int_equal(truncate("mem", 144 * MIB - 1), 0);
    expect_refused(&file, "The memory file has 150994943 bytes; the guest has 150994944.");
    assert_int_equal(truncate("mem", 144 * MIB + 4096), 0);
    expect_refused(&file, "The memory file has 150999040 bytes; the guest has 150994944.");
    assert_int_equal(truncate("mem", 144 * MIB), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_machine_of_each_minor_is_what_it_was),
        cmocka_unit_test(test_what_was_loaded_is_saved_as_it_was),
        cmocka_unit_test(test_path_replaced_in_place_is_the_one_that_is_opened),
        cmocka_unit_test(test_load_of_file_flipped_at_any_byte_is_refused),
        cmocka_unit_test(test_load_of_header_flipped_at_any_bit_is_refused),
        cmocka_unit_test(test_load_of_shortened_file_is_refused),
        cmocka_unit_test(test_load_of_file_of_other_architecture_names_both),
        cmocka_unit_test(test_load_without_any_one_section_is_refused),
        cmocka_unit_test(test_load_of_any_section_twice_is_refused),
        cmocka_unit_test(test_load_of_any_two_sections_swapped_is_refused),
        cmocka_unit_test(test_load_of_hostile_number_is_refused),
        cmocka_unit_test(test_load_of_any_number_at_its_limits_is_refused_or_sound),
        cmocka_unit_test(test_load_of_hostile_text_is_refused),
        cmocka_unit_test(test_load_of_vcpu_with_too_much_is_refused),
        cmocka_unit_test(test_load_of_vcpu_with_a_feature_that_is_not_here_names_it),
        cmocka_unit_test(test_load_says_what_kvm_refuses),
        cmocka_unit_test(test_load_of_memory_file_of_another_size_is_refused),
    };
    int rc;

    load_fixture_enter(golden[NEWEST].mem_size);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    load_fixture_leave();
    return rc;
}
