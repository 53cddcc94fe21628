/* SPDX-License-Identifier: Apache-2.0 */
/* shell.c: the steps of the prepared shell. */
#include "vmm/shell.h"

#include "vmm/base/timeline.h"
#include "vmm/cpu_model.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Who asks for a machine at once does so within this time, and is served best by a VM alone. */
#define PAUSE_NS (5 * NSEC_PER_MSEC)

/* ---- steps ----------------------------------------------------------------------------------- */

/* Whoever waits for this processor is perhaps about to ask us something. */
static int give_way(struct shell *shell)
{
    (void)shell;
    sched_yield();
    return 0;
}

static int open_kvm(struct shell *shell)
{
    int rc;

    cpu_model_request_features();
    rc = kvm_open(shell->kvm, NULL);
    return rc ? rc : kvm_check_capabilities(shell->kvm, NULL, NULL, NULL);
}

static int make_vm(struct shell *shell)
{
    return kvm_make_vm(shell->kvm, NULL);
}

static int ask_offer(struct shell *shell)
{
    const struct cpuid_table *offer;

    return shell_offer(shell, &offer, NULL);
}

static int pause(struct shell *shell)
{
    loop_timer_start(shell->loop, &shell->pause, PAUSE_NS);
    return 0;
}

static int make_chips(struct shell *shell)
{
    return kvm_make_chips(shell->kvm, NULL);
}

static int make_vcpu(struct shell *shell)
{
    return vcpus_create(shell->vcpus, shell->kvm, 1, NULL);
}

/* Most machines of one vCPU have this processor: no template, and a snapshot of this host's. */
static int give_cpuid(struct shell *shell)
{
    const struct cpuid_table *given;

    return shell_given(shell, &given, NULL);
}

static int (*const steps[])(struct shell *shell) = {
    give_way, open_kvm, make_vm, give_way, ask_offer, pause, make_chips, make_vcpu, give_cpuid,
};

/* ---- their order in time --------------------------------------------------------------------- */

/* The start will meet what went wrong here, and explain it. */
static void give_up(struct shell *shell)
{
    shell->open = false;
    shell_forget_vm(shell);
    vcpus_destroy(shell->vcpus);
    kvm_close(shell->kvm);
}

static bool take_step(struct idle_work *work)
{
    struct shell *shell = container_of(work, struct shell, work);

    if (steps[shell->next++](shell))
        give_up(shell);
    return shell->open && !shell->pause.armed && shell->next < ARRAY_SIZE(steps);
}

static void pause_done(struct op *op, int res, bool more)
{
    struct shell *shell = container_of(op, struct shell, pause.op);

    (void)res;
    (void)more;
    shell->pause.armed = false;
    if (shell->open)
        loop_when_idle(shell->loop, &shell->work);
}

void shell_init(struct shell *shell, struct loop *loop, struct kvm *kvm, struct vcpus *vcpus)
{
    *shell = (struct shell){
        .loop = loop,
        .kvm = kvm,
        .vcpus = vcpus,
        .work.step = take_step,
        .pause.op.done = pause_done,
    };
}

void shell_prepare(struct shell *shell)
{
    shell->open = true;
    loop_when_idle(shell->loop, &shell->work);
}

void shell_close(struct shell *shell)
{
    enum timeline_shell found = TIMELINE_SHELL_NONE;

    if (shell->open) {
        shell->open = false;
        loop_when_idle(shell->loop, NULL);
        if (shell->pause.armed)
            loop_cancel(shell->loop, &shell->pause.op);
    }
    if (kvm_slots_wait(shell->kvm)) {
        shell_forget_vm(shell);
        vcpus_destroy(shell->vcpus);
        kvm_leave_vm(shell->kvm);
        found = TIMELINE_SHELL_LEFT;
    } else if (shell->vcpus->count > 0) {
        found = TIMELINE_SHELL_VCPU;
    } else if (shell->kvm->vm_fd >= 0) {
        found = TIMELINE_SHELL_VM;
    }
    timeline_set_shell(found);
}

/* ---- what is known of the processor ---------------------------------------------------------- */

/* A table has room for more entries than any has; of one that is kept there is no more than it
 * has. */
static struct cpuid_table *copy(const struct cpuid_table *table)
{
    size_t size = cpuid_table_size(table);
    struct cpuid_table *kept = malloc(size);

    if (kept)
        memcpy(kept, table, size);
    return kept;
}

static int keep(struct cpuid_table **at, const struct cpuid_table *table, struct err *e)
{
    *at = copy(table);
    return *at ? 0 : err_set(e, -ENOMEM, "Cannot keep a CPUID table: %s", err_os(-ENOMEM));
}

int shell_offer(struct shell *shell, const struct cpuid_table **offer, struct err *e)
{
    struct cpuid_table table;
    int rc = 0;

    if (!shell->offer)
        rc = cpu_model_query(shell->kvm, &table, e);
    if (rc == 0 && !shell->offer)
        rc = keep(&shell->offer, &table, e);
    *offer = shell->offer;
    return rc;
}

static int give_default(struct shell *shell, const struct cpuid_table *offer, struct err *e)
{
    static const struct machine_config config = MACHINE_CONFIG_DEFAULTS;
    int fd = shell->vcpus->vcpu[0].fd;
    struct cpu_model model;
    int rc = cpu_model_create(&model, offer, &config, NULL, e);

    if (rc == 0)
        rc = cpu_model_give_cpuid(&model, fd, 0, e);
    if (rc == 0)
        rc = cpu_model_read_back(fd, &model.cpuid, e);
    return rc ? rc : keep(&shell->given, &model.cpuid, e);
}

int shell_given(struct shell *shell, const struct cpuid_table **given, struct err *e)
{
    const struct cpuid_table *offer;
    int rc = shell->given ? 0 : shell_offer(shell, &offer, e);

    if (rc == 0 && !shell->given)
        rc = give_default(shell, offer, e);
    *given = shell->given;
    return rc;
}

void shell_inherit(struct shell *shell, const struct shell *parent)
{
    shell->offer = parent->offer ? copy(parent->offer) : NULL; /* without memory it asks again */
}

void shell_forget_vm(struct shell *shell)
{
    free(shell->given);
    shell->given = NULL;
}

void shell_destroy(struct shell *shell)
{
    shell_forget_vm(shell);
    free(shell->offer);
    shell->offer = NULL;
}
