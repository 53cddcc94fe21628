# SPDX-License-Identifier: Apache-2.0
"""The network device under Linux, in the lab."""

import re

from common import (BOOT_ARGS, Row, boot_config, fail, guest, lab, qemu_files, recorded, say,
                    write_json)

UDP_PACKETS = 4000  # as many as bench-init sends


def row_net(_, work):
    say("net: TCP and UDP over a tap in the lab, on its instruction clock")
    kernel, init, bench = guest("kernel-reference"), guest("init"), guest("bench")
    config = boot_config("vmlinux", "bench-init.cpio", BOOT_ARGS + " bench=net", 128)
    config["network-interfaces"] = [{"iface_id": "eth0", "host_dev_name": "tap0"}]
    out = lab("lab-net.sh", [f"{kernel}/vmlinux", f"{init}/bench-init.cpio", f"{bench}:/root/bench",
                             write_json(work, "net.json", config)] + qemu_files(work), "--icount")

    def of(section, words):
        for line in out[section]:
            found = re.match(re.escape(words) + r" ([0-9.]+)", line)
            if found:
                return float(found[1])
        fail(f"no '{words}' in the network figures of {section}:\n" + "\n".join(out[section]))

    def udp(section):
        """Microseconds of each packet that came out of the guest."""
        return of(section, "NET udp tx 64B us/pkt") * UDP_PACKETS / of(section, "accepted")

    def row(figure, key, reach, value, note=""):
        peers = {"Firecracker": value("firecracker")} if "firecracker" in out else recorded(key)
        if "qemu" in out:
            peers["QEMU microvm"] = value("qemu")
        return Row(figure, "lab, instruction clock", value("mayfly"), "virtual us", reach, peers, note,
                   "ci/bench --only net")

    lost = UDP_PACKETS - of("mayfly", "accepted")
    return [row("net TCP guest->host, per MiB", "tcp out", 1200,
                lambda name: of(name, "NET tcp guest->host us/MiB")),
            row("net TCP host->guest, per MiB", "tcp in", 1300,
                lambda name: of(name, "NET tcp host->guest us/MiB")),
            row("net TCP 1-byte round trip", "tcp rtt", 95, lambda name: of(name, "NET tcp rtt us")),
            row("net UDP 64 B transmit, per packet that the tap accepted", "udp", 8.5, udp,
                f"{lost:.0f} of {UDP_PACKETS} lost before the tap")]
