# SPDX-License-Identifier: Apache-2.0
"""Block requests under Linux, in the lab."""

import os

from common import (BOOT_ARGS, MAYFLY, RECORDED, Row, boot_config, fail, guest, lab, qemu_files, recorded, say,
                    write_json)


def row_blk(_, work):
    say("blk: block requests in the lab, on its instruction clock")
    kernel, init = guest("kernel-reference"), guest("init")
    drive = {"drive_id": "d", "path_on_host": "/mnt/disk", "is_root_device": False,
             "is_read_only": False, "io_engine": "@ENGINE@"}
    config = boot_config("vmlinux", "bench-init.cpio", BOOT_ARGS + " bench=blk", 128, [drive])
    over = {place: dict(config, drives=[dict(drive, io_engine="Sync", overlay=overlay)])
            for place, overlay in (("memory", {"type": "Memory"}),
                                   ("file", {"type": "File", "path_on_host": "/mnt/overlay"}))}
    vhost = dict(config, drives=[{"drive_id": "d", "socket": "vhost.sock", "is_root_device": False}])
    out = lab("lab-blk.sh", [f"{kernel}/vmlinux", f"{init}/bench-init.cpio",
                             os.path.join(os.path.dirname(MAYFLY), "vhost-disk"),
                             write_json(work, "blk.json", config),
                             *[write_json(work, f"blk-{place}.json", over[place]) for place in over],
                             write_json(work, "blk-vhost.json", vhost)] + qemu_files(work), "--icount")

    def of(section, words):
        for line in out[section]:
            if line.startswith(words + " "):
                return float(line.split()[-1])
        fail(f"no '{words}' in the block figures of {section}:\n" + "\n".join(out[section]))

    def row(figure, words, engine, key, reach, unit="virtual us"):
        fc = f"firecracker {engine}"
        peers = ({"Firecracker": of(fc, words)} if fc in out
                 else recorded(key) if key in RECORDED else {})
        if "qemu" in out:
            peers["QEMU microvm"] = of("qemu", words)
        return Row(f"{figure}, {engine}", "lab, instruction clock", of(f"mayfly {engine}", words), unit,
                   reach, peers, f"{of(f'mayfly {engine}', 'workers'):.0f} io-wq workers created",
                   "ci/bench --only blk")

    return [row("blk 4 KiB read, depth 1", "BLK qd1 4k read", "Sync", "Sync read", 45),
            row("blk 4 KiB read, depth 1", "BLK qd1 4k read", "Async", "Async read", 45),
            row("blk 4 KiB read, depth 1", "BLK qd1 4k read", "vhost-user", "", None),
            row("blk 4 KiB write, depth 1", "BLK qd1 4k write", "Sync", "Sync write", 50),
            row("blk 4 KiB write, depth 1", "BLK qd1 4k write", "Async", "Async write", 70),
            row("blk 4 KiB read, depth 32", "BLK qd32 4k read", "Sync", "read32", 8),
            row("blk 4 KiB read, depth 32", "BLK qd32 4k read", "Async", "read32", 8),
            row("blk 4 KiB write, depth 32", "BLK qd32 4k write", "Sync", "", None),
            row("blk 4 KiB write, depth 32", "BLK qd32 4k write", "Async", "", None),
            row("blk 4 KiB read, depth 32", "BLK qd32 4k read", "vhost-user", "", None),
            row("blk 1 MiB read, per MiB", "BLK seq 1M read", "Sync", "mib", 550),
            row("blk 1 MiB read, per MiB", "BLK seq 1M read", "Async", "mib", 550),
            row("blk 1 MiB read, per MiB", "BLK seq 1M read", "vhost-user", "", None),
            row("blk 1 MiB write, per MiB", "BLK seq 1M write", "Sync", "", None),
            row("blk 1 MiB write, per MiB", "BLK seq 1M write", "Async", "", None),
            *[row(figure, words, f"overlay in {place}", "", None)
              for place in ("memory", "file")
              for figure, words in (("blk 4 KiB read, depth 1", "BLK qd1 4k read"),
                                    ("blk 4 KiB write, depth 1", "BLK qd1 4k write"),
                                    ("blk 1 MiB read, per MiB", "BLK seq 1M read"),
                                    ("blk 1 MiB write, per MiB", "BLK seq 1M write"))]]
