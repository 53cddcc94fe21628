/* SPDX-License-Identifier: Apache-2.0 */
/* late_write.c: see late_write.h. */
#include "vmm/base/late_write.h"

#include <errno.h>

#include <sys/mman.h>

static struct {
    uintptr_t at;
    uint64_t size, page;
    bool happened;
} watched;

void late_write_watch(void *at, uint64_t size, uint64_t page)
{
    watched.at = (uintptr_t)at;
    watched.page = page;
    watched.happened = false;
    __atomic_store_n(&watched.size, size, __ATOMIC_RELEASE);
}

bool late_write_allow(void *address)
{
    uint64_t size = __atomic_load_n(&watched.size, __ATOMIC_ACQUIRE);
    uintptr_t at = (uintptr_t)address;
    int error = errno;
    bool allowed;

    if (at < watched.at || at - watched.at >= size)
        return false;
    __atomic_store_n(&watched.happened, true, __ATOMIC_RELAXED);
    at -= (at - watched.at) % watched.page;
    allowed = mprotect((char *)address - ((uintptr_t)address - at), watched.page,
                       PROT_READ | PROT_WRITE) == 0;
    errno = error;
    return allowed;
}

bool late_write_happened(void)
{
    return __atomic_exchange_n(&watched.happened, false, __ATOMIC_RELAXED);
}
