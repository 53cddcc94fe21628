# SPDX-License-Identifier: Apache-2.0
"""What a monitor takes of this machine: memory, and the size of the program."""

import os
import time

from common import (BOOT_ARGS, MAYFLY, Monitor, Row, boot_config, fail, guest, kvm_kind, lab, recorded, say,
                    write_json)


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
                "KiB", 160, recorded("idle"), "", "ci/bench --only memory"),
            Row("Private_Dirty beside guest memory, booted, a second monitor running", "this machine",
                booted_kib, "KiB", 260, recorded("booted"), "", "ci/bench --only memory")]


def row_devices(_, work):
    say("devices: private dirty pages of a monitor with many devices, in the lab")
    kernel, init, bench = guest("kernel-reference"), guest("init"), guest("bench")
    drives = [{"drive_id": name, "path_on_host": f"disk-{name}", "is_root_device": False} for name in "ab"]
    config = boot_config("vmlinux", "test-init.cpio", BOOT_ARGS, 128, drives)
    config["network-interfaces"] = [{"iface_id": "n", "host_dev_name": "tap0"}]
    config["vsock"] = {"guest_cid": 3, "uds_path": "v.sock"}
    config["balloon"] = {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1}
    out = lab("lab-memory.sh", [f"{kernel}/vmlinux", f"{init}/test-init.cpio", f"{bench}:/root/bench",
                                write_json(work, "devices.json", config)])

    def kib(section):
        for line in out[section]:
            if line.startswith("dirty "):
                return int(line.split()[1])
        fail(f"no figure of {section}:\n" + "\n".join(out[section]))

    peers = {"Firecracker": kib("firecracker")} if "firecracker" in out else {}
    return [Row("Private_Dirty beside guest memory, booted, with net, vsock, two drives, balloon",
                "lab", kib("mayfly"), "KiB", 350, peers, "", "ci/bench --only devices")]


def row_binary(_, __):
    return [Row("the program, static and stripped", "", os.path.getsize(MAYFLY) / 2**20, "MiB", 2, {}, "",
                "ls -l build/mayfly")]
