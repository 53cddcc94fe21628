/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file.h owns the config file: one JSON object whose members are the bodies of the API's PUT
 * requests, by the same tables. It is read whole before anything of it is applied.
 */
#ifndef MAYFLY_API_CONFIG_FILE_H
#define MAYFLY_API_CONFIG_FILE_H

#include "api/api.h"

/* Bytes of the file at most. */
#define CONFIG_FILE_MAX (8 * MIB)

/*
 * Configures logger, metrics and machine by the file's text and starts the machine. After an error
 * the process is expected to end: what was applied before it stays applied. The sentence says what
 * is wrong and where; path is for that only.
 */
int config_file_run(struct api *api, const char *path, const char *text, size_t len,
                    struct err *e) __must_check;

/* A whole file in malloc'ed memory, NUL-terminated. -EFBIG above CONFIG_FILE_MAX. */
int config_file_read(const char *path, char **text, size_t *len, struct err *e) __must_check;

#endif
