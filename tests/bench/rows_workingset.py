# SPDX-License-Identifier: Apache-2.0
"""Loads with a recorded working set, the memory file not in the page cache, in the lab."""

from common import Row, lab, say
from rows_snapshot import WHERE, column, snapshot_files


def row_workingset(_, __):
    say("workingset: loads from a cold page cache in the lab, on its instruction clock")
    out = lab("lab-workingset.sh", snapshot_files(), "--icount")
    rows = []
    for word, figure in (("waiting", "load call to the guest's answer, page cache dropped, with a working set"),
                         ("fresh", "exec, load, to that answer, the same")):
        value, without = column(out, "with", word, 1), column(out, "without", word, 1)
        rows.append(Row(figure, WHERE, value, "virtual ms", 0.5 * without if word == "waiting" else None,
                        {"without it": without}, f"{value / without:.2f} of the same without it",
                        "ci/bench --only workingset"))
    prefetched, touched = column(out, "pages", "prefetched"), column(out, "pages", "touched")
    rows.append(Row("pages that the working set brings in", "lab", prefetched, "", 1.3 * touched,
                    {"pages touched": touched}, f"{prefetched / touched:.2f} of those that the guest touched",
                    "ci/bench --only workingset"))
    return rows
