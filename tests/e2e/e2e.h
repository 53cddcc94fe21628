/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end-to-end tests' own frame. Each test is one claim, in a file of its subject:
 *
 *     E2E(a_reset_by_the_keyboard_controller_ends_with_exit_code_0, TINY | INTEL)
 *     {
 *         struct vm *vm = vm_new(NULL);
 *         ...
 *     }
 *
 * It runs in a process of its own with a fresh directory and a time limit; when it ends, whatever
 * it started is killed and the directory removed. So tests free nothing and stop nothing.
 */
#ifndef MAYFLY_TESTS_E2E_E2E_H
#define MAYFLY_TESTS_E2E_E2E_H

#include <stdbool.h>
#include <stdint.h>

/* What a test needs, and in which selections it belongs. */
enum label {
    TINY = 1 << 0,      /* bare guests of a few instructions: runs on any KVM */
    LINUX = 1 << 1,     /* real kernels: needs a KVM that can run them */
    DEBIAN = 1 << 2,    /* a stock distribution's kernel and userland: slow */
    INTEL = 1 << 3,     /* part of the selection for the Intel lab */
    SANITIZER = 1 << 4, /* part of the selection for sanitizer builds in a lab */
    SLOW = 1 << 5,      /* allowed several times the usual time */
    HOST = 1 << 6,      /* no guest at all: command line, sockets, failures before the start */
    JAIL = 1 << 7,      /* the jailer: needs root, and runs in a lab too */
    SOAK = 1 << 8,      /* minutes long: runs only when it is asked for */
};

struct test {
    const char *name;
    const char *file;
    int line;
    unsigned labels;
    void (*run)(void);
};

void e2e_register(const struct test *test);

#define E2E(NAME, LABELS)                                                                          \
    static void NAME(void);                                                                        \
    __attribute__((constructor)) static void register_##NAME(void)                                 \
    {                                                                                              \
        static const struct test test = {#NAME, __FILE__, __LINE__, (LABELS), NAME};               \
        e2e_register(&test);                                                                       \
    }                                                                                              \
    static void NAME(void)

/* Set by the command line. */
struct e2e_options {
    const char *monitor; /* absolute path of the program under test */
    const char *jailer;  /* absolute path of the jailer; by default beside the monitor */
    const char *guests;  /* directory of guest images, or NULL */
    unsigned patience;   /* all time limits are multiplied by it */
    unsigned soak_seconds;
    bool strict; /* a missing guest image is a failure instead of a skip */
};
extern struct e2e_options e2e;

/* The running test's fresh directory. */
extern const char *e2e_dir;

/* Ends the running test. `where` is __FILE__, __LINE__. */
_Noreturn void e2e_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void e2e_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs before a failing test ends, to tell more (a console's last lines). */
void e2e_on_failure(void (*tell)(void));

#define FAIL(...) e2e_fail(__FILE__, __LINE__, __VA_ARGS__)

#define CHECK(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION))                                                                          \
            FAIL("not true: %s", #CONDITION);                                                      \
    } while (0)

#define CHECK_INT(CAME, EXPECTED)                                                                  \
    do {                                                                                           \
        long long came_ = (long long)(CAME), expected_ = (long long)(EXPECTED);                    \
        if (came_ != expected_)                                                                    \
            FAIL("%s is %lld, expected %lld", #CAME, came_, expected_);                            \
    } while (0)

/* That `TEXT` contains `PART`. */
#define CHECK_HAS(TEXT, PART) e2e_check_has(__FILE__, __LINE__, #TEXT, (TEXT), (PART))
void e2e_check_has(const char *file, int line, const char *what, const char *text,
                   const char *part);

/* A time limit in milliseconds, stretched by --patience. */
int e2e_ms(int ms);

/* A path inside the test's directory; never freed. */
const char *e2e_path(const char *name);

/* The path of a guest image; skips the test when it is not there. */
const char *e2e_guest(const char *name);

/* A pseudo-random sequence that is the same in every run. */
uint64_t e2e_random(uint64_t *state);

#endif
