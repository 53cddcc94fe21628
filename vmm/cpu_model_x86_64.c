/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_model_x86_64.c: see cpu_model.h. */
#include "vmm/cpu_model.h"
#include "vmm/cpu_template.h"
#include "vmm/msr_x86_64.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/syscall.h>

#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#define XFEATURE_XTILE_DATA       18

void cpu_model_request_features(void)
{
    syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XFEATURE_XTILE_DATA);
}

int cpu_model_query(const struct kvm *kvm, struct cpuid_table *offer, struct err *e)
{
    offer->count = CPUID_ENTRIES_MAX;
    offer->padding = 0;
    if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, offer)) {
        int code = -errno;
        return err_set(e, code, "Cannot get the CPUID table that KVM supports: %s", err_os(code));
    }
    return 0;
}

static int apply_template(struct cpu_model *model, const struct machine_config *config,
                          const struct cpu_template *cpu_template, struct err *e)
{
    model->msr = NULL;
    model->n_msr = 0;
    if (cpu_template) {
        model->msr = cpu_template->msr;
        model->n_msr = cpu_template->n_msr;
        return cpu_template_apply_cpuid(cpu_template, &model->cpuid, e);
    }
    if (config->cpu_template == CPU_TEMPLATE_NONE)
        return 0;
    model->n_msr = cpu_template_static_msrs(config->cpu_template, &model->msr);
    return cpu_template_apply_static_cpuid(config->cpu_template, &model->cpuid, e);
}

int cpu_model_create(struct cpu_model *model, const struct cpuid_table *offer,
                     const struct machine_config *config, const struct cpu_template *cpu_template,
                     struct err *e)
{
    struct kvm_cpuid_entry2 *leaf0, vendor = {0};
    int ret;

    memcpy(&model->cpuid, offer, cpuid_table_size(offer));
    leaf0 = cpuid_find(&model->cpuid, 0, 0);
    if (leaf0)
        vendor = *leaf0;
    model->machine = (struct cpuid_machine){
        .vendor = cpuid_vendor(&model->cpuid),
        .vcpus = config->vcpu_count,
        .threads_per_core = config->smt && config->vcpu_count > 1 ? 2 : 1,
        .host = cpuid_host,
    };
    ret = apply_template(model, config, cpu_template, e);
    if (ret < 0)
        return ret;
    /* A template may not change the vendor: instructions differ, not only their bits. */
    if (leaf0) {
        leaf0->ebx = vendor.ebx;
        leaf0->ecx = vendor.ecx;
        leaf0->edx = vendor.edx;
    }
    return cpuid_describe_machine(&model->cpuid, &model->machine, e);
}

int cpu_model_check_addresses(struct cpu_model *model, uint64_t end, struct err *e)
{
    unsigned bits = cpuid_address_bits(&model->cpuid);

    if (end <= UINT64_C(1) << bits)
        return 0;
    return err_set(e, -EINVAL,
                   "The guest's memory, with what devices add above 512 GiB, ends at %llu GiB, but "
                   "this host's processor addresses %llu GiB.",
                   (unsigned long long)(align_up(end, GIB) / GIB),
                   (unsigned long long)((UINT64_C(1) << bits) / GIB));
}

int cpu_model_give_cpuid(struct cpu_model *model, int vcpu_fd, unsigned index, struct err *e)
{
    cpuid_describe_vcpu(&model->cpuid, &model->machine, index);
    if (ioctl(vcpu_fd, KVM_SET_CPUID2, &model->cpuid)) {
        int code = -errno;
        return err_set(e, code, "KVM refuses the CPUID table of vCPU %u: %s", index, err_os(code));
    }
    return 0;
}

int cpu_model_apply(struct cpu_model *model, int vcpu_fd, unsigned index, struct err *e)
{
    int ret = cpu_model_give_cpuid(model, vcpu_fd, index, e);

    if (ret == 0 && model->n_msr)
        ret = msr_modify(vcpu_fd, model->msr, model->n_msr, e);
    return ret < 0 ? ret : msr_set_boot_values(vcpu_fd, e);
}

int cpu_model_read_back(int vcpu_fd, struct cpuid_table *table, struct err *e)
{
    table->count = CPUID_ENTRIES_MAX;
    if (ioctl(vcpu_fd, KVM_GET_CPUID2, table)) {
        int code = -errno;
        return err_set(e, code, "Cannot get the CPUID table of a vCPU: %s", err_os(code));
    }
    return 0;
}

uint32_t cpu_model_tsc_khz(int vcpu_fd)
{
    int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0ul);

    return khz > 0 ? (uint32_t)khz : 0;
}
