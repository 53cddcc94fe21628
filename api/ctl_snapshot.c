/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_snapshot.c: see ctl_snapshot.h. */
#include "api/ctl_snapshot.h"

#include "api/inspect_json.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FINE = 0, WRONG = 1, MISUSED = 2 };

static const char usage[] =
    "Usage: mayflyctl snapshot inspect [OPTION]... STATE-FILE\n"
    "\n"
    "Shows what is in a snapshot: the version of its format, the machine, its devices with their\n"
    "paths, each section of the state file; and checks all that can be checked without a load:\n"
    "the checksum, the sections, their tables, the memory map.\n"
    "\n"
    "  -m, --memory FILE   look at the memory file, too: its size, whether a Diff was being\n"
    "                      merged into it, and the sums of its pages if the state file has them\n"
    "  -j, --json          as one JSON object\n"
    "  -h, --help          this text\n"
    "\n"
    "Exit status: 0 when nothing is wrong, 1 when something is (with a sentence each), 2 for\n"
    "wrong usage.\n";

static int misuse(const char *why)
{
    fprintf(stderr, "mayflyctl: %s. See mayflyctl snapshot --help.\n", why);
    return MISUSED;
}

static int inspect(const char *state_path, const char *mem_path, bool as_json)
{
    json_t *snapshot = inspect_snapshot(state_path, mem_path);
    bool fine = json_array_size(json_object_get(snapshot, "faults")) == 0;

    if (as_json) {
        json_dumpf(snapshot, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        inspect_print(stdout, snapshot);
    }
    json_decref(snapshot);
    return fine ? FINE : WRONG;
}

int ctl_snapshot(int argc, char **argv)
{
    static const struct option longs[] = {
        {"memory", required_argument, NULL, 'm'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *mem_path = NULL;
    bool as_json = false;
    int c;

    while ((c = getopt_long(argc, argv, "m:jh", longs, NULL)) != -1) {
        switch (c) {
        case 'm':
            mem_path = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return FINE;
        default:
            return misuse("that is no option of mine");
        }
    }
    if (argc - optind != 2 || strcmp(argv[optind], "inspect") != 0)
        return misuse("`inspect` and one state file are needed");
    return inspect(argv[optind + 1], mem_path, as_json);
}
