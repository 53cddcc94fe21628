/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c: see inspect.h. */
#include "vmm/inspect.h"

#include "vmm/saved_tables.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/merge_mark.h"
#include "vmm/snapshot/page_sums.h"
#include "vmm/snapshot/vm_state.h"
#include "vmm/snapshot/whole_file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <sys/stat.h>

/* ---- the version alone ----------------------------------------------------------------------- */

static void write_version(char text[INSPECT_VERSION_ROOM], unsigned major, unsigned minor,
                          unsigned patch)
{
    snprintf(text, INSPECT_VERSION_ROOM, "%u.%u.%u", major, minor, patch);
}

void inspect_own_version(char text[INSPECT_VERSION_ROOM])
{
    write_version(text, STATE_FILE_MAJOR, STATE_FILE_MINOR, STATE_FILE_PATCH);
}

int inspect_version(const char *path, char text[INSPECT_VERSION_ROOM], struct err *e)
{
    struct state_identity identity;
    uint8_t *bytes;
    size_t len;
    int rc = whole_file_read(path, &bytes, &len, e);

    if (rc)
        return rc;
    rc = state_file_identify(&identity, bytes, len, e);
    free(bytes);
    if (rc == 0)
        write_version(text, identity.major, identity.minor, identity.patch);
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* A look under way. */
struct look {
    struct inspect_summary *summary;
    const struct inspect_visitor *visitor;
    struct page_sums sums;
};

static void fault(const struct look *look, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fault(const struct look *look, const char *format, ...)
{
    char sentence[2 * sizeof(((struct err *)0)->text)];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    look->visitor->fault(look->visitor->owner, sentence);
}

/* ---- the state file -------------------------------------------------------------------------- */

/* The table by which a section can be read; without one, or where it does not fit, a fault. */
static const struct state_desc *table_of(const struct look *look,
                                         const struct state_section *section)
{
    const struct state_desc *desc = saved_table(section->name);

    if (section->version == 0)
        return NULL;
    if (!desc || section->version > desc->version)
        fault(look, "The section %s %u of version %u is not known to this build.", section->name,
              section->index, section->version);
    else if (section->fingerprint != state_fingerprint(desc, section->version))
        fault(look, "The section %s %u has other fields than version %u has here.", section->name,
              section->index, section->version);
    else if (section->len % state_size(desc, section->version) != 0)
        fault(look, "The section %s %u has %u bytes, no multiple of %u.", section->name,
              section->index, section->len, state_size(desc, section->version));
    else
        return desc;
    return NULL;
}

/* KVM's clock of the guest says what time it was on the host, where the host's kernel knew. */
static void note_time(const struct look *look, const struct state_section *section)
{
    struct kvm_clock_data clock = {0};

    if (state_decode(&vm_clock_desc, section->version, section->data, section->len, &clock, NULL))
        return;
    if (clock.flags & KVM_CLOCK_REALTIME)
        look->summary->saved_s = clock.realtime / NSEC_PER_SEC;
}

static void look_at_section(const struct look *look, const struct state_section *section, size_t at)
{
    const struct state_desc *desc = table_of(look, section);
    const struct inspect_section told = {
        .name = section->name,
        .index = section->index,
        .version = section->version,
        .fingerprint = section->fingerprint,
        .at = at,
        .len = section->len,
        .data = section->data,
        .desc = desc,
    };

    if (desc == &vm_clock_desc)
        note_time(look, section);
    look->visitor->section(look->visitor->owner, &told);
}

/* The map as a load reads it, and the sums of what it describes, each where it stands. */
static void look_for_memory(struct look *look, struct state_reader r)
{
    struct state_section section;
    struct mem_map map;
    struct err e;

    while (state_reader_peek(&r, &section) && strcmp(section.name, mem_map_desc.name) != 0)
        state_reader_skip(&r);
    if (mem_map_read(&map, &r, &e)) {
        fault(look, "%s", e.text);
        return;
    }
    look->summary->mem_size = mem_map_size(&map);
    while (state_reader_peek(&r, &section) && strcmp(section.name, PAGE_SUMS_SECTION) != 0)
        state_reader_skip(&r);
    if (page_sums_read(&look->sums, look->summary->mem_size, &r, &e))
        fault(look, "%s", e.text);
    look->summary->has_sums = look->sums.count > 0;
}

static const char *architecture_name(uint16_t number)
{
    if (number == EM_X86_64)
        return "x86_64";
    return number == EM_AARCH64 ? "aarch64" : "unknown";
}

static void look_at_state(struct look *look, const uint8_t *bytes, size_t len)
{
    struct inspect_summary *summary = look->summary;
    struct state_identity identity;
    struct state_section section;
    struct state_reader r;
    struct err e;

    summary->len = len;
    if (state_file_identify(&identity, bytes, len, &e)) {
        fault(look, "%s", e.text);
        return;
    }
    summary->identified = true;
    summary->major = identity.major;
    summary->minor = identity.minor;
    summary->patch = identity.patch;
    summary->architecture = architecture_name(identity.architecture);
    if (state_reader_begin(&r, bytes, len, &e)) {
        fault(look, "%s", e.text);
        return;
    }
    look_for_memory(look, r);
    for (; state_reader_peek(&r, &section); state_reader_skip(&r))
        look_at_section(look, &section, r.at);
}

/* ---- the memory file ------------------------------------------------------------------------- */

static void look_at_open_memory(const struct look *look, const char *path, int fd)
{
    struct inspect_summary *summary = look->summary;
    struct stat st;
    struct err e;

    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        fault(look, "%s: The memory file is not a regular file.", path);
        return;
    }
    summary->mem_is_file = true;
    summary->mem_len = (uint64_t)st.st_size;
    summary->mem_data = (uint64_t)st.st_blocks * 512;
    if (merge_mark_check(path, fd, &e))
        fault(look, "%s", e.text);
    if (summary->mem_size == 0)
        return;
    if (summary->mem_len != summary->mem_size)
        fault(look, "%s: The memory file has %llu bytes; the guest has %llu.", path,
              (unsigned long long)summary->mem_len, (unsigned long long)summary->mem_size);
    else if (look->sums.count > 0 && page_sums_verify(&look->sums, fd, summary->mem_size, &e))
        fault(look, "%s: %s", path, e.text);
}

static void look_at_memory(const struct look *look, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        fault(look, "%s: %s", path, err_os(-errno));
        return;
    }
    look_at_open_memory(look, path, fd);
    close(fd);
}

void inspect_files(const char *state_path, const char *mem_path, struct inspect_summary *summary,
                   const struct inspect_visitor *visitor)
{
    struct look look = {.summary = summary, .visitor = visitor};
    uint8_t *bytes = NULL;
    struct err e;
    size_t len;

    *summary = (struct inspect_summary){0};
    if (whole_file_read(state_path, &bytes, &len, &e))
        fault(&look, "%s: %s", state_path, e.text);
    else
        look_at_state(&look, bytes, len);
    if (mem_path)
        look_at_memory(&look, mem_path);
    free(bytes); /* where the sums are */
}
