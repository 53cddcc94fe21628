/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a disk with a GUID partition table, for tests of partitioned roots. */
#ifndef MAYFLY_TESTS_E2E_GPT_H
#define MAYFLY_TESTS_E2E_GPT_H

/*
 * Makes the file `path`: a GPT with one partition that holds the contents of `contents`. Returns
 * the partition's UUID as Linux spells it. Ends the test on failure.
 */
const char *gpt_make_disk(const char *path, const char *contents);

#endif
