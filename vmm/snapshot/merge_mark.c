/* SPDX-License-Identifier: Apache-2.0 */
/* merge_mark.c: see merge_mark.h. */
#include "vmm/snapshot/merge_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

/* The mark of the file at `path`, which no link is; malloc'ed. */
static char *mark_of(const char *path)
{
    char *name;

    return asprintf(&name, "%s" MERGE_MARK_SUFFIX, path) < 0 ? NULL : name;
}

static int write_mark(struct new_file *mark, const struct new_file *mem, struct err *e)
{
    char text[256];
    struct stat st;
    int n, rc;

    if (fstat(mem->fd, &st))
        return err_set(e, -errno, "Cannot look at %s: %s", mem->path, err_os(-errno));
    n = snprintf(text, sizeof(text),
                 "inode %" PRIu64 "\n"
                 "A diff snapshot is being merged into this memory file. If nobody does that any "
                 "more,\nthe file is lost: write a full snapshot in its place.\n",
                 (uint64_t)st.st_ino);
    rc = new_file_write(mark, text, (size_t)n, 0, e);
    if (rc == 0)
        rc = new_file_sync(mark, e);
    return rc ? rc : new_file_commit(mark, e);
}

int merge_mark_set(const struct new_file *mem, struct err *e)
{
    char *name = mark_of(mem->path);
    struct new_file mark;
    int rc;

    if (!name)
        return err_set(e, -ENOMEM, "Cannot mark %s: %s", mem->path, err_os(-ENOMEM));
    rc = new_file_open(&mark, name, e);
    if (rc) {
        rc = err_prefix(e, "Cannot create %s: ", name);
        free(name);
        return rc;
    }
    mark.lazy = mem->lazy;
    rc = write_mark(&mark, mem, e);
    new_file_close(&mark);
    /* It may have taken its name before its directory failed; nothing has been merged yet. */
    if (rc)
        (void)unlink(name);
    free(name);
    return rc;
}

int merge_mark_clear(const struct new_file *mem, struct err *e)
{
    char *name = mark_of(mem->path);
    int rc = name ? new_file_remove(name, mem->lazy) : -ENOMEM;

    free(name);
    if (rc)
        return err_set(e, rc, "Cannot remove %s" MERGE_MARK_SUFFIX ": %s", mem->path, err_os(rc));
    return 0;
}

void merge_mark_forget(const struct new_file *mem)
{
    char *name = mark_of(mem->path);

    if (name)
        (void)unlink(name);
    free(name);
}

/* Which inode a mark names; 0 = it cannot be told. */
static uint64_t read_inode(int mark)
{
    static const char key[] = "inode ";
    char text[64] = {0};

    if (read(mark, text, sizeof(text) - 1) <= 0 || strncmp(text, key, strlen(key)) != 0)
        return 0;
    return strtoull(text + strlen(key), NULL, 10);
}

int merge_mark_check(const char *path, int fd, struct err *e)
{
    char *real = new_file_resolve(path), *name = real ? mark_of(real) : NULL;
    int mark = name ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    /* Where a mark's name would be too long there is none: setting it would have failed. */
    bool marked = mark >= 0 || !name || (errno != ENOENT && errno != ENAMETOOLONG);
    struct stat st;
    uint64_t inode;

    if (mark >= 0) {
        inode = read_inode(mark);
        marked = inode == 0 || fstat(fd, &st) || st.st_ino == inode;
        close(mark);
    }
    free(name);
    free(real);
    if (!marked)
        return 0;
    return err_set(e, -EUCLEAN,
                   "A diff snapshot was being merged into the memory file %s, and that was broken "
                   "off (see %s" MERGE_MARK_SUFFIX "): write a full snapshot in its place.",
                   path, path);
}
