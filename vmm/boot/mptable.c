/* SPDX-License-Identifier: Apache-2.0 */
/* mptable.c: the MP table, built entry by entry in a buffer. */
#include "vmm/boot/mptable.h"

#include "vmm/boot/layout.h"
#include "vmm/boot/tables.h"

#include <string.h>

struct mp_floating {
    char signature[4];
    uint32_t table; /* physical address */
    uint8_t length; /* in units of 16 bytes */
    uint8_t revision, checksum;
    uint8_t feature[5]; /* all 0: the table is there, virtual wire mode */
};

struct mp_table {
    char signature[4];
    uint16_t length;
    uint8_t revision, checksum;
    char oem_id[8], product_id[12];
    uint32_t oem_table;
    uint16_t oem_table_size;
    uint16_t entry_count;
    uint32_t lapic;
    uint16_t extended_length;
    uint8_t extended_checksum, reserved;
};

enum { MP_PROCESSOR, MP_BUS, MP_IOAPIC, MP_INTERRUPT, MP_LOCAL_INTERRUPT };

struct mp_processor {
    uint8_t type, apic_id, apic_version, flags;
    uint32_t signature, features;
    uint32_t reserved[2];
};

struct mp_bus {
    uint8_t type, id;
    char name[6];
};

struct mp_ioapic {
    uint8_t type, id, version, flags;
    uint32_t address;
};

/* Both kinds of interrupt entry. flags 0: polarity and trigger as usual on the bus; on ISA that is
 * edge, active high, which is how all our devices signal. */
struct mp_interrupt {
    uint8_t type, kind;
    uint16_t flags;
    uint8_t bus, bus_irq;
    uint8_t apic, pin;
};

_Static_assert(sizeof(struct mp_floating) == 16 && sizeof(struct mp_table) == 44 &&
                   sizeof(struct mp_processor) == 20 && sizeof(struct mp_bus) == 8 &&
                   sizeof(struct mp_ioapic) == 8 && sizeof(struct mp_interrupt) == 8,
               "sizes of the specification");

#define MP_REVISION   4 /* 1.4 */
#define APIC_VERSION  0x14
#define CPU_ENABLED   0x1
#define CPU_BOOT      0x2
#define CPU_SIGNATURE 0x600 /* family 6; kernels ask CPUID for more */
#define CPU_FEATURES  0x201 /* FPU, local APIC */
#define BUS_ISA       0
#define ALL_LAPICS    0xff

enum { KIND_INT = 0, KIND_NMI = 1, KIND_EXTINT = 3 };

#define MPTABLE_SIZE_MAX                                                                           \
    (sizeof(struct mp_floating) + sizeof(struct mp_table) +                                        \
     MPTABLE_CPUS_MAX * sizeof(struct mp_processor) + sizeof(struct mp_bus) +                      \
     sizeof(struct mp_ioapic) + (LAYOUT_IOAPIC_PINS + 2) * sizeof(struct mp_interrupt))

struct builder {
    size_t len;
    uint16_t entries;
    uint8_t bytes[MPTABLE_SIZE_MAX];
};

static void add(struct builder *b, const void *part, size_t len)
{
    BUG_ON(!range_fits(b->len, len, sizeof(b->bytes)));
    memcpy(b->bytes + b->len, part, len);
    b->len += len;
}

static void add_entry(struct builder *b, const void *entry, size_t len)
{
    add(b, entry, len);
    b->entries++;
}

static void add_processors(struct builder *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct mp_processor cpu = {
            .type = MP_PROCESSOR,
            .apic_id = (uint8_t)i,
            .apic_version = APIC_VERSION,
            .flags = CPU_ENABLED | (i == 0 ? CPU_BOOT : 0),
            .signature = CPU_SIGNATURE,
            .features = CPU_FEATURES,
        };

        add_entry(b, &cpu, sizeof(cpu));
    }
}

/* The I/O APIC's id must differ from every processor's. */
static uint8_t add_bus_and_ioapic(struct builder *b, unsigned vcpu_count)
{
    struct mp_bus bus = {.type = MP_BUS, .id = BUS_ISA, .name = {'I', 'S', 'A', ' ', ' ', ' '}};
    struct mp_ioapic ioapic = {
        .type = MP_IOAPIC,
        .id = (uint8_t)vcpu_count,
        .version = APIC_VERSION,
        .flags = 1, /* usable */
        .address = (uint32_t)LAYOUT_IOAPIC,
    };

    add_entry(b, &bus, sizeof(bus));
    add_entry(b, &ioapic, sizeof(ioapic));
    return ioapic.id;
}

static void add_pin(struct builder *b, uint8_t ioapic, uint32_t gsi)
{
    struct mp_interrupt line = {
        .type = MP_INTERRUPT,
        .kind = KIND_INT,
        .bus = BUS_ISA,
        .bus_irq = (uint8_t)gsi,
        .apic = ioapic,
        .pin = (uint8_t)gsi,
    };

    BUG_ON(gsi >= LAYOUT_IOAPIC_PINS);
    add_entry(b, &line, sizeof(line));
}

/*
 * Only the pins that something drives: a kernel programs each pin that it finds here, by several
 * accesses to the I/O APIC, and every one of them is an exit. A PC's table would list them all.
 * The timer's is among them, though kernels that tick by TSC deadline leave it alone: others give
 * up when it is missing (Linux: "IO-APIC + timer doesn't work").
 */
static void add_pins(struct builder *b, uint8_t ioapic, const struct boot_device *device,
                     unsigned device_count)
{
    add_pin(b, ioapic, LAYOUT_IRQ_TIMER);
    add_pin(b, ioapic, LAYOUT_IRQ_KEYBOARD);
    add_pin(b, ioapic, LAYOUT_IRQ_SERIAL);
    for (unsigned i = 0; i < device_count; i++)
        add_pin(b, ioapic, device[i].gsi);
}

/* LINT0 of the boot processor takes the 8259's interrupts, LINT1 of all the NMI, as the vCPUs'
 * local APICs are set. */
static void add_local_interrupts(struct builder *b)
{
    struct mp_interrupt extint = {.type = MP_LOCAL_INTERRUPT, .kind = KIND_EXTINT, .apic = 0};
    struct mp_interrupt nmi = {
        .type = MP_LOCAL_INTERRUPT, .kind = KIND_NMI, .apic = ALL_LAPICS, .pin = 1};

    add_entry(b, &extint, sizeof(extint));
    add_entry(b, &nmi, sizeof(nmi));
}

/* Fills in the two headers, whose sums cover everything after them. */
static void add_headers(struct builder *b, uint64_t gpa)
{
    struct mp_floating floating = {
        .signature = {'_', 'M', 'P', '_'},
        .table = (uint32_t)(gpa + sizeof(floating)),
        .length = sizeof(floating) / 16,
        .revision = MP_REVISION,
    };
    struct mp_table table = {
        .signature = {'P', 'C', 'M', 'P'},
        .length = (uint16_t)(b->len - sizeof(floating)),
        .revision = MP_REVISION,
        .oem_id = {'M', 'A', 'Y', 'F', 'L', 'Y', ' ', ' '},
        .product_id = {'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ', ' ', ' ', ' ', ' '},
        .entry_count = b->entries,
        .lapic = (uint32_t)LAYOUT_LAPIC,
    };
    uint8_t *start = b->bytes + sizeof(floating);

    floating.checksum = table_checksum(&floating, sizeof(floating));
    memcpy(b->bytes, &floating, sizeof(floating));
    memcpy(start, &table, sizeof(table));
    table.checksum = table_checksum(start, table.length);
    memcpy(start, &table, sizeof(table));
}

size_t mptable_write(struct mem *mem, uint64_t gpa, unsigned vcpu_count,
                     const struct boot_device *device, unsigned device_count)
{
    struct builder b = {.len = sizeof(struct mp_floating) + sizeof(struct mp_table)};
    uint8_t ioapic;

    BUG_ON(vcpu_count == 0 || vcpu_count > MPTABLE_CPUS_MAX);
    add_processors(&b, vcpu_count);
    ioapic = add_bus_and_ioapic(&b, vcpu_count);
    add_pins(&b, ioapic, device, device_count);
    add_local_interrupts(&b);
    add_headers(&b, gpa);
    table_write(mem, gpa, b.bytes, b.len);
    return b.len;
}
