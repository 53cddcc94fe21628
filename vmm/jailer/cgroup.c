/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.c: making, filling and joining cgroups. Both versions take the same steps; version 1 has
 * one hierarchy for some controllers each and cpusets that start empty, version 2 has one for all
 * and controllers that must be enabled level by level. */
#include "vmm/jailer/cgroup.h"

#include "vmm/jailer/cgroup_text.h"
#include "vmm/jailer/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

struct hierarchy {
    char dir[PATH_MAX];     /* where it is mounted */
    int fd;                 /* that directory */
    const char *controller; /* one of its own */
};

struct cgroups {
    const struct jailer_options *o;
    struct undo *undo;
    char parent[PATH_MAX]; /* below the mount; without slashes at its ends */
    char path[PATH_MAX];   /* PARENT/ID */
    char *mounts, *own;    /* the texts of /proc/mounts and /proc/self/cgroup */
    struct hierarchy
        hierarchies[JAILER_CGROUP_SETTINGS_MAX + 1]; /* one for each, and the parent's */
    unsigned n_hierarchies;
};

/* ---- small things ---- */

static int fail_write(struct err *e, int code, const struct hierarchy *h, const char *path)
{
    return err_set(e, code, "Failed to write to %s/%s: %s", h->dir, path, err_os(code));
}

/* Appends a part to a path, with a slash between. False when there is no room. */
static bool append(char *path, size_t room, const char *part, size_t part_len)
{
    size_t len = strlen(path);

    if (len + part_len + 2 > room)
        return false;
    snprintf(path + len, room - len, "%s%.*s", len ? "/" : "", (int)part_len, part);
    return true;
}

/* A file of a cgroup, by a path from the mount. */
static bool name_file(char file[PATH_MAX], const char *cgroup, const char *name)
{
    file[0] = '\0';
    return (!*cgroup || append(file, PATH_MAX, cgroup, strlen(cgroup))) &&
           append(file, PATH_MAX, name, strlen(name));
}

static int read_texts(struct cgroups *c, struct err *e)
{
    const char *files[] = {"/proc/mounts", "/proc/self/cgroup"};
    char **texts[] = {&c->mounts, &c->own};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        *texts[i] = text_file_read(AT_FDCWD, files[i]);
        if (!*texts[i])
            return err_set(e, -errno, "Failed to open file %s: %s", files[i], err_os(-errno));
    }
    return 0;
}

/* The hierarchy with that controller, opened once. NULL with a sentence. */
static struct hierarchy *find_hierarchy(struct cgroups *c, const char *controller, struct err *e)
{
    struct hierarchy *h = &c->hierarchies[c->n_hierarchies];

    if (!cgroup_text_find_mount(c->mounts, c->o->cgroup_version, controller, h->dir,
                                sizeof(h->dir))) {
        if (c->o->cgroup_version == 1)
            err_set(e, -ENOENT, "Controller %s is unavailable", controller);
        else
            err_set(e, -ENOENT, "Hierarchy not found: No hierarchy found for this cgroup version.");
        return NULL;
    }
    for (struct hierarchy *known = c->hierarchies; known < h; known++) {
        if (strcmp(known->dir, h->dir) == 0)
            return known;
    }
    h->fd = open(h->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (h->fd < 0) {
        err_set(e, -errno, "Failed to open directory %s: %s", h->dir, err_os(-errno));
        return NULL;
    }
    h->controller = controller;
    c->n_hierarchies++;
    return h;
}

/* ---- making them ---- */

/* Version 2: the cgroups below `path` get the controllers. */
static int enable_controllers(const struct cgroups *c, const struct hierarchy *h, const char *path,
                              struct err *e)
{
    char file[PATH_MAX], word[sizeof(c->o->cgroups[0].controller) + 1];
    char *enabled;
    int ret = 0;

    if (!name_file(file, path, "cgroup.subtree_control"))
        return fail_write(e, -ENAMETOOLONG, h, path);
    enabled = text_file_read(h->fd, file);
    for (unsigned i = 0; i < c->o->n_cgroups && ret == 0; i++) {
        const char *controller = c->o->cgroups[i].controller;

        if (enabled && cgroup_text_has_word(enabled, ' ', controller))
            continue;
        snprintf(word, sizeof(word), "+%s", controller);
        ret = text_file_write(h->fd, file, word);
    }
    free(enabled);
    return ret ? fail_write(e, ret, h, file) : 0;
}

static bool is_blank(const char *text)
{
    return !text[strspn(text, "\n")];
}

/*
 * Version 1: a new cpuset has neither processors nor memory, and takes no process until it has.
 * Other hierarchies have no such file.
 */
static int inherit(const struct hierarchy *h, const char *parent, const char *path,
                   const char *name, struct err *e)
{
    char file[PATH_MAX], parent_file[PATH_MAX];
    char *text, *above = NULL;
    int ret = 0;

    if (!name_file(file, path, name) || !name_file(parent_file, parent, name))
        return fail_write(e, -ENAMETOOLONG, h, path);
    text = text_file_read(h->fd, file);
    if (text && is_blank(text)) {
        above = text_file_read(h->fd, parent_file);
        ret = above && !is_blank(above) ? text_file_write(h->fd, file, above) : -ENOENT;
    }
    free(text);
    free(above);
    if (ret)
        return err_set(e, ret,
                       "Failed to inherit cgroups configurations from file %s in path %s/%s", name,
                       h->dir, path);
    return 0;
}

static int make_level(const struct cgroups *c, const struct hierarchy *h, const char *parent,
                      const char *path, struct err *e)
{
    int ret = c->o->cgroup_version == 2 ? enable_controllers(c, h, parent, e) : 0;

    if (ret)
        return ret;
    ret = undo_make_directory(c->undo, UNDO_CGROUP, h->fd, path, 0777);
    if (ret)
        return err_set(e, ret, "Failed to create directory %s/%s: %s", h->dir, path, err_os(ret));
    if (c->o->cgroup_version == 2)
        return 0;
    ret = inherit(h, parent, path, "cpuset.cpus", e);
    return ret ? ret : inherit(h, parent, path, "cpuset.mems", e);
}

/* Every part of PARENT/ID, from the mount downwards. */
static int make_levels(const struct cgroups *c, const struct hierarchy *h, struct err *e)
{
    char parent[PATH_MAX] = "", path[PATH_MAX] = "";
    const char *rest = c->path;

    while (*rest) {
        size_t len = strcspn(rest, "/");
        int ret;

        append(path, sizeof(path), rest, len); /* c->path has room, so has this */
        ret = make_level(c, h, parent, path, e);
        if (ret)
            return ret;
        memcpy(parent, path, sizeof(parent));
        rest += len + (rest[len] == '/');
    }
    return 0;
}

/* Version 2: whether the root has what the settings need. */
static int check_controllers(const struct cgroups *c, const struct hierarchy *h, struct err *e)
{
    char *all = text_file_read(h->fd, "cgroup.controllers");
    int ret = 0;

    for (unsigned i = 0; i < c->o->n_cgroups && ret == 0; i++) {
        const char *controller = c->o->cgroups[i].controller;

        if (!all || !cgroup_text_has_word(all, ' ', controller))
            ret = err_set(e, -ENOENT, "Controller %s is unavailable", controller);
    }
    free(all);
    return ret;
}

/* All hierarchies that the settings name, and the cgroups in them. */
static int make_all(struct cgroups *c, struct err *e)
{
    for (unsigned i = 0; i < c->o->n_cgroups; i++) {
        if (!find_hierarchy(c, c->o->cgroups[i].controller, e))
            return e->code;
    }
    if (c->o->cgroup_version == 2 && check_controllers(c, &c->hierarchies[0], e))
        return e->code;
    for (unsigned i = 0; i < c->n_hierarchies; i++) {
        int ret = make_levels(c, &c->hierarchies[i], e);

        if (ret)
            return ret;
    }
    return 0;
}

static int write_values(struct cgroups *c, struct err *e)
{
    for (unsigned i = 0; i < c->o->n_cgroups; i++) {
        const struct cgroup_setting *setting = &c->o->cgroups[i];
        const struct hierarchy *h = find_hierarchy(c, setting->controller, e);
        char file[PATH_MAX];
        int ret;

        if (!h)
            return e->code;
        ret = name_file(file, c->path, setting->file) ? text_file_write(h->fd, file, setting->value)
                                                      : -ENAMETOOLONG;
        if (ret == -ENOENT)
            return err_set(e, ret, "Cgroup invalid file: %s: %s/%s has none of this name",
                           setting->file, h->dir, c->path);
        if (ret)
            return err_set(e, ret, "Failed to write %s to %s/%s: %s", setting->value, h->dir, file,
                           err_os(ret));
    }
    return 0;
}

/* ---- joining ---- */

/* Remembers the way back, which a new cgroup could not be removed without. */
static int push_way_back(const struct cgroups *c, const struct hierarchy *h)
{
    char own[PATH_MAX], file[PATH_MAX];

    cgroup_text_find_own(c->own, c->o->cgroup_version, h->controller, own, sizeof(own));
    /* In a container the path may be one that its mounts do not show. */
    if (!name_file(file, own, "cgroup.procs") || faccessat(h->fd, file, F_OK, 0) < 0)
        snprintf(file, sizeof(file), "cgroup.procs");
    return undo_push(c->undo, UNDO_MEMBER, h->fd, file);
}

static int join(const struct cgroups *c, const struct hierarchy *h, const char *path, struct err *e)
{
    const char *name = c->o->cgroup_version == 1 ? "tasks" : "cgroup.procs";
    char file[PATH_MAX], pid[16];
    int ret = name_file(file, path, name) ? push_way_back(c, h) : -ENAMETOOLONG;

    if (ret)
        return fail_write(e, ret, h, path);
    snprintf(pid, sizeof(pid), "%d", getpid());
    ret = text_file_write(h->fd, file, pid);
    if (ret == 0)
        return 0;
    undo_pop(c->undo);
    if (ret == -EBUSY)
        return err_set(e, ret,
                       "Failed to write to %s/%s: %s; a cgroup whose controllers are enabled for "
                       "those below it takes no process",
                       h->dir, file, err_os(ret));
    return fail_write(e, ret, h, file);
}

static int join_all(const struct cgroups *c, struct err *e)
{
    for (unsigned i = 0; i < c->n_hierarchies; i++) {
        int ret = join(c, &c->hierarchies[i], c->path, e);

        if (ret)
            return ret;
    }
    return 0;
}

/* --parent-cgroup alone. */
static int join_parent(struct cgroups *c, struct err *e)
{
    const struct hierarchy *h = find_hierarchy(c, "", e);
    struct stat st;

    if (!h)
        return e->code;
    if (fstatat(h->fd, *c->parent ? c->parent : ".", &st, 0) < 0)
        return 0;
    return join(c, h, c->parent, e);
}

/* ---- all of it ---- */

/* The paths, without empty parts. */
static int name_paths(struct cgroups *c, const char *name, struct err *e)
{
    const char *rest = c->o->parent_cgroup ? c->o->parent_cgroup : name;
    bool fits = true;

    while (*rest && fits) {
        size_t len = strcspn(rest, "/");

        fits = len == 0 || append(c->parent, sizeof(c->parent), rest, len);
        rest += len + (rest[len] == '/');
    }
    memcpy(c->path, c->parent, sizeof(c->path));
    if (!fits || !append(c->path, sizeof(c->path), c->o->id, strlen(c->o->id)))
        return err_set(e, -ENAMETOOLONG, "Parent cgroup path is invalid: %s",
                       err_os(-ENAMETOOLONG));
    return 0;
}

static int run(struct cgroups *c, const char *name, struct err *e)
{
    int ret = name_paths(c, name, e);

    if (ret == 0)
        ret = read_texts(c, e);
    if (ret == 0 && c->o->n_cgroups == 0)
        return join_parent(c, e);
    if (ret == 0)
        ret = make_all(c, e);
    if (ret == 0)
        ret = write_values(c, e);
    return ret ? ret : join_all(c, e);
}

int cgroup_join(const struct jailer_options *o, const char *name, struct undo *u, struct err *e)
{
    static struct cgroups c; /* large, and once in a process */
    int ret;

    if (o->n_cgroups == 0 && (o->cgroup_version == 1 || !o->parent_cgroup))
        return 0;
    c = (struct cgroups){.o = o, .undo = u};
    ret = run(&c, name, e);
    free(c.mounts);
    free(c.own);
    return ret;
}
