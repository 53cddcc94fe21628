/* SPDX-License-Identifier: Apache-2.0 */
/* fake_kvm.c: see fake_kvm.h. A __wrap_ function is called in place of the one it is named after,
 * which is then __real_. */
#include "tests/unit/fake_kvm.h"

#include "vmm/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RUN_PAGES   3 /* of a vCPU's mapping; its last one has the ring of posted writes */
#define XSAVE_BYTES 4096
#define GIVEN_MAX   1024
#define TSC_KHZ     1000000

int __real_open(const char *path, int flags, ...);
int __real_ioctl(int fd, unsigned long request, ...);
int __real_bind(int fd, const struct sockaddr *address, socklen_t len);

int __wrap_open(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_vcpus_start_parked(struct vcpus *all, struct err *e);
void __wrap_vcpus_park(struct vcpus *all);

/* ---- what was given -------------------------------------------------------------------------- */

/* By a request that sets something, to one descriptor; `which` tells interrupt controllers apart.
 */
struct given {
    int fd;
    unsigned long set;
    uint32_t which;
    size_t len;
    void *bytes;
};

static struct given given[GIVEN_MAX];
static unsigned given_count;

static unsigned long refused;
static int refusal;

void fake_kvm_forget(void)
{
    while (given_count > 0)
        free(given[--given_count].bytes);
}

void fake_kvm_refuse(unsigned long request, int error)
{
    refused = request;
    refusal = error;
}

static struct given *find(int fd, unsigned long set, uint32_t which)
{
    for (unsigned i = 0; i < given_count; i++) {
        if (given[i].fd == fd && given[i].set == set && given[i].which == which)
            return &given[i];
    }
    return NULL;
}

static void keep(int fd, unsigned long set, uint32_t which, const void *bytes, size_t len)
{
    struct given *at = find(fd, set, which);

    if (!at) {
        BUG_ON(given_count == GIVEN_MAX);
        at = &given[given_count++];
        *at = (struct given){.fd = fd, .set = set, .which = which};
    }
    at->bytes = realloc(at->bytes, len + 1);
    BUG_ON(!at->bytes);
    memcpy(at->bytes, bytes, len);
    at->len = len;
}

/* A new descriptor may have the number of an old one. */
static int fresh(int fd)
{
    for (unsigned i = given_count; i-- > 0;) {
        if (given[i].fd != fd)
            continue;
        free(given[i].bytes);
        given[i] = given[--given_count];
    }
    return fd;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* The layouts of struct kvm_cpuid2, kvm_msrs and kvm_msr_list: a count, and so many entries. */
struct counted {
    uint32_t count;
    uint32_t at[];
};

#define CPUID_LEN(n) (8 + (size_t)(n) * sizeof(struct kvm_cpuid_entry2))
#define MSRS_LEN(n)  (8 + (size_t)(n) * sizeof(struct kvm_msr_entry))

static int give_back_cpuid(int fd, struct counted *to)
{
    const struct given *cpuid = find(fd, KVM_SET_CPUID2, 0);
    const struct counted *from = cpuid ? cpuid->bytes : NULL;

    if (!from) {
        to->count = 0;
        return 0;
    }
    if (from->count > to->count) {
        errno = E2BIG;
        return -1;
    }
    memcpy(to, from, cpuid->len);
    return 0;
}

/* Each register is kept by itself. */
static int set_msrs(int fd, const struct counted *from)
{
    const struct kvm_msr_entry *entry = (const void *)((const uint8_t *)from + 8);

    for (uint32_t i = 0; i < from->count; i++)
        keep(fd, KVM_SET_MSRS, entry[i].index, &entry[i], sizeof(entry[i]));
    return (int)from->count;
}

/* Stops at the first that was never set, as KVM does at one that does not exist. */
static int get_msrs(int fd, struct counted *to)
{
    struct kvm_msr_entry *entry = (void *)((uint8_t *)to + 8);
    uint32_t i;

    for (i = 0; i < to->count; i++) {
        const struct given *msr = find(fd, KVM_SET_MSRS, entry[i].index);

        if (!msr)
            break;
        memcpy(&entry[i], msr->bytes, msr->len);
    }
    return (int)i;
}

/* All that were set, of whichever vCPU. */
static int list_msrs(struct counted *to)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < given_count; i++) {
        bool known = given[i].set != KVM_SET_MSRS;

        for (uint32_t n = 0; n < count && !known; n++)
            known = to->at[n] == given[i].which;
        if (known)
            continue;
        BUG_ON(count == to->count);
        to->at[count++] = given[i].which;
    }
    to->count = count;
    return 0;
}

/* Requests whose argument is one struct, kept by one and given back by the other. */
static const struct {
    unsigned long set, get;
    size_t len;
} pairs[] = {
    {KVM_SET_SREGS, KVM_GET_SREGS, sizeof(struct kvm_sregs)},
    {KVM_SET_REGS, KVM_GET_REGS, sizeof(struct kvm_regs)},
    {KVM_SET_XCRS, KVM_GET_XCRS, sizeof(struct kvm_xcrs)},
    {KVM_SET_XSAVE, KVM_GET_XSAVE, XSAVE_BYTES},
    {KVM_SET_DEBUGREGS, KVM_GET_DEBUGREGS, sizeof(struct kvm_debugregs)},
    {KVM_SET_LAPIC, KVM_GET_LAPIC, sizeof(struct kvm_lapic_state)},
    {KVM_SET_VCPU_EVENTS, KVM_GET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events)},
    {KVM_SET_MP_STATE, KVM_GET_MP_STATE, sizeof(struct kvm_mp_state)},
    {KVM_SET_IRQCHIP, KVM_GET_IRQCHIP, sizeof(struct kvm_irqchip)},
    {KVM_SET_CLOCK, KVM_GET_CLOCK, sizeof(struct kvm_clock_data)},
};

static bool is_irqchip(unsigned long request)
{
    return request == KVM_SET_IRQCHIP || request == KVM_GET_IRQCHIP;
}

static int keep_or_give_back(int fd, unsigned long request, void *arg)
{
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        uint32_t which = is_irqchip(request) ? ((struct kvm_irqchip *)arg)->chip_id : 0;
        const struct given *found;

        if (request == pairs[i].set)
            keep(fd, request, which, arg, pairs[i].len);
        if (request != pairs[i].get)
            continue;
        found = find(fd, pairs[i].set, which);
        if (found)
            memcpy(arg, found->bytes, found->len);
    }
    return 0;
}

/* Nearly every feature, of a processor by nobody: not those of leaf 7.1 EDX. */
static int offer_cpuid(struct counted *to)
{
    static const uint32_t leaves[][2] = {
        {0, 0},          {1, 0},          {7, 0},          {7, 1},
        {0xd, 0},        {0xd, 1},        {0x40000001, 0}, {0x80000001, 0},
        {0x80000007, 0}, {0x80000008, 0}, {0x80000021, 0},
    };
    struct kvm_cpuid_entry2 *entry = (void *)((uint8_t *)to + 8);

    BUG_ON(to->count < ARRAY_SIZE(leaves));
    to->count = ARRAY_SIZE(leaves);
    for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
        entry[i] = (struct kvm_cpuid_entry2){
            .function = leaves[i][0],
            .index = leaves[i][1],
            .eax = UINT32_MAX,
            .ebx = UINT32_MAX,
            .ecx = UINT32_MAX,
            .edx = leaves[i][1] == 1 && leaves[i][0] == 7 ? 0 : UINT32_MAX,
        };
    return 0;
}

static int new_vcpu(void)
{
    int fd = memfd_create("fake-vcpu", MFD_CLOEXEC);

    BUG_ON(fd < 0 || ftruncate(fd, RUN_PAGES * PAGE_SIZE));
    return fresh(fd);
}

static int capability(unsigned long number)
{
    if (number == KVM_CAP_COALESCED_MMIO)
        return RUN_PAGES - 1;
    if (number == KVM_CAP_XSAVE2)
        return XSAVE_BYTES;
    return number == KVM_CAP_NR_MEMSLOTS ? 1024 : 1;
}

static int tsc_khz(int fd)
{
    const struct given *khz = find(fd, KVM_SET_TSC_KHZ, 0);

    return khz ? (int)*(const uint64_t *)khz->bytes : TSC_KHZ;
}

static int answer(int fd, unsigned long request, void *arg)
{
    uint64_t number = (uintptr_t)arg; /* of requests that take one */

    switch (request) {
    case KVM_GET_API_VERSION:
        return KVM_API_VERSION;
    case KVM_GET_VCPU_MMAP_SIZE:
        return RUN_PAGES * PAGE_SIZE;
    case KVM_CHECK_EXTENSION:
        return capability(number);
    case KVM_CREATE_VM:
        return fresh(__real_open("/dev/null", O_RDWR | O_CLOEXEC));
    case KVM_CREATE_VCPU:
        return new_vcpu();
    case KVM_GET_TSC_KHZ:
        return tsc_khz(fd);
    case KVM_SET_TSC_KHZ:
        keep(fd, request, 0, &number, sizeof(number));
        return 0;
    case KVM_GET_SUPPORTED_CPUID:
        return offer_cpuid(arg);
    case KVM_SET_CPUID2:
        keep(fd, request, 0, arg, CPUID_LEN(((struct counted *)arg)->count));
        return 0;
    case KVM_GET_CPUID2:
        return give_back_cpuid(fd, arg);
    case KVM_SET_MSRS:
        return set_msrs(fd, arg);
    case KVM_GET_MSRS:
        return get_msrs(fd, arg);
    case KVM_GET_MSR_INDEX_LIST:
        return list_msrs(arg);
    default:
        return keep_or_give_back(fd, request, arg);
    }
}

static bool is_tap_request(unsigned long request)
{
    return request == TUNSETIFF || request == TUNSETVNETHDRSZ || request == TUNSETOFFLOAD;
}

/* ---- in place of the host -------------------------------------------------------------------- */

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    void *arg;

    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    if (refusal && request == refused) {
        errno = refusal;
        return -1;
    }
    if (_IOC_TYPE(request) == KVMIO)
        return answer(fd, request, arg);
    return is_tap_request(request) ? 0 : __real_ioctl(fd, request, arg);
}

static int new_tap(void)
{
    int ends[2];

    BUG_ON(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
    close(ends[1]);
    return ends[0];
}

/* A name in the working directory, also as the whole path of one; and what /proc says of us. */
static bool may_be_opened(const char *path)
{
    char here[PATH_MAX];
    size_t len;

    if (strncmp(path, "/proc/self/", strlen("/proc/self/")) == 0)
        return true;
    BUG_ON(!getcwd(here, sizeof(here)));
    len = strlen(here);
    if (strncmp(path, here, len) == 0 && path[len] == '/')
        path += len + 1;
    return !strchr(path, '/');
}

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    va_start(args, flags);
    if (flags & (O_CREAT | O_TMPFILE))
        mode = va_arg(args, mode_t);
    va_end(args);
    if (strcmp(path, "/dev/kvm") == 0)
        return fresh(__real_open("/dev/null", O_RDWR | O_CLOEXEC));
    if (strcmp(path, "/dev/net/tun") == 0)
        return new_tap();
    if (!may_be_opened(path)) {
        errno = ENOENT;
        return -1;
    }
    return __real_open(path, flags, mode);
}

/* Under a name that the kernel chooses. */
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len)
{
    const struct sockaddr nameless = {.sa_family = AF_UNIX};

    if (address->sa_family != AF_UNIX)
        return __real_bind(fd, address, len);
    return __real_bind(fd, &nameless, sizeof(nameless.sa_family));
}

int __wrap_vcpus_start_parked(struct vcpus *all, struct err *e)
{
    (void)e;
    all->parked = all->count;
    return 0;
}

void __wrap_vcpus_park(struct vcpus *all)
{
    all->parked = all->count;
}
