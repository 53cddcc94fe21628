# SPDX-License-Identifier: Apache-2.0
#
# The small PID 1s: static C programs, each also as an initramfs that holds it alone.
# Read by guest/build.

init_programs=(init)
init_flags=(-std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wconversion -static)

recipe_digest()
{
    digest "$guest"/init/*.[ch] "$guest/init/recipe.sh" -- "$(package_version libc6-dev)" \
        "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc strip cpio
    local name
    for name in "${init_programs[@]}"; do
        say "compiling $name"
        gcc "${init_flags[@]}" -o "$out/$name" "$guest/init/$name.c"
        strip "$out/$name"
        initramfs "$name"
    done
}

# The archive holds the program as /init and nothing else: the kernel makes /dev/console itself.
initramfs()
{
    local root=$work/$1.root
    mkdir "$root"
    cp "$out/$1" "$root/init"
    (cd "$root" && echo init | cpio --quiet -o -H newc --reproducible -R 0:0) >"$out/$1.cpio"
}
