/* SPDX-License-Identifier: Apache-2.0 */
/* aml.c: the encoding of ACPI Machine Language. */
#include "vmm/boot/aml.h"

#include <string.h>

/* ACPI 6.5, 20.2 and table 20.2 ("AML opcode values"). */
enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_EXTENDED = 0x5b,
    OP_EXTENDED_DEVICE = 0x82,
    OP_ARG0 = 0x68,
    OP_NOTIFY = 0x86,
    OP_EQUAL = 0x93,
    OP_IF = 0xa0,
};

#define METHOD_SERIALIZED 8 /* of a method's flags */

/* ACPI 6.5, 6.4.2 and 6.4.3: small descriptors have their length in the tag. */
enum {
    TAG_PORTS = 0x47,
    TAG_END = 0x79,
    TAG_MEMORY32_FIXED = 0x86,
    TAG_INTERRUPT = 0x89,
};

static void put(struct aml *aml, const void *bytes, size_t len)
{
    BUG_ON(!range_fits(aml->len, len, aml->size));
    memcpy(aml->bytes + aml->len, bytes, len);
    aml->len += len;
}

static void put_byte(struct aml *aml, unsigned value)
{
    uint8_t byte = (uint8_t)value;

    put(aml, &byte, 1);
}

static void put_name(struct aml *aml, const char *name)
{
    BUG_ON(strlen(name) != 4);
    put(aml, name, 4);
}

void aml_name(struct aml *aml, const char *name)
{
    put_byte(aml, OP_NAME);
    put_name(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        put_byte(aml, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        put_byte(aml, OP_BYTE);
        put(aml, &value, 1);
    } else if (value <= UINT16_MAX) {
        put_byte(aml, OP_WORD);
        put(aml, &value, 2);
    } else if (value <= UINT32_MAX) {
        put_byte(aml, OP_DWORD);
        put(aml, &value, 4);
    } else {
        put_byte(aml, OP_QWORD);
        put(aml, &value, 8);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    put_byte(aml, OP_STRING);
    put(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits and four hex digits, the most significant byte first (ACPI 6.5,
 * 19.3.4). */
void aml_eisa_id(struct aml *aml, const char *id)
{
    unsigned letters = 0, number = 0;
    uint8_t bytes[4];

    BUG_ON(strlen(id) != 7);
    for (unsigned i = 0; i < 3; i++)
        letters = letters << 5 | (unsigned)(id[i] - 'A' + 1);
    for (unsigned i = 3; i < 7; i++)
        number = number << 4 | hex_digit(id[i]);
    bytes[0] = (uint8_t)(letters >> 8);
    bytes[1] = (uint8_t)letters;
    bytes[2] = (uint8_t)(number >> 8);
    bytes[3] = (uint8_t)number;
    put_byte(aml, OP_DWORD);
    put(aml, bytes, sizeof(bytes));
}

static void put_buffer(struct aml *aml, const void *bytes, size_t len)
{
    size_t mark;

    put_byte(aml, OP_BUFFER);
    mark = aml->len;
    aml_integer(aml, len);
    put(aml, bytes, len);
    aml_end(aml, mark);
}

size_t aml_scope_system_bus(struct aml *aml)
{
    size_t mark;

    put_byte(aml, OP_SCOPE);
    mark = aml->len;
    put_byte(aml, '\\');
    put_name(aml, "_SB_");
    return mark;
}

size_t aml_device(struct aml *aml, const char *name)
{
    size_t mark;

    put_byte(aml, OP_EXTENDED);
    put_byte(aml, OP_EXTENDED_DEVICE);
    mark = aml->len;
    put_name(aml, name);
    return mark;
}

size_t aml_package(struct aml *aml, uint8_t count)
{
    size_t mark;

    put_byte(aml, OP_PACKAGE);
    mark = aml->len;
    put_byte(aml, count);
    return mark;
}

size_t aml_event_method(struct aml *aml)
{
    size_t mark;

    put_byte(aml, OP_METHOD);
    mark = aml->len;
    put_name(aml, "_EVT");
    put_byte(aml, METHOD_SERIALIZED | 1 /* argument */);
    return mark;
}

size_t aml_if_event(struct aml *aml, uint32_t gsi)
{
    size_t mark;

    put_byte(aml, OP_IF);
    mark = aml->len;
    put_byte(aml, OP_EQUAL);
    put_byte(aml, OP_ARG0);
    aml_integer(aml, gsi);
    return mark;
}

void aml_notify(struct aml *aml, const char *name, uint8_t value)
{
    put_byte(aml, OP_NOTIFY);
    put_name(aml, name);
    aml_integer(aml, value);
}

/*
 * A length counts itself and stands before what it counts, in one to four bytes (20.2.4): alone,
 * six bits; else the two top bits of the first byte say how many follow, and its low four are the
 * lowest. Known only now, it is inserted at the mark.
 */
void aml_end(struct aml *aml, size_t mark)
{
    size_t content = aml->len - mark;
    uint8_t length[4];
    unsigned bytes = 1;

    while (content + bytes >= (bytes == 1 ? 64 : UINT64_C(1) << (8 * bytes - 4)))
        bytes++;
    BUG_ON(bytes > sizeof(length));
    content += bytes;
    length[0] = (uint8_t)(bytes == 1 ? content : (content & 0xf) | (bytes - 1) << 6);
    for (unsigned i = 1; i < bytes; i++)
        length[i] = (uint8_t)(content >> (8 * i - 4));

    put(aml, length, bytes); /* makes the room */
    memmove(aml->bytes + mark + bytes, aml->bytes + mark, aml->len - mark - bytes);
    memcpy(aml->bytes + mark, length, bytes);
}

static void collect(struct aml_resources *use, const void *bytes, size_t len)
{
    BUG_ON(!range_fits(use->len, len, sizeof(use->bytes)));
    memcpy(use->bytes + use->len, bytes, len);
    use->len += len;
}

void aml_use_memory(struct aml_resources *use, uint32_t address, uint32_t size)
{
    const uint8_t head[] = {TAG_MEMORY32_FIXED, 9, 0, 1 /* read and write */};

    collect(use, head, sizeof(head));
    collect(use, &address, sizeof(address));
    collect(use, &size, sizeof(size));
}

void aml_use_ports(struct aml_resources *use, uint16_t first, uint8_t count)
{
    const uint8_t head[] = {TAG_PORTS, 1 /* decodes 16 bits */};
    const uint8_t tail[] = {1 /* alignment */, count};

    collect(use, head, sizeof(head));
    collect(use, &first, sizeof(first)); /* lowest and highest possible start */
    collect(use, &first, sizeof(first));
    collect(use, tail, sizeof(tail));
}

void aml_use_interrupt(struct aml_resources *use, uint32_t gsi)
{
    const uint8_t head[] = {TAG_INTERRUPT, 6, 0, 0x3 /* consumer, edge */, 1 /* interrupt */};

    collect(use, head, sizeof(head));
    collect(use, &gsi, sizeof(gsi));
}

void aml_resources(struct aml *aml, const struct aml_resources *use)
{
    struct aml_resources all = *use;
    const uint8_t end[] = {TAG_END, 0 /* no checksum */};

    collect(&all, end, sizeof(end));
    put_buffer(aml, all.bytes, all.len);
}
