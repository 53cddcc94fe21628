#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# In the lab: every exit of one boot, counted by reason. A nested page fault outside of RAM is an
# access to a device page: those of the two interrupt controllers are told apart.
trace=/sys/kernel/tracing

count()
{
    name=$1
    shift
    echo 0 >$trace/tracing_on
    echo >$trace/trace
    echo 1 >$trace/tracing_on
    "$@" >/dev/null 2>&1 </dev/null
    echo 0 >$trace/tracing_on
    echo "== $name"
    awk '
        / kvm_exit: / {
            all++
            for (i = 1; i < NF; i++) {
                if ($i == "reason") reason = $(i + 1)
                if ($i == "info2") address = $(i + 1)
            }
            sub(/^EXIT_/, "", reason)
            if (reason == "npf" && address ~ /^0x0*fec/) reason = "npf-ioapic"
            if (reason == "npf" && address ~ /^0x0*fee/) reason = "npf-lapic"
            by[reason]++
        }
        / kvm_userspace_exit: / { user++ }
        END {
            print "all", all + 0
            print "user", user + 0
            for (reason in by) print "reason", reason, by[reason]
        }' $trace/trace
}

echo 65536 >$trace/buffer_size_kb
echo 1 >$trace/events/kvm/kvm_exit/enable
echo 1 >$trace/events/kvm/kvm_userspace_exit/enable
count floor bench/kfloor vmlinux init.cpio "console=ttyS0 quiet reboot=k panic=-1 8250.nr_uarts=1"
count mayfly ./mayfly --no-api --config-file boot.json
[ ! -e firecracker ] || count firecracker ./firecracker --no-api --no-seccomp --config-file boot.json
