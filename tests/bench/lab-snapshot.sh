#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab, on its instruction clock: snapshots of a Linux guest and loads of them until it answers
# over vsock, by snaptime. The files are on tmpfs.
set -e

mkdir /tmp/s

measure()
{
    echo "== $1"
    shift
    bench/snaptime diff /tmp/s vmlinux bench-init.cpio "$@"
    bench/snaptime load /tmp/s 5 "" "$@"
}

measure mayfly ./mayfly --level Error
echo "== prefetch"
bench/snaptime record /tmp/s /tmp/s/s.ws ./mayfly --level Error
bench/snaptime load /tmp/s 5 ',"prefetch":"/tmp/s/s.ws"' ./mayfly --level Error

# How often the guest's first steps leave it for want of a page, in two loads with two connections each.
trace=/sys/kernel/tracing
echo 16384 >$trace/buffer_size_kb
count_faults()
{
    echo >$trace/trace
    echo 1 >$trace/events/kvm/kvm_exit/enable
    bench/snaptime load /tmp/s 1 "$1" ./mayfly --level Error >log
    echo 0 >$trace/events/kvm/kvm_exit/enable
    echo "each $(($(grep -c 'reason npf' $trace/trace) / 2))"
}
echo "== faults"
count_faults ""
echo "== faults with prefetch"
count_faults ',"prefetch":"/tmp/s/s.ws"'

echo "== background"
bench/snaptime background /tmp/s vmlinux bench-init.cpio ./mayfly --level Error
if [ -e firecracker ]; then
    measure firecracker ./firecracker --no-seccomp --level Error
fi
