# SPDX-License-Identifier: Apache-2.0
#
# The guest kernels: Debian's linux-source-6.12, `make tinyconfig`, and one of the .config files
# beside this recipe on top. Read by guest/build.

kernel_source=/usr/src/linux-source-6.12.tar.xz
kernel_config=$guest/kernel/${target#kernel-}.config

recipe_digest()
{
    digest "$guest/kernel/recipe.sh" "$kernel_config" -- "$(package_version linux-source-6.12)" \
        "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc make flex bison bc xz strip
    [[ -r $kernel_source ]] || die "$kernel_source is missing; run ci/packages guest"

    say "unpacking the kernel source"
    logged unpack_source
    say "configuring"
    logged kernel_make tinyconfig
    cat "$kernel_config" >>"$work/kernel/.config"
    logged kernel_make olddefconfig
    check_config
    say "compiling (2 to 5 minutes on 2 processors)"
    logged kernel_make -j"$(nproc)" vmlinux bzImage

    strip -o "$out/vmlinux" "$work/kernel/vmlinux"
    cp "$work/kernel/arch/x86/boot/bzImage" "$out/bzImage"
    cp "$work/kernel/.config" "$out/config"
}

# Nothing in the banner may tell when or where it was built: equal inputs, equal kernels.
kernel_make()
{
    nice make -C "$work/kernel" ARCH=x86_64 KBUILD_BUILD_TIMESTAMP=1970-01-01 \
        KBUILD_BUILD_USER=mayfly KBUILD_BUILD_HOST=guest "$@"
}

# Two thirds of the tree can never be part of an x86 guest. Leaving that code packed (but not the
# Kconfig files, which are read whatever they lead to) halves the time this takes.
unpack_source()
{
    local skip=() dir
    for dir in arch/{alpha,arc,arm,arm64,csky,hexagon,loongarch,m68k,microblaze,mips,nios2} \
        arch/{openrisc,parisc,powerpc,riscv,s390,sh,sparc,um,xtensa} sound tools/testing \
        drivers/{gpu,media,staging,infiniband,scsi,iio,usb,net/ethernet,net/wireless} \
        Documentation; do
        skip+=(--exclude="*/$dir/*."{[chS],dts,dtsi,rst,yaml,json})
    done
    mkdir "$work/kernel"
    tar -xf "$kernel_source" -C "$work/kernel" --strip-components=1 "${skip[@]}"
}

# olddefconfig drops, without a word, what it cannot satisfy. A kernel that silently lacks what the
# tests or the figures stand on is worse than none.
#
# Three lines of the reference are known to have no effect, and stay so that the file is exactly
# the one behind the recorded figures: a 64-bit kernel always has its APICs (X86_UP_*), and
# tinyconfig's EXPERT selects DEBUG_KERNEL, which by itself adds no code.
without_effect=" CONFIG_X86_UP_APIC=y CONFIG_X86_UP_IOAPIC=y CONFIG_DEBUG_KERNEL=n "

check_config()
{
    local line name missing=()
    while read -r line; do
        [[ $line == CONFIG_* && $without_effect != *" $line "* ]] || continue
        name=${line%%=*}
        if [[ $line == *=n ]]; then
            ! grep -q "^$name=" "$work/kernel/.config" || missing+=("$line")
        else
            grep -qxF "$line" "$work/kernel/.config" || missing+=("$line")
        fi
    done <"$kernel_config"
    ((${#missing[@]} == 0)) || die "options that did not take: ${missing[*]}"
}
