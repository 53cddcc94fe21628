/* SPDX-License-Identifier: Apache-2.0 */
/* logger.c: see logger.h. */
#include "api/logger.h"

#include <string.h>

static struct log_options current = {.level = LOG_INFO};
static char module[256];

int logger_update(const struct logger_body *config, struct err *e)
{
    if (config->log_path && log_set_path(config->log_path, e))
        return err_prefix(e, "Failed to open target file: ");
    current.level = config->level;
    if (config->has_show_level)
        current.show_level = config->show_level;
    if (config->has_show_log_origin)
        current.show_origin = config->show_log_origin;
    if (config->module)
        strncpy(module, config->module, sizeof(module) - 1);
    current.module = module;
    log_set_options(&current);
    return 0;
}

bool logger_wants(enum log_level level)
{
    return level <= current.level;
}
