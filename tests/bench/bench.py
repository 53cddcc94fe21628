# SPDX-License-Identifier: Apache-2.0
"""Measures the figures of README's table; see ci/bench --help.

A row function returns the rows of the table it stands for. What is printed was measured in this
run, except peers marked "recorded", which were measured in the same lab with the same kernel.
"""

import argparse
import dataclasses
import json
import sys
import tempfile

import table
from rows_api import row_api
from rows_blk import row_blk
from rows_boot import row_boot, row_exits, row_tiny
from rows_clones import row_clones
from rows_fork import row_fork
from rows_memory import row_binary, row_devices, row_memory
from rows_net import row_net
from rows_snapshot import row_snapshot
from rows_vsock import row_vsock
from rows_wire import row_wire
from rows_workingset import row_workingset

# A line a row, so that two new ones do not meet.
ROWS = {
    "boot": row_boot,
    "exits": row_exits,
    "tiny": row_tiny,
    "blk": row_blk,
    "net": row_net,
    "vsock": row_vsock,
    "wire": row_wire,
    "snapshot": row_snapshot,
    "workingset": row_workingset,
    "clones": row_clones,
    "fork": row_fork,
    "api": row_api,
    "memory": row_memory,
    "devices": row_devices,
    "binary": row_binary,
}


def main():
    parser = argparse.ArgumentParser(prog="ci/bench")
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as work:
        for name in options.only or ROWS:
            rows += ROWS[name](options, work)
    (table.print_markdown if options.markdown else table.print_text)(rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump([dataclasses.asdict(row) for row in rows], f, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
