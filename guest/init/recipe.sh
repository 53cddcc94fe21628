# SPDX-License-Identifier: Apache-2.0
#
# The small PID 1s: static C programs, each also as an initramfs that holds it alone, and the one
# of the tests also as a root disk. Read by guest/build.

# Of each program: its name and its files.
init_programs=(
    "init init.c"
    "bench-init bench-init.c"
    "test-init test-init.c test-agent.c test-system.c test-disk.c test-http.c test-memory.c test-net.c test-soak.c test-state.c test-vsock.c"
)
init_flags=(-std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wconversion -static -s)

root_mib=4
root_first_sector=2048
root_disk_signature='\x66\x79\x61\x6d' # so that PARTUUID is 6d617966-01

recipe_digest()
{
    digest "$guest"/init/*.[ch] "$guest/init/recipe.sh" -- "$(package_version libc6-dev)" \
        "$(gcc -dumpfullversion)"
}

recipe_build()
{
    need gcc cpio mke2fs
    local row name files
    for row in "${init_programs[@]}"; do
        read -r name files <<<"$row"
        say "compiling $name"
        # shellcheck disable=SC2086 # a list of words
        (cd "$guest/init" && gcc "${init_flags[@]}" -o "$out/$name" $files)
        initramfs "$name"
    done
    root_disk
    partitioned_disk
}

# The archive holds the program as /init and nothing else: the kernel makes /dev/console itself.
initramfs()
{
    local root=$work/$1.root
    mkdir "$root"
    cp "$out/$1" "$root/init"
    (cd "$root" && echo init | cpio --quiet -o -H newc --reproducible -R 0:0) >"$out/$1.cpio"
}

# Blocks of a page, so that it can be mounted without a page cache (DAX) where it is memory.
root_disk()
{
    local root=$work/disk.root
    mkdir -p "$root"/{dev,proc,sys,tmp,sbin}
    cp "$out/test-init" "$root/sbin/init"
    truncate -s "${root_mib}M" "$out/test-init.ext4"
    logged env PATH="$PATH:/usr/sbin:/sbin" mke2fs -q -F -t ext4 -b 4096 -O ^has_journal -L test-init \
        -E root_owner=0:0 -d "$root" "$out/test-init.ext4"
}

# A classic partition table with one entry: the root disk, found by root=PARTUUID=6d617966-01.
partitioned_disk()
{
    local disk=$out/test-init.mbr sectors=$((root_mib * 2048))
    truncate -s 0 "$disk"
    put_bytes "$disk" 440 "$root_disk_signature"
    # status, first CHS (none), type Linux, last CHS (none), first sector, number of sectors
    put_bytes "$disk" 446 "\x00\xfe\xff\xff\x83\xfe\xff\xff$(le32 $root_first_sector)$(le32 $sectors)"
    put_bytes "$disk" 510 '\x55\xaa'
    dd if="$out/test-init.ext4" of="$disk" bs=512 seek=$root_first_sector conv=notrunc status=none
}

# put_bytes FILE OFFSET ESCAPES
put_bytes()
{
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# A number as four escapes, the lowest byte first.
le32()
{
    printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) \
        $(($1 >> 24 & 255))
}
