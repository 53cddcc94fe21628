/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every unit test includes: cmocka, which wants four headers before it in this order, and the
 * status by which a program says that this host lacks what all its tests need.
 */
#ifndef MAYFLY_TESTS_UNIT_UNIT_H
#define MAYFLY_TESTS_UNIT_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define UNIT_SKIPPED 77

#endif
