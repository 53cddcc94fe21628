# SPDX-License-Identifier: Apache-2.0
#
# A small Debian with systemd on an ext4 disk, and what boots it as on any Debian machine: the
# stock cloud kernel and an initrd, ours, with that kernel's own modules. Read by guest/build.

# dbus is what lets poweroff and reboot ask systemd-logind, as anywhere else.
rootfs_packages=systemd-sysv,dbus,kmod,iproute2,procps
rootfs_spare_mib=64
# virtio_mmio finds the devices that ACPI or the command line names; ext4 is built in.
initrd_modules=(virtio_mmio virtio_blk virtio_net virtio_rng)

# What a guest of a few seconds has no use for; each costs a tenth of a second in an emulated lab.
rootfs_masked=(systemd-timesyncd.service systemd-random-seed.service apt-daily.timer
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    getty@tty1.service getty-static.service serial-getty@ttyS0.service
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-config.mount
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount
    systemd-journal-flush.service systemd-journal-catalog-update.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service)

recipe_digest()
{
    digest "$guest/rootfs/recipe.sh" "$guest/rootfs/init" -- "$(basename "$(cloud_kernel)")"
}

recipe_build()
{
    need mmdebstrap mke2fs cpio xz busybox
    local kernel
    kernel=$(cloud_kernel)
    cp "$kernel" "$out/vmlinuz"
    say "making the initrd"
    make_initrd "$(modules_of "$kernel")"
    say "installing a Debian into a directory"
    install_debian "$work/root"
    say "making the disk"
    make_disk "$work/root"
}

# The newest Debian cloud kernel here: installed, or unpacked into the cache by ci/packages.
cloud_kernel()
{
    local found
    found=$(printf '%s\n' "$cache"/debian-kernel-*/boot/vmlinuz-6.12*-cloud-amd64 \
        /boot/vmlinuz-6.12*-cloud-amd64 | grep -v '\*' |
        awk -F/ '{ print $NF, $0 }' | sort -V | tail -n 1 | cut -d' ' -f2)
    [[ $found ]] || die "no Debian cloud kernel 6.12 on this machine; run ci/packages guest"
    echo "$found"
}

modules_of()
{
    echo "${1%/boot/*}/lib/modules/${1##*/vmlinuz-}"
}

make_initrd()
{
    local root=$work/initrd name path
    mkdir -p "$root"/{bin,dev,proc,sys,root,modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$guest/rootfs/init" "$root/init"
    for name in "${initrd_modules[@]}"; do
        path=$(find "$1" \( -name "$name.ko*" -o -name "${name//_/-}.ko*" \) | head -n 1)
        [[ $path ]] || die "the cloud kernel has no module $name"
        unpack_module "$path" "$root/modules"
    done
    add_needed_modules "$1" "$root/modules"
    (cd "$root" && find . -mindepth 1 | sort | cpio --quiet -o -H newc --reproducible -R 0:0) \
        >"$out/initrd.cpio"
}

unpack_module()
{
    local name
    name=$(basename "${1%.xz}")
    if [[ $1 == *.xz ]]; then
        xz -dc "$1" >"$2/$name"
    else
        cp "$1" "$2/$name"
    fi
}

# Modules the chosen ones need; the order of loading is left to the initrd, which tries again
# whatever did not load the first time round.
add_needed_modules()
{
    local name needed
    for name in "$2"/*.ko; do
        for needed in $(sed -n "s|^[^:]*/$(basename "$name")[^:]*: *||p" "$1/modules.dep"); do
            unpack_module "$1/$needed" "$2"
        done
    done
}

# From wherever this machine itself gets its packages.
install_debian()
{
    local sources=() options=() file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
        [[ ! -s $file ]] || sources+=("$file")
    done
    while read -r option; do
        options+=(--aptopt="$option")
    done < <(apt-config dump | grep -i '^Acquire::https\?::Proxy' || true)

    logged mmdebstrap --mode=root --variant=essential --include="$rootfs_packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        "${options[@]}" --aptopt='Apt::Install-Recommends "false"' --format=directory \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$1" "${sources[@]}"
    configure_debian "$1"
}

configure_debian()
{
    local getty=$1/etc/systemd/system/console-getty.service.d
    echo mayfly-guest >"$1/etc/hostname"
    printf '127.0.0.1 localhost mayfly-guest\n' >"$1/etc/hosts"
    printf '/dev/root / ext4 defaults 0 1\n' >"$1/etc/fstab"
    # The console needs no udev, which is not here: a getty on /dev/console, root already logged in.
    mkdir -p "$getty" "$1/etc/systemd/system/getty.target.wants"
    cat >"$getty/autologin.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud console 115200,38400,9600 linux
END
    ln -s /lib/systemd/system/console-getty.service \
        "$1/etc/systemd/system/getty.target.wants/console-getty.service"
    local unit
    for unit in "${rootfs_masked[@]}"; do
        ln -sf /dev/null "$1/etc/systemd/system/$unit"
    done
    echo "set enable-bracketed-paste off" >>"$1/etc/inputrc"
    : >"$1/etc/motd"
    rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*.log
}

make_disk()
{
    local used
    used=$(du -sm "$1" | cut -f1)
    truncate -s $((used + used / 8 + rootfs_spare_mib))M "$out/rootfs.ext4"
    logged env PATH="$PATH:/usr/sbin:/sbin" mke2fs -q -F -t ext4 -L rootfs -E root_owner=0:0 \
        -d "$1" "$out/rootfs.ext4"
}
