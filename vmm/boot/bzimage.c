/* SPDX-License-Identifier: Apache-2.0 */
/* bzimage.c: judges the setup header of a bzImage and turns it into a plan. */
#include "vmm/boot/bzimage.h"

#include "vmm/boot/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Offsets in the file, by the protocol's names. */
enum {
    SETUP_SECTS = 0x1f1,
    SYSSIZE = 0x1f4,
    BOOT_FLAG = 0x1fe,
    JUMP_LENGTH = 0x201, /* second byte of a jump over the header: tells where the header ends */
    HEADER = 0x202,      /* also where that jump counts from */
    VERSION = 0x206,
    LOADFLAGS = 0x211,
    INITRD_ADDR_MAX = 0x22c,
    KERNEL_ALIGNMENT = 0x230,
    RELOCATABLE_KERNEL = 0x234,
    XLOADFLAGS = 0x236,
    CMDLINE_SIZE = 0x238,
    PREF_ADDRESS = 0x258,
    INIT_SIZE = 0x260,
    NEEDED_END = 0x264, /* the end of the last field we read */
};

#define VERSION_2_12  0x020c /* the first with a 64-bit entry */
#define LOADED_HIGH   0x01
#define XLF_KERNEL_64 0x01
#define SECTOR        512
#define ENTRY_64      0x200 /* from the start of the protected-mode part */
#define ALIGNMENT_MAX GIB
#define DEFAULT_SETUP 4 /* sectors, when the field says 0 */
#define SYSSIZE_UNIT  16

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, at, bytes); /* x86_64 is little-endian, as the header */
    return value;
}

static bool has_magic(const uint8_t *head, size_t len)
{
    return len >= VERSION + 2 && memcmp(head + HEADER, "HdrS", 4) == 0 &&
           get(head + BOOT_FLAG, 2) == 0xaa55;
}

static int check_header(const uint8_t *head, size_t len, struct err *e)
{
    uint64_t version, end;

    /* 1. Anything that is not a kernel ends here. */
    if (!has_magic(head, len))
        return err_set(e, -EINVAL, "Kernel Loader: Invalid bzImage");
    /* 2. Older ones start in real mode or have fewer fields. */
    version = get(head + VERSION, 2);
    if (version < VERSION_2_12)
        return err_set(e, -EINVAL,
                       "its boot protocol is %u.%02u; 2.12 is the first that can be entered in "
                       "64-bit mode",
                       (unsigned)(version >> 8), (unsigned)(version & 0xff));
    /* 3. The header is as long as it says, and copied as such: it must hold what we read, and must
     * not reach into what follows it in the zero page. */
    end = HEADER + get(head + JUMP_LENGTH, 1);
    if (end < NEEDED_END || end > SETUP_HEADER_END || end > len)
        return err_set(e, -EINVAL, "its setup header ends at 0x%" PRIx64 ", which cannot be", end);
    /* 4. Both flags are needed to enter it where we do. */
    if (!(get(head + LOADFLAGS, 1) & LOADED_HIGH))
        return err_set(e, -EINVAL, "it is a zImage, which loads below 1 MiB");
    if (!(get(head + XLOADFLAGS, 2) & XLF_KERNEL_64))
        return err_set(e, -EINVAL, "it has no 64-bit entry point");
    return 0;
}

/* The protected-mode part: what follows the boot sector and the setup sectors. A signature may
 * follow it. */
static int find_payload(const uint8_t *head, uint64_t file_size, uint64_t *offset, uint64_t *size,
                        struct err *e)
{
    uint64_t sectors = get(head + SETUP_SECTS, 1);
    uint64_t said = get(head + SYSSIZE, 4) * SYSSIZE_UNIT;

    *offset = ((sectors ? sectors : DEFAULT_SETUP) + 1) * SECTOR;
    /* The field counts begun units, so the last one may be incomplete. */
    if (!range_fits(*offset, said > SYSSIZE_UNIT ? said - (SYSSIZE_UNIT - 1) : said, file_size))
        return err_set(e, -EINVAL,
                       "the file is cut off: 0x%" PRIx64 " bytes at 0x%" PRIx64
                       " go beyond its end at 0x%" PRIx64,
                       said, *offset, file_size);
    *size = MIN(said, file_size - *offset);
    if (*size <= ENTRY_64)
        return err_set(e, -EINVAL, "it holds no code at its 64-bit entry point");
    return 0;
}

/*
 * A kernel that cannot be relocated runs only at its preferred address. One that can would also run
 * above it, never below (it moves itself up), so there is nothing to gain from another choice.
 */
static int choose_address(const uint8_t *head, uint64_t *address, struct err *e)
{
    uint64_t alignment = get(head + KERNEL_ALIGNMENT, 4);

    *address = MAX(get(head + PREF_ADDRESS, 8), LAYOUT_HIGH_MEMORY);
    if (*address > LAYOUT_IDENTITY_MAPPED)
        return err_set(e, -EINVAL,
                       "it wants to be loaded at 0x%" PRIx64
                       ", but only the first GiB is mapped at its entry",
                       *address);
    if (get(head + RELOCATABLE_KERNEL, 1) == 0)
        return 0;
    if (!is_power_of_two(alignment) || alignment > ALIGNMENT_MAX)
        return err_set(e, -EINVAL, "its alignment 0x%" PRIx64 " is not a power of two", alignment);
    *address = align_up(*address, alignment);
    return 0;
}

int bzimage_parse(const void *head, size_t len, uint64_t file_size, struct kernel_image *image,
                  struct err *e)
{
    const uint8_t *bytes = head;
    struct kernel_segment segment = {0};
    int rc = check_header(bytes, len, e);

    if (rc == 0)
        rc = find_payload(bytes, file_size, &segment.offset, &segment.file_size, e);
    if (rc == 0)
        rc = choose_address(bytes, &segment.gpa.v, e);
    if (rc)
        return rc;
    /* What it needs to decompress itself in place, the file's bytes among it. */
    segment.mem_size = get(bytes + INIT_SIZE, 4);
    if (segment.mem_size < segment.file_size)
        return err_set(e, -EINVAL,
                       "it says it needs 0x%" PRIx64
                       " bytes of memory, less than its own 0x%" PRIx64,
                       segment.mem_size, segment.file_size);

    memset(image, 0, sizeof(*image));
    image->protocol = BOOT_LINUX64;
    image->entry = segment.gpa.v + ENTRY_64;
    image->segment_count = 1;
    image->segment[0] = segment;
    image->initrd_limit = get(bytes + INITRD_ADDR_MAX, 4) + 1;
    image->cmdline_max = get(bytes + CMDLINE_SIZE, 4);
    image->setup_header_len = (size_t)(HEADER + get(bytes + JUMP_LENGTH, 1) - SETUP_HEADER_START);
    memcpy(image->setup_header, bytes + SETUP_HEADER_START, image->setup_header_len);
    return 0;
}
