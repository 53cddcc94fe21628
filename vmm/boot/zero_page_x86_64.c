/* SPDX-License-Identifier: Apache-2.0 */
/* zero_page_x86_64.c: fills in struct boot_params. */
#include "vmm/boot/zero_page_x86_64.h"

#include "vmm/boot/layout.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/tables.h"

#include <string.h>

#include <asm/bootparam.h>

#define BOOT_FLAG        0xaa55
#define HEADER_MAGIC     0x53726448 /* "HdrS" */
#define PROTOCOL_2_12    0x020c
#define LOADER_UNDEFINED 0xff /* no number is registered for us */
#define KERNEL_ALIGNMENT 0x1000000

_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "boot_params is one page");
_Static_assert(offsetof(struct boot_params, hdr) == SETUP_HEADER_START, "setup header");
_Static_assert(offsetof(struct boot_params, edd_mbr_sig_buffer) == SETUP_HEADER_END, "its end");

/* A bzImage brings its header; an ELF kernel leaves us to say what a loader would have read. */
static void set_header(struct boot_params *params, const struct kernel_image *image)
{
    if (image->setup_header_len > 0) {
        memcpy((uint8_t *)params + SETUP_HEADER_START, image->setup_header,
               image->setup_header_len);
    } else {
        params->hdr.boot_flag = BOOT_FLAG;
        params->hdr.header = HEADER_MAGIC;
        params->hdr.version = PROTOCOL_2_12;
        params->hdr.kernel_alignment = KERNEL_ALIGNMENT;
    }
    params->hdr.type_of_loader = LOADER_UNDEFINED;
}

static void set_memory_map(struct boot_params *params, const struct mem *mem)
{
    struct memory_map map;

    memory_map_build(&map, mem);
    for (unsigned i = 0; i < map.count; i++) {
        params->e820_table[i].addr = map.range[i].start;
        params->e820_table[i].size = map.range[i].size;
        params->e820_table[i].type = map.range[i].type;
    }
    params->e820_entries = (uint8_t)map.count;
}

void zero_page_write(struct mem *mem, const struct kernel_image *image, const struct initrd *initrd,
                     size_t cmdline_len, uint64_t rsdp)
{
    struct boot_params params = {0};

    set_header(&params, image);
    params.hdr.cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
    params.hdr.cmdline_size = (uint32_t)cmdline_len;
    /* Below 3 GiB, so the upper halves in ext_ramdisk_* stay 0. */
    params.hdr.ramdisk_image = (uint32_t)initrd->gpa.v;
    params.hdr.ramdisk_size = (uint32_t)initrd->size;
    params.acpi_rsdp_addr = rsdp;
    set_memory_map(&params, mem);
    table_write(mem, LAYOUT_ZERO_PAGE, &params, sizeof(params));
}
