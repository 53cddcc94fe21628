# SPDX-License-Identifier: Apache-2.0
"""Live forks of a tiny guest on this machine's KVM, in wall time, beside a program of bare ioctls."""

import statistics
import subprocess

from common import MAYFLY, Row, fail, guest, kvm_kind, say

MIB = 128
FORKS, ROUNDS = 6, 3
FIGURES = ("parent stopped", "the child's first byte", "the parent's next 8 MiB of writes")
# With transparent huge pages and without: what is wanted of each figure.
REACH = {True: (0.8, 1.8, None), False: (1.6, 2.8, None)}


def forks(huge, *words):
    run = subprocess.run([guest("bench") + "/forks", "huge" if huge else "small", *map(str, words)],
                         text=True, stdout=subprocess.PIPE, check=False, timeout=120)
    if run.returncode:
        fail(f"forks ended with status {run.returncode}")
    return [line.split() for line in run.stdout.splitlines()]


def measure(huge, work):
    """Two lists of (stopped, child, writes): of the monitor, of the floor; and its huge pages in KiB."""
    elf = guest("tiny") + "/tiny.elf"
    mayfly, floor, huge_kib = [], [], 0
    for _ in range(ROUNDS):
        for word, *numbers in forks(huge, FORKS, MIB, work, elf, MAYFLY, "--level", "Error"):
            if word == "huge":
                huge_kib = int(numbers[0])
            else:
                mayfly.append([float(n) for n in numbers])
        floor += [[float(n) for n in numbers] for _, *numbers in forks(huge, "floor", FORKS, MIB, elf)]
    return mayfly, floor, huge_kib


def row_fork(_, work):
    if kvm_kind() == "none":
        say("fork: left out, /dev/kvm does not open here")
        return []
    say("fork: of a tiny guest on this machine's KVM")
    rows = []
    for huge in (True, False):
        mayfly, floor, huge_kib = measure(huge, work)
        pages = "huge pages" if huge else "pages of 4 KiB"
        for i, figure in enumerate(FIGURES):
            values = sorted(sample[i] for sample in mayfly)
            rows.append(Row(f"live fork, {MIB} MiB touched, {pages}: {figure}", "this machine's KVM, wall",
                            statistics.median(values), "ms", REACH[huge][i],
                            {"floor": statistics.median(sample[i] for sample in floor)},
                            f"slowest of {len(values)}: {values[-1]:.2f}; {huge_kib >> 10} MiB in huge pages",
                            "ci/bench --only fork"))
    return rows
