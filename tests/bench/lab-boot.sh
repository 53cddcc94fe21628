#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab, on its instruction clock: boots of the reference kernel, RUNS each. A first boot warms
# what all of them share (the page cache, KVM's own start) and is not shown.
args="console=ttyS0 quiet reboot=k panic=-1 8250.nr_uarts=1"

bench/stopwatch 1 "INIT up" /root/bench/kfloor vmlinux init.cpio "$args" >/dev/null
echo "== floor"
bench/stopwatch "$RUNS" "INIT up" /root/bench/kfloor vmlinux init.cpio "$args"
echo "== mayfly"
bench/stopwatch "$RUNS" "INIT up" /root/mayfly --no-api --config-file boot.json
if [ -e firecracker ]; then
    echo "== firecracker"
    bench/stopwatch "$RUNS" "INIT up" /root/firecracker --no-api --no-seccomp --config-file boot.json
fi
if [ -e qemu-system-x86_64 ]; then
    echo "== qemu"
    # Its microvm has no keyboard controller to reset by, hence reboot=t.
    bench/stopwatch 3 "INIT up" /root/qemu-system-x86_64 -L qemu -enable-kvm -cpu host -m 64 \
        -M microvm,rtc=off,acpi=off,auto-kernel-cmdline=on -nodefaults -no-user-config -nographic \
        -no-reboot -serial stdio -kernel vmlinux -initrd init.cpio \
        -append "console=ttyS0 quiet reboot=t panic=-1 8250.nr_uarts=1"
fi
