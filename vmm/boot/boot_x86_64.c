/* SPDX-License-Identifier: Apache-2.0 */
/* boot_x86_64.c: the one call by which a guest gets into memory, step by step. */
#include "vmm/boot/acpi.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/cmdline.h"
#include "vmm/boot/entry_x86_64.h"
#include "vmm/boot/initrd.h"
#include "vmm/boot/kernel.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/mptable.h"
#include "vmm/boot/pvh_x86_64.h"
#include "vmm/boot/tables.h"
#include "vmm/boot/zero_page_x86_64.h"

#include <errno.h>
#include <inttypes.h>

/* A kernel may read less of the command line than we have room for; a cut line would be worse than
 * an error. */
static int check_cmdline(const struct cmdline *line, const struct kernel_image *image,
                         struct err *e)
{
    if (line->len <= image->cmdline_max)
        return 0;
    return err_set(e, -EINVAL,
                   "The kernel command line is invalid: it has %zu bytes with all that belongs to "
                   "it, more than the %" PRIu64 " that this kernel reads",
                   line->len, image->cmdline_max);
}

/*
 * The hardware, for every kernel: which of the two it reads is the kernel's business. But one that
 * is told not to use the IOAPIC or local APICs gets no ACPI tables: on a hardware-reduced machine
 * Linux leaves the 8259s alone too, and would have no interrupts at all. Returns the address of the
 * ACPI root pointer, 0 without one.
 */
static uint64_t describe_hardware(const struct boot_request *request)
{
    size_t len = mptable_write(request->mem, LAYOUT_SYSTEM, request->vcpu_count, request->device,
                               request->device_count);

    if (cmdline_has(request->args, "noapic") || cmdline_has(request->args, "nolapic"))
        return 0;
    acpi_write(request->mem, LAYOUT_SYSTEM + len, request->vcpu_count, request->device,
               request->device_count);
    return LAYOUT_RSDP;
}

/*
 * A jump to the reset vector resets the machine. Linux with CONFIG_EFI needs it for a reboot: on
 * any hardware-reduced machine it asks EFI first, finds none, and then, without another look at
 * ACPI or the keyboard controller, goes back to real mode and jumps there.
 */
static void write_reset_vector(struct mem *mem)
{
    static const uint8_t code[] = {
        0xb0, LAYOUT_RESET_PULSE,        /* mov al, pulse */
        0xe6, LAYOUT_PORT_KEYBOARD_CTRL, /* out port, al */
        0xf4,                            /* hlt */
        0xeb, 0xfd,                      /* jmp hlt */
    };

    table_write(mem, LAYOUT_RESET_VECTOR, code, sizeof(code));
}

int boot_load(const struct boot_request *request, struct boot_entry *entry, struct err *e)
{
    struct mem *mem = request->mem;
    struct kernel_image image;
    struct initrd initrd;
    struct cmdline line;
    uint64_t rsdp;
    int rc = cmdline_compose(&line, request, e);

    if (rc == 0)
        rc = kernel_open(request->kernel_fd, &image, e);
    if (rc == 0)
        rc = check_cmdline(&line, &image, e);
    if (rc == 0) {
        write_reset_vector(mem);
        rc = kernel_load(request->kernel_fd, &image, mem, e);
    }
    if (rc == 0)
        rc = initrd_load(request->initrd_fd, &image, mem, &initrd, e);
    if (rc)
        return rc;

    table_write(mem, LAYOUT_CMDLINE, line.text, line.len + 1);
    rsdp = describe_hardware(request);
    if (image.protocol == BOOT_PVH)
        pvh_write(mem, &initrd, rsdp);
    else
        zero_page_write(mem, &image, &initrd, line.len, rsdp);
    entry_write(mem, image.protocol, image.entry, entry);
    return 0;
}
