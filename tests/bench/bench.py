# SPDX-License-Identifier: Apache-2.0
"""Measures the figures of README's table; see ci/bench --help.

A row function returns the rows of the table it stands for. What is printed was measured in this
run, except peers marked "recorded", which were measured in the same lab with the same kernel.
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MAYFLY = os.path.join(ROOT, "build/mayfly")
QEMU = "/usr/bin/qemu-system-x86_64"
QEMU_DATA = "/usr/share/qemu"

# Firecracker 1.17-dev without seccomp filter, for rows where it is not on the PATH.
RECORDED = {
    "pid1": 35.1, "reaped": 64.0, "exits": 1515, "user": 131,
    "Sync read": 53.0, "Sync write": 55.8, "Async read": 57.4, "Async write": 79.6,
    "read32": 12.2, "mib": 2624.0, "idle": 236, "booted": 352,
}

BOOT_ARGS = "console=ttyS0 quiet reboot=k panic=-1 8250.nr_uarts=1"


@dataclasses.dataclass
class Row:
    figure: str
    where: str
    value: float
    unit: str
    reach: float = None  # the target, where there is one: at most this
    peers: dict = dataclasses.field(default_factory=dict)
    note: str = ""
    command: str = ""

    def missed(self):
        return self.reach is not None and self.value > self.reach


# ------------------------------------------------------------------------------------------------
# Running things


def say(text):
    print(f"[{time.monotonic() - BEGAN:4.0f} s] {text}", file=sys.stderr, flush=True)


def guest(target):
    return subprocess.run([os.path.join(ROOT, "guest/build"), target], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def write_json(directory, name, value):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f)
    return path


def boot_config(kernel, initrd, args=BOOT_ARGS, mem=64, drives=()):
    return {"boot-source": {"kernel_image_path": kernel, "initrd_path": initrd, "boot_args": args},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": mem}, "drives": list(drives)}


def firecracker():
    return shutil.which("firecracker")


def lab(script, files, *options, env=(), limit=600):
    """Runs a script of this folder in the lab; its output, by the sections that it marks with ==."""
    argv = [os.path.join(ROOT, "ci/lab"), "run", "--timeout", str(limit), *options]
    for path in [os.path.join(HERE, script), MAYFLY, *files]:
        argv += ["--file", path]
    if firecracker():
        argv += ["--file", firecracker() + ":/root/firecracker"]
    for pair in env:
        argv += ["--env", pair]
    run = subprocess.run([*argv, "--", "sh", script], stdout=subprocess.PIPE, check=False)
    if run.returncode:
        sys.exit(f"ci/bench: {script} ended with status {run.returncode} in the lab")
    sections, lines = {}, []
    for line in run.stdout.decode(errors="replace").splitlines():
        if line.startswith("== "):
            lines = sections.setdefault(line[3:], [])
        else:
            lines.append(line)
    return sections


def medians(lines):
    """(marker, exit) medians of stopwatch's lines."""
    runs = [re.fullmatch(r"marker (\S+) exit (\S+) status (\d+)", line) for line in lines]
    if not runs or not all(runs) or any(float(run[1]) < 0 for run in runs):
        sys.exit("ci/bench: a boot did not come to its marker:\n" + "\n".join(lines))
    return (statistics.median(float(run[1]) for run in runs),
            statistics.median(float(run[2]) for run in runs))


def first_line_of_fc(key):
    return {"Firecracker (recorded)": RECORDED[key]}


# ------------------------------------------------------------------------------------------------
# Rows


def qemu_files(work):
    """QEMU and what its microvm needs to start, for the lab; nothing where it is not installed."""
    if not os.path.exists(QEMU):
        return []
    roms = os.path.join(work, "qemu")
    os.makedirs(roms, exist_ok=True)
    for name in ("bios-microvm.bin", "qboot.rom", "pvh.bin", "linuxboot_dma.bin", "kvmvapic.bin"):
        if os.path.exists(f"{QEMU_DATA}/{name}"):
            shutil.copy(f"{QEMU_DATA}/{name}", roms)
    return [QEMU, f"{roms}:/root/qemu"]


def row_boot(options, work):
    say("boot: the reference kernel in the lab, on its instruction clock")
    kernel, init, bench = guest("kernel-reference"), guest("init"), guest("bench")
    files = [f"{kernel}/vmlinux", f"{init}/init.cpio", f"{bench}:/root/bench",
             write_json(work, "boot.json", boot_config("vmlinux", "init.cpio"))]
    out = lab("lab-boot.sh", files + qemu_files(work), "--icount", env=[f"RUNS={options.runs}"])
    times = {name: medians(lines) for name, lines in out.items()}
    rows = []
    for i, (key, figure, reach, limit) in enumerate((
            ("pid1", "exec to PID 1, reference kernel and initramfs, 64 MiB", 33, 1.05),
            ("reaped", "exec to the process reaped", 46, None))):
        floor, value = times["floor"][i], times["mayfly"][i]
        peers = {"floor": floor}
        peers |= {"Firecracker": times["firecracker"][i]} if "firecracker" in times else first_line_of_fc(key)
        if "qemu" in times:
            peers["QEMU microvm"] = times["qemu"][i]
        note = f"{value / floor:.3f} of the floor" + (f", wanted {limit}" if limit else "")
        rows.append(Row(figure, "lab, instruction clock", value, "virtual ms", reach, peers, note,
                        "ci/bench --only boot"))
    return rows


def row_exits(_, work):
    say("exits: every exit of one boot")
    kernel, init, bench = guest("kernel-reference"), guest("init"), guest("bench")
    out = lab("lab-exits.sh", [f"{kernel}/vmlinux", f"{init}/init.cpio", f"{bench}:/root/bench",
                               write_json(work, "boot.json", boot_config("vmlinux", "init.cpio"))],
              "--icount")
    counts = {name: [line.split() for line in lines] for name, lines in out.items()}

    def of(name, word):
        return next(int(fields[1]) for fields in counts[name] if fields[0] == word)

    reasons = sorted(((int(f[2]), f[1]) for f in counts["mayfly"] if f[0] == "reason"), reverse=True)
    rows = []
    for word, key, figure, reach in (("all", "exits", "exits in that life", 1300),
                                     ("user", "user", "of these to user space", 135)):
        peers = {"floor": of("floor", word)}
        peers |= ({"Firecracker": of("firecracker", word)} if "firecracker" in counts
                  else first_line_of_fc(key))
        note = ", ".join(f"{n} {reason}" for n, reason in reasons) if word == "all" else ""
        rows.append(Row(figure, "lab, tracepoints", of("mayfly", word), "", reach, peers, note,
                        "ci/bench --only exits"))
    return rows


def row_tiny(options, work):
    if kvm_kind() == "none":
        say("tiny: left out, /dev/kvm does not open here")
        return []
    say("tiny: a guest without a kernel on this machine's KVM")
    elf, bench = guest("tiny") + "/hello-min.elf", guest("bench")
    config = {"boot-source": {"kernel_image_path": elf},
              "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}, "drives": []}
    path = write_json(work, "tiny.json", config)
    commands = {"floor": [f"{bench}/floor", elf],
                "mayfly": [MAYFLY, "--no-api", "--config-file", path]}
    if firecracker():
        commands["Firecracker"] = [firecracker(), "--no-api", "--no-seccomp", "--config-file", path]
    lines = {name: [] for name in commands}
    for _ in range(4 * options.runs + 1):  # interleaved, since a machine's mood changes
        for name, command in commands.items():
            run = subprocess.run([f"{bench}/stopwatch", "1", "M\n", *command], text=True,
                                 stdout=subprocess.PIPE, check=True, timeout=60)
            lines[name] += run.stdout.splitlines()
    times = {name: medians(runs[1:])[0] for name, runs in lines.items()}
    peers = {name: value for name, value in times.items() if name != "mayfly"}
    if not firecracker():
        peers["Firecracker (recorded)"] = "4.4 x its floor"
    return [Row("exec to the first byte of a tiny guest", "this machine's KVM, wall", times["mayfly"],
                "ms", 1.3 * times["floor"], peers, f"{times['mayfly'] / times['floor']:.2f} x the floor",
                "ci/bench --only tiny")]


def row_blk(_, work):
    say("blk: block requests in the lab, on its instruction clock")
    kernel, init = guest("kernel-reference"), guest("init")
    drive = {"drive_id": "d", "path_on_host": "/mnt/disk", "is_root_device": False,
             "is_read_only": False, "io_engine": "@ENGINE@"}
    config = boot_config("vmlinux", "bench-init.cpio", BOOT_ARGS + " bench=blk", 128, [drive])
    out = lab("lab-blk.sh", [f"{kernel}/vmlinux", f"{init}/bench-init.cpio",
                             write_json(work, "blk.json", config)] + qemu_files(work), "--icount")

    def of(section, words):
        for line in out[section]:
            if line.startswith(words + " "):
                return float(line.split()[-1])
        sys.exit(f"ci/bench: no '{words}' in the block figures of {section}:\n" + "\n".join(out[section]))

    def row(figure, words, engine, key, reach, unit="virtual us"):
        fc = f"firecracker {engine}"
        peers = ({"Firecracker": of(fc, words)} if fc in out
                 else first_line_of_fc(key) if key in RECORDED else {})
        if "qemu" in out:
            peers["QEMU microvm"] = of("qemu", words)
        return Row(f"{figure}, {engine}", "lab, instruction clock", of(f"mayfly {engine}", words), unit,
                   reach, peers, f"{of(f'mayfly {engine}', 'workers'):.0f} io-wq workers created",
                   "ci/bench --only blk")

    return [row("blk 4 KiB read, depth 1", "BLK qd1 4k read", "Sync", "Sync read", 45),
            row("blk 4 KiB read, depth 1", "BLK qd1 4k read", "Async", "Async read", 45),
            row("blk 4 KiB write, depth 1", "BLK qd1 4k write", "Sync", "Sync write", 50),
            row("blk 4 KiB write, depth 1", "BLK qd1 4k write", "Async", "Async write", 70),
            row("blk 4 KiB read, depth 32", "BLK qd32 4k read", "Sync", "read32", 8),
            row("blk 4 KiB read, depth 32", "BLK qd32 4k read", "Async", "read32", 8),
            row("blk 4 KiB write, depth 32", "BLK qd32 4k write", "Sync", "", None),
            row("blk 4 KiB write, depth 32", "BLK qd32 4k write", "Async", "", None),
            row("blk 1 MiB read, per MiB", "BLK seq 1M read", "Sync", "mib", 550),
            row("blk 1 MiB read, per MiB", "BLK seq 1M read", "Async", "mib", 550),
            row("blk 1 MiB write, per MiB", "BLK seq 1M write", "Sync", "", None),
            row("blk 1 MiB write, per MiB", "BLK seq 1M write", "Async", "", None)]


def row_memory(_, work):
    if kvm_kind() == "none":
        say("memory: left out, /dev/kvm does not open here")
        return []
    say("memory: private dirty pages of monitors on this machine")
    # The pages of a program that was just linked count as dirty until they are on the disk.
    os.sync()
    elf = guest("tiny") + "/loop-min.elf"
    config = write_json(work, "loop.json",
                        {"boot-source": {"kernel_image_path": elf},
                         "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}, "drives": []})
    with Monitor(work, "idle") as idle:
        idle_kib = idle.private_dirty_kib()
    with Monitor(work, "first", "--config-file", config) as first, \
            Monitor(work, "second", "--config-file", config):
        time.sleep(1)
        booted_kib = first.private_dirty_kib()
    return [Row("Private_Dirty beside guest memory, idle before configuration", "this machine", idle_kib,
                "KiB", 160, first_line_of_fc("idle"), "", "ci/bench --only memory"),
            Row("Private_Dirty beside guest memory, booted, a second monitor running", "this machine",
                booted_kib, "KiB", 260, first_line_of_fc("booted"), "", "ci/bench --only memory")]


class Monitor:
    """A running monitor with an API socket."""

    def __init__(self, work, name, *args):
        self.socket = os.path.join(work, name + ".sock")
        self.process = subprocess.Popen([MAYFLY, "--api-sock", self.socket, *args],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def __enter__(self):
        deadline = time.monotonic() + 10
        while not os.path.exists(self.socket):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.__exit__()
                sys.exit("ci/bench: a monitor did not start")
            time.sleep(0.01)
        time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def private_dirty_kib(self):
        """Of all mappings but the guest's memory, which is the one of 64 MiB or more."""
        total, size = 0, 0
        with open(f"/proc/{self.process.pid}/smaps", encoding="ascii") as f:
            for line in f:
                word, _, rest = line.partition(":")
                if word == "Size":
                    size = int(rest.split()[0])
                elif word == "Private_Dirty" and size < 64 * 1024:
                    total += int(rest.split()[0])
        return total


def row_binary(_, __):
    return [Row("the program, static and stripped", "", os.path.getsize(MAYFLY) / 2**20, "MiB", 2, {}, "",
                "ls -l build/mayfly")]


# ------------------------------------------------------------------------------------------------
# The table


def kvm_kind():
    return subprocess.run([os.path.join(ROOT, "ci/kvm-kind")], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def number(value):
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def peers_text(row):
    return "; ".join(f"{name} {number(value)}" for name, value in row.peers.items())


def print_text(rows):
    for row in rows:
        reach = "" if row.reach is None else f"   wanted: at most {number(row.reach)}"
        mark = "   MISSED" if row.missed() else ""
        print(f"{row.figure}: {number(row.value)} {row.unit}{reach}{mark}")
        for extra in (peers_text(row), row.note):
            if extra:
                print(f"    {extra}")
        print(f"    by {row.command}{', ' + row.where if row.where else ''}")


def print_markdown(rows):
    print("| figure | Mayfly | wanted | floor | Firecracker | QEMU microvm | measured by |\n"
          "|---|---|---|---|---|---|---|")
    for row in rows:
        recorded = row.peers.get("Firecracker (recorded)")
        fc = f"{number(recorded)} (recorded)" if recorded is not None else row.peers.get("Firecracker")
        peers = [row.peers.get("floor"), fc, row.peers.get("QEMU microvm")]
        cells = [row.figure, f"{number(row.value)} {row.unit}".strip(),
                 "" if row.reach is None else number(row.reach),
                 *("" if value is None else number(value) for value in peers),
                 f"`{row.command}`" + (f", {row.where}" if row.where else "")]
        print("| " + " | ".join(cells) + " |")


ROWS = {"boot": row_boot, "exits": row_exits, "tiny": row_tiny, "blk": row_blk, "memory": row_memory,
        "binary": row_binary}


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
    (print_markdown if options.markdown else print_text)(rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump([dataclasses.asdict(row) for row in rows], f, indent=2)
    return 0


BEGAN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
