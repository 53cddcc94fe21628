/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.h owns what can be said of a snapshot without loading it: what its files are, which
 * sections the state file has, and what is wrong with them.
 *
 * Any thread; blocking reads.
 */
#ifndef MAYFLY_VMM_INSPECT_H
#define MAYFLY_VMM_INSPECT_H

#include "vmm/base/state.h"

/* Room for the version of a format, as "1.1.0". */
#define INSPECT_VERSION_ROOM 20

/* Of the state files that are written here. */
void inspect_own_version(char text[INSPECT_VERSION_ROOM]);

/* Of the state file at `path`, of whatever version and architecture; its length and its checksum
 * must be right. -EINVAL or the -errno of reading it. */
int inspect_version(const char *path, char text[INSPECT_VERSION_ROOM], struct err *e) __must_check;

/* A section of the state file; all of it is the visitor's during the call only. */
struct inspect_section {
    const char *name;
    uint32_t index, version, fingerprint;
    size_t at, len; /* of its header in the file; bytes of its data */
    const void *data;
    const struct state_desc *desc; /* by which `data` can be read; NULL = by none */
};

/* Told, in the order of the file, and as they are found. */
struct inspect_visitor {
    void (*section)(void *owner, const struct inspect_section *section);
    void (*fault)(void *owner, const char *sentence);
    void *owner;
};

struct inspect_summary {
    /* Of the state file, as far as it can be trusted. */
    uint64_t len;    /* bytes */
    bool identified; /* the version is there */
    uint16_t major, minor, patch;
    const char *architecture; /* NULL without a version */
    uint64_t mem_size;        /* of the memory file that belongs to it; 0 = not known */
    uint64_t saved_s;         /* seconds since 1970; 0 = not known */
    bool has_sums;            /* it has the sums of that file */
    /* Of the memory file. */
    bool mem_is_file;           /* it has been looked at, and is a regular file */
    uint64_t mem_len, mem_data; /* bytes; bytes that are no holes */
};

/* Looks at the state file, and at the memory file unless `mem_path` is NULL: its sums too, if there
 * are any, which reads all of it. */
void inspect_files(const char *state_path, const char *mem_path, struct inspect_summary *summary,
                   const struct inspect_visitor *visitor);

#endif
