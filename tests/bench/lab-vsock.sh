#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab, on its instruction clock: the vsock workloads of bench-init, driven and measured by
# vsockpeer on the lab's side of the socket.
set -e

measure()
{
    echo "== $1"
    shift
    rm -f v.sock
    "$@" </dev/null >log 2>&1 &
    monitor=$!
    bench/vsockpeer v.sock || { cat log; exit 1; }
    wait $monitor
}

echo "== host"
bench/vsockpeer

# Three times: how the scheduler pairs the peer's two writes moves a connect by some percent.
for _ in 1 2 3; do
    measure mayfly ./mayfly --no-api --config-file vsock.json
    if [ -e firecracker ]; then
        measure firecracker ./firecracker --no-api --no-seccomp --config-file vsock.json
    fi
done
