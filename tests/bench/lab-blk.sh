#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab, on its instruction clock: the block workloads of bench-init on a 64 MiB file in the
# page cache of ext4 on a RAM disk, with each engine; and how many workers io_uring started; then over
# vhost-user. Blocks of 4 KiB, as on any disk of 512 MiB or more: for a smaller one mke2fs would choose 1 KiB.
set -e
trace=/sys/kernel/tracing

modprobe brd rd_nr=1 rd_size=262144
mkfs.ext4 -q -F -b 4096 /dev/ram0
mkdir -p /mnt
mount -t ext4 /dev/ram0 /mnt
dd if=/dev/zero of=/mnt/disk bs=1M count=64 2>/dev/null
sync
cat /mnt/disk >/dev/null
echo 1 >$trace/events/task/task_rename/enable

measure()
{
    echo >$trace/trace
    echo "== $1"
    shift
    "$@" </dev/null 2>&1 | tr -d '\r' | grep '^BLK'
    echo "workers $(grep -c 'newcomm=iou-wrk' $trace/trace || true)"
}

for engine in Sync Async; do
    sed "s/@ENGINE@/$engine/" blk.json >blk-$engine.json
    measure "mayfly $engine" ./mayfly --no-api --config-file blk-$engine.json
    if [ -e firecracker ]; then
        measure "firecracker $engine" ./firecracker --no-api --no-seccomp --config-file blk-$engine.json
    fi
done

# The same file below an overlay, which the writes of the first run fill.
for overlay in memory file; do
    measure "mayfly overlay in $overlay" ./mayfly --no-api --config-file blk-$overlay.json
done

# The same file behind a vhost-user socket, served by the back end of the tests.
./vhost-disk vhost.sock /mnt/disk &
while [ ! -e vhost.sock ]; do sleep 0.1; done
measure "mayfly vhost-user" ./mayfly --no-api --config-file blk-vhost.json

if [ -e qemu-system-x86_64 ]; then
    # Its microvm has no keyboard controller to reset by, hence reboot=t.
    measure qemu ./qemu-system-x86_64 -L qemu -enable-kvm -cpu host -m 128 \
        -M microvm,rtc=off,acpi=off,auto-kernel-cmdline=on -nodefaults -no-user-config -nographic \
        -no-reboot -serial stdio -kernel vmlinux -initrd bench-init.cpio \
        -drive file=/mnt/disk,if=none,id=d,format=raw,aio=io_uring -device virtio-blk-device,drive=d \
        -append "console=ttyS0 quiet reboot=t panic=-1 8250.nr_uarts=1 bench=blk"
fi
