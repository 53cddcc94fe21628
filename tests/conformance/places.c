/* SPDX-License-Identifier: Apache-2.0 */
/* Surroundings of a recorded scenario: files, guest, taps, placeholders. */
#include "tests/conformance/places.h"

#include "tests/support/guest_elf.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* Writes "M\n" to the serial port for ever. */
static const unsigned char guest_loop[] = {0xfa, 0x66, 0xba, 0xf8, 0x03, 0xb0, 0x4d, 0xee,
                                           0xb0, 0x0a, 0xee, 0xb9, 0x10, 0x27, 0x00, 0x00,
                                           0xff, 0xc9, 0x75, 0xfc, 0xeb, 0xeb};
/* Writes "M\n" once and resets by the keyboard controller. */
static const unsigned char guest_reset[] = {0xfa, 0x66, 0xba, 0xf8, 0x03, 0xb0, 0x4d,
                                            0xee, 0xb0, 0x0a, 0xee, 0x66, 0xba, 0x64,
                                            0x00, 0xb0, 0xfe, 0xee, 0xf4, 0xeb, 0xfd};

static bool complain(struct text *why, const char *what, const char *path)
{
    text_printf(why, "cannot %s %s: %s", what, path, strerror(errno));
    return false;
}

static bool write_file(const char *path, const void *data, size_t len, struct text *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return complain(why, "create", path);
    bool good = write(fd, data, len) == (ssize_t)len;
    if (close(fd) < 0 || !good)
        return complain(why, "write", path);
    return true;
}

/* An ELF file with one segment, entered at its start in 64-bit mode. */
static bool write_guest(const char *path, const unsigned char *code, size_t len, struct text *why)
{
    struct text file = {0};
    guest_elf_append(&file, code, len);
    bool good = write_file(path, file.data, file.len, why);
    text_free(&file);
    return good;
}

/* Sends one ioctl about the tap `name`; a persistent tap outlives the descriptor. */
static int set_tap(const char *name, bool persist)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    memcpy(request.ifr_name, name, strlen(name) + 1);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = 0;
    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, persist ? 1UL : 0UL) < 0)
        ret = -errno;
    close(fd);
    return ret;
}

static bool make_taps(struct places *p, json_int_t wanted, struct text *why)
{
    for (unsigned i = 0; i < wanted && i < PLACES_TAPS_MAX; i++) {
        snprintf(p->taps[i], sizeof(p->taps[i]), "mf%ut%u", (unsigned)getpid() % 1000000000U, i);
        int ret = set_tap(p->taps[i], true);
        if (ret) {
            errno = -ret;
            return complain(why, "make the tap", p->taps[i]);
        }
        p->n_taps++;
    }
    return true;
}

static bool make_file(const struct places *p, const json_t *file, struct text *why)
{
    char *path = text_format("%s/%s", p->dir, json_string_value(json_object_get(file, "path")));
    const json_t *json = json_object_get(file, "json");
    struct text content = {0};
    if (json) {
        char *dump = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        text_puts(&content, dump);
        free(dump);
    } else {
        places_join(&content, json_object_get(file, "text"));
    }
    places_fill(p, &content);
    bool good = write_file(path, text_str(&content), content.len, why);
    json_int_t size = json_integer_value(json_object_get(file, "size"));
    if (good && size && truncate(path, size) < 0)
        good = complain(why, "size", path);
    text_free(&content);
    free(path);
    return good;
}

static bool make_contents(struct places *p, const json_t *setup, struct text *why)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(setup, "dirs"), i, item) {
        char *path = text_format("%s/%s", p->dir, json_string_value(item));
        bool good = mkdir(path, 0755) == 0 || complain(why, "make", path);
        free(path);
        if (!good)
            return false;
    }
    json_array_foreach (json_object_get(setup, "files"), i, item) {
        if (!make_file(p, item, why))
            return false;
    }
    return make_taps(p, json_integer_value(json_object_get(setup, "taps")), why);
}

bool places_make(struct places *p, const char *base, const json_t *setup, struct text *why)
{
    *p = (struct places){.dir = text_format("%s/dir", base)};
    p->socket = text_format("%s/api.sock", p->dir);
    p->kernel = text_format("%s/guest", base);
    if (mkdir(base, 0755) < 0 || mkdir(p->dir, 0755) < 0)
        return complain(why, "make", p->dir);
    const char *kernel = json_string_value(json_object_get(setup, "kernel"));
    bool reset = kernel && !strcmp(kernel, "reset");
    if (!write_guest(p->kernel, reset ? guest_reset : guest_loop,
                     reset ? sizeof(guest_reset) : sizeof(guest_loop), why))
        return false;
    return make_contents(p, setup, why);
}

void places_clear(struct places *p)
{
    for (unsigned i = 0; i < p->n_taps; i++)
        set_tap(p->taps[i], false);
    free(p->dir);
    free(p->socket);
    free(p->kernel);
    *p = (struct places){0};
}

void places_fill(const struct places *p, struct text *t)
{
    static const char *const names[PLACES_TAPS_MAX] = {"${TAP0}", "${TAP1}"};
    text_replace(t, "${DIR}", p->dir);
    text_replace(t, "${KERNEL}", p->kernel);
    for (unsigned i = 0; i < p->n_taps; i++)
        text_replace(t, names[i], p->taps[i]);
}

void places_restore(const struct places *p, struct text *t)
{
    static const char *const names[PLACES_TAPS_MAX] = {"${TAP0}", "${TAP1}"};
    text_replace(t, p->kernel, "${KERNEL}");
    text_replace(t, p->dir, "${DIR}");
    for (unsigned i = 0; i < p->n_taps; i++)
        text_replace(t, p->taps[i], names[i]);
}

char *places_expand(const struct places *p, const char *string)
{
    struct text t = {0};
    text_puts(&t, string);
    places_fill(p, &t);
    return t.data;
}

void places_join(struct text *out, const json_t *value)
{
    size_t i;
    json_t *item;
    if (json_is_string(value))
        text_append(out, json_string_value(value), json_string_length(value));
    json_array_foreach (value, i, item) {
        const json_t *repeat = json_object_get(item, "repeat");
        json_int_t times = repeat ? json_integer_value(json_object_get(item, "times")) : 1;
        for (; times > 0; times--)
            places_join(out, repeat ? repeat : item);
    }
}
