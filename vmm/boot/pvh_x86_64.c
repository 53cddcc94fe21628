/* SPDX-License-Identifier: Apache-2.0 */
/* pvh_x86_64.c: fills in the start info of PVH. */
#include "vmm/boot/pvh_x86_64.h"

#include "vmm/boot/layout.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/tables.h"

#define START_INFO_MAGIC   0x336ec578 /* "xEn3" with the top bit of E set */
#define START_INFO_VERSION 1          /* the first with a memory map */

struct start_info {
    uint32_t magic, version;
    uint32_t flags;
    uint32_t nr_modules;
    uint64_t modlist_paddr;
    uint64_t cmdline_paddr;
    uint64_t rsdp_paddr;
    uint64_t memmap_paddr;
    uint32_t memmap_entries;
    uint32_t reserved;
};

struct module {
    uint64_t paddr, size;
    uint64_t cmdline_paddr;
    uint64_t reserved;
};

struct memory_map_entry {
    uint64_t addr, size;
    uint32_t type;
    uint32_t reserved;
};

_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct module) == 32 &&
                   sizeof(struct memory_map_entry) == 24,
               "Xen's sizes");
_Static_assert(LAYOUT_PVH_START_INFO + sizeof(struct start_info) <= LAYOUT_PVH_MODULES,
               "the structs lie one after the other");

static uint32_t write_memory_map(struct mem *mem)
{
    struct memory_map_entry entry[MEMORY_MAP_MAX] = {0};
    struct memory_map map;

    memory_map_build(&map, mem);
    for (unsigned i = 0; i < map.count; i++) {
        entry[i].addr = map.range[i].start;
        entry[i].size = map.range[i].size;
        entry[i].type = map.range[i].type;
    }
    table_write(mem, LAYOUT_PVH_MEMORY_MAP, entry, map.count * sizeof(entry[0]));
    return map.count;
}

void pvh_write(struct mem *mem, const struct initrd *initrd, uint64_t rsdp)
{
    struct start_info info = {
        .magic = START_INFO_MAGIC,
        .version = START_INFO_VERSION,
        .cmdline_paddr = LAYOUT_CMDLINE,
        .rsdp_paddr = rsdp,
        .memmap_paddr = LAYOUT_PVH_MEMORY_MAP,
        .memmap_entries = write_memory_map(mem),
    };

    if (initrd->size > 0) {
        struct module module = {.paddr = initrd->gpa.v, .size = initrd->size};

        table_write(mem, LAYOUT_PVH_MODULES, &module, sizeof(module));
        info.nr_modules = 1;
        info.modlist_paddr = LAYOUT_PVH_MODULES;
    }
    table_write(mem, LAYOUT_PVH_START_INFO, &info, sizeof(info));
}
