/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_load: the input is a state file, whose length and checksum are made right. The machine is
 * loaded by the real code over a fake KVM; one that loads goes on as far as it does by itself, is
 * paused and saved, and what was saved loads again.
 *
 * The input's first byte is not part of the file: it says what is done with the machine. Most
 * mutations are of the data of one section, and leave the frame as it is: the frame has a target of
 * its own, fuzz_state_file.
 */
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/load_fixture.h"
#include "tests/unit/state_bytes.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTION_SIZE 32
#define SECTION_LEN  28

/* What the corpus' machines have. */
#define MEM_SIZE (144 * MIB)

enum { RUN = 1, SAVE = 2 };

static void must(int rc, const struct err *e)
{
    if (rc)
        fprintf(stderr, "fuzz_load: %s\n", e->text);
    BUG_ON(rc);
}

static void save_and_load(struct loaded *loaded)
{
    struct loaded again;
    struct err e;

    must(load_fixture_save(loaded, &e), &e);
    load_fixture_end(loaded);
    must(load_fixture_load_again(&again, &e), &e);
    load_fixture_end(&again);
}

static void run(struct loaded *loaded)
{
    struct err e;

    must(machine_resume(loaded->machine, &e), &e);
    fake_loop_settle(loaded->loop);
    must(machine_pause(loaded->machine, &e), &e);
}

static void load(const uint8_t *file, size_t size, unsigned what)
{
    struct err e = {0};
    struct loaded loaded;

    if (load_fixture_load(&loaded, file, size, &e)) {
        BUG_ON(e.text[0] == '\0' || strchr(e.text, '\n'));
        load_fixture_end(&loaded);
        return;
    }
    if (what & RUN)
        run(&loaded);
    if (what & SAVE)
        save_and_load(&loaded);
    else
        load_fixture_end(&loaded);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* `path` as seen from here, behind `option`; malloc'ed. */
static char *from_here(const char *option, const char *path)
{
    char here[PATH_MAX], *text;

    BUG_ON(!getcwd(here, sizeof(here)));
    BUG_ON(asprintf(&text, "%s%s%s%s", option, *path == '/' ? "" : here, *path == '/' ? "" : "/",
                    path) < 0);
    return text;
}

/* We change to a directory of our own; libFuzzer must find its files all the same. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char prefix[] = "-artifact_prefix=";

    for (int i = 1; i < *argc; i++) {
        if (strncmp((*argv)[i], prefix, strlen(prefix)) == 0)
            (*argv)[i] = from_here(prefix, (*argv)[i] + strlen(prefix));
        else if ((*argv)[i][0] != '-')
            (*argv)[i] = from_here("", (*argv)[i]);
    }
    load_fixture_enter(MEM_SIZE);
    atexit(load_fixture_leave);
    return 0;
}

/* Where the data of one section lies in `data`, which one being left to chance; 0 = there is none.
 */
static size_t choose_section(const uint8_t *data, size_t size, unsigned seed, size_t *len)
{
    size_t chosen = 0;
    unsigned seen = 0;
    uint32_t n;

    for (size_t at = 1 + STATE_HEADER; at + SECTION_SIZE <= size;
         at += SECTION_SIZE + align_up(n, 8)) {
        memcpy(&n, data + at + SECTION_LEN, sizeof(n));
        if (!range_fits(at + SECTION_SIZE, n, size))
            break;
        if (n > 0 && (unsigned)rand_r(&seed) % ++seen == 0) {
            chosen = at + SECTION_SIZE;
            *len = n;
        }
    }
    return chosen;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size_t len = 0, at = seed % 8 ? choose_section(data, size, seed, &len) : 0;
    uint8_t *section;

    if (at == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    section = malloc(len);
    BUG_ON(!section);
    memcpy(section, data + at, len);
    len = LLVMFuzzerMutate(section, len, len);
    memcpy(data + at, section, len);
    free(section);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = size - 1;
    uint8_t *file;

    if (size < 1 + STATE_HEADER + STATE_CRC)
        return 0;
    file = malloc(len);
    BUG_ON(!file);
    memcpy(file, data + 1, len);
    state_bytes_seal(file, len);
    load(file, len, data[0]);
    free(file);
    return 0;
}
