# SPDX-License-Identifier: Apache-2.0
"""Clones of a tiny guest on this machine's KVM, in wall time: how soon they run, what they hold."""

import os
import statistics
import subprocess

from common import MAYFLY, Row, fail, firecracker, guest, kvm_kind, recorded, say

WHERE = "this machine's KVM, wall"
CLONES = 100
LOADS, LOAD_ROUNDS = 5, 8
MANY_ROUNDS = 5
WAIT_US = 20000  # after which a process has made ready what it makes ready while it waits


def program(*words):
    run = subprocess.run([guest("bench") + "/clones", *map(str, words)], text=True,
                         stdout=subprocess.PIPE, check=False, timeout=120)
    if run.returncode:
        fail(f"clones {words[0]} ended with status {run.returncode}")
    return run.stdout


def monitors():
    """The monitors that are measured, by name, as commands."""
    commands = {"mayfly": [MAYFLY, "--level", "Error"]}
    if firecracker():
        commands["Firecracker"] = [firecracker(), "--no-seccomp", "--level", "Error"]
    return commands


def make_templates(work):
    """A snapshot of the tiny guest by each monitor, of its own; their directories."""
    directories = {}
    for name, command in monitors().items():
        directories[name] = os.path.join(work, f"template-{name}")
        os.mkdir(directories[name])
        program("template", directories[name], guest("tiny") + "/loop-min.elf", *command)
    os.sync()  # a page that is not on the disk yet counts as dirty
    return directories


def floor_command():
    return [guest("bench") + "/floor", guest("tiny") + "/loop-min.elf"]


def pairs(text):
    return [[float(word) for word in line.split()] for line in text.splitlines()]


def named(text):
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines()}


def peers_of(medians, key):
    """Firecracker's figure of this run, else the recorded one, beside the floor."""
    peers = {name: value for name, value in medians.items() if name != "mayfly"}
    return peers if "Firecracker" in peers else peers | recorded(key)


def rows_load(templates, work):
    """From the request, and from exec, to the first byte of a clone that is alone."""
    waiting = {name: [] for name in [*templates, "floor"]}
    fresh = {name: [] for name in [*templates, "floor"]}
    floor, memory = guest("bench") + "/shellfloor", os.path.join(work, "floor.mem")
    subprocess.run([floor, "template", memory, guest("tiny") + "/loop-min.elf"], check=True)
    for _ in range(LOAD_ROUNDS):
        waiting["floor"] += [call for call, _ in pairs(program("poke", LOADS, WAIT_US, floor, "load", memory))]
        fresh["floor"] += [exec_ for _, exec_ in pairs(program("poke", LOADS, 0, floor, "load", memory))]
        for name, command in monitors().items():
            text = program("load", LOADS, WAIT_US, templates[name], *command)
            waiting[name] += [call for call, _ in pairs(text)]
            text = program("load", LOADS, 0, templates[name], *command)
            fresh[name] += [exec_ for _, exec_ in pairs(text)]
    rows = []
    for figure, times, key, reach, limit in (
            ("load call to a tiny guest's first byte, waiting process", waiting, "byte", 0.45, ", wanted 3"),
            ("exec, load, to that byte", fresh, "exec byte", 2.6, "")):
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows.append(Row(figure, WHERE, medians["mayfly"], "ms", reach, peers_of(medians, key),
                        f"{medians['mayfly'] / medians['floor']:.2f} x the floor{limit}; slowest of "
                        f"{len(times['mayfly'])}: {max(times['mayfly']):.2f}", "ci/bench --only clones"))
    return rows


def rows_many(templates):
    """A hundred clones until all of them run."""
    rows, dirty = [], {}
    for at_once in (2, 4):
        times = {name: [] for name in [*templates, "floor"]}
        for _ in range(MANY_ROUNDS):
            figures = named(program("floor", CLONES, at_once, *floor_command()))
            times["floor"].append(figures["all"])
            for name, command in monitors().items():
                figures = named(program("many", CLONES, at_once, templates[name], *command))
                times[name].append(figures["all"])
                dirty[name] = figures["dirty"]
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows.append(Row(f"{CLONES} clones of a tiny guest, {at_once} at a time, to the last one's first byte",
                        WHERE, medians["mayfly"], "ms", 1.6 * medians["floor"],
                        peers_of(medians, f"clones {at_once}"),
                        f"{medians['mayfly'] / medians['floor']:.2f} x the floor, wanted 1.6",
                        "ci/bench --only clones"))
    rows.append(Row("Private_Dirty of each of them", "this machine", dirty["mayfly"] / 1024, "MiB", 0.25,
                    peers_of({name: kib / 1024 for name, kib in dirty.items()}, "clone dirty"), "",
                    "ci/bench --only clones"))
    return rows


def row_account(templates):
    """A hundred that run on, all at once: every private page belongs to somebody."""
    kib = named(program("account", CLONES, 4, templates["mayfly"], *monitors()["mayfly"]))
    rollup = kib.pop("rollup")
    if sum(kib.values()) != rollup:
        fail(f"of {rollup} KiB of private pages only {sum(kib.values())} have an owner")
    parts = ", ".join(f"{value / CLONES:.0f} {kind}" for kind, value in kib.items() if value)
    return Row(f"private pages of {CLONES} clones that run at once", "this machine", rollup / 1024, "MiB",
               0.25 * CLONES, {}, f"KiB of each: {parts}", "ci/bench --only clones")


def row_clones(_, work):
    if kvm_kind() == "none":
        say("clones: left out, /dev/kvm does not open here")
        return []
    say("clones: of a tiny guest on this machine's KVM")
    templates = make_templates(work)
    return rows_load(templates, work) + rows_many(templates) + [row_account(templates)]
