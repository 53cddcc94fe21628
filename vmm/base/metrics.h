/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h owns the counters that a user can read: one struct for the process (one process is one
 * microVM), with the groups and names of Firecracker's metrics file. api/metrics.c walks the tables
 * and prints them.
 *
 * A group is declared once, as a list of rows: C a counter (printed as the increase since the last
 * flush), G a gauge (keeps its value), A an aggregate of latencies in microseconds. The struct and
 * the table of names both come from the list.
 *
 * Some rows have nothing to count here, and stay so that readers of the file find them:
 * vsock.ev_queue_event_fails, killq_resync and tx_flush_fails, and block's
 * io_engine_throttled_events.
 *
 * Under the machine lock, except signals.* and logger.* (bumped by handlers and by the log: relaxed
 * atomics).
 */
#ifndef MAYFLY_BASE_METRICS_H
#define MAYFLY_BASE_METRICS_H

#include "vmm/base/util.h"

struct metric_agg {
    uint64_t min_us, max_us, sum_us;
};

/* One duration into an aggregate. */
void metric_agg_add(struct metric_agg *agg, uint64_t ns);

static inline void metric_add(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* It would indent each line of a list further than the one before. */
/* clang-format off */
#define METRICS_API_SERVER(C, G, A) G(process_startup_time_us) G(process_startup_time_cpu_us)

#define METRICS_BALLOON(C, G, A)                                                                   \
    C(activate_fails) C(inflate_count) C(stats_updates_count) C(stats_update_fails)                \
    C(deflate_count) C(event_fails) C(free_page_report_count) C(free_page_report_freed)            \
    C(free_page_report_fails) C(free_page_hint_count) C(free_page_hint_freed)                      \
    C(free_page_hint_fails)

#define METRICS_BLOCK(C, G, A)                                                                     \
    C(activate_fails) C(cfg_fails) C(no_avail_buffer) C(event_fails) C(execute_fails)              \
    C(invalid_reqs_count) C(flush_count) C(queue_event_count) C(rate_limiter_event_count)          \
    C(update_count) C(update_fails) C(read_bytes) C(write_bytes) C(read_count) C(write_count)      \
    C(rate_limiter_throttled_events) C(io_engine_throttled_events) C(remaining_reqs_count)         \
    A(read_agg) A(write_agg)

/* There is no sum of these. */
#define METRICS_VHOST_USER_BLOCK(C, G, A)                                                          \
    C(activate_fails) C(cfg_fails) G(init_time_us) G(activate_time_us) G(config_change_time_us)

#define METRICS_DEPRECATED_API(C, G, A) C(deprecated_http_api_calls)

#define METRICS_GET_API(C, G, A)                                                                   \
    C(instance_info_count) C(machine_cfg_count) C(mmds_count) C(vmm_version_count)                 \
    C(hotplug_memory_count)

#define METRICS_PUT_API(C, G, A)                                                                   \
    C(actions_count) C(actions_fails) C(boot_source_count) C(boot_source_fails) C(drive_count)     \
    C(drive_fails) C(logger_count) C(logger_fails) C(machine_cfg_count) C(machine_cfg_fails)       \
    C(cpu_cfg_count) C(cpu_cfg_fails) C(metrics_count) C(metrics_fails) C(network_count)           \
    C(network_fails) C(mmds_count) C(mmds_fails) C(vsock_count) C(vsock_fails) C(pmem_count)       \
    C(pmem_fails) C(serial_count) C(serial_fails) C(hotplug_memory_count) C(hotplug_memory_fails)

#define METRICS_PATCH_API(C, G, A)                                                                 \
    C(drive_count) C(drive_fails) C(network_count) C(network_fails) C(machine_cfg_count)           \
    C(machine_cfg_fails) C(mmds_count) C(mmds_fails) C(hotplug_memory_count)                       \
    C(hotplug_memory_fails) C(pmem_count) C(pmem_fails)

#define METRICS_I8042(C, G, A)                                                                     \
    C(error_count) C(missed_read_count) C(missed_write_count) C(read_count) C(reset_count)         \
    C(write_count)

#define METRICS_UART(C, G, A)                                                                      \
    C(error_count) C(flush_count) C(missed_read_count) C(missed_write_count) C(read_count)         \
    C(write_count) C(rate_limiter_dropped_bytes)

#define METRICS_LATENCIES(C, G, A)                                                                 \
    G(full_create_snapshot) G(diff_create_snapshot) G(load_snapshot) G(pause_vm) G(resume_vm)      \
    G(vmm_full_create_snapshot) G(vmm_diff_create_snapshot) G(vmm_load_snapshot) G(vmm_pause_vm)   \
    G(vmm_resume_vm)

#define METRICS_LOGGER(C, G, A)                                                                    \
    C(missed_metrics_count) C(metrics_fails) C(missed_log_count) C(rate_limited_log_count)

#define METRICS_MMDS(C, G, A)                                                                      \
    C(rx_accepted) C(rx_accepted_err) C(rx_accepted_unusual) C(rx_bad_eth) C(rx_invalid_token)     \
    C(rx_no_token) C(rx_count) C(tx_bytes) C(tx_count) C(tx_errors) C(tx_frames)                   \
    C(connections_created) C(connections_destroyed)

#define METRICS_NET(C, G, A)                                                                       \
    C(activate_fails) C(cfg_fails) C(no_rx_avail_buffer) C(no_tx_avail_buffer) C(event_fails)      \
    C(rx_queue_event_count) C(rx_event_rate_limiter_count) C(rx_rate_limiter_throttled)            \
    C(rx_tap_event_count) C(rx_bytes_count) C(rx_packets_count) C(rx_fails) C(rx_count)            \
    C(tap_read_fails) C(tap_write_fails) C(tx_bytes_count) C(tx_malformed_frames) C(tx_fails)      \
    C(tx_count) C(tx_packets_count) C(tx_queue_event_count) C(tx_rate_limiter_event_count)         \
    C(tx_rate_limiter_throttled) C(tx_spoofed_mac_count) C(tx_remaining_reqs_count)                \
    A(tap_write_agg)

#define METRICS_SECCOMP(C, G, A) C(num_faults)

#define METRICS_VCPU(C, G, A)                                                                      \
    C(exit_io_in) C(exit_io_out) C(exit_mmio_read) C(exit_mmio_write) C(failures)                  \
    C(kvmclock_ctrl_fails) A(exit_io_in_agg) A(exit_io_out_agg) A(exit_mmio_read_agg)              \
    A(exit_mmio_write_agg)

#define METRICS_VMM(C, G, A) G(panic_count)

#define METRICS_SIGNALS(C, G, A)                                                                   \
    G(sigbus) G(sigsegv) G(sigxfsz) G(sigxcpu) C(sigpipe) G(sighup) G(sigill)

#define METRICS_VSOCK(C, G, A)                                                                     \
    C(activate_fails) C(cfg_fails) C(rx_queue_event_fails) C(tx_queue_event_fails)                 \
    C(ev_queue_event_fails) C(muxer_event_fails) C(conn_event_fails) C(rx_queue_event_count)       \
    C(tx_queue_event_count) C(rx_bytes_count) C(tx_bytes_count) C(rx_packets_count)                \
    C(tx_packets_count) C(conns_added) C(conns_killed) C(conns_removed) C(killq_resync)            \
    C(tx_flush_fails) C(tx_write_fails) C(rx_read_fails)

#define METRICS_ENTROPY(C, G, A)                                                                   \
    C(activate_fails) C(entropy_event_fails) C(entropy_event_count) C(entropy_bytes)               \
    C(host_rng_fails) C(entropy_rate_limiter_throttled) C(rate_limiter_event_count)

#define METRICS_INTERRUPTS(C, G, A) C(triggers) C(config_updates)

#define METRICS_PMEM(C, G, A)                                                                      \
    C(activate_fails) C(cfg_fails) C(event_fails) C(queue_event_count)                             \
    C(rate_limiter_throttled_events) C(rate_limiter_event_count)

#define METRICS_MEMORY_HOTPLUG(C, G, A)                                                            \
    C(activate_fails) C(queue_event_fails) C(queue_event_count) C(plug_count) C(plug_bytes)        \
    C(plug_fails) A(plug_agg) C(unplug_count) C(unplug_bytes) C(unplug_fails)                      \
    C(unplug_discard_fails) A(unplug_agg) C(state_count) C(state_fails) A(state_agg)               \
    C(unplug_all_count) C(unplug_all_fails) A(unplug_all_agg)
/* clang-format on */

/* group name in the file, member of struct metrics, list of rows */
#define METRICS_GROUPS(GROUP)                                                                      \
    GROUP(api_server, METRICS_API_SERVER)                                                          \
    GROUP(balloon, METRICS_BALLOON)                                                                \
    GROUP(block, METRICS_BLOCK)                                                                    \
    GROUP(deprecated_api, METRICS_DEPRECATED_API)                                                  \
    GROUP(get_api_requests, METRICS_GET_API)                                                       \
    GROUP(put_api_requests, METRICS_PUT_API)                                                       \
    GROUP(patch_api_requests, METRICS_PATCH_API)                                                   \
    GROUP(i8042, METRICS_I8042)                                                                    \
    GROUP(uart, METRICS_UART)                                                                      \
    GROUP(latencies_us, METRICS_LATENCIES)                                                         \
    GROUP(logger, METRICS_LOGGER)                                                                  \
    GROUP(mmds, METRICS_MMDS)                                                                      \
    GROUP(net, METRICS_NET)                                                                        \
    GROUP(seccomp, METRICS_SECCOMP)                                                                \
    GROUP(vcpu, METRICS_VCPU)                                                                      \
    GROUP(vmm, METRICS_VMM)                                                                        \
    GROUP(signals, METRICS_SIGNALS)                                                                \
    GROUP(vsock, METRICS_VSOCK)                                                                    \
    GROUP(entropy, METRICS_ENTROPY)                                                                \
    GROUP(interrupts, METRICS_INTERRUPTS)                                                          \
    GROUP(pmem, METRICS_PMEM)                                                                      \
    GROUP(memory_hotplug, METRICS_MEMORY_HOTPLUG)

#define METRIC_U64(name) uint64_t name;
#define METRIC_AGG(name) struct metric_agg name;

#define METRICS_STRUCT(group, list)                                                                \
    struct metrics_##group {                                                                       \
        list(METRIC_U64, METRIC_U64, METRIC_AGG)                                                   \
    };
METRICS_GROUPS(METRICS_STRUCT)
METRICS_STRUCT(vhost_user_block, METRICS_VHOST_USER_BLOCK)
#undef METRICS_STRUCT

/*
 * The process's metrics. `block`, `net` and `pmem` are the sums over devices and are filled in when
 * printed; a device counts in a struct of its own.
 */
struct metrics {
#define METRICS_MEMBER(group, list) struct metrics_##group group;
    METRICS_GROUPS(METRICS_MEMBER)
#undef METRICS_MEMBER
};

extern struct metrics metrics;

#endif
