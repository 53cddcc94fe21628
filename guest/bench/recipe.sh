# SPDX-License-Identifier: Apache-2.0
#
# Programs for the host that a boot is measured against, and the stopwatch. Read by guest/build.

bench_programs=(floor kfloor stopwatch)

recipe_digest()
{
    digest "$guest"/bench/*.[ch] "$guest/bench/recipe.sh" -- "$(package_version libc6-dev)" \
        "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc
    local name
    for name in "${bench_programs[@]}"; do
        say "compiling $name"
        gcc -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wconversion -static -s \
            -o "$out/$name" "$guest/bench/$name.c"
    done
}
