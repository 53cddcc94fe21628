# SPDX-License-Identifier: Apache-2.0
#
# Programs for the host: what a boot is measured against, a stopwatch, the other end of test-init's
# disk commands, and that of the tiny guest's frames and sockets. Read by guest/build.

bench_programs=(floor shellfloor kfloor stopwatch pattern netpeer vsockpeer wire hostcost sockbench snaptime clones forks)

recipe_digest()
{
    digest "$guest"/bench/*.[ch] "$guest/init/pattern.h" "$guest/bench/recipe.sh" -- "$(package_version libc6-dev)" \
        "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc
    local name
    for name in "${bench_programs[@]}"; do
        say "compiling $name"
        gcc -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wconversion -static -s \
            -I "$guest/.." -o "$out/$name" "$guest/bench/$name.c"
    done
}
