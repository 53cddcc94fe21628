# SPDX-License-Identifier: Apache-2.0
#
# Guests without a kernel, for the 64-bit boot protocol. Read by guest/build.

tiny_flags=(-nostdlib -static -Wl,-Ttext=0x100000,--build-id=none,-z,noexecstack -s)

recipe_digest()
{
    digest "$guest"/tiny/*.S "$guest/tiny/recipe.sh" -- "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc
    local name
    for name in hello-min loop-min; do
        say "assembling $name"
        gcc "${tiny_flags[@]}" -o "$out/$name.elf" "$guest/tiny/$name.S"
    done
}
