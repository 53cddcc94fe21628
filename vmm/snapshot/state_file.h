/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state_file.h owns the state file of a snapshot as bytes: a header, sections one behind the other,
 * and a checksum at the end. FORMAT.md describes every byte.
 *
 * A section is one struct, or an array of structs, that a table of base/state.h describes; or plain
 * bytes; or a text. Writer and reader walk through the file in the same order, each section named
 * where its turn comes. So nothing is searched, and a file with a section missing, doubled, in
 * another place or unknown is refused by the same comparison.
 *
 * Pure over buffers: no file is opened here. Any thread; a writer or reader is its caller's.
 */
#ifndef MAYFLY_SNAPSHOT_STATE_FILE_H
#define MAYFLY_SNAPSHOT_STATE_FILE_H

#include "vmm/base/state.h"

/* What we write. A file of the same major version and of no newer minor one can be read. */
#define STATE_FILE_MAJOR 1u
#define STATE_FILE_MINOR 1u
#define STATE_FILE_PATCH 0u

#define STATE_FILE_MAX UINT64_C(10000000)

#define STATE_NAME_MAX 15u

/* The architecture of this build as ELF numbers it (e_machine); in the files of each. */
extern const uint16_t state_file_architecture;

/* ---- writing --------------------------------------------------------------------------------- */

/* Writes into its caller's buffer. Once that is full, nothing more is written, and the end says
 * so. */
struct state_writer {
    uint8_t *to;
    size_t room, len;
    uint32_t sections;
    bool full;
};

void state_writer_begin(struct state_writer *w, void *to, size_t room);

/* A section of `count` structs that lie one behind the other. `index` tells sections of one name
 * apart, in whatever way their owner numbers them. */
void state_write(struct state_writer *w, const struct state_desc *desc, uint32_t index,
                 const void *states, uint32_t count);

/* Sections without a table: bytes, and a text (NULL = not set, which differs from empty). The
 * name's rules are those of state_desc. */
void state_write_bytes(struct state_writer *w, const char *name, uint32_t index, const void *bytes,
                       size_t len);
void state_write_text(struct state_writer *w, const char *name, uint32_t index, const char *text);

/* Completes header and checksum; *len is the file's length. -EFBIG when the buffer, or what a
 * state file may have, was too small. */
int state_writer_end(struct state_writer *w, size_t *len, struct err *e) __must_check;

/* ---- reading --------------------------------------------------------------------------------- */

/* Whose a file is. */
struct state_identity {
    uint16_t major, minor, patch, architecture;
};

/*
 * Checks what a file of any version must be: its length, how it begins, its checksum. -EINVAL and a
 * sentence.
 */
int state_file_identify(struct state_identity *identity, const void *from, size_t len,
                        struct err *e) __must_check;

/* A section as it lies in the file. */
struct state_section {
    char name[STATE_NAME_MAX + 1];
    uint32_t index, version, fingerprint; /* version and fingerprint 0: no table describes it */
    uint32_t len;
    const void *data;
};

struct state_reader {
    const uint8_t *from; /* the whole file, which stays its caller's */
    size_t at, end;      /* the next section's header; where the checksum is */
    uint16_t major, minor, patch;
    uint32_t sections; /* not read yet */
};

/*
 * Checks everything that can be checked without knowing what the sections mean: length, checksum,
 * architecture, version, and that the sections fill the file exactly. -EINVAL and a sentence.
 */
int state_reader_begin(struct state_reader *r, const void *from, size_t len,
                       struct err *e) __must_check;

/* The next section without going past it; false at the end. */
bool state_reader_peek(const struct state_reader *r, struct state_section *section);
/* Goes past it: for who looks at a file without understanding it. */
void state_reader_skip(struct state_reader *r);

/*
 * The next section must be `index` of `desc`, one struct, as this or an older version of the table
 * wrote it. *state is the configured one, as state_decode wants it. -EINVAL and a sentence; then
 * the reader is where it was.
 */
int state_read(struct state_reader *r, const struct state_desc *desc, uint32_t index, void *state,
               struct err *e) __must_check;

/* The same for an array of at most `max` structs, which are overwritten: its table has no
 * STATE_SAME row. */
int state_read_array(struct state_reader *r, const struct state_desc *desc, uint32_t index,
                     void *states, uint32_t max, uint32_t *count, struct err *e) __must_check;

/* The same without a table. What they point to is in the file's buffer; a text ends with 0, and is
 * NULL if it was not set. */
int state_read_bytes(struct state_reader *r, const char *name, uint32_t index, const void **bytes,
                     size_t *len, struct err *e) __must_check;
int state_read_text(struct state_reader *r, const char *name, uint32_t index, const char **text,
                    struct err *e) __must_check;

/* Every section has been read. -EINVAL and a sentence when more are there. */
int state_reader_end(const struct state_reader *r, struct err *e) __must_check;

#endif
