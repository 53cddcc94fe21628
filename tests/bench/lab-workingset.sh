#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab, on its instruction clock: loads of a Linux guest whose files are on ext4 on a RAM disk and
# not in the page cache, with a recorded working set and without; and how many pages that set brings in.
set -e

modprobe brd rd_nr=1 rd_size=262144
mkfs.ext4 -q -F -b 4096 /dev/ram0
mkdir -p /mnt
mount -t ext4 /dev/ram0 /mnt

echo "== template"
bench/snaptime template /mnt vmlinux bench-init.cpio ./mayfly --level Error
echo "== pages"
bench/snaptime record /mnt /mnt/s.ws ./mayfly --level Error
bench/snaptime prefetched /mnt /mnt/s.ws ./mayfly --level Error
export DROP=1
echo "== without"
bench/snaptime load /mnt 5 "" ./mayfly --level Error
echo "== with"
bench/snaptime load /mnt 5 ',"prefetch":"/mnt/s.ws"' ./mayfly --level Error
