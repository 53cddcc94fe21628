/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jails in a test: the jailer run with a copy of the monitor, and what the host can see of the
 * process inside. Every call here ends the test when it does not go as it must.
 */
#ifndef MAYFLY_TESTS_E2E_JAIL_H
#define MAYFLY_TESTS_E2E_JAIL_H

#include "tests/e2e/vm.h"

enum { JAIL_UID = 1234, JAIL_GID = 2345 };

struct jail {
    const char *id, *name; /* of the jail, of the executable */
    const char *base;      /* --chroot-base-dir */
    const char *exec;      /* the executable, outside */
    const char *root;      /* BASE/NAME/ID/root */
    const char *socket;    /* the API's default one, as the host sees it */
};

/*
 * A jail to be, whose executable is the monitor under that name. Skips the test without root. The
 * test gets a mount namespace of its own, with a root that pivot_root(2) takes.
 */
struct jail *jail_new(const char *name);

/* The same for tests in which the monitor runs: skips where it needs libraries, as sanitizers'. */
struct jail *jail_new_running(const char *name);

/* Makes the jail's root, as a user does before placing files there; and places one, by a hard link
 * where that can be. Returns the path seen from inside. */
void jail_make_root(const struct jail *jail);
const char *jail_place(const struct jail *jail, const char *file);

/*
 * The jailer's whole command line. Both lists end with NULL, and may be NULL: more options of the
 * jailer, and what the monitor gets.
 */
const char *const *jail_command(const struct jail *jail, const char *const *options,
                                const char *const *monitor_args);

/* A jailed monitor that takes requests; its standard streams are pipes. */
struct vm *jail_start(const struct jail *jail, const char *const *options,
                      const char *const *monitor_args);

/* Runs the jailer until it ends itself; what it said and its exit code are in the process. */
struct process *jail_run(const struct jail *jail, const char *const *options,
                         const char *const *monitor_args);

/* A jailer that must fail: exit code 1, one line on stderr that has `part`. */
void jail_fails(const struct jail *jail, const char *const *options, const char *part);

/* The number in the jail's PID file. */
int jail_pid(const struct jail *jail);

/* A process that is not our child must answer, take requests at `socket`; ends it, and waits. */
void jail_wait_for_socket(const struct jail *jail);
void jail_kill(int pid);

/* /proc/PID/FILE as text; and what stands behind `key` in a line of /proc/PID/status. */
const char *proc_text(int pid, const char *file);
const char *proc_status(int pid, const char *key);

/* What the link /proc/PID/FILE says. */
const char *proc_link(int pid, const char *file);

/* The names in a directory, sorted, each with a space behind it. */
const char *names_in(const char *path);

#endif
