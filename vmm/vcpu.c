/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu.c: vCPU threads, KVM_RUN, exits, parking. */
#include "vmm/vcpu.h"

#include "vmm/base/log.h"
#include "vmm/base/metrics.h"
#include "vmm/base/timeline.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define KICK_SIGNAL SIGRTMIN

/* Of a vCPU thread: plenty, and too small for the host to back it with a huge page. */
#define STACK_SIZE (256 * KIB)

/* The process's exit code when the guest fails rather than ends. */
#define EXIT_ERROR 1

/* Only there to make KVM_RUN return. */
static void kick_handler(int signal)
{
    (void)signal;
}

/* KVM says in which page of a vCPU's mapping the ring is. */
static struct kvm_coalesced_mmio_ring *posted_ring(const struct kvm *kvm, const struct vcpu *first)
{
    uint64_t page = (uint64_t)kvm_capability(kvm, KVM_CAP_COALESCED_MMIO);

    BUG_ON((page + 1) * PAGE_SIZE > first->run_size); /* it is a required capability */
    return (void *)((uint8_t *)first->run + page * PAGE_SIZE);
}

int vcpus_create(struct vcpus *all, const struct kvm *kvm, unsigned count, struct err *e)
{
    int rc;

    for (unsigned i = all->count; i < count; i++) {
        struct vcpu *vcpu = &all->vcpu[i];
        void *run;

        vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)i);
        if (vcpu->fd < 0) {
            rc = err_set(e, -errno, "Cannot create vCPU %u: %s", i, err_os(-errno));
            goto fail;
        }
        run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
        if (run == MAP_FAILED) {
            rc = err_set(e, -errno, "Cannot map vCPU %u: %s", i, err_os(-errno));
            close(vcpu->fd);
            goto fail;
        }
        vcpu->run = run;
        vcpu->run_size = kvm->run_size;
        vcpu->index = i;
        vcpu->all = all;
        vcpu->started = false;
        sem_init(&vcpu->go, 0, 0);
        snprintf(vcpu->name, sizeof(vcpu->name), "fc_vcpu %u", i);
        all->count++;
    }
    all->posted = posted_ring(kvm, &all->vcpu[0]);
    return 0;
fail:
    vcpus_destroy(all);
    return rc;
}

void vcpus_destroy(struct vcpus *all)
{
    for (unsigned i = 0; i < all->count; i++) {
        munmap(all->vcpu[i].run, all->vcpu[i].run_size);
        close(all->vcpu[i].fd);
        sem_destroy(&all->vcpu[i].go);
    }
    all->count = 0;
}

/* ---- exits ----------------------------------------------------------------------------------- */

static void handle_io(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    const struct bus *ports = vcpu->all->ports;
    bool in = run->io.direction == KVM_EXIT_IO_IN;
    bool claimed = true;
    uint64_t start = now_ns();

    vcpus_flush_posted(vcpu->all);
    /* A string instruction moves several items in one exit. */
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        claimed &= in ? bus_read(ports, run->io.port, data, run->io.size)
                      : bus_write(ports, run->io.port, data, run->io.size);
    }
    metrics.vcpu.exit_io_in += in;
    metrics.vcpu.exit_io_out += !in;
    metric_agg_add(in ? &metrics.vcpu.exit_io_in_agg : &metrics.vcpu.exit_io_out_agg,
                   now_ns() - start);
    if (!claimed)
        log_debug("Nothing answers at port %#x.", run->io.port);
}

/* Entries of the ring, which fills a page. */
#define POSTED_MAX                                                                                 \
    ((uint32_t)((PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) /                             \
                sizeof(struct kvm_coalesced_mmio)))

void vcpus_flush_posted(struct vcpus *all)
{
    struct kvm_coalesced_mmio_ring *ring = all->posted;
    /* Read once: what is posted meanwhile waits for the next flush, so a guest cannot keep
     * us here. */
    uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);

    while (ring->first != last) {
        const struct kvm_coalesced_mmio *write = &ring->coalesced_mmio[ring->first];

        bus_write(write->pio ? all->ports : all->mmio, write->phys_addr, write->data, write->len);
        /* Given back: KVM may write here from now on. */
        __atomic_store_n(&ring->first, (ring->first + 1) % POSTED_MAX, __ATOMIC_RELEASE);
    }
}

static void handle_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    const struct bus *mmio = vcpu->all->mmio;
    bool write = run->mmio.is_write;
    uint64_t addr = run->mmio.phys_addr, start = now_ns();
    bool claimed;

    vcpus_flush_posted(vcpu->all);
    claimed = write ? bus_write(mmio, addr, run->mmio.data, run->mmio.len)
                    : bus_read(mmio, addr, run->mmio.data, run->mmio.len);
    metrics.vcpu.exit_mmio_read += !write;
    metrics.vcpu.exit_mmio_write += write;
    metric_agg_add(write ? &metrics.vcpu.exit_mmio_write_agg : &metrics.vcpu.exit_mmio_read_agg,
                   now_ns() - start);
    if (!claimed)
        log_warn("Guest %s %u bytes at %#llx, where nothing is.", write ? "wrote" : "read",
                 run->mmio.len, (unsigned long long)addr);
}

void vcpus_end(struct vcpus *all)
{
    all->over = true;
}

static void fail(struct vcpu *vcpu)
{
    metrics.vcpu.failures++;
    vcpu->all->ended(vcpu->all->owner, EXIT_ERROR);
}

static void handle_exit(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        handle_io(vcpu);
        break;
    case KVM_EXIT_MMIO:
        handle_mmio(vcpu);
        break;
    case KVM_EXIT_SHUTDOWN:
        log_error("vCPU %u shut down: a triple fault, the guest's way of crashing or resetting.",
                  vcpu->index);
        fail(vcpu);
        break;
    case KVM_EXIT_HLT:
        log_error("vCPU %u halted outside the interrupt controller's control.", vcpu->index);
        fail(vcpu);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        log_error("KVM could not enter the guest on vCPU %u: hardware reason %#llx.", vcpu->index,
                  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        fail(vcpu);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        log_error("KVM failed internally on vCPU %u: suberror %u%s.", vcpu->index,
                  run->internal.suberror,
                  run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                      ? ", an instruction that it cannot emulate"
                      : "");
        fail(vcpu);
        break;
    default:
        log_error("vCPU %u left the guest for reason %u, which nothing here handles.", vcpu->index,
                  run->exit_reason);
        fail(vcpu);
        break;
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

static void wait_to_go(struct vcpu *vcpu)
{
    while (sem_wait(&vcpu->go))
        continue; /* EINTR: a kick */
}

static void run_failed(struct vcpu *vcpu, int code)
{
    log_error("KVM_RUN failed on vCPU %u: %s%s", vcpu->index, err_os(code),
              code == -EFAULT
                  ? ", the guest touched memory that is not there: it has unplugged it, "
                    "or a file behind it is shorter than it was"
                  : "");
    fail(vcpu);
}

/* After KVM_RUN returned -EINTR: nothing of an instruction is pending. Whether the vCPU is parked
 * now. */
static bool park_if_wanted(struct vcpu *vcpu)
{
    struct vcpus *all = vcpu->all;

    if (!all->park) {
        /* Cleared under the lock, so that a park wanted from now on sets it again. */
        vcpu->run->immediate_exit = 0;
        return false;
    }
    all->parked++;
    loop_wake(all->loop);
    return true;
}

static void enter_guest(struct vcpu *vcpu)
{
    int rc = ioctl(vcpu->fd, KVM_RUN, 0ul) ? -errno : 0;
    bool wait = false;

    loop_lock(vcpu->all->loop);
    if (rc == -EINTR)
        wait = park_if_wanted(vcpu);
    else if (rc == 0)
        handle_exit(vcpu);
    else if (rc != -EAGAIN)
        run_failed(vcpu, rc);
    wait |= vcpu->all->over; /* for ever: the process goes away under the thread */
    loop_unlock(vcpu->all->loop);
    if (wait)
        wait_to_go(vcpu);
}

/* Everything but the kick and what the thread's own faults raise belongs to the main thread. */
static void choose_signals(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    sigset_t set;

    sigfillset(&set);
    sigdelset(&set, KICK_SIGNAL);
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static bool quits(const struct vcpu *vcpu)
{
    return __atomic_load_n(&vcpu->all->quit, __ATOMIC_ACQUIRE);
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *vcpu = arg;

    choose_signals();
    log_set_thread(vcpu->name);
    wait_to_go(vcpu);
    if (vcpu->index == 0 && !quits(vcpu))
        timeline_stamp(TIMELINE_FIRST_RUN);
    while (!quits(vcpu))
        enter_guest(vcpu);
    return NULL;
}

/* Ends and joins the threads that run; the lock is free meanwhile, since they may be waiting for
 * it. */
static void stop_threads(struct vcpus *all)
{
    __atomic_store_n(&all->quit, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < all->count; i++) {
        struct vcpu *vcpu = &all->vcpu[i];

        if (!vcpu->started)
            continue;
        sem_post(&vcpu->go);
        vcpu->run->immediate_exit = 1;
        pthread_kill(vcpu->thread, KICK_SIGNAL);
        loop_unlock(all->loop);
        pthread_join(vcpu->thread, NULL);
        loop_lock(all->loop);
        vcpu->started = false;
    }
}

/*
 * A thread is born with its creator's name, so the creator takes the new one's for that moment: who
 * was told that the machine runs finds its threads by name, and a thread that named itself might be
 * late. (pthread_setname_np would go through /proc, which a jail lacks, and which makes the
 * process's end wait for a tick.)
 */
static int create_thread(struct vcpu *vcpu, const pthread_attr_t *attributes)
{
    char own[sizeof(vcpu->name)];
    int rc;

    prctl(PR_GET_NAME, own);
    prctl(PR_SET_NAME, vcpu->name);
    rc = pthread_create(&vcpu->thread, attributes, vcpu_thread, vcpu);
    prctl(PR_SET_NAME, own);
    vcpu->started = rc == 0;
    return rc;
}

/* Threads that wait to be let on. */
static int create_threads(struct vcpus *all, struct err *e)
{
    struct sigaction kick = {.sa_handler = kick_handler};
    pthread_attr_t attributes;
    int rc = 0;

    sigaction(KICK_SIGNAL, &kick, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    all->over = all->quit = false;
    all->park = true;
    all->parked = all->count;
    for (unsigned i = 0; i < all->count && rc == 0; i++)
        rc = create_thread(&all->vcpu[i], &attributes);
    pthread_attr_destroy(&attributes);
    if (rc == 0)
        return 0;
    stop_threads(all);
    return err_set(e, -rc, "Cannot create a vCPU thread: %s", err_os(-rc));
}

static void let_go(struct vcpus *all)
{
    all->park = false;
    all->parked = 0;
    for (unsigned i = 0; i < all->count; i++) {
        all->vcpu[i].run->immediate_exit = 0;
        sem_post(&all->vcpu[i].go);
    }
}

int vcpus_start(struct vcpus *all, struct err *e)
{
    int rc = create_threads(all, e);

    if (rc == 0)
        let_go(all);
    return rc;
}

int vcpus_start_parked(struct vcpus *all, struct err *e)
{
    return create_threads(all, e);
}

static bool all_parked(void *arg)
{
    const struct vcpus *all = arg;

    return all->parked == all->count || all->over;
}

void vcpus_park(struct vcpus *all)
{
    all->park = true;
    for (unsigned i = 0; i < all->count; i++) {
        all->vcpu[i].run->immediate_exit = 1;
        pthread_kill(all->vcpu[i].thread, KICK_SIGNAL);
    }
    loop_wait(all->loop, all_parked, all);
}

void vcpus_resume(struct vcpus *all)
{
    for (unsigned i = 0; i < all->count; i++)
        vcpu_tell_paused(&all->vcpu[i]);
    let_go(all);
}
