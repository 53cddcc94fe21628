/* SPDX-License-Identifier: Apache-2.0 */
/* state_file.c: the writer and the reader of FORMAT.md. All integers are little-endian, as every
 * target is. */
#include "vmm/snapshot/state_file.h"

#include "vmm/snapshot/crc64.h"

#include <errno.h>
#include <string.h>

/* The last two bytes show at once when a file went through something that changes line ends. */
static const char magic[8] = {'M', 'A', 'Y', 'F', 'L', 'Y', 0x1a, '\n'};

struct header {
    char magic[8];
    uint16_t major, minor, patch, architecture;
    uint32_t sections, zero;
    uint64_t len; /* of the whole file */
};

struct section_header {
    char name[STATE_NAME_MAX + 1]; /* filled up with zeros */
    uint32_t index, version, fingerprint, len;
};

_Static_assert(sizeof(struct header) == 32 && sizeof(struct section_header) == 32,
               "both headers are written as they lie in memory");

#define ALIGNMENT 8u
#define CRC_SIZE  sizeof(uint64_t)

/* ---- writing --------------------------------------------------------------------------------- */

void state_writer_begin(struct state_writer *w, void *to, size_t room)
{
    *w = (struct state_writer){.to = to, .room = room};
    w->full = room < sizeof(struct header) + CRC_SIZE;
    if (!w->full)
        w->len = sizeof(struct header);
}

/* Makes room for a section, writes its header, and returns where its data belong; NULL without
 * room. */
static uint8_t *add_section(struct state_writer *w, const struct section_header *header)
{
    size_t whole = sizeof(*header) + align_up(header->len, ALIGNMENT);
    uint8_t *at;

    w->full |= !range_fits(w->len, whole + CRC_SIZE, MIN(w->room, STATE_FILE_MAX));
    if (w->full)
        return NULL;
    at = w->to + w->len;
    memset(at + whole - ALIGNMENT, 0, ALIGNMENT); /* whatever of it becomes padding */
    memcpy(at, header, sizeof(*header));
    w->len += whole;
    w->sections++;
    return at + sizeof(*header);
}

static struct section_header header_of(const char *name, uint32_t index, size_t len)
{
    struct section_header header = {.index = index, .len = (uint32_t)MIN(len, STATE_FILE_MAX)};
    size_t n = strlen(name);

    BUG_ON(n == 0 || n > STATE_NAME_MAX);
    memcpy(header.name, name, n);
    return header;
}

void state_write(struct state_writer *w, const struct state_desc *desc, uint32_t index,
                 const void *states, uint32_t count)
{
    struct section_header header = header_of(desc->name, index, (size_t)desc->size * count);
    const uint8_t *from = states;
    uint8_t *to;

    header.version = desc->version;
    header.fingerprint = state_fingerprint(desc, desc->version);
    to = add_section(w, &header);
    for (uint32_t i = 0; to && i < count; i++, to += desc->size, from += desc->size)
        state_encode(desc, from, to, desc->size);
}

void state_write_bytes(struct state_writer *w, const char *name, uint32_t index, const void *bytes,
                       size_t len)
{
    struct section_header header = header_of(name, index, len);
    uint8_t *to = add_section(w, &header);

    if (to && len > 0)
        memcpy(to, bytes, len);
}

void state_write_text(struct state_writer *w, const char *name, uint32_t index, const char *text)
{
    state_write_bytes(w, name, index, text, text ? strlen(text) + 1 : 0);
}

int state_writer_end(struct state_writer *w, size_t *len, struct err *e)
{
    struct header header = {
        .major = STATE_FILE_MAJOR,
        .minor = STATE_FILE_MINOR,
        .patch = STATE_FILE_PATCH,
        .architecture = state_file_architecture,
        .sections = w->sections,
        .len = w->len + CRC_SIZE,
    };
    uint64_t crc;

    if (w->full)
        return err_set(e, -EFBIG, "The microVM's state does not fit into %llu bytes.",
                       (unsigned long long)MIN(w->room, STATE_FILE_MAX));
    memcpy(header.magic, magic, sizeof(magic));
    memcpy(w->to, &header, sizeof(header));
    crc = crc64(0, w->to, w->len);
    memcpy(w->to + w->len, &crc, sizeof(crc));
    *len = w->len + CRC_SIZE;
    return 0;
}

/* ---- reading: the file as a whole ------------------------------------------------------------ */

static int check_header(const struct header *header, size_t len, struct err *e)
{
    if (memcmp(header->magic, magic, sizeof(magic)) != 0)
        return err_set(e, -EINVAL, "It is not a state file of this monitor: it begins otherwise.");
    if (header->len != len)
        return err_set(e, -EINVAL,
                       "The file has %zu bytes where its header says %llu: it has been cut, "
                       "continued or damaged.",
                       len, (unsigned long long)header->len);
    return 0;
}

/* Once the checksum is known to be right. */
static int check_origin(const struct header *header, struct err *e)
{
    if (header->architecture != state_file_architecture)
        return err_set(e, -EINVAL,
                       "The snapshot is of architecture %u, this monitor is of architecture %u "
                       "(62 is x86_64, 183 aarch64).",
                       header->architecture, state_file_architecture);
    if (header->major != STATE_FILE_MAJOR || header->minor > STATE_FILE_MINOR)
        return err_set(e, -EINVAL,
                       "The snapshot has format version %u.%u.%u; this monitor reads %u.0 to "
                       "%u.%u.",
                       header->major, header->minor, header->patch, STATE_FILE_MAJOR,
                       STATE_FILE_MAJOR, STATE_FILE_MINOR);
    if (header->zero != 0)
        return err_set(e, -EINVAL, "The snapshot's header has a flag %#x that nobody knows.",
                       header->zero);
    return 0;
}

static bool is_name(const char name[STATE_NAME_MAX + 1])
{
    size_t n = 0;

    while (n <= STATE_NAME_MAX && name[n] > ' ' && name[n] <= '~')
        n++;
    return n > 0 && n <= STATE_NAME_MAX && is_all_zero(name + n, STATE_NAME_MAX + 1 - n);
}

/* The size of the section at `at`, header and padding included; 0 when it does not fit before
 * `end` or is not as the writer writes it. */
static size_t section_size(const uint8_t *from, size_t at, size_t end)
{
    struct section_header header;
    size_t size;

    if (!range_fits(at, sizeof(header), end))
        return 0;
    memcpy(&header, from + at, sizeof(header));
    size = sizeof(header) + align_up(header.len, ALIGNMENT);
    if (!range_fits(at, size, end) || !is_name(header.name))
        return 0;
    at += sizeof(header) + header.len;
    return is_all_zero(from + at, align_up(at, ALIGNMENT) - at) ? size : 0;
}

/* Whether the sections fill the file, and are as many as the header says. */
static int check_sections(const struct state_reader *r, struct err *e)
{
    uint32_t count = 0;

    for (size_t at = r->at, size; at < r->end; at += size, count++) {
        size = section_size(r->from, at, r->end);
        if (size == 0)
            return err_set(e, -EINVAL, "The snapshot's section %u, at byte %zu, is malformed.",
                           count, at);
    }
    if (count != r->sections)
        return err_set(e, -EINVAL, "The snapshot has %u sections where its header says %u.", count,
                       r->sections);
    return 0;
}

/* What does not depend on the version. */
static int read_header(struct header *header, const void *from, size_t len, struct err *e)
{
    int rc;

    if (len < CRC_SIZE)
        return err_set(e, -EINVAL, "IO Error: File too short to contain CRC");
    if (len > STATE_FILE_MAX)
        return err_set(e, -EINVAL, "The file has %zu bytes; a state file has at most %llu.", len,
                       (unsigned long long)STATE_FILE_MAX);
    if (len < sizeof(*header) + CRC_SIZE)
        return err_set(e, -EINVAL, "The file has %zu bytes, less than a state file's header.", len);
    memcpy(header, from, sizeof(*header));
    rc = check_header(header, len, e);
    if (rc == 0 && crc64(0, from, len) != 0)
        rc = err_set(e, -EINVAL, "CRC64 validation failed");
    return rc;
}

int state_file_identify(struct state_identity *identity, const void *from, size_t len,
                        struct err *e)
{
    struct header header = {0};
    int rc = read_header(&header, from, len, e);

    if (rc)
        return rc;
    *identity =
        (struct state_identity){header.major, header.minor, header.patch, header.architecture};
    return 0;
}

int state_reader_begin(struct state_reader *r, const void *from, size_t len, struct err *e)
{
    struct header header = {0};
    int rc = read_header(&header, from, len, e);

    if (rc == 0)
        rc = check_origin(&header, e);
    if (rc)
        return rc;
    *r = (struct state_reader){
        .from = from,
        .at = sizeof(header),
        .end = len - CRC_SIZE,
        .major = header.major,
        .minor = header.minor,
        .patch = header.patch,
        .sections = header.sections,
    };
    return check_sections(r, e);
}

/* ---- reading: section by section ------------------------------------------------------------- */

bool state_reader_peek(const struct state_reader *r, struct state_section *section)
{
    struct section_header header;

    *section = (struct state_section){0};
    if (r->sections == 0)
        return false;
    memcpy(&header, r->from + r->at, sizeof(header));
    section->index = header.index;
    section->version = header.version;
    section->fingerprint = header.fingerprint;
    section->len = header.len;
    section->data = r->from + r->at + sizeof(header);
    memcpy(section->name, header.name, sizeof(header.name));
    return true;
}

void state_reader_skip(struct state_reader *r)
{
    struct state_section section;

    if (!state_reader_peek(r, &section))
        return;
    r->at += sizeof(struct section_header) + align_up(section.len, ALIGNMENT);
    r->sections--;
}

/* The next section must have this name and index. */
static int expect(const struct state_reader *r, const char *name, uint32_t index,
                  struct state_section *section, struct err *e)
{
    if (!state_reader_peek(r, section))
        return err_set(e, -EINVAL, "The snapshot ends where its section %s %u is expected.", name,
                       index);
    if (strcmp(section->name, name) != 0 || section->index != index)
        return err_set(e, -EINVAL, "The snapshot has section %s %u where %s %u is expected.",
                       section->name, section->index, name, index);
    return 0;
}

static int check_version(const struct state_section *section, uint32_t oldest, uint32_t newest,
                         struct err *e)
{
    if (section->version >= oldest && section->version <= newest)
        return 0;
    return err_set(e, -EINVAL,
                   "The snapshot's section %s has version %u; this monitor reads up to %u.",
                   section->name, section->version, newest);
}

static int check_fingerprint(const struct state_section *section, uint32_t expected, struct err *e)
{
    if (section->fingerprint == expected)
        return 0;
    return err_set(e, -EINVAL,
                   "The snapshot's section %s has other fields than this monitor's: it is of "
                   "another build that gave them the same version.",
                   section->name);
}

static int expect_table(const struct state_reader *r, const struct state_desc *desc, uint32_t index,
                        struct state_section *section, struct err *e)
{
    int rc = expect(r, desc->name, index, section, e);

    if (rc == 0)
        rc = check_version(section, 1, desc->version, e);
    return rc ? rc : check_fingerprint(section, state_fingerprint(desc, section->version), e);
}

static int expect_bytes(const struct state_reader *r, const char *name, uint32_t index,
                        struct state_section *section, struct err *e)
{
    int rc = expect(r, name, index, section, e);

    if (rc == 0)
        rc = check_version(section, 0, 0, e);
    return rc ? rc : check_fingerprint(section, 0, e);
}

int state_read(struct state_reader *r, const struct state_desc *desc, uint32_t index, void *state,
               struct err *e)
{
    struct state_section section;
    int rc = expect_table(r, desc, index, &section, e);

    if (rc == 0)
        rc = state_decode(desc, section.version, section.data, section.len, state, e);
    if (rc == 0)
        state_reader_skip(r);
    return rc;
}

int state_read_array(struct state_reader *r, const struct state_desc *desc, uint32_t index,
                     void *states, uint32_t max, uint32_t *count, struct err *e)
{
    struct state_section section;
    uint32_t size;
    int rc = expect_table(r, desc, index, &section, e);

    if (rc)
        return rc;
    size = state_size(desc, section.version);
    if (section.len % size != 0 || section.len / size > max)
        return err_set(e, -EINVAL,
                       "The snapshot's section %s has %u bytes, which is not up to %u times %u.",
                       desc->name, section.len, max, size);
    *count = section.len / size;
    memset(states, 0, (size_t)*count * desc->size);
    rc = state_decode_many(desc, section.version, section.data, *count, states, e);
    if (rc == 0)
        state_reader_skip(r);
    return rc;
}

int state_read_bytes(struct state_reader *r, const char *name, uint32_t index, const void **bytes,
                     size_t *len, struct err *e)
{
    struct state_section section;
    int rc = expect_bytes(r, name, index, &section, e);

    if (rc)
        return rc;
    *bytes = section.data;
    *len = section.len;
    state_reader_skip(r);
    return 0;
}

int state_read_text(struct state_reader *r, const char *name, uint32_t index, const char **text,
                    struct err *e)
{
    struct state_section section;
    int rc = expect_bytes(r, name, index, &section, e);

    if (rc)
        return rc;
    if (section.len > 0 &&
        memchr(section.data, 0, section.len) != (const uint8_t *)section.data + section.len - 1)
        return err_set(e, -EINVAL, "The snapshot's section %s is not one text.", name);
    *text = section.len > 0 ? section.data : NULL;
    state_reader_skip(r);
    return 0;
}

int state_reader_end(const struct state_reader *r, struct err *e)
{
    struct state_section section;

    if (!state_reader_peek(r, &section))
        return 0;
    return err_set(e, -EINVAL,
                   "The snapshot has section %s %u at its end, which this monitor does not know.",
                   section.name, section.index);
}
