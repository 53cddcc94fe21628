# SPDX-License-Identifier: Apache-2.0
"""Data paths in wall time: a guest that only polls, on this machine's KVM, beside QEMU microvm and
the host's own cost of the same system calls. Monitors take turns, since a machine's mood changes."""

import os
import re
import statistics
import subprocess
import time

from common import MAYFLY, QEMU, Row, fail, guest, kvm_kind, say, write_json

TAP = "mayflybench0"

# figure, the guest's words, the host's own words, Firecracker's time over QEMU's as recorded.
NET = (("frame there and back, 64 B", "NET round trip 64 B", None, 64.3 / 28.3),
       ("frame guest->host, 64 B", "NET out 64 B", "COST frame out 64 B", 1606 / 1632),
       ("frame guest->host, 1500 B", "NET out 1500 B", "COST frame out 1500 B", 1565 / 1587),
       ("frame guest->host, 60 KiB TSO", "NET out 60 KiB", None, 23350 / 22350),
       ("frame host->guest, 64 B", "NET in 64 B", None, 536 / 722),
       ("frame host->guest, 1500 B", "NET in 1500 B", None, 479 / 652),
       ("frame host->guest, 60 KiB TSO", "NET in 60 KiB", None, 3310 / 2920))
BLK = (("disk 4 KiB read, depth 1", "BLK 4k depth1 read", "COST disk read 4 KiB", 37.1 / 24.7),
       ("disk 4 KiB write, depth 1", "BLK 4k depth1 write", "COST disk write 4 KiB", None),
       ("disk 4 KiB read, depth 32", "BLK 4k depth32 read", "COST disk read 4 KiB", 2.71 / 4.32),
       ("disk 4 KiB write, depth 32", "BLK 4k depth32 write", "COST disk write 4 KiB", None),
       ("disk 1 MiB read", "BLK 1M read", "COST disk read 1 MiB", 453 / 304),
       ("disk 1 MiB write", "BLK 1M write", "COST disk write 1 MiB", 554 / 335))
VSOCK = (("vsock there and back, 1 B", "VSOCK round trip 1 B", "COST socket round trip 1 B", None),
         ("vsock connect, echo, close", "VSOCK connect, echo, close", None, None),
         ("vsock guest->host, 1 MiB", "VSOCK out 1 MiB", None, None),
         ("vsock host->guest, 1 MiB", "VSOCK in 1 MiB", None, None))


class Tap:
    """A tap of this machine, up for as long as the rows are measured."""

    def __enter__(self):
        subprocess.run(["ip", "tuntap", "add", "dev", TAP, "mode", "tap"], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "del", TAP], check=False)


def times(text):
    """Microseconds an operation, by the words before them."""
    guest_lines = re.findall(r"^(.+) cycles/op \d+ us/op ([\d.]+)\s*$", text, re.M)
    host_lines = re.findall(r"^(COST .+) ([\d.]+)$", text, re.M)
    return {words: float(us) for words, us in guest_lines + host_lines}


def place_apart(monitor):
    """The guest's processor gets one of this machine's, everything else another: where both spin and
    wake each other, the scheduler's choice of the moment would outweigh the rest many times over."""
    everywhere = sorted(os.sched_getaffinity(0))
    deadline = time.monotonic() + 2
    while len(everywhere) > 1 and time.monotonic() < deadline and monitor.poll() is None:
        for tid in os.listdir(f"/proc/{monitor.pid}/task"):
            with open(f"/proc/{monitor.pid}/task/{tid}/comm", encoding="ascii") as name:
                if re.match(r"fc_vcpu 0|CPU 0/KVM", name.read()):
                    os.sched_setaffinity(int(tid), everywhere[:1])
                    return
        time.sleep(0.0005)


def on_the_second():
    everywhere = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, everywhere[1:2] or everywhere)


def run(command, helper=None):
    """The times that a guest prints, while a helper serves the other end."""
    peer = subprocess.Popen(helper, preexec_fn=on_the_second) if helper else None
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, preexec_fn=on_the_second) as monitor:
            place_apart(monitor)
            out, _ = monitor.communicate(timeout=120)
    finally:
        if peer:
            peer.kill()
            peer.wait()
    if " done" not in out:
        fail("a guest did not come to its end:\n" + out)
    return times(out)


def mayfly(work, name, args, **devices):
    config = {"boot-source": {"kernel_image_path": guest("tiny") + "/tiny.elf", "boot_args": args},
              "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}, "drives": []} | devices
    return [MAYFLY, "--no-api", "--config-file", write_json(work, name + ".json", config)]


def qemu(args, *devices):
    return [QEMU, "-M", "microvm,rtc=off,acpi=off,auto-kernel-cmdline=on,pit=off,pic=off", "-accel", "kvm",
            "-m", "128", "-smp", "1", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
            "-name", "guest,debug-threads=on",
            "-serial", "stdio", "-global", "virtio-mmio.force-legacy=false",
            "-kernel", guest("tiny") + "/tiny-pvh.elf", "-append", args, *devices]


def alternate(rounds, commands, helper=None):
    """Medians of each command's times; the first round only warms up."""
    runs = {name: [] for name in commands}
    for i in range(rounds + 1):
        for name, command in commands.items():
            result = run(command, helper)
            if i:
                runs[name].append(result)
    return {name: {words: statistics.median(one[words] for one in results if words in one)
                   for words in results[0]} for name, results in runs.items()}


def rows_of(table, measured, cost):
    rows = []
    for figure, words, host_words, ratio in table:
        peers, reach = {}, None
        if host_words:
            peers["floor"] = cost[host_words]
        if "qemu" in measured:
            peers["QEMU microvm"] = measured["qemu"][words]
            reach = min(1, ratio or 1) * measured["qemu"][words]
        if ratio:
            peers["Firecracker (recorded)"] = f"{ratio:.2f} x QEMU"
        rows.append(Row(figure, "this machine's KVM, wall", measured["mayfly"][words], "us", reach, peers,
                        "floor: the host's own system call" if host_words else "",
                        "ci/bench --only wire"))
    return rows


def disk_rows(options, work, args, cost, path):
    drive = {"drive_id": "d", "path_on_host": path, "is_root_device": False, "is_read_only": False}
    commands = {"mayfly": mayfly(work, "blk", args + "blk-bench", drives=[drive])}
    if os.path.exists(QEMU):
        commands["qemu"] = qemu(args + "blk-bench", "-device", "virtio-blk-device,drive=d", "-drive",
                                f"if=none,id=d,format=raw,file={path},aio=io_uring")
    return rows_of(BLK, alternate(options.runs, commands), cost)


def net_rows(options, work, args, cost):
    interface = {"iface_id": "n", "host_dev_name": TAP}
    commands = {"mayfly": mayfly(work, "net", args + "net-bench", **{"network-interfaces": [interface]})}
    if os.path.exists(QEMU):
        commands["qemu"] = qemu(args + "net-bench", "-device", "virtio-net-device,netdev=n", "-netdev",
                                f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off")
    helper = [guest("bench") + "/wire", "tap", TAP]
    return rows_of(NET, alternate(options.runs, commands, helper), cost)


def vsock_rows(options, work, args, cost):
    uds = os.path.join(work, "v.sock")
    command = mayfly(work, "vsock", args + "vsock-bench", vsock={"guest_cid": 3, "uds_path": uds})
    command = ["sh", "-c", f'rm -f {uds}; exec "$@"', "sh", *command]  # one PID throughout
    helper = [guest("bench") + "/wire", "vsock", uds + "_1024"]
    return rows_of(VSOCK, alternate(options.runs, {"mayfly": command}, helper), cost)


def row_wire(options, work):
    if kvm_kind() == "none":
        say("wire: left out, /dev/kvm does not open here")
        return []
    say("wire: data paths of a polling guest on this machine's KVM")
    bench = guest("bench")
    tsc = subprocess.run([f"{bench}/wire", "tsc"], check=True, text=True, stdout=subprocess.PIPE).stdout
    args = f"tsc_khz={tsc.strip()} tiny="
    disk = f"/dev/shm/mayfly-bench-{os.getpid()}"
    with open(disk, "wb") as f:
        f.write(os.urandom(1 << 20) * 64)
    try:
        with Tap():
            cost = times(subprocess.run([f"{bench}/hostcost", TAP, disk], check=True, text=True,
                                        stdout=subprocess.PIPE).stdout)
            return (disk_rows(options, work, args, cost, disk) + net_rows(options, work, args, cost) +
                    vsock_rows(options, work, args, cost))
    finally:
        os.unlink(disk)
