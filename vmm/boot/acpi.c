/* SPDX-License-Identifier: Apache-2.0 */
/* acpi.c: the ACPI tables, each built in a buffer and placed one after the other. */
#include "vmm/boot/acpi.h"

#include "vmm/boot/aml.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/tables.h"

#include <stdio.h>
#include <string.h>

#define TABLE_ALIGN 16

/* Tables are packed in memory; the compiler must not add padding. */
#define __packed __attribute__((packed))

struct __packed header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
};

struct __packed rsdp {
    char signature[8];
    uint8_t checksum; /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum; /* of all */
    uint8_t reserved[3];
};

/* Generic address (5.2.3.2). */
struct __packed address {
    uint8_t space, bit_width, bit_offset, access;
    uint64_t address;
};

enum { SPACE_IO = 1, ACCESS_BYTE = 1, ACCESS_DWORD = 3 };

/* The parts of a FADT that this machine has; the others, fixed hardware, are 0. */
struct __packed fadt {
    struct header header;
    uint8_t fixed_1[73];
    uint16_t boot_architecture;
    uint8_t reserved;
    uint32_t flags;
    struct address reset;
    uint8_t reset_value;
    uint16_t arm_boot_architecture;
    uint8_t minor_version;
    uint64_t firmware_control;
    uint64_t dsdt;
    struct address fixed_2[5];
    struct address pm_timer;
    struct address fixed_3[2];
    struct address sleep_control, sleep_status;
    char hypervisor[8];
};

/* FADT's IA-PC boot architecture (5.2.9.3). */
enum {
    BOOT_LEGACY_DEVICES = 1 << 0, /* a serial port on ISA */
    BOOT_8042 = 1 << 1,
    BOOT_NO_VGA = 1 << 2,
    BOOT_NO_MSI = 1 << 3,
    BOOT_NO_ASPM = 1 << 4,
    BOOT_NO_RTC = 1 << 5, /* or kernels wait for one */
};

/* FADT's flags (5.2.9). */
enum {
    FADT_WBINVD = 1 << 0,
    FADT_NO_POWER_BUTTON = 1 << 4, /* as fixed hardware */
    FADT_NO_SLEEP_BUTTON = 1 << 5,
    FADT_RESET = 1 << 10,
    FADT_HARDWARE_REDUCED = 1 << 20,
};

struct __packed madt {
    struct header header;
    uint32_t lapic;
    uint32_t flags; /* 0: no 8259s, as far as ACPI is concerned */
};

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_LAPIC_NMI = 4 };

struct __packed madt_lapic {
    uint8_t type, length, processor_uid, apic_id;
    uint32_t flags;
};

struct __packed madt_ioapic {
    uint8_t type, length, id, reserved;
    uint32_t address, first_gsi;
};

struct __packed madt_lapic_nmi {
    uint8_t type, length, processor_uid;
    uint16_t flags;
    uint8_t lint;
};

_Static_assert(sizeof(struct header) == 36 && sizeof(struct rsdp) == 36 &&
                   sizeof(struct fadt) == 276 && offsetof(struct fadt, flags) == 112 &&
                   offsetof(struct fadt, dsdt) == 140 &&
                   offsetof(struct fadt, sleep_control) == 244 && sizeof(struct madt) == 44,
               "sizes and offsets of the specification");

#define LAPIC_ENABLED  1
#define ALL_PROCESSORS 0xff

#define RSDP_REVISION 2
#define XSDT_REVISION 1
#define FADT_REVISION 6
#define FADT_MINOR    5
#define MADT_REVISION 5
#define DSDT_REVISION 2 /* 64-bit integers */

/* The largest is the DSDT: some 70 bytes a device. */
#define TABLE_SIZE_MAX 4096

/* A table in the making, and where the next one goes. */
struct tables {
    struct mem *mem;
    uint64_t next;
    size_t len;
    uint8_t bytes[TABLE_SIZE_MAX];
};

static void append(struct tables *t, const void *part, size_t len)
{
    BUG_ON(!range_fits(t->len, len, sizeof(t->bytes)));
    memcpy(t->bytes + t->len, part, len);
    t->len += len;
}

/* The OEM id is Firecracker's: guests look at it to tell where they run. */
static struct header make_header(const char *signature, uint8_t revision)
{
    struct header header = {
        .revision = revision,
        .oem_id = {'F', 'I', 'R', 'E', 'C', 'K'},
        .oem_table_id = {'M', 'A', 'Y', 'F', 'L', 'Y', 'V', 'M'},
        .oem_revision = 1,
        .creator_id = {'M', 'F', 'L', 'Y'},
        .creator_revision = 1,
    };

    memcpy(header.signature, signature, sizeof(header.signature));
    return header;
}

/* Completes the header of the table in t->bytes, writes it to guest memory and starts the next. */
static uint64_t finish(struct tables *t)
{
    uint64_t gpa = t->next;
    uint32_t length = (uint32_t)t->len;
    uint8_t checksum;

    memcpy(t->bytes + offsetof(struct header, length), &length, sizeof(length));
    checksum = table_checksum(t->bytes, t->len);
    t->bytes[offsetof(struct header, checksum)] = checksum;
    table_write(t->mem, gpa, t->bytes, t->len);
    t->next = align_up(gpa + t->len, TABLE_ALIGN);
    BUG_ON(t->next > LAYOUT_VMCLOCK);
    t->len = 0;
    return gpa;
}

static void name_text(struct aml *aml, const char *name, const char *text)
{
    aml_name(aml, name);
    aml_string(aml, text);
}

/* LNRO0005 is virtio-mmio. _UID counts them; _CCA: its accesses to memory are coherent. */
static void describe_virtio(struct aml *aml, unsigned index, const struct boot_device *device)
{
    struct aml_resources use = {0};
    char name[5];
    size_t mark;

    BUG_ON(index > 999);
    snprintf(name, sizeof(name), "V%03u", index % 1000);
    mark = aml_device(aml, name);
    name_text(aml, "_HID", "LNRO0005");
    aml_name(aml, "_UID");
    aml_integer(aml, index);
    aml_name(aml, "_CCA");
    aml_integer(aml, 1);
    aml_name(aml, "_CRS");
    aml_use_memory(&use, (uint32_t)device->base.v, (uint32_t)LAYOUT_VIRTIO_MMIO_SIZE);
    aml_use_interrupt(&use, device->gsi);
    aml_resources(aml, &use);
    aml_end(aml, mark);
}

/* PNP0501 is a serial port of the 16550's kind. */
static void describe_serial(struct aml *aml)
{
    struct aml_resources use = {0};
    size_t mark = aml_device(aml, "COM1");

    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0501");
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
    name_text(aml, "_DDN", "COM1");
    aml_name(aml, "_CRS");
    aml_use_ports(&use, LAYOUT_PORT_SERIAL, 8);
    aml_use_interrupt(&use, LAYOUT_IRQ_SERIAL);
    aml_resources(aml, &use);
    aml_end(aml, mark);
}

/* PNP0303 is a keyboard; its driver takes the controller, by which Ctrl-Alt-Del comes. */
static void describe_keyboard(struct aml *aml)
{
    struct aml_resources use = {0};
    size_t mark = aml_device(aml, "PS2_");

    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0303");
    aml_name(aml, "_CRS");
    aml_use_ports(&use, LAYOUT_PORT_KEYBOARD_DATA, 1);
    aml_use_ports(&use, LAYOUT_PORT_KEYBOARD_CTRL, 1);
    aml_use_interrupt(&use, LAYOUT_IRQ_KEYBOARD);
    aml_resources(aml, &use);
    aml_end(aml, mark);
}

#define NOTIFY_CHANGED 0x80 /* the first value whose meaning is the device's */

/* Neither of its CIDs is one alone: Linux knows both, Windows the first, which is longer than ACPI
 * allows. ADDR has the low and the high half of the address. */
static void describe_vmgenid(struct aml *aml)
{
    size_t mark = aml_device(aml, "VGEN"), package;

    name_text(aml, "_HID", "MFLY0001");
    aml_name(aml, "_CID");
    package = aml_package(aml, 2);
    aml_string(aml, "VM_Gen_Counter");
    aml_string(aml, "VMGENCTR");
    aml_end(aml, package);
    name_text(aml, "_DDN", "VM_Gen_Counter");
    aml_name(aml, "ADDR");
    package = aml_package(aml, 2);
    aml_integer(aml, LAYOUT_VMGENID);
    aml_integer(aml, 0);
    aml_end(aml, package);
    aml_end(aml, mark);
}

static void describe_vmclock(struct aml *aml)
{
    struct aml_resources use = {0};
    size_t mark = aml_device(aml, "VCLK");

    name_text(aml, "_HID", "AMZNC10C");
    name_text(aml, "_CID", "VMCLOCK");
    name_text(aml, "_DDN", "VMCLOCK");
    aml_name(aml, "_CRS");
    aml_use_memory(&use, LAYOUT_VMCLOCK, LAYOUT_VMCLOCK_SIZE);
    aml_resources(aml, &use);
    aml_end(aml, mark);
}

static void describe_event(struct aml *aml, uint32_t gsi, const char *device)
{
    size_t mark = aml_if_event(aml, gsi);

    aml_notify(aml, device, NOTIFY_CHANGED);
    aml_end(aml, mark);
}

/* ACPI0013 is the generic event device (5.6.9), by which a hardware-reduced machine notifies:
 * each of its interrupts is an event. */
static void describe_events(struct aml *aml)
{
    struct aml_resources use = {0};
    size_t mark = aml_device(aml, "GED_"), method;

    name_text(aml, "_HID", "ACPI0013");
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
    aml_name(aml, "_CRS");
    aml_use_interrupt(&use, LAYOUT_IRQ_VMGENID);
    aml_use_interrupt(&use, LAYOUT_IRQ_VMCLOCK);
    aml_resources(aml, &use);
    method = aml_event_method(aml);
    describe_event(aml, LAYOUT_IRQ_VMGENID, "VGEN");
    describe_event(aml, LAYOUT_IRQ_VMCLOCK, "VCLK");
    aml_end(aml, method);
    aml_end(aml, mark);
}

/* What to write to the sleep control register for power-off; no other sleep state exists. */
static void describe_power_off(struct aml *aml)
{
    size_t mark;

    aml_name(aml, "_S5_");
    mark = aml_package(aml, 2);
    aml_integer(aml, LAYOUT_SLEEP_TYPE_S5);
    aml_integer(aml, 0); /* the second register that hardware-reduced machines lack */
    aml_end(aml, mark);
}

static uint64_t write_dsdt(struct tables *t, const struct boot_device *device, unsigned count)
{
    struct header header = make_header("DSDT", DSDT_REVISION);
    struct aml aml;
    size_t bus;

    append(t, &header, sizeof(header));
    aml = (struct aml){.bytes = t->bytes, .len = t->len, .size = sizeof(t->bytes)};
    bus = aml_scope_system_bus(&aml);
    for (unsigned i = 0; i < count; i++)
        describe_virtio(&aml, i, &device[i]);
    describe_serial(&aml);
    describe_keyboard(&aml);
    describe_vmgenid(&aml);
    describe_vmclock(&aml);
    describe_events(&aml);
    aml_end(&aml, bus);
    describe_power_off(&aml);
    t->len = aml.len;
    return finish(t);
}

static struct address io_register(uint16_t port)
{
    return (struct address){
        .space = SPACE_IO, .bit_width = 8, .access = ACCESS_BYTE, .address = port};
}

static uint64_t write_fadt(struct tables *t, uint64_t dsdt)
{
    struct fadt fadt = {
        .header = make_header("FACP", FADT_REVISION),
        .boot_architecture = BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA | BOOT_NO_MSI |
                             BOOT_NO_ASPM | BOOT_NO_RTC,
        .flags = FADT_WBINVD | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON | FADT_RESET |
                 FADT_HARDWARE_REDUCED,
        .reset = io_register(LAYOUT_PORT_KEYBOARD_CTRL),
        .reset_value = LAYOUT_RESET_PULSE,
        .minor_version = FADT_MINOR,
        .dsdt = dsdt,
        /* Not reduced away: kernels without kvmclock measure the TSC by it. */
        .pm_timer = {.space = SPACE_IO,
                     .bit_width = 32,
                     .access = ACCESS_DWORD,
                     .address = LAYOUT_PORT_PM_TIMER},
        .sleep_control = io_register(LAYOUT_PORT_SLEEP_CONTROL),
        .sleep_status = io_register(LAYOUT_PORT_SLEEP_STATUS),
        .hypervisor = {'M', 'A', 'Y', 'F', 'L', 'Y'},
    };

    append(t, &fadt, sizeof(fadt));
    return finish(t);
}

static void append_processors(struct tables *t, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct madt_lapic cpu = {
            .type = MADT_LAPIC,
            .length = sizeof(cpu),
            .processor_uid = (uint8_t)i,
            .apic_id = (uint8_t)i,
            .flags = LAPIC_ENABLED,
        };

        append(t, &cpu, sizeof(cpu));
    }
}

/* No interrupt overrides: every device names its GSI, trigger and polarity in its _CRS. */
static uint64_t write_madt(struct tables *t, unsigned vcpu_count)
{
    struct madt madt = {
        .header = make_header("APIC", MADT_REVISION),
        .lapic = (uint32_t)LAYOUT_LAPIC,
    };
    struct madt_ioapic ioapic = {
        .type = MADT_IOAPIC,
        .length = sizeof(ioapic),
        .id = (uint8_t)vcpu_count, /* differs from every processor's */
        .address = (uint32_t)LAYOUT_IOAPIC,
    };
    struct madt_lapic_nmi nmi = {
        .type = MADT_LAPIC_NMI,
        .length = sizeof(nmi),
        .processor_uid = ALL_PROCESSORS,
        .lint = 1,
    };

    append(t, &madt, sizeof(madt));
    append_processors(t, vcpu_count);
    append(t, &ioapic, sizeof(ioapic));
    append(t, &nmi, sizeof(nmi));
    return finish(t);
}

static uint64_t write_xsdt(struct tables *t, const uint64_t *table, size_t count)
{
    struct header header = make_header("XSDT", XSDT_REVISION);

    append(t, &header, sizeof(header));
    append(t, table, count * sizeof(*table));
    return finish(t);
}

static void write_rsdp(struct mem *mem, uint64_t xsdt)
{
    struct rsdp rsdp = {
        .signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
        .oem_id = {'F', 'I', 'R', 'E', 'C', 'K'},
        .revision = RSDP_REVISION,
        .length = sizeof(rsdp),
        .xsdt = xsdt,
    };

    rsdp.checksum = table_checksum(&rsdp, offsetof(struct rsdp, length));
    rsdp.extended_checksum = table_checksum(&rsdp, sizeof(rsdp));
    table_write(mem, LAYOUT_RSDP, &rsdp, sizeof(rsdp));
}

uint64_t acpi_write(struct mem *mem, uint64_t gpa, unsigned vcpu_count,
                    const struct boot_device *device, unsigned device_count)
{
    struct tables t = {.mem = mem, .next = align_up(gpa, TABLE_ALIGN)};
    uint64_t dsdt = write_dsdt(&t, device, device_count);
    uint64_t table[2];

    table[0] = write_fadt(&t, dsdt);
    table[1] = write_madt(&t, vcpu_count);
    write_rsdp(mem, write_xsdt(&t, table, ARRAY_SIZE(table)));
    return t.next;
}
