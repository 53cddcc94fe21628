#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab: private dirty memory beside the guest's, of a monitor whose Linux guest has brought up
# all its devices and waits for commands. The guest's memory is the mapping of 64 MiB and more, and one
# of up to 4 MiB right below it: its first pages, which ask for no huge page.
set -e

bench/netpeer tap tap0
ip link set tap0 up
truncate -s 16M disk-a disk-b
sync

# The lab's root is a RAM disk, whose pages always count as dirty: of the program's own only those
# that were written to are counted.
dirty()
{
    awk '/^[0-9a-f]+-[0-9a-f]+ / {
             program = /mayfly$|firecracker$/
             split($1, range, "-")
             below = range[1] == end && size <= 4096 ? counted : 0
             end = range[2]
             counted = 0
         }
         $1 == "Size:" {
             size = $2
             if (size >= 65536)
                 sum -= below
         }
         $1 == (program ? "Anonymous:" : "Private_Dirty:") && size < 65536 {
             counted = $2
             sum += counted
         }
         END { print "dirty " sum }' "$1"
}

measure()
{
    echo "== $1"
    shift
    mkfifo console
    "$@" <console >out 2>&1 &
    monitor=$!
    exec 3>console
    until grep -q READY out; do
        sleep 0.1
        kill -0 $monitor
    done
    sleep 1
    dirty /proc/$monitor/smaps
    exec 3>&-
    kill -9 $monitor
    wait $monitor || true
    rm -f console out v.sock
}

measure mayfly ./mayfly --no-api --config-file devices.json
if [ -e firecracker ]; then
    measure firecracker ./firecracker --no-api --no-seccomp --config-file devices.json
fi
