# SPDX-License-Identifier: Apache-2.0
#
# Guests without a kernel, for the 64-bit boot protocol. Read by guest/build.

tiny_min=(hello-min loop-min halt-min)
tiny_link=(-nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack -s)
# No SSE: nobody has switched it on. No function of a C library that is not here.
tiny_compile=(-std=c17 -ffreestanding -O2 -fno-pic -fno-stack-protector -fcf-protection=none
    -fno-tree-loop-distribute-patterns -fno-strict-aliasing -mgeneral-regs-only
    -Wall -Wextra -Wshadow -Wconversion)

recipe_digest()
{
    digest "$guest"/tiny/*.[chS] "$guest/tiny/tiny.ld" "$guest/init/pattern.h" "$guest/bench/wire.h" \
        "$guest/tiny/recipe.sh" -- "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc
    local name
    for name in "${tiny_min[@]}"; do
        say "assembling $name"
        gcc "${tiny_link[@]}" -Wl,-Ttext=0x100000 -o "$out/$name.elf" "$guest/tiny/$name.S"
    done
    compile_tiny tiny.elf
    compile_tiny tiny-pvh.elf -DPVH
}

compile_tiny()
{
    say "compiling $1"
    (cd "$guest/tiny" && gcc "${tiny_compile[@]}" "${tiny_link[@]}" -I "$guest/.." -T tiny.ld \
        -Wl,--no-warn-rwx-segments "${@:2}" -o "$out/$1" start.S main.c virtio.c blk.c \
        net.c vsock.c fuzz.c ports.c ticks.c)
}
