/* SPDX-License-Identifier: Apache-2.0 */
/* A monitor in a test: every call here ends the test when it does not go as it must. */
#ifndef MAYFLY_TESTS_E2E_VM_H
#define MAYFLY_TESTS_E2E_VM_H

#include "tests/support/monitor.h"

#include <jansson.h>

enum { VM_MS = 20000 }; /* the usual patience with a guest, before --patience */

struct vm {
    struct monitor monitor;
    const char *dir; /* its own, inside the test's */
    const char *log; /* the file that takes its log, to keep it out of the console */
};

/* A running monitor with more arguments (NULL: none); its stdin, stdout and stderr are pipes. */
struct vm *vm_new(const char *const *args);

/* The same with more said; `dir` and `program` are filled in. The monitor may have ended: ask. */
struct vm *vm_spawn(struct monitor_spec spec);

/* A monitor that another program starts: by this command, with its socket there; it must come up.
 */
struct vm *vm_launch(const struct process_spec *command, const char *socket);

/* A monitor that listens at `socket` and is no child of ours: requests only. */
struct vm *vm_adopt(const char *socket);

/* PUT, PATCH or GET that must succeed. Bodies are printf formats. */
void vm_put(struct vm *vm, const char *path, const char *body, ...)
    __attribute__((format(printf, 3, 4)));
void vm_patch(struct vm *vm, const char *path, const char *body, ...)
    __attribute__((format(printf, 3, 4)));
json_t *vm_get(struct vm *vm, const char *path);
/* PUT that must be answered 200: what with. */
json_t *vm_put_answered(struct vm *vm, const char *path, const char *body);

/* A request that must be answered 400 with a fault message that contains `part`. */
void vm_refused(struct vm *vm, const char *method, const char *path, const char *part,
                const char *body, ...) __attribute__((format(printf, 5, 6)));

/* The state that GET / tells. */
const char *vm_state(struct vm *vm);

/* Configures a kernel with one vCPU and 64 MiB and starts; more may be configured before. */
void vm_boot(struct vm *vm, const char *kernel, const char *boot_args);
void vm_start(struct vm *vm);

/* The guest must say this on its console, behind what was expected before. */
void vm_expect(struct vm *vm, const char *text);
void vm_type(struct vm *vm, const char *text);

/* The monitor must end, with this exit code or by this signal. */
void vm_exits(struct vm *vm, int code);
void vm_dies(struct vm *vm, int signal);
/* The same of one that is no child of ours. */
void vm_has_ended(pid_t pid);

/* All of what the monitor said so far on stdout and stderr. */
const char *vm_out(struct vm *vm);
const char *vm_err(struct vm *vm);

/* MiB of the host's memory that the monitor takes: its share of what it maps. */
unsigned vm_taken_mib(struct vm *vm);

/* Has it write metrics, to a file of the test's. */
void vm_metrics(struct vm *vm);

/* What it has counted since then: the sum of a group's counter over all lines of the file, of which
 * this asks for one more. One of them must have it. */
long long vm_counted(struct vm *vm, const char *group, const char *counter);

/* All of its log so far. */
const char *vm_log(struct vm *vm);

#endif
