/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/boot/elf.c: headers as bytes, sound and damaged. */
#include "tests/support/kernel_files.h"
#include "tests/unit/unit.h"
#include "vmm/boot/elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What kernel_open does with a file, on bytes in memory. */
static int parse(const struct kernel_file *file, struct elf_plan *plan, struct err *e)
{
    struct elf_header header;
    size_t head = file->len < KERNEL_HEAD_SIZE ? file->len : KERNEL_HEAD_SIZE;
    int rc = elf_parse_header(file->bytes, head, file->len, &header, e);

    if (rc == 0)
        rc = elf_parse_segments(&header, file->bytes + header.table_offset, file->len, plan, e);
    for (unsigned i = 0; rc == 0 && i < plan->notes_count; i++)
        elf_parse_notes(file->bytes + plan->notes[i].offset, plan->notes[i].size,
                        plan->notes[i].align, plan);
    if (rc == 0)
        elf_choose_entry(plan);
    return rc;
}

static void expect_refused(const struct kernel_file *file, const char *words)
{
    struct elf_plan plan;
    struct err e = {0};

    assert_int_equal(parse(file, &plan, &e), -EINVAL);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void expect_accepted(const struct kernel_file *file, struct elf_plan *plan)
{
    struct err e = {0};

    if (parse(file, plan, &e))
        fail_msg("refused: %s", e.text);
}

/* ---- sound files ---- */

static void test_elf_sound_file_gives_its_segments_and_entry(void **state)
{
    struct kernel_file file;
    struct elf_plan plan;

    (void)state;
    kernel_file_make_elf(&file);
    expect_accepted(&file, &plan);

    assert_int_equal(plan.image.protocol, BOOT_LINUX64);
    assert_int_equal(plan.image.entry, ELF_FILE_ENTRY);
    assert_int_equal(plan.image.segment_count, 2);
    assert_int_equal(plan.image.segment[0].offset, ELF_FILE_TEXT_AT);
    assert_int_equal(plan.image.segment[0].gpa.v, ELF_FILE_TEXT_GPA);
    assert_int_equal(plan.image.segment[0].file_size, ELF_FILE_TEXT_SIZE);
    assert_int_equal(plan.image.segment[1].file_size, ELF_FILE_DATA_SIZE);
    assert_int_equal(plan.image.segment[1].mem_size, ELF_FILE_DATA_ROOM);
    assert_int_equal(plan.image.cmdline_max, 2047);
    assert_int_equal(plan.image.setup_header_len, 0);
}

static void test_elf_pvh_note_of_either_size_chooses_pvh(void **state)
{
    static const uint32_t size[] = {4, 8};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct kernel_file file;
        struct elf_plan plan;

        kernel_file_make_elf(&file);
        kernel_file_add_pvh(&file, size[i]);
        expect_accepted(&file, &plan);

        assert_int_equal(plan.image.protocol, BOOT_PVH);
        assert_int_equal(plan.image.entry, ELF_FILE_PVH_ENTRY);
    }
}

static void test_elf_first_of_two_pvh_notes_counts(void **state)
{
    static const uint32_t other = ELF_FILE_TEXT_GPA + 0x100;
    struct kernel_file file;
    struct elf_plan plan;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 4);
    kernel_file_add_note(&file, "Xen", 18, &other, 4);
    *kernel_file_phdr(&file, ELF_FILE_DATA) = *kernel_file_phdr(&file, ELF_FILE_NOTES);
    expect_accepted(&file, &plan);

    assert_int_equal(plan.notes_count, 2);
    assert_int_equal(plan.image.entry, ELF_FILE_PVH_ENTRY);
}

/* Whichever note comes first. */
static void test_elf_linux_kernel_with_pvh_note_is_entered_by_the_64_bit_protocol(void **state)
{
    (void)state;
    for (unsigned linux_first = 0; linux_first < 2; linux_first++) {
        struct kernel_file file;
        struct elf_plan plan;

        kernel_file_make_elf(&file);
        if (linux_first)
            kernel_file_add_note(&file, "Linux", 256, "salt", 4);
        kernel_file_add_pvh(&file, 8);
        if (!linux_first)
            kernel_file_add_note(&file, "Linux", 256, "salt", 4);
        expect_accepted(&file, &plan);

        assert_int_equal(plan.image.protocol, BOOT_LINUX64);
        assert_int_equal(plan.image.entry, ELF_FILE_ENTRY);
    }
}

/* Notes aligned to 8 bytes, as some linkers write them: the descriptor begins at a multiple
 * of 8. */
static void test_elf_notes_aligned_to_8_are_read(void **state)
{
    static const struct {
        Elf64_Nhdr first;
        char name[4];
        uint8_t desc[12], pad[4];
        Elf64_Nhdr second;
        char xen[4];
        uint64_t entry;
    } notes = {
        .first = {.n_namesz = 4, .n_descsz = 12, .n_type = 5},
        .name = "GNU",
        .second = {.n_namesz = 4, .n_descsz = 8, .n_type = 18},
        .xen = "Xen",
        .entry = ELF_FILE_PVH_ENTRY,
    };
    struct kernel_file file;
    struct elf_plan plan;

    (void)state;
    kernel_file_make_elf(&file);
    memcpy(file.bytes + ELF_FILE_NOTES_AT, &notes, sizeof(notes));
    kernel_file_phdr(&file, ELF_FILE_NOTES)->p_filesz = sizeof(notes);
    kernel_file_phdr(&file, ELF_FILE_NOTES)->p_align = 8;
    expect_accepted(&file, &plan);

    assert_int_equal(plan.image.protocol, BOOT_PVH);
    assert_int_equal(plan.image.entry, ELF_FILE_PVH_ENTRY);
}

static void test_elf_notes_that_are_not_the_pvh_entry_leave_the_64_bit_protocol(void **state)
{
    static const uint64_t entry = ELF_FILE_PVH_ENTRY;
    static const struct {
        const char *name;
        uint32_t type, size;
    } note[] = {{"Xen", 17, 4}, {"Xenon", 18, 4}, {"xen", 18, 4}, {"Xen", 18, 2}, {"Xen", 18, 0}};

    (void)state;
    for (unsigned i = 0; i < sizeof(note) / sizeof(note[0]); i++) {
        struct kernel_file file;
        struct elf_plan plan;

        kernel_file_make_elf(&file);
        kernel_file_add_note(&file, note[i].name, note[i].type, &entry, note[i].size);
        expect_accepted(&file, &plan);
        assert_int_equal(plan.image.protocol, BOOT_LINUX64);
        assert_int_equal(plan.image.entry, ELF_FILE_ENTRY);
    }
}

/* A note whose name or descriptor is longer than the notes, by a little or by nearly 2^32. */
static void test_elf_lying_note_sizes_end_the_search(void **state)
{
    static const uint32_t lie[] = {0x100, 0x4000, 0x7fffffff, 0xfffffffc, 0xffffffff};

    (void)state;
    for (unsigned i = 0; i < sizeof(lie) / sizeof(lie[0]); i++) {
        for (unsigned field = 0; field < 2; field++) {
            struct kernel_file file;
            struct elf_plan plan;

            kernel_file_make_elf(&file);
            kernel_file_add_pvh(&file, 4);
            kernel_file_put(&file, ELF_FILE_NOTES_AT + 4 * field, lie[i], 4);
            expect_accepted(&file, &plan);
            assert_int_equal(plan.image.protocol, BOOT_LINUX64);
        }
    }
}

static void test_elf_notes_cut_in_the_middle_end_the_search(void **state)
{
    struct kernel_file file;
    struct elf_plan plan;
    uint64_t whole;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 4);
    whole = kernel_file_phdr(&file, ELF_FILE_NOTES)->p_filesz;
    for (uint64_t size = 0; size < whole; size++) {
        kernel_file_phdr(&file, ELF_FILE_NOTES)->p_filesz = size;
        expect_accepted(&file, &plan);
        assert_int_equal(plan.image.protocol, BOOT_LINUX64);
    }
}

static void test_elf_shared_object_and_empty_segments_are_accepted(void **state)
{
    struct kernel_file file;
    struct elf_plan plan;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_ehdr(&file)->e_type = ET_DYN;
    kernel_file_phdr(&file, ELF_FILE_NOTES)->p_type = PT_GNU_STACK;
    kernel_file_phdr(&file, ELF_FILE_DATA)->p_filesz = 0;
    kernel_file_phdr(&file, ELF_FILE_DATA)->p_memsz = 0;
    expect_accepted(&file, &plan);

    assert_int_equal(plan.image.segment_count, 1);
    assert_int_equal(plan.notes_count, 0);
}

/* Program headers at an odd address: they are copied, never read in place. */
static void test_elf_unaligned_program_headers_are_read(void **state)
{
    struct kernel_file file;
    struct elf_plan plan;

    (void)state;
    kernel_file_make_elf(&file);
    memmove(file.bytes + 0x1c01, file.bytes + sizeof(Elf64_Ehdr),
            ELF_FILE_HEADERS * sizeof(Elf64_Phdr));
    kernel_file_ehdr(&file)->e_phoff = 0x1c01;
    expect_accepted(&file, &plan);

    assert_int_equal(plan.image.segment_count, 2);
}

/* ---- damaged headers ---- */

static void test_elf_file_shorter_than_its_header_is_refused(void **state)
{
    struct kernel_file file;

    (void)state;
    kernel_file_make_elf(&file);
    for (file.len = 0; file.len < sizeof(Elf64_Ehdr); file.len++)
        expect_refused(&file, "Unable to read elf header");
    assert_false(elf_has_magic("\177EL", 3));
}

static void test_elf_each_damaged_header_field_is_refused_in_words(void **state)
{
    static const struct {
        size_t offset;
        unsigned bytes;
        uint64_t value;
        const char *words;
    } damage[] = {
        {0, 4, 0x464c4500, "Unable to read elf header"},
        {EI_CLASS, 1, ELFCLASS32, "not a 64-bit"},
        {EI_CLASS, 1, 9, "not a 64-bit"},
        {EI_DATA, 1, ELFDATA2MSB, "not a little-endian"},
        {offsetof(Elf64_Ehdr, e_machine), 2, EM_AARCH64, "machine type 183, not for x86_64"},
        {offsetof(Elf64_Ehdr, e_type), 2, ET_REL, "type is 1,"},
        {offsetof(Elf64_Ehdr, e_type), 2, ET_CORE, "type is 4,"},
        {offsetof(Elf64_Ehdr, e_phentsize), 2, 55, "are of 55 bytes, not of 56"},
        {offsetof(Elf64_Ehdr, e_phentsize), 2, 0, "are of 0 bytes"},
        {offsetof(Elf64_Ehdr, e_phnum), 2, 0, "no program headers"},
        {offsetof(Elf64_Ehdr, e_phnum), 2, ELF_HEADERS_MAX + 1, "129 program headers"},
        {offsetof(Elf64_Ehdr, e_phnum), 2, 0xffff, "65535 program headers"},
        {offsetof(Elf64_Ehdr, e_phoff), 8, ELF_FILE_SIZE - 1, "beyond the file's end"},
        {offsetof(Elf64_Ehdr, e_phoff), 8, ELF_FILE_SIZE, "beyond the file's end"},
        {offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX, "beyond the file's end"},
        {offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX - 168 + 1, "beyond the file's end"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
        struct kernel_file file;

        kernel_file_make_elf(&file);
        kernel_file_put(&file, damage[i].offset, damage[i].value, damage[i].bytes);
        expect_refused(&file, damage[i].words);
    }
}

static void test_elf_each_damaged_segment_field_is_refused_in_words(void **state)
{
    static const struct {
        unsigned header;
        size_t offset;
        uint64_t value;
        const char *words;
    } damage[] = {
        {0, offsetof(Elf64_Phdr, p_offset), ELF_FILE_SIZE, "cut off"},
        {0, offsetof(Elf64_Phdr, p_offset), ELF_FILE_SIZE - ELF_FILE_TEXT_SIZE + 1, "cut off"},
        {0, offsetof(Elf64_Phdr, p_offset), UINT64_MAX, "cut off"},
        {0, offsetof(Elf64_Phdr, p_offset), UINT64_MAX - ELF_FILE_TEXT_SIZE + 1, "cut off"},
        {0, offsetof(Elf64_Phdr, p_filesz), UINT64_MAX, "cut off"},
        {0, offsetof(Elf64_Phdr, p_filesz), ELF_FILE_TEXT_SIZE + 1, "only 0x800 in memory"},
        {0, offsetof(Elf64_Phdr, p_memsz), ELF_FILE_TEXT_SIZE - 1, "only 0x7ff in memory"},
        {0, offsetof(Elf64_Phdr, p_memsz), 0, "only 0x0 in memory"},
        {2, offsetof(Elf64_Phdr, p_offset), ELF_FILE_SIZE, "its notes at 0x2000 go beyond"},
        {2, offsetof(Elf64_Phdr, p_filesz), UINT64_MAX, "its notes"},
        {2, offsetof(Elf64_Phdr, p_type), PT_INTERP, "dynamic linker"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
        struct kernel_file file;
        size_t at = sizeof(Elf64_Ehdr) + damage[i].header * sizeof(Elf64_Phdr) + damage[i].offset;

        kernel_file_make_elf(&file);
        kernel_file_put(&file, at, damage[i].value,
                        damage[i].offset == offsetof(Elf64_Phdr, p_type) ? 4 : 8);
        expect_refused(&file, damage[i].words);
    }
}

static void test_elf_without_segments_to_load_is_refused(void **state)
{
    struct kernel_file file;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_phdr(&file, ELF_FILE_TEXT)->p_type = PT_NULL;
    kernel_file_phdr(&file, ELF_FILE_DATA)->p_type = PT_NULL;
    expect_refused(&file, "no segment to load");
}

static void repeat_header(struct kernel_file *file, unsigned which, unsigned count)
{
    Elf64_Phdr ph = *kernel_file_phdr(file, which);

    for (unsigned i = 0; i < count; i++)
        *kernel_file_phdr(file, i) = ph;
    kernel_file_ehdr(file)->e_phnum = (uint16_t)count;
}

static void test_elf_more_segments_than_the_plan_holds_is_refused(void **state)
{
    struct kernel_file file;
    struct elf_plan plan;

    (void)state;
    kernel_file_make_elf(&file);
    repeat_header(&file, ELF_FILE_DATA, KERNEL_SEGMENTS_MAX);
    expect_accepted(&file, &plan);
    assert_int_equal(plan.image.segment_count, KERNEL_SEGMENTS_MAX);

    repeat_header(&file, ELF_FILE_DATA, KERNEL_SEGMENTS_MAX + 1);
    expect_refused(&file, "more than 32 segments");
}

static void test_elf_too_many_or_too_long_notes_are_refused(void **state)
{
    struct kernel_file file;

    (void)state;
    kernel_file_make_elf(&file);
    repeat_header(&file, ELF_FILE_NOTES, ELF_NOTES_MAX + 1);
    expect_refused(&file, "more than 4 segments of notes");

    kernel_file_make_elf(&file);
    file.len = KERNEL_FILE_MAX;
    kernel_file_phdr(&file, ELF_FILE_NOTES)->p_filesz = ELF_NOTES_SIZE_MAX + 1;
    expect_refused(&file, "notes of 0x4001 bytes");
}

/* Whatever length the file is cut to, the answer is a plan that lies inside it or a refusal. */
static void test_elf_file_cut_anywhere_never_gives_a_segment_outside(void **state)
{
    struct kernel_file file;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 8);
    for (file.len = ELF_FILE_SIZE; file.len-- > 0;) {
        struct elf_plan plan;
        struct err e;

        if (parse(&file, &plan, &e))
            continue;
        for (unsigned i = 0; i < plan.image.segment_count; i++)
            assert_true(plan.image.segment[i].offset + plan.image.segment[i].file_size <= file.len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elf_sound_file_gives_its_segments_and_entry),
        cmocka_unit_test(test_elf_pvh_note_of_either_size_chooses_pvh),
        cmocka_unit_test(test_elf_first_of_two_pvh_notes_counts),
        cmocka_unit_test(test_elf_linux_kernel_with_pvh_note_is_entered_by_the_64_bit_protocol),
        cmocka_unit_test(test_elf_notes_aligned_to_8_are_read),
        cmocka_unit_test(test_elf_notes_that_are_not_the_pvh_entry_leave_the_64_bit_protocol),
        cmocka_unit_test(test_elf_lying_note_sizes_end_the_search),
        cmocka_unit_test(test_elf_notes_cut_in_the_middle_end_the_search),
        cmocka_unit_test(test_elf_shared_object_and_empty_segments_are_accepted),
        cmocka_unit_test(test_elf_unaligned_program_headers_are_read),
        cmocka_unit_test(test_elf_file_shorter_than_its_header_is_refused),
        cmocka_unit_test(test_elf_each_damaged_header_field_is_refused_in_words),
        cmocka_unit_test(test_elf_each_damaged_segment_field_is_refused_in_words),
        cmocka_unit_test(test_elf_without_segments_to_load_is_refused),
        cmocka_unit_test(test_elf_more_segments_than_the_plan_holds_is_refused),
        cmocka_unit_test(test_elf_too_many_or_too_long_notes_are_refused),
        cmocka_unit_test(test_elf_file_cut_anywhere_never_gives_a_segment_outside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
