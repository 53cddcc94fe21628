/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of test-init share: a command is a row of a table, gets its words, prints its
 * answer on stdout (the serial console) and says how it went.
 */
#ifndef MAYFLY_GUEST_TEST_INIT_H
#define MAYFLY_GUEST_TEST_INIT_H

#include <stdint.h>

struct command {
    const char *name;
    int words_min, words_max; /* after the name */
    int (*run)(int argc, char **argv);
    const char *usage;
};

/* Ended by a row without a name. */
extern const struct command agent_commands[];
extern const struct command disk_commands[];
extern const struct command memory_commands[];
extern const struct command system_commands[];
extern const struct command net_commands[];
extern const struct command soak_commands[];
extern const struct command state_commands[];
extern const struct command http_commands[];
extern const struct command vsock_commands[];

/* Runs the command in `line`, whose words any of the separators divide, and ends its answer with OK
   or ERR. Changes the line. */
void obey(char *line, const char *separators);

/* Records why a command failed, as printf does; returns -1, so that a command can end with it.
   The text goes into the answer's last line, "ERR text". */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What the last fail() of this process said. */
const char *last_failure(void);

/* fail() with the text of errno at its end. */
int fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads an unsigned number (decimal or 0x...) into *value; fails with a sentence about `what`. */
int parse_number(const char *word, const char *what, uint64_t *value);

/* Copies the first line of a small file; returns 0, or -1 where it cannot be read. */
int read_line(const char *path, char *line, int size);

#endif
