/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.h owns the virtual CPUs: a thread each around KVM_RUN, the dispatch of exits to the buses,
 * and parking.
 *
 * To park, set immediate_exit, send the kick signal, wait. A vCPU parks only when KVM_RUN has
 * returned -EINTR: an I/O exit that was answered is completed by the next KVM_RUN, and a vCPU
 * parked before that would be saved in the middle of an instruction. There is no work in the signal
 * handler and no sleeping.
 *
 * A vCPU takes the machine lock to dispatch an exit and to park, and holds nothing while the guest
 * runs. It waits to be let on without the lock too, so that a resume, which is made under it, does
 * not wake a thread that can only wait again.
 */
#ifndef MAYFLY_VMM_VCPU_H
#define MAYFLY_VMM_VCPU_H

#include "vmm/base/bus.h"
#include "vmm/base/kvm.h"
#include "vmm/base/loop.h"
#include "vmm/boot/boot.h"
#include "vmm/config.h"

#include <semaphore.h>

struct kvm_coalesced_mmio_ring;
struct kvm_run;
struct vcpus;

struct vcpu {
    int fd;
    unsigned index;
    struct kvm_run *run;
    uint32_t run_size;
    pthread_t thread;
    bool started;
    sem_t go;      /* posted once for each time that it is let on */
    char name[20]; /* "fc_vcpu 0": the name by which clients find the thread */
    struct vcpus *all;
};

struct vcpus {
    struct loop *loop;
    const struct bus *ports, *mmio;
    /* The guest failed; the exit code it gives the process. vCPU thread, under the lock; calls
     * vcpus_end. */
    void (*ended)(void *owner, int exit_code);
    void *owner;

    struct kvm_coalesced_mmio_ring *posted; /* in the first vCPU's mapping; shared by all */
    unsigned count;
    unsigned parked;
    bool park; /* wanted; read by vCPU threads under the lock */
    bool over; /* the machine has ended */
    bool quit; /* threads end instead of entering the guest: only when a start fails */
    struct vcpu vcpu[MACHINE_VCPUS_MAX];
};

/* Creates vCPUs in the VM, without threads, until there are `count`. On error none is left. */
int vcpus_create(struct vcpus *all, const struct kvm *kvm, unsigned count,
                 struct err *e) __must_check;

/*
 * Dispatches the writes that vCPUs posted (kvm_post_writes) and nobody has seen yet. Called before
 * anything that they might change is looked at: at every MMIO exit, and by devices. Lock held.
 */
void vcpus_flush_posted(struct vcpus *all);

/* Starts the threads; they run at once. On error none is left. */
int vcpus_start(struct vcpus *all, struct err *e) __must_check;

/* The same, and each is parked before its first instruction: vcpus_resume lets them run. */
int vcpus_start_parked(struct vcpus *all, struct err *e) __must_check;

/* Parks every vCPU and returns when all are; the loop turns meanwhile. Loop thread, lock held. */
void vcpus_park(struct vcpus *all);

/* Lets parked vCPUs run on. Lock held. */
void vcpus_resume(struct vcpus *all);

/* The machine is over: no vCPU enters the guest again once it has left it. Any thread,
 * lock held. */
void vcpus_end(struct vcpus *all);

/* Closes what was created; threads must not have been started. */
void vcpus_destroy(struct vcpus *all);

/* The architecture's part (vcpu_x86_64.c): the state in which a vCPU starts; only the first has an
 * entry. */
int vcpu_set_boot_state(const struct vcpu *vcpu, const struct boot_entry *entry,
                        struct err *e) __must_check;

/* Tells a guest with kvmclock that it was stopped, so that its watchdogs do not fire. Before a
 * resume. */
void vcpu_tell_paused(const struct vcpu *vcpu);

#endif
