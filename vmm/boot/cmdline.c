/* SPDX-License-Identifier: Apache-2.0 */
/* cmdline.c: the kernel command line, composed in a buffer of the size that kernels read. */
#include "vmm/boot/cmdline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes of text that fit; the NUL takes the last. */
#define TEXT_MAX (LAYOUT_CMDLINE_SIZE - 1)

/* Appends; what does not fit is counted but not stored, so that the error can tell the length. */
static void append(struct cmdline *line, const char *text, size_t len)
{
    size_t room = line->len < TEXT_MAX ? TEXT_MAX - line->len : 0;

    memcpy(line->text + MIN(line->len, TEXT_MAX), text, MIN(len, room));
    line->len += len;
}

/* Appends a word or several, after a space unless they are the first. */
static void add(struct cmdline *line, const char *words, size_t len)
{
    if (len == 0)
        return;
    if (line->len > 0)
        append(line, " ", 1);
    append(line, words, len);
}

static __printf(2, 3) void addf(struct cmdline *line, const char *fmt, ...)
{
    char words[LAYOUT_CMDLINE_SIZE + 64];
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    BUG_ON(len < 0);
    /* Words that vsnprintf cut are longer than the line may be, so the sum refuses them. */
    add(line, words, MIN((size_t)len, sizeof(words) - 1));
}

/* The length of the part of `args` that is for the kernel: up to a word `--` outside of quotes. */
static size_t kernel_part(const char *args)
{
    bool quoted = false;

    for (size_t i = 0; args[i]; i++) {
        bool word_starts = i == 0 || args[i - 1] == ' ';

        if (args[i] == '"')
            quoted = !quoted;
        if (!quoted && word_starts && strncmp(args + i, "--", 2) == 0 &&
            (args[i + 2] == ' ' || args[i + 2] == '\0'))
            return i;
    }
    return strlen(args);
}

bool cmdline_has(const char *args, const char *word)
{
    size_t end = kernel_part(args), len = strlen(word);

    for (size_t i = 0; i + len <= end; i++) {
        char after = i + len < end ? args[i + len] : ' ';

        if ((i == 0 || args[i - 1] == ' ') && strncmp(args + i, word, len) == 0 &&
            (after == ' ' || after == '='))
            return true;
    }
    return false;
}

static size_t without_trailing_spaces(const char *text, size_t len)
{
    while (len > 0 && text[len - 1] == ' ')
        len--;
    return len;
}

static void add_root(struct cmdline *line, const struct boot_request *request)
{
    const char *mode = request->root_read_only ? "ro" : "rw";

    if (request->root == BOOT_ROOT_NONE)
        return;
    if (request->root == BOOT_ROOT_PMEM)
        addf(line, "root=/dev/pmem%u %s", request->root_pmem, mode);
    else if (request->root_partuuid)
        addf(line, "root=PARTUUID=%s %s", request->root_partuuid, mode);
    else
        addf(line, "root=/dev/vda %s", mode);
}

/* Size, address and interrupt, for kernels with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES. */
static void add_device(struct cmdline *line, const struct boot_device *device)
{
    addf(line, "virtio_mmio.device=%" PRIu64 "K@0x%" PRIx64 ":%u", LAYOUT_VIRTIO_MMIO_SIZE / KIB,
         device->base.v, device->gsi);
}

/*
 * A kernel that does without kvmclock would measure the TSC, and Linux cannot on every machine (on
 * a hardware-reduced one only by the ACPI timer, and not if that takes longer than 20 us to read):
 * it is told the rate, which KVM knows exactly.
 */
static void add_tsc_rate(struct cmdline *line, const struct boot_request *request)
{
    if (request->tsc_khz && cmdline_has(request->args, "no-kvmclock"))
        addf(line, "tsc_early_khz=%" PRIu32, request->tsc_khz);
}

/* `len` = all can be printed. */
static size_t first_unprintable(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && text[i] >= ' ' && text[i] <= '~')
        i++;
    return i;
}

static int check_printable(const char *text, size_t len, struct err *e)
{
    size_t bad = first_unprintable(text, len);

    if (bad == len)
        return 0;
    return err_set(e, -EINVAL,
                   "The kernel command line is invalid: byte %zu of it is not printable ASCII",
                   bad + 1);
}

static int check_length(size_t len, struct err *e)
{
    if (len <= TEXT_MAX)
        return 0;
    return err_set(e, -EINVAL,
                   "The kernel command line is invalid: it has %zu bytes with all that belongs to "
                   "it, more than the %" PRIu64 " that kernels read",
                   len, TEXT_MAX);
}

/* In the words that clients know. */
int boot_args_check(const char *args, struct err *e)
{
    size_t len = strlen(args);

    if (len > TEXT_MAX)
        return err_set(e, -EINVAL,
                       "The kernel command line is invalid: Inserting string would make command "
                       "line too long.");
    if (first_unprintable(args, len) < len)
        return err_set(e, -EINVAL,
                       "The kernel command line is invalid: String contains a non-printable ASCII "
                       "character.");
    return 0;
}

int cmdline_compose(struct cmdline *line, const struct boot_request *request, struct err *e)
{
    size_t for_kernel = kernel_part(request->args);
    const char *for_init = request->args + for_kernel;
    int rc;

    line->len = 0;
    add(line, request->args, without_trailing_spaces(request->args, for_kernel));
    add(line, "pci=off", strlen("pci=off"));
    add_tsc_rate(line, request);
    add_root(line, request);
    for (unsigned i = 0; i < request->device_count; i++)
        add_device(line, &request->device[i]);
    add(line, for_init, strlen(for_init));

    rc = check_length(line->len, e);
    if (rc == 0)
        rc = check_printable(line->text, line->len, e);
    if (rc == 0)
        line->text[line->len] = '\0';
    return rc;
}
