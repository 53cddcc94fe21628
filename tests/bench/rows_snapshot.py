# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a Linux guest, in the lab."""

import statistics

from common import Row, fail, guest, lab, recorded, say

WHERE = "lab, instruction clock"


def snapshot_files():
    kernel, init, bench = guest("kernel-reference"), guest("init"), guest("bench")
    return [f"{kernel}/vmlinux", f"{init}/bench-init.cpio", f"{bench}:/root/bench"]


def column(out, section, word, index=0):
    """The median of a number of the lines of snaptime that begin with this word."""
    values = [float(line.split()[1 + index]) for line in out[section] if line.split()[:1] == [word]]
    if not values:
        fail(f"no '{word}' in the snapshot figures of {section}:\n" + "\n".join(out[section]))
    return statistics.median(values)


def per_dirty_mib(out, section):
    """What a Diff of a guest that has written to some MiB takes more than that of an idle one."""
    (idle, idle_mib), (touched, touched_mib) = [
        (column(out, section, word), column(out, section, word, 1)) for word in ("diff", "diff-touched")]
    return (touched - idle) / (touched_mib - idle_mib)


def row_snapshot(_, __):
    say("snapshot: created and loaded in the lab, on its instruction clock")
    out = lab("lab-snapshot.sh", snapshot_files(), "--icount")

    def row(figure, word, key, reach, index=0, note="", **peers):
        peers |= ({"Firecracker": column(out, "firecracker", word, index)} if "firecracker" in out
                  else recorded(key))
        return Row(figure, WHERE, column(out, "mayfly", word, index), "virtual ms", reach, peers, note,
                   "ci/bench --only snapshot")

    def prefetched(word, figure, reach):
        return Row(figure, WHERE, column(out, "prefetch", word, 1), "virtual ms", reach, {},
                   f"{column(out, 'faults with prefetch', 'each'):.0f} nested page faults",
                   "ci/bench --only snapshot")

    def background(word, figure, reach):
        return Row(figure, WHERE, column(out, "background", word), "virtual ms", reach, {}, "",
                   "ci/bench --only snapshot")

    warm = column(out, "mayfly", "warm")
    return [row("load call to the guest's answer over vsock, waiting process, 128 MiB", "waiting",
                "load answer", 1.6, 1, f"the call takes {column(out, 'mayfly', 'waiting'):.2f} of it; "
                f"{column(out, 'faults', 'each'):.0f} nested page faults with the next connection's"),
            row("the next connection after it", "waiting", "load warm", 1.3 * warm, 2,
                "the floor is the same of the guest before its snapshot", floor=warm),
            row("exec, load, to that answer", "fresh", "exec answer", 3.4, 1),
            prefetched("waiting", "load call to that answer, with a recorded working set", None),
            prefetched("fresh", "exec, load, to that answer, the same", 3.0),
            row("full snapshot of a 128 MiB guest, the create call", "full", "full", 65),
            row("diff snapshot of an idle guest, from pause to resumption", "diff", "diff",
                0.9 + 0.7 * column(out, "mayfly", "diff", 1), 0,
                f"{column(out, 'mayfly', 'diff', 1):.2f} MiB; wanted 0.9 and 0.7 for each"),
            Row("the same for each MiB more that is dirty", WHERE, per_dirty_mib(out, "mayfly"), "virtual ms", 0.7,
                {"Firecracker": per_dirty_mib(out, "firecracker")} if "firecracker" in out else {}, "",
                "ci/bench --only snapshot"),
            background("full", "full snapshot written in the background, from pause to resumption", 2.5),
            # 0.9 and the fork, which is in the figure above, too.
            background("diff", "diff snapshot of an idle guest in the background, the same", 2.5)]
