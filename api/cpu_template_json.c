/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_template_json.c: reading custom CPU templates. */
#include "api/cpu_template_json.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more element behind `count` of them, zeroed; NULL with the cursor's error. */
static void *grow(struct json_cursor *c, void **array, size_t count, size_t size)
{
    char *bigger = reallocarray(*array, count + 1, size);

    if (!bigger) {
        json_fail(c, "out of memory");
        return NULL;
    }
    *array = bigger;
    return memset(bigger + count * size, 0, size);
}

/* ---- numbers and bitmaps in strings ---- */

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c |= 0x20; /* to lower case */
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : UINT_MAX;
}

/* What can be wrong with a number, in Rust's words and in its short form. */
static const struct complaint {
    const char *words, *kind;
} empty = {"cannot parse integer from empty string", "Empty"},
  bad_digit = {"invalid digit found in string", "InvalidDigit"},
  overflow = {"number too large to fit in target type", "PosOverflow"};

/* Digits of a base, in 32 bits. NULL when that is what they are. */
static const struct complaint *parse_digits(const char *s, unsigned base, uint32_t *value)
{
    uint64_t n = 0;

    if (!*s)
        return &empty;
    s += *s == '+' && s[1];
    for (; *s; s++) {
        unsigned digit = digit_value(*s);

        if (digit >= base)
            return &bad_digit;
        n = n * base + digit;
        if (n > UINT32_MAX)
            return &overflow;
    }
    *value = (uint32_t)n;
    return NULL;
}

/* "0x1" or "0b1". */
static int read_prefixed(struct json_cursor *c, void *member)
{
    char *text;
    const struct complaint *why;

    if (schema_read_string(c, "a string", &text))
        return -EINVAL;
    if (strncmp(text, "0x", 2) != 0 && strncmp(text, "0b", 2) != 0)
        return json_fail(c,
                         "No supported number system prefix found in value [%s]. Make sure to "
                         "prefix the number with '0x' for hexadecimal numbers or '0b' for binary "
                         "numbers.",
                         text);
    why = parse_digits(text + 2, text[1] == 'x' ? 16 : 2, member);
    if (why)
        return json_fail(c,
                         "Failed to parse string [%s] as a number for CPU template - "
                         "ParseIntError { kind: %s }",
                         text, why->kind);
    return 0;
}

struct bitmap {
    uint64_t keep, value;
};

static int read_bitmap(struct json_cursor *c, struct bitmap *bitmap, unsigned bits)
{
    struct json_string s;
    const char *first;
    unsigned bit = 0;

    if (json_read_string(c, "a string", &s))
        return -EINVAL;
    *bitmap = (struct bitmap){.keep = UINT64_MAX};
    first = s.at + (strncmp(s.at, "0b", 2) == 0 ? 2 : 0);
    for (const char *at = s.at + s.len; at-- > first;) {
        if (bit == bits)
            return json_fail(c, "Failed to parse string [%s] as a bitmap - string is too long",
                             s.at);
        if (*at == '_')
            continue;
        if (*at != 'x' && *at != '0' && *at != '1')
            return json_fail(c, "Failed to parse string [%s] as a bitmap - unknown character: %d",
                             s.at, (unsigned char)*at);
        if (*at != 'x')
            bitmap->keep &= ~(UINT64_C(1) << bit);
        if (*at == '1')
            bitmap->value |= UINT64_C(1) << bit;
        bit++;
    }
    return 0;
}

static int read_bitmap32(struct json_cursor *c, void *member)
{
    return read_bitmap(c, member, 32);
}

static int read_bitmap64(struct json_cursor *c, void *member)
{
    return read_bitmap(c, member, 64);
}

/* ---- capabilities ---- */

static int read_capability(struct json_cursor *c, struct kvm_capability_modifier *capability)
{
    char *text;
    const struct complaint *why;

    if (schema_read_string(c, "a string", &text))
        return -EINVAL;
    capability->removed = text[0] == '!';
    why = parse_digits(text + capability->removed, 10, &capability->number);
    if (why)
        return json_fail(c,
                         "Failed to parse string [%s] as a kvm capability - can not convert to "
                         "numeric: %s",
                         text, why->words);
    return 0;
}

static int read_capabilities(struct json_cursor *c, void *member)
{
    struct cpu_template *t = container_of(member, struct cpu_template, capability);
    struct kvm_capability_modifier *next;

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        next = grow(c, (void **)&t->capability, t->n_capability, sizeof(*next));
        if (!next || read_capability(c, next))
            break;
        t->n_capability++;
    }
    return json_leave(c);
}

/* ---- CPUID ---- */

struct register_change {
    enum cpuid_register reg;
    struct bitmap bitmap;
};

struct leaf {
    uint32_t leaf, subleaf, flags;
    struct register_change *change;
    size_t count;
};

static int read_register(struct json_cursor *c, void *member)
{
    static const char *const names[] = {"eax", "ebx", "ecx", "edx"};
    char *text;

    if (schema_read_string(c, "a string", &text))
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *(enum cpuid_register *)member = (enum cpuid_register)i;
            return 0;
        }
    }
    return json_fail(c, "Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]");
}

static const struct schema_member register_members[] = {
    {"register", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct register_change, reg),
     .read = read_register},
    {"bitmap", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct register_change, bitmap),
     .read = read_bitmap32},
};
static const struct schema register_schema = {"struct CpuidRegisterModifier", register_members,
                                              ARRAY_SIZE(register_members), true};

static int read_changes(struct json_cursor *c, void *member)
{
    struct leaf *leaf = container_of(member, struct leaf, change);
    struct register_change *next;

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        next = grow(c, (void **)&leaf->change, leaf->count, sizeof(*next));
        if (!next || schema_read(c, &register_schema, next))
            break;
        leaf->count++;
    }
    return json_leave(c);
}

static const struct schema_member leaf_members[] = {
    {"leaf", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct leaf, leaf), .read = read_prefixed},
    {"subleaf", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct leaf, subleaf),
     .read = read_prefixed},
    {"flags", SCHEMA_U32, SCHEMA_REQUIRED, SCHEMA_AT(struct leaf, flags)},
    {"modifiers", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct leaf, change),
     .read = read_changes},
};
static const struct schema leaf_schema = {"struct CpuidLeafModifier", leaf_members,
                                          ARRAY_SIZE(leaf_members), true};

/* A leaf has several registers in the text; the template has a row for each. */
static int add_leaf(struct json_cursor *c, struct cpu_template *t, const struct leaf *leaf)
{
    for (size_t i = 0; i < leaf->count; i++) {
        struct cpuid_modifier *next = grow(c, (void **)&t->cpuid, t->n_cpuid, sizeof(*next));

        if (!next)
            return -ENOMEM;
        *next = (struct cpuid_modifier){
            .leaf = leaf->leaf,
            .subleaf = leaf->subleaf,
            .flags = leaf->flags,
            .reg = leaf->change[i].reg,
            .keep = (uint32_t)leaf->change[i].bitmap.keep,
            .value = (uint32_t)leaf->change[i].bitmap.value,
        };
        t->n_cpuid++;
    }
    return 0;
}

static int read_leaves(struct json_cursor *c, void *member)
{
    struct cpu_template *t = container_of(member, struct cpu_template, cpuid);
    int ret = 0;

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (ret == 0 && json_next_element(c) > 0) {
        struct leaf leaf = {0};

        ret = schema_read(c, &leaf_schema, &leaf);
        if (ret == 0)
            ret = add_leaf(c, t, &leaf);
        free(leaf.change);
    }
    return json_leave(c);
}

/* ---- MSRs ---- */

struct msr_change {
    uint32_t index;
    struct bitmap bitmap;
};

static const struct schema_member msr_members[] = {
    {"addr", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct msr_change, index),
     .read = read_prefixed},
    {"bitmap", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct msr_change, bitmap),
     .read = read_bitmap64},
};
static const struct schema msr_schema = {"struct RegisterModifier", msr_members,
                                         ARRAY_SIZE(msr_members), true};

static int read_msrs(struct json_cursor *c, void *member)
{
    struct cpu_template *t = container_of(member, struct cpu_template, msr);
    struct msr_change change;
    struct msr_modifier *next;

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        next = grow(c, (void **)&t->msr, t->n_msr, sizeof(*next));
        if (!next || schema_read(c, &msr_schema, &change))
            break;
        *next = (struct msr_modifier){change.index, change.bitmap.keep, change.bitmap.value};
        t->n_msr++;
    }
    return json_leave(c);
}

/* ---- the template ---- */

static const struct schema_member template_members[] = {
    {"kvm_capabilities", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(struct cpu_template, capability),
     .read = read_capabilities},
    {"cpuid_modifiers", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(struct cpu_template, cpuid),
     .read = read_leaves},
    {"msr_modifiers", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(struct cpu_template, msr),
     .read = read_msrs},
};
const struct schema cpu_template_schema = {"struct CustomCpuTemplate", template_members,
                                           ARRAY_SIZE(template_members), false};

void cpu_template_release(struct cpu_template *cpu_template)
{
    free(cpu_template->capability);
    free(cpu_template->cpuid);
    free(cpu_template->msr);
    *cpu_template = (struct cpu_template){0};
}

struct cpu_template *cpu_template_move(struct cpu_template *from)
{
    struct cpu_template *to = malloc(sizeof(*to));

    if (to) {
        *to = *from;
        *from = (struct cpu_template){0};
    }
    return to;
}
