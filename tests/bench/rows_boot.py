# SPDX-License-Identifier: Apache-2.0
"""Boots: of Linux in the lab, of a guest without a kernel on this machine's KVM."""

import subprocess

from common import (MAYFLY, Row, boot_config, firecracker, guest, kvm_kind, lab, medians, qemu_files,
                    recorded, say, write_json)


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
        peers |= {"Firecracker": times["firecracker"][i]} if "firecracker" in times else recorded(key)
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
                  else recorded(key))
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
