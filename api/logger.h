/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logger.h owns the logger as a user configures it, by PUT /logger, the config file and the command
 * line: what each call leaves out stays, but for the level. The log itself is vmm/base/log.h. Main
 * thread.
 */
#ifndef MAYFLY_API_LOGGER_H
#define MAYFLY_API_LOGGER_H

#include "api/bodies.h"

/* Opens the path first, so that a refusal changes nothing; the sentence is the API's. */
int logger_update(const struct logger_body *config, struct err *e) __must_check;

/* Whether lines of that level are written now: to save the making of long ones. */
bool logger_wants(enum log_level level);

#endif
