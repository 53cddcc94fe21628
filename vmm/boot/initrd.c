/* SPDX-License-Identifier: Apache-2.0 */
/* initrd.c: places the initial RAM disk and reads it into guest memory. */
#include "vmm/boot/initrd.h"

#include <errno.h>
#include <inttypes.h>

#include <sys/stat.h>

#define BAD_MEMORY                                                                                 \
    "System configuration error: Cannot load initrd due to an invalid memory configuration: "
#define BAD_IMAGE "System configuration error: Cannot load initrd due to an invalid image: "

int initrd_place(const struct mem *mem, const struct kernel_image *image, uint64_t size,
                 struct initrd *initrd, struct err *e)
{
    const struct mem_region *first = &mem->region[0];
    uint64_t top = MIN(first->gpa.v + first->size, image->initrd_limit);
    uint64_t bottom = align_up(kernel_end(image), PAGE_SIZE);
    uint64_t start;

    if (size == 0)
        return err_set(e, -EINVAL, BAD_IMAGE "the initrd is empty");
    start = size <= top ? align_down(top - size, PAGE_SIZE) : 0;
    if (start < bottom)
        return err_set(e, -ENOMEM,
                       BAD_MEMORY "its %" PRIu64 " bytes do not fit between the kernel's end at "
                                  "0x%" PRIx64 " and 0x%" PRIx64,
                       size, bottom, top);
    *initrd = (struct initrd){.gpa = GPA(start), .size = size};
    return 0;
}

static int file_size(int fd, uint64_t *size, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st)) {
        int rc = -errno;

        return err_set(e, rc, BAD_IMAGE "%s", err_os(rc));
    }
    if (!S_ISREG(st.st_mode))
        return err_set(e, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, BAD_IMAGE "the initrd is %s",
                       S_ISDIR(st.st_mode) ? "a directory, not a file" : "not a regular file");
    *size = (uint64_t)st.st_size;
    return 0;
}

int initrd_load(int fd, const struct kernel_image *image, struct mem *mem, struct initrd *initrd,
                struct err *e)
{
    uint64_t size = 0;
    void *to;
    int rc;

    *initrd = (struct initrd){0};
    if (fd < 0)
        return 0;
    rc = file_size(fd, &size, e);
    if (rc == 0)
        rc = initrd_place(mem, image, size, initrd, e);
    if (rc)
        return rc;
    to = mem_writable(mem, initrd->gpa, size);
    BUG_ON(!to);
    rc = kernel_pread(fd, to, size, 0, e);
    return rc ? err_prefix(e, BAD_IMAGE) : 0;
}
