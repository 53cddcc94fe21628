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
echo "== background"
bench/snaptime background /tmp/s vmlinux bench-init.cpio ./mayfly --level Error
if [ -e firecracker ]; then
    measure firecracker ./firecracker --no-seccomp --level Error
fi
