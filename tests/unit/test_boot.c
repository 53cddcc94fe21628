/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/boot/boot_x86_64.c and what it calls: a whole guest in memory, judged from what a
 * kernel and a CPU would find there.
 */
#include "tests/support/kernel_files.h"
#include "tests/unit/unit.h"
#include "virtio/mmio.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/memory_map.h"
#include "vmm/legacy/boot_timer.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/pit.h"
#include "vmm/legacy/power.h"
#include "vmm/legacy/serial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct boot_device devices[] = {{{0xc0001000}, 5}, {{0xc0002000}, 6}};

struct guest {
    struct mem mem;
    struct boot_request request;
    struct boot_entry entry;
    struct err e;
};

static void make_guest(struct guest *g, const struct kernel_file *file, uint64_t size)
{
    memset(g, 0, sizeof(*g));
    assert_int_equal(mem_create(&g->mem, size, MEM_PAGES_DEFAULT, false, &g->e), 0);
    g->request = (struct boot_request){
        .mem = &g->mem,
        .kernel_fd = kernel_file_open(file),
        .initrd_fd = -1,
        .args = "console=ttyS0",
        .root = BOOT_ROOT_DRIVE,
        .vcpu_count = 2,
        .device = devices,
        .device_count = 2,
    };
    assert_true(g->request.kernel_fd >= 0);
}

static void load(struct guest *g)
{
    if (boot_load(&g->request, &g->entry, &g->e))
        fail_msg("refused: %s", g->e.text);
}

static void free_guest(struct guest *g)
{
    close(g->request.kernel_fd);
    if (g->request.initrd_fd >= 0)
        close(g->request.initrd_fd);
    mem_destroy(&g->mem);
}

static uint64_t peek(const struct guest *g, uint64_t gpa, unsigned bytes)
{
    uint64_t value = 0;

    assert_int_equal(mem_read(&g->mem, GPA(gpa), &value, bytes), 0);
    return value;
}

#define CMDLINE                                                                                    \
    "console=ttyS0 pci=off root=/dev/vda rw virtio_mmio.device=4K@0xc0001000:5 "                   \
    "virtio_mmio.device=4K@0xc0002000:6"

/* ---- the memory map ---- */

/* Ranges do not overlap, and RAM in them is all RAM but the 385 KiB from the end of conventional
 * memory to 1 MiB. */
static void expect_sound_map(const struct memory_map *map, const struct mem *mem)
{
    uint64_t ram = 0;

    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_range *a = &map->range[i];

        assert_true(a->size > 0);
        for (unsigned k = 0; k < i; k++) {
            const struct memory_range *b = &map->range[k];

            assert_true(a->start >= b->start + b->size || b->start >= a->start + a->size);
        }
        if (a->type == MEMORY_RAM) {
            assert_non_null(mem_readable(mem, GPA(a->start), a->size));
            ram += a->size;
        } else {
            assert_int_equal(a->type, MEMORY_RESERVED);
        }
    }
    assert_int_equal(ram, mem_size(mem) - (MIB - LAYOUT_SYSTEM));
}

static void test_memory_map_covers_all_ram_once_at_every_size(void **state)
{
    static const uint64_t size[] = {
        MIB,     2 * MIB,   64 * MIB,  3 * GIB - MIB,   3 * GIB,   3 * GIB + MIB,
        4 * GIB, 254 * GIB, 255 * GIB, 255 * GIB + MIB, 600 * GIB, 1024 * GIB,
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(size); i++) {
        struct memory_map map;
        struct mem mem;
        struct err e;
        int rc = mem_create(&mem, size[i], MEM_PAGES_DEFAULT, false, &e);

        if (rc == -ENOMEM && size[i] > 4 * GIB)
            continue; /* a host that counts every reservation */
        assert_int_equal(rc, 0);
        memory_map_build(&map, &mem);
        expect_sound_map(&map, &mem);
        mem_destroy(&mem);
    }
}

static void test_memory_map_of_4_gib_is_as_documented(void **state)
{
    static const struct memory_range expected[] = {
        {0, 0x9fc00, 1},
        {0x9fc00, 0x40400, 2},
        {0xeec00000, 0x10000000, 2},
        {0x100000, 3 * GIB - MIB, 1},
        {4 * GIB, GIB, 1},
    };
    struct memory_map map;
    struct mem mem;
    struct err e;

    (void)state;
    assert_int_equal(mem_create(&mem, 4 * GIB, MEM_PAGES_DEFAULT, false, &e), 0);
    memory_map_build(&map, &mem);
    assert_int_equal(map.count, ARRAY_SIZE(expected));
    for (unsigned i = 0; i < map.count; i++) {
        assert_int_equal(map.range[i].start, expected[i].start);
        assert_int_equal(map.range[i].size, expected[i].size);
        assert_int_equal(map.range[i].type, expected[i].type);
    }
    mem_destroy(&mem);
}

/* ---- the 64-bit protocol ---- */

/* Walks the page tables for `va` as a CPU would (Intel SDM volume 3, 4.5). */
static uint64_t translate(const struct guest *g, uint64_t va)
{
    uint64_t entry = peek(g, g->entry.cpu.cr3 + (va >> 39 & 511) * 8, 8);

    assert_int_equal(entry & 3, 3);
    entry = peek(g, (entry & ~UINT64_C(0xfff)) + (va >> 30 & 511) * 8, 8);
    assert_int_equal(entry & 0x83, 3);
    entry = peek(g, (entry & ~UINT64_C(0xfff)) + (va >> 21 & 511) * 8, 8);
    assert_int_equal(entry & 0x83, 0x83);
    return (entry & ~UINT64_C(0x1fffff)) + (va & 0x1fffff);
}

static void test_boot_linux64_cpu_is_in_long_mode_on_an_identity_map(void **state)
{
    struct kernel_file file;
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    make_guest(&g, &file, 64 * MIB);
    load(&g);

    assert_int_equal(g.entry.protocol, BOOT_LINUX64);
    assert_int_equal(g.entry.cpu.rip, ELF_FILE_ENTRY);
    assert_int_equal(g.entry.cpu.rsi, 0x7000);
    assert_int_equal(g.entry.cpu.rsp, 0x8ff0);
    assert_int_equal(g.entry.cpu.cr0 & 0x80000001, 0x80000001); /* PG, PE */
    assert_int_equal(g.entry.cpu.cr4 & 0x20, 0x20);             /* PAE */
    assert_int_equal(g.entry.cpu.efer & 0x500, 0x500);          /* LMA, LME */
    assert_int_equal(g.entry.cpu.code.l, 1);
    assert_int_equal(g.entry.cpu.code.db, 0);
    for (uint64_t va = 0; va < GIB; va += 7 * MIB + 123)
        assert_int_equal(translate(&g, va), va);
    assert_int_equal(translate(&g, GIB - 1), GIB - 1);
    free_guest(&g);
}

/* A descriptor taken apart again (Intel SDM volume 3, 3.4.5) is the segment that it is for. */
static void expect_descriptor(const struct guest *g, const struct boot_segment *s)
{
    uint64_t d = peek(g, g->entry.cpu.gdt_base + s->selector, 8);
    uint64_t limit = (d & 0xffff) | (d >> 32 & 0xf0000);

    assert_true(s->selector + 7u <= g->entry.cpu.gdt_limit);
    assert_int_equal(d >> 55 & 1 ? limit << 12 | 0xfff : limit, s->limit);
    assert_int_equal((d >> 16 & 0xffffff) | (d >> 32 & 0xff000000), s->base);
    assert_int_equal(d >> 40 & 0xf, s->type);
    assert_int_equal(d >> 44 & 1, s->s);
    assert_int_equal(d >> 45 & 3, s->dpl);
    assert_int_equal(d >> 47 & 1, s->present);
    assert_int_equal(d >> 53 & 1, s->l);
    assert_int_equal(d >> 54 & 1, s->db);
    assert_int_equal(d >> 55 & 1, s->g);
}

static void test_boot_descriptor_tables_agree_with_the_segments(void **state)
{
    (void)state;
    for (unsigned pvh = 0; pvh < 2; pvh++) {
        struct kernel_file file;
        struct guest g;

        kernel_file_make_elf(&file);
        if (pvh)
            kernel_file_add_pvh(&file, 4);
        make_guest(&g, &file, 64 * MIB);
        load(&g);

        assert_int_equal(g.entry.cpu.gdt_base, 0x500);
        assert_int_equal(g.entry.cpu.idt_base, 0x520);
        assert_int_equal(peek(&g, 0x500, 8), 0);
        expect_descriptor(&g, &g.entry.cpu.code);
        expect_descriptor(&g, &g.entry.cpu.data);
        expect_descriptor(&g, &g.entry.cpu.task);
        assert_int_equal(g.entry.cpu.code.limit, UINT32_MAX);
        assert_int_equal(g.entry.cpu.task.limit, 0x67);
        free_guest(&g);
    }
}

/* Offsets of Linux, Documentation/arch/x86/boot.rst and zero-page.rst. */
static void test_boot_zero_page_of_an_elf_kernel_says_all_a_loader_would(void **state)
{
    struct kernel_file file, disk = {.len = 5000};
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    make_guest(&g, &file, 64 * MIB);
    g.request.initrd_fd = kernel_file_open(&disk);
    load(&g);

    assert_string_equal(mem_readable(&g.mem, GPA(0x20000), 2048), CMDLINE);
    assert_int_equal(peek(&g, 0x7000 + 0x1fe, 2), 0xaa55);
    assert_int_equal(peek(&g, 0x7000 + 0x202, 4), 0x53726448);
    assert_int_equal(peek(&g, 0x7000 + 0x210, 1), 0xff);
    assert_int_equal(peek(&g, 0x7000 + 0x218, 4), 64 * MIB - 2 * PAGE_SIZE);
    assert_int_equal(peek(&g, 0x7000 + 0x21c, 4), 5000);
    assert_int_equal(peek(&g, 0x7000 + 0x228, 4), 0x20000);
    assert_int_equal(peek(&g, 0x7000 + 0x238, 4), strlen(CMDLINE));
    assert_int_equal(peek(&g, 0x7000 + 0x070, 8), 0xe0000); /* acpi_rsdp_addr */
    assert_int_equal(peek(&g, 0x7000 + 0x1ef, 1), 0);       /* sentinel */
    assert_int_equal(peek(&g, 0x7000 + 0x1e8, 1), 4);       /* e820_entries */
    assert_int_equal(peek(&g, 0x7000 + 0x2d0 + 3 * 20, 8), MIB);
    assert_int_equal(peek(&g, 0x7000 + 0x2d0 + 3 * 20 + 8, 8), 63 * MIB);
    assert_int_equal(peek(&g, 0x7000 + 0x2d0 + 3 * 20 + 16, 4), 1);
    free_guest(&g);
}

static void test_boot_zero_page_of_a_bzimage_keeps_its_setup_header(void **state)
{
    struct kernel_file file, disk = {.len = 5000};
    struct guest g;

    (void)state;
    kernel_file_make_bzimage(&file);
    make_guest(&g, &file, 4 * GIB);
    g.request.initrd_fd = kernel_file_open(&disk);
    load(&g);

    assert_int_equal(g.entry.protocol, BOOT_LINUX64);
    assert_int_equal(g.entry.cpu.rip, BZIMAGE_GPA + 0x200);
    assert_int_equal(peek(&g, 0x7000 + 0x206, 2), 0x020f);
    assert_int_equal(peek(&g, 0x7000 + 0x236, 2), 0x3f);
    assert_int_equal(peek(&g, 0x7000 + 0x260, 4), BZIMAGE_INIT_SIZE);
    assert_int_equal(peek(&g, 0x7000 + 0x210, 1), 0xff);
    /* The initrd ends at the highest address that this kernel allows, in memory of 3 GiB. */
    assert_int_equal(peek(&g, 0x7000 + 0x218, 4), 0x80000000 - 2 * PAGE_SIZE);
    assert_int_equal(peek(&g, 0x7000 + 0x1e8, 1), 5);
    assert_int_equal(peek(&g, 0x7000 + 0x2d0 + 4 * 20, 8), 4 * GIB);
    assert_int_equal(peek(&g, 0x7000 + 0x2d0 + 4 * 20 + 8, 8), GIB);
    free_guest(&g);
}

/* ---- PVH ---- */

static void test_boot_pvh_cpu_is_in_protected_mode_without_paging(void **state)
{
    struct kernel_file file;
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 8);
    make_guest(&g, &file, 64 * MIB);
    load(&g);

    assert_int_equal(g.entry.protocol, BOOT_PVH);
    assert_int_equal(g.entry.cpu.rip, ELF_FILE_PVH_ENTRY);
    assert_int_equal(g.entry.cpu.rbx, 0x6000);
    assert_int_equal(g.entry.cpu.cr0, 0x11); /* ET, PE */
    assert_int_equal(g.entry.cpu.cr4 | g.entry.cpu.efer | g.entry.cpu.cr3, 0);
    assert_int_equal(g.entry.cpu.code.l, 0);
    assert_int_equal(g.entry.cpu.code.db, 1);
    /* Nothing has been written where page tables would be. */
    assert_int_equal(peek(&g, LAYOUT_PML4, 8) | peek(&g, LAYOUT_PD, 8), 0);
    free_guest(&g);
}

/* Offsets of Xen, public/arch-x86/hvm/start_info.h. */
static void test_boot_pvh_start_info_gives_module_map_and_rsdp(void **state)
{
    struct kernel_file file, disk = {.len = 5000};
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 8);
    make_guest(&g, &file, 64 * MIB);
    g.request.initrd_fd = kernel_file_open(&disk);
    load(&g);

    assert_int_equal(peek(&g, 0x6000, 4), 0x336ec578);
    assert_int_equal(peek(&g, 0x6004, 4), 1);
    assert_int_equal(peek(&g, 0x600c, 4), 1); /* modules */
    assert_int_equal(peek(&g, 0x6010, 8), 0x6040);
    assert_int_equal(peek(&g, 0x6018, 8), 0x20000); /* command line */
    assert_int_equal(peek(&g, 0x6020, 8), 0xe0000); /* RSDP */
    assert_int_equal(peek(&g, 0x6028, 8), 0x7000);  /* memory map */
    assert_int_equal(peek(&g, 0x6030, 4), 4);
    assert_int_equal(peek(&g, 0x6040, 8), 64 * MIB - 2 * PAGE_SIZE);
    assert_int_equal(peek(&g, 0x6048, 8), 5000);
    assert_int_equal(peek(&g, 0x7000 + 3 * 24, 8), MIB);
    assert_int_equal(peek(&g, 0x7000 + 3 * 24 + 8, 8), 63 * MIB);
    assert_int_equal(peek(&g, 0x7000 + 3 * 24 + 16, 4), 1);
    assert_string_equal(mem_readable(&g.mem, GPA(0x20000), 2048), CMDLINE);
    free_guest(&g);
}

static void test_boot_pvh_without_initrd_has_no_modules(void **state)
{
    struct kernel_file file;
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 4);
    make_guest(&g, &file, 64 * MIB);
    load(&g);

    assert_int_equal(peek(&g, 0x600c, 4), 0);
    assert_int_equal(peek(&g, 0x6010, 8), 0);
    free_guest(&g);
}

/* ---- both, and neither ---- */

static void test_boot_both_hardware_descriptions_are_there(void **state)
{
    struct kernel_file file;
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    make_guest(&g, &file, 64 * MIB);
    load(&g);

    assert_memory_equal(mem_readable(&g.mem, GPA(0x9fc00), 4), "_MP_", 4);
    assert_memory_equal(mem_readable(&g.mem, GPA(0xe0000), 8), "RSD PTR ", 8);
    free_guest(&g);
}

/* Its Linux would leave the 8259s alone and have no interrupts. */
static void test_boot_without_apics_there_is_only_the_mp_table(void **state)
{
    static const char *const args[] = {"quiet noapic", "nolapic quiet"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
        struct kernel_file file;
        struct guest g;

        kernel_file_make_elf(&file);
        make_guest(&g, &file, 64 * MIB);
        g.request.args = args[i];
        load(&g);

        assert_memory_equal(mem_readable(&g.mem, GPA(0x9fc00), 4), "_MP_", 4);
        assert_int_equal(peek(&g, 0xe0000, 8), 0);
        assert_int_equal(peek(&g, 0x7000 + 0x070, 8), 0); /* nor is it pointed at */
        free_guest(&g);
    }
}

/* mov al, 0xfe; out 0x64, al; hlt; jmp to the hlt: as an 8086 reads it. */
static void test_boot_reset_vector_resets_the_machine(void **state)
{
    static const uint8_t code[] = {0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd};
    struct kernel_file file;
    struct guest g;

    (void)state;
    kernel_file_make_elf(&file);
    make_guest(&g, &file, 64 * MIB);
    load(&g);

    assert_memory_equal(mem_readable(&g.mem, GPA(0xffff0), sizeof(code)), code, sizeof(code));
    free_guest(&g);
}

static void test_boot_addresses_agree_with_the_devices_that_answer_there(void **state)
{
    (void)state;
    assert_int_equal(LAYOUT_BOOT_TIMER, BOOT_TIMER_ADDR);
    assert_int_equal(LAYOUT_PORT_SLEEP_CONTROL, POWER_SLEEP_CONTROL);
    assert_int_equal(LAYOUT_PORT_SLEEP_STATUS, POWER_SLEEP_STATUS);
    assert_int_equal(LAYOUT_SLEEP_TYPE_S5, POWER_S5);
    assert_int_equal(LAYOUT_PORT_PM_TIMER, POWER_TIMER);
    assert_int_equal(LAYOUT_PORT_SERIAL, SERIAL_PORT);
    assert_int_equal(LAYOUT_IRQ_SERIAL, SERIAL_GSI);
    assert_int_equal(LAYOUT_IRQ_KEYBOARD, I8042_GSI);
    assert_int_equal(LAYOUT_IRQ_TIMER, PIT_GSI);
    assert_int_equal(LAYOUT_VIRTIO_MMIO_SIZE, VIRTIO_MMIO_WINDOW);
}

static void test_boot_command_line_longer_than_the_kernel_reads_is_refused(void **state)
{
    struct kernel_file file;
    struct guest g;

    (void)state;
    kernel_file_make_bzimage(&file);
    kernel_file_put(&file, 0x238, strlen(CMDLINE) - 1, 4);
    make_guest(&g, &file, 64 * MIB);
    assert_int_equal(boot_load(&g.request, &g.entry, &g.e), -EINVAL);
    assert_non_null(strstr(g.e.text, "that this kernel reads"));
    free_guest(&g);

    kernel_file_put(&file, 0x238, strlen(CMDLINE), 4);
    make_guest(&g, &file, 64 * MIB);
    load(&g);
    free_guest(&g);
}

/* Nothing is written for a request that fails before the kernel is read. */
static void test_boot_refused_kernel_leaves_memory_untouched(void **state)
{
    struct kernel_file file = {.len = 100};
    struct guest g;

    (void)state;
    make_guest(&g, &file, 2 * MIB);
    assert_true(boot_load(&g.request, &g.entry, &g.e) < 0);
    for (uint64_t gpa = 0; gpa < 2 * MIB; gpa += 8)
        assert_int_equal(peek(&g, gpa, 8), 0);
    free_guest(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_map_covers_all_ram_once_at_every_size),
        cmocka_unit_test(test_memory_map_of_4_gib_is_as_documented),
        cmocka_unit_test(test_boot_linux64_cpu_is_in_long_mode_on_an_identity_map),
        cmocka_unit_test(test_boot_descriptor_tables_agree_with_the_segments),
        cmocka_unit_test(test_boot_zero_page_of_an_elf_kernel_says_all_a_loader_would),
        cmocka_unit_test(test_boot_zero_page_of_a_bzimage_keeps_its_setup_header),
        cmocka_unit_test(test_boot_pvh_cpu_is_in_protected_mode_without_paging),
        cmocka_unit_test(test_boot_pvh_start_info_gives_module_map_and_rsdp),
        cmocka_unit_test(test_boot_pvh_without_initrd_has_no_modules),
        cmocka_unit_test(test_boot_both_hardware_descriptions_are_there),
        cmocka_unit_test(test_boot_without_apics_there_is_only_the_mp_table),
        cmocka_unit_test(test_boot_reset_vector_resets_the_machine),
        cmocka_unit_test(test_boot_addresses_agree_with_the_devices_that_answer_there),
        cmocka_unit_test(test_boot_command_line_longer_than_the_kernel_reads_is_refused),
        cmocka_unit_test(test_boot_refused_kernel_leaves_memory_untouched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
