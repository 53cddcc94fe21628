# SPDX-License-Identifier: Apache-2.0
"""The socket device under Linux, in the lab."""

import statistics

from common import BOOT_ARGS, Row, boot_config, fail, guest, lab, recorded, say, write_json


def row_vsock(_, work):
    say("vsock: streams and connects in the lab, on its instruction clock")
    kernel, init, bench = guest("kernel-reference"), guest("init"), guest("bench")
    config = boot_config("vmlinux", "bench-init.cpio", BOOT_ARGS + " bench=vsock", 128)
    config["vsock"] = {"guest_cid": 3, "uds_path": "v.sock"}
    out = lab("lab-vsock.sh", [f"{kernel}/vmlinux", f"{init}/bench-init.cpio", f"{bench}:/root/bench",
                               write_json(work, "vsock.json", config)], "--icount")

    def of(section, words):
        values = [float(line.split()[-1]) for line in out[section] if line.startswith(words + " ")]
        if not values:
            fail(f"no '{words}' in the vsock figures of {section}:\n" + "\n".join(out[section]))
        return statistics.median(values)

    def row(figure, words, key, reach, **more):
        peers = ({"Firecracker": of("firecracker", words)} if "firecracker" in out
                 else recorded(key)) | more
        return Row(figure, "lab, instruction clock", of("mayfly", words), "virtual us", reach, peers,
                   "", "ci/bench --only vsock")

    alone = {"a Unix socket between two processes": of("host", "VSOCK alone")}
    return [row("vsock 1-byte round trip", "VSOCK rtt", "vsock rtt", 90),
            row("vsock CONNECT + echo + close", "VSOCK connect+echo", "vsock connect", 230),
            row("vsock host->guest, per MiB", "VSOCK host->guest", "vsock to guest", 1300, **alone),
            row("vsock guest->host, per MiB", "VSOCK guest->host", "vsock to host", 1000, **alone)]
