/* SPDX-License-Identifier: Apache-2.0 */
/* load_memory.c: see load_memory.h. */
#include "vmm/load_memory.h"

#include "vmm/snapshot/merge_mark.h"
#include "vmm/snapshot/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

/* The map of the RAM that was made must be that of the snapshot. What devices add is not there
 * yet. */
static int check_map(const struct mem *mem, const struct mem_map *map, struct err *e)
{
    struct mem_map found;

    mem_map_of(&found, mem);
    if (found.ram == map->ram &&
        memcmp(found.region, map->region, found.ram * sizeof(found.region[0])) == 0)
        return 0;
    return err_set(e, -EINVAL, "The snapshot's map of memory is not that of this monitor.");
}

/* Whoever writes into the file while we run from it asks for this lock first. */
static int lock_file(struct file_lock *lock, int fd, const char *path, struct err *e)
{
    int rc = file_lock_share(lock, fd);

    if (rc)
        return err_set(e, rc, "Another process is writing to the memory file %s.", path);
    return merge_mark_check(path, fd, e);
}

/* Of the memory file, RAM and what follows. */
static int check_size(int fd, uint64_t size, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st))
        return err_set(e, -errno, "Cannot look at the memory file: %s", err_os(-errno));
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size != size)
        return err_set(e, -EINVAL, "The memory file has %llu bytes; the guest has %llu.",
                       (unsigned long long)st.st_size, (unsigned long long)size);
    return 0;
}

/* A private mapping of the memory file. */
static int map_file(struct mem *mem, struct file_lock *lock, const char *path,
                    const struct machine_config *config, const struct mem_map *map, struct err *e)
{
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return err_set(e, -errno, "Failed to load guest memory: %s", err_os(-errno));
    rc = lock_file(lock, fd, path, e);
    if (rc == 0)
        rc = check_size(fd, mem_map_size(map), e);
    if (rc == 0)
        rc = mem_create_from_file(mem, fd, config->mem_size_mib * MIB, config->huge_pages,
                                  config->track_dirty_pages, e);
    close(fd);
    return rc;
}

static int load_file(struct mem *mem, struct file_lock *lock, const struct machine_load *load,
                     const struct machine_config *config, const struct mem_map *map, struct err *e)
{
    int rc = map_file(mem, lock, load->files.mem_path, config, map, e);

    if (rc == 0)
        rc = check_map(mem, map, e);
    return rc ? err_prefix(e, "Error creating guest memory from file: ") : 0;
}

/* The watch over who serves it stays until the process's end. */
static int load_served(struct mem *mem, const struct machine_load *load,
                       const struct machine_config *config, const struct mem_map *map,
                       void (*lost)(const struct err *e), struct err *e)
{
    int rc = mem_create_served(mem, config->mem_size_mib * MIB, config->huge_pages,
                               config->track_dirty_pages, e);
    struct uffd *uffd;

    if (rc == 0)
        rc = check_map(mem, map, e);
    if (rc == 0)
        rc = uffd_serve(&uffd, mem, load->files.mem_path, lost, e);
    return rc ? err_prefix(e, "Error creating guest memory from uffd: ") : 0;
}

int load_memory(struct mem *mem, struct file_lock *lock, const struct machine_load *load,
                const struct machine_config *config, const struct mem_map *map,
                void (*lost)(const struct err *e), struct err *e)
{
    if (load->backend == MEM_BACKEND_UFFD)
        return load_served(mem, load, config, map, lost, e);
    return load_file(mem, lock, load, config, map, e);
}

/* ---- working sets ---------------------------------------------------------------------------- */

static bool is_one_file(const char *a, const char *b)
{
    struct stat one, other;

    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

int load_check_working_set(const struct machine_load *load, struct err *e)
{
    if (load->backend != MEM_BACKEND_FILE && (load->record || load->prefetch))
        return err_set(e, -EINVAL,
                       "A working set is of a memory file: none is recorded or fetched of memory "
                       "that another process serves.");
    if (load->record && load->prefetch)
        return err_set(e, -EINVAL,
                       "A working set cannot be recorded while one is fetched, whose pages would "
                       "all count as touched.");
    /* It would take the place of what the guest is loaded from. */
    if (load->record && (is_one_file(load->record, load->files.mem_path) ||
                         is_one_file(load->record, load->files.state_path)))
        return err_set(e, -EINVAL,
                       "The working set cannot be recorded in %s, which is a file of the snapshot.",
                       load->record);
    return 0;
}

int load_working_set(const struct mem *mem, const struct machine_load *load,
                     struct recording **recording, struct working_set *set, struct err *e)
{
    int rc;

    if (load->record)
        return recording_begin(recording, mem, load->record, e);
    if (!load->prefetch)
        return 0;
    rc = working_set_read(set, load->prefetch, mem_size(mem), e);
    if (rc == 0)
        working_set_fetch(set, mem);
    return rc;
}
