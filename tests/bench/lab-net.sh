#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab, on its instruction clock: the network workloads of bench-init over a tap, and how many
# of its UDP packets the tap accepted: those that are lost before it cost less than they should.
set -e

bench/netpeer tap tap0
ip addr add 172.16.0.1/24 dev tap0
ip link set tap0 up
bench/netpeer serve &
peer=$!

# UDP packets that came out of the guests: what was delivered, and what its socket had no room for.
accepted()
{
    awk '$1 == "Udp:" && $2 ~ /[0-9]/ { print $2 + $6 }' /proc/net/snmp
}

measure()
{
    before=$(accepted)
    echo "== $1"
    shift
    "$@" </dev/null 2>&1 | tr -d '\r' | grep '^NET'
    echo "accepted $(($(accepted) - before))"
}

measure mayfly ./mayfly --no-api --config-file net.json
if [ -e firecracker ]; then
    measure firecracker ./firecracker --no-api --no-seccomp --config-file net.json
fi
if [ -e qemu-system-x86_64 ]; then
    # Its microvm has no keyboard controller to reset by, hence reboot=t.
    measure qemu ./qemu-system-x86_64 -L qemu -enable-kvm -cpu host -m 128 \
        -M microvm,rtc=off,acpi=off,auto-kernel-cmdline=on -nodefaults -no-user-config -nographic \
        -no-reboot -serial stdio -kernel vmlinux -initrd bench-init.cpio \
        -netdev tap,id=n,ifname=tap0,script=no,downscript=no,vhost=off \
        -device virtio-net-device,netdev=n \
        -append "console=ttyS0 quiet reboot=t panic=-1 8250.nr_uarts=1 bench=net"
fi
kill $peer
