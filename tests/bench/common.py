# SPDX-License-Identifier: Apache-2.0
"""What the rows of the benchmark share: the row itself, guests, labs, monitors, recorded peers."""

import dataclasses
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
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
    "tcp out": 1488, "tcp in": 1695, "tcp rtt": 123, "udp": 13.2,
    "vsock rtt": 136, "vsock connect": 366, "vsock to guest": 2726, "vsock to host": 1844,
    "load answer": 5.6, "load warm": 0.27, "exec answer": 7.7, "full": 217, "diff": 3.0,
    "byte": 12.6, "exec byte": 14.5, "clones 2": 521, "clones 4": 419, "clone dirty": 0.54,
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


BEGAN = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - BEGAN:4.0f} s] {text}", file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"ci/bench: {text}")


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


def recorded(key):
    """The peer of a row whose Firecracker was measured earlier."""
    return {"Firecracker (recorded)": RECORDED[key]}


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
        """Of all mappings but the guest's memory, which is the one of 64 MiB or more, and one of up to
        4 MiB right below it: its first pages, which ask for no huge page."""
        total = size = counted = below = 0
        end = None
        with open(f"/proc/{self.process.pid}/smaps", encoding="ascii") as f:
            for line in f:
                word, _, rest = line.partition(":")
                if "-" in line.split()[0]:
                    begin, above = line.split()[0].split("-")
                    below = counted if begin == end and size <= 4096 else 0
                    end, counted = above, 0
                elif word == "Size":
                    size = int(rest.split()[0])
                    total -= below if size >= 64 * 1024 else 0
                elif word == "Private_Dirty" and size < 64 * 1024:
                    counted = int(rest.split()[0])
                    total += counted
        return total


def kvm_kind():
    return subprocess.run([os.path.join(ROOT, "ci/kvm-kind")], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()
