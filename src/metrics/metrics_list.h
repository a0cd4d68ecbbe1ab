/* metrics_list.h — every metric of the interface, once, in the order in which it is written.
 *
 *     COUNT(name)  only grows; a line shows what came since the line before
 *     STORE(name)  a value; a line shows the last one
 *     AGG(name)    a duration: smallest, largest and sum in microseconds
 *
 * Consumers refuse a line with a missing or an additional key, so the lists are complete even where
 * nothing counts (yet), and nothing may be added.  docs/microvm.md says how they are shown.
 */
#pragma once

#define METRICS_API_SERVER(COUNT, STORE, AGG) \
    STORE(process_startup_time_us)            \
    STORE(process_startup_time_cpu_us)

#define METRICS_BALLOON(COUNT, STORE, AGG) \
    COUNT(activate_fails)                  \
    COUNT(inflate_count)                   \
    COUNT(stats_updates_count)             \
    COUNT(stats_update_fails)              \
    COUNT(deflate_count)                   \
    COUNT(event_fails)                     \
    COUNT(free_page_report_count)          \
    COUNT(free_page_report_freed)          \
    COUNT(free_page_report_fails)          \
    COUNT(free_page_hint_count)            \
    COUNT(free_page_hint_freed)            \
    COUNT(free_page_hint_fails)

#define METRICS_BLOCK(COUNT, STORE, AGG) \
    COUNT(activate_fails)                \
    COUNT(cfg_fails)                     \
    COUNT(no_avail_buffer)               \
    COUNT(event_fails)                   \
    COUNT(execute_fails)                 \
    COUNT(invalid_reqs_count)            \
    COUNT(flush_count)                   \
    COUNT(queue_event_count)             \
    COUNT(rate_limiter_event_count)      \
    COUNT(update_count)                  \
    COUNT(update_fails)                  \
    COUNT(read_bytes)                    \
    COUNT(write_bytes)                   \
    COUNT(read_count)                    \
    COUNT(write_count)                   \
    AGG(read_agg)                        \
    AGG(write_agg)                       \
    COUNT(rate_limiter_throttled_events) \
    COUNT(io_engine_throttled_events)    \
    COUNT(remaining_reqs_count)

#define METRICS_DEPRECATED_API(COUNT, STORE, AGG) COUNT(deprecated_http_api_calls)

#define METRICS_GET_API_REQUESTS(COUNT, STORE, AGG) \
    COUNT(instance_info_count)                      \
    COUNT(machine_cfg_count)                        \
    COUNT(mmds_count)                               \
    COUNT(vmm_version_count)                        \
    COUNT(hotplug_memory_count)

#define METRICS_I8042(COUNT, STORE, AGG) \
    COUNT(error_count)                   \
    COUNT(missed_read_count)             \
    COUNT(missed_write_count)            \
    COUNT(read_count)                    \
    COUNT(reset_count)                   \
    COUNT(write_count)

#define METRICS_UART(COUNT, STORE, AGG) \
    COUNT(error_count)                  \
    COUNT(flush_count)                  \
    COUNT(missed_read_count)            \
    COUNT(missed_write_count)           \
    COUNT(read_count)                   \
    COUNT(write_count)                  \
    COUNT(rate_limiter_dropped_bytes)

#define METRICS_LATENCIES_US(COUNT, STORE, AGG) \
    STORE(full_create_snapshot)                 \
    STORE(diff_create_snapshot)                 \
    STORE(load_snapshot)                        \
    STORE(pause_vm)                             \
    STORE(resume_vm)                            \
    STORE(vmm_full_create_snapshot)             \
    STORE(vmm_diff_create_snapshot)             \
    STORE(vmm_load_snapshot)                    \
    STORE(vmm_pause_vm)                         \
    STORE(vmm_resume_vm)

#define METRICS_LOGGER(COUNT, STORE, AGG) \
    COUNT(missed_metrics_count)           \
    COUNT(metrics_fails)                  \
    COUNT(missed_log_count)               \
    COUNT(rate_limited_log_count)

#define METRICS_MMDS(COUNT, STORE, AGG) \
    COUNT(rx_accepted)                  \
    COUNT(rx_accepted_err)              \
    COUNT(rx_accepted_unusual)          \
    COUNT(rx_bad_eth)                   \
    COUNT(rx_invalid_token)             \
    COUNT(rx_no_token)                  \
    COUNT(rx_count)                     \
    COUNT(tx_bytes)                     \
    COUNT(tx_count)                     \
    COUNT(tx_errors)                    \
    COUNT(tx_frames)                    \
    COUNT(connections_created)          \
    COUNT(connections_destroyed)

#define METRICS_NET(COUNT, STORE, AGG) \
    COUNT(activate_fails)              \
    COUNT(cfg_fails)                   \
    COUNT(no_rx_avail_buffer)          \
    COUNT(no_tx_avail_buffer)          \
    COUNT(event_fails)                 \
    COUNT(rx_queue_event_count)        \
    COUNT(rx_event_rate_limiter_count) \
    COUNT(rx_rate_limiter_throttled)   \
    COUNT(rx_tap_event_count)          \
    COUNT(rx_bytes_count)              \
    COUNT(rx_packets_count)            \
    COUNT(rx_fails)                    \
    COUNT(rx_count)                    \
    COUNT(tap_read_fails)              \
    COUNT(tap_write_fails)             \
    AGG(tap_write_agg)                 \
    COUNT(tx_bytes_count)              \
    COUNT(tx_malformed_frames)         \
    COUNT(tx_fails)                    \
    COUNT(tx_count)                    \
    COUNT(tx_packets_count)            \
    COUNT(tx_queue_event_count)        \
    COUNT(tx_rate_limiter_event_count) \
    COUNT(tx_rate_limiter_throttled)   \
    COUNT(tx_spoofed_mac_count)        \
    COUNT(tx_remaining_reqs_count)

#define METRICS_PATCH_API_REQUESTS(COUNT, STORE, AGG) \
    COUNT(drive_count)                                \
    COUNT(drive_fails)                                \
    COUNT(network_count)                              \
    COUNT(network_fails)                              \
    COUNT(machine_cfg_count)                          \
    COUNT(machine_cfg_fails)                          \
    COUNT(mmds_count)                                 \
    COUNT(mmds_fails)                                 \
    COUNT(hotplug_memory_count)                       \
    COUNT(hotplug_memory_fails)                       \
    COUNT(pmem_count)                                 \
    COUNT(pmem_fails)

#define METRICS_PUT_API_REQUESTS(COUNT, STORE, AGG) \
    COUNT(actions_count)                            \
    COUNT(actions_fails)                            \
    COUNT(boot_source_count)                        \
    COUNT(boot_source_fails)                        \
    COUNT(drive_count)                              \
    COUNT(drive_fails)                              \
    COUNT(logger_count)                             \
    COUNT(logger_fails)                             \
    COUNT(machine_cfg_count)                        \
    COUNT(machine_cfg_fails)                        \
    COUNT(cpu_cfg_count)                            \
    COUNT(cpu_cfg_fails)                            \
    COUNT(metrics_count)                            \
    COUNT(metrics_fails)                            \
    COUNT(network_count)                            \
    COUNT(network_fails)                            \
    COUNT(mmds_count)                               \
    COUNT(mmds_fails)                               \
    COUNT(vsock_count)                              \
    COUNT(vsock_fails)                              \
    COUNT(pmem_count)                               \
    COUNT(pmem_fails)                               \
    COUNT(serial_count)                             \
    COUNT(serial_fails)                             \
    COUNT(hotplug_memory_count)                     \
    COUNT(hotplug_memory_fails)

#define METRICS_SECCOMP(COUNT, STORE, AGG) STORE(num_faults)

#define METRICS_VCPU(COUNT, STORE, AGG) \
    COUNT(exit_io_in)                   \
    COUNT(exit_io_out)                  \
    COUNT(exit_mmio_read)               \
    COUNT(exit_mmio_write)              \
    COUNT(failures)                     \
    COUNT(kvmclock_ctrl_fails)          \
    AGG(exit_io_in_agg)                 \
    AGG(exit_io_out_agg)                \
    AGG(exit_mmio_read_agg)             \
    AGG(exit_mmio_write_agg)

#define METRICS_VMM(COUNT, STORE, AGG) STORE(panic_count)

#define METRICS_SIGNALS(COUNT, STORE, AGG) \
    STORE(sigbus)                          \
    STORE(sigsegv)                         \
    STORE(sigxfsz)                         \
    STORE(sigxcpu)                         \
    COUNT(sigpipe)                         \
    STORE(sighup)                          \
    STORE(sigill)

#define METRICS_VSOCK(COUNT, STORE, AGG) \
    COUNT(activate_fails)                \
    COUNT(cfg_fails)                     \
    COUNT(rx_queue_event_fails)          \
    COUNT(tx_queue_event_fails)          \
    COUNT(ev_queue_event_fails)          \
    COUNT(muxer_event_fails)             \
    COUNT(conn_event_fails)              \
    COUNT(rx_queue_event_count)          \
    COUNT(tx_queue_event_count)          \
    COUNT(rx_bytes_count)                \
    COUNT(tx_bytes_count)                \
    COUNT(rx_packets_count)              \
    COUNT(tx_packets_count)              \
    COUNT(conns_added)                   \
    COUNT(conns_killed)                  \
    COUNT(conns_removed)                 \
    COUNT(killq_resync)                  \
    COUNT(tx_flush_fails)                \
    COUNT(tx_write_fails)                \
    COUNT(rx_read_fails)

#define METRICS_ENTROPY(COUNT, STORE, AGG) \
    COUNT(activate_fails)                  \
    COUNT(entropy_event_fails)             \
    COUNT(entropy_event_count)             \
    COUNT(entropy_bytes)                   \
    COUNT(host_rng_fails)                  \
    COUNT(entropy_rate_limiter_throttled)  \
    COUNT(rate_limiter_event_count)

#define METRICS_PMEM(COUNT, STORE, AGG)  \
    COUNT(activate_fails)                \
    COUNT(cfg_fails)                     \
    COUNT(event_fails)                   \
    COUNT(queue_event_count)             \
    COUNT(rate_limiter_throttled_events) \
    COUNT(rate_limiter_event_count)

#define METRICS_VHOST_USER_BLOCK(COUNT, STORE, AGG) \
    COUNT(activate_fails)                           \
    COUNT(cfg_fails)                                \
    STORE(init_time_us)                             \
    STORE(activate_time_us)                         \
    STORE(config_change_time_us)

#define METRICS_INTERRUPTS(COUNT, STORE, AGG) \
    COUNT(triggers)                           \
    COUNT(config_updates)

#define METRICS_MEMORY_HOTPLUG(COUNT, STORE, AGG) \
    COUNT(activate_fails)                         \
    COUNT(queue_event_fails)                      \
    COUNT(queue_event_count)                      \
    AGG(plug_agg)                                 \
    COUNT(plug_count)                             \
    COUNT(plug_bytes)                             \
    COUNT(plug_fails)                             \
    AGG(unplug_agg)                               \
    COUNT(unplug_count)                           \
    COUNT(unplug_bytes)                           \
    COUNT(unplug_fails)                           \
    COUNT(unplug_discard_fails)                   \
    AGG(unplug_all_agg)                           \
    COUNT(unplug_all_count)                       \
    COUNT(unplug_all_fails)                       \
    AGG(state_agg)                                \
    COUNT(state_count)                            \
    COUNT(state_fails)

/* The groups, in the order of a line.
 *     GROUP(name, LIST)    one object
 *     SUMMED(name, LIST)   an object <name>_<id> for each device, then <name>, their sum
 *     EACH(name, LIST)     an object <name>_<id> for each device, no sum */
#define METRICS_GROUPS(GROUP, SUMMED, EACH)               \
    GROUP(api_server, METRICS_API_SERVER)                 \
    GROUP(balloon, METRICS_BALLOON)                       \
    SUMMED(block, METRICS_BLOCK)                          \
    GROUP(deprecated_api, METRICS_DEPRECATED_API)         \
    GROUP(get_api_requests, METRICS_GET_API_REQUESTS)     \
    GROUP(i8042, METRICS_I8042)                           \
    GROUP(uart, METRICS_UART)                             \
    GROUP(latencies_us, METRICS_LATENCIES_US)             \
    GROUP(logger, METRICS_LOGGER)                         \
    GROUP(mmds, METRICS_MMDS)                             \
    SUMMED(net, METRICS_NET)                              \
    GROUP(patch_api_requests, METRICS_PATCH_API_REQUESTS) \
    GROUP(put_api_requests, METRICS_PUT_API_REQUESTS)     \
    GROUP(seccomp, METRICS_SECCOMP)                       \
    GROUP(vcpu, METRICS_VCPU)                             \
    GROUP(vmm, METRICS_VMM)                               \
    GROUP(signals, METRICS_SIGNALS)                       \
    GROUP(vsock, METRICS_VSOCK)                           \
    GROUP(entropy, METRICS_ENTROPY)                       \
    SUMMED(pmem, METRICS_PMEM)                            \
    EACH(vhost_user_block, METRICS_VHOST_USER_BLOCK)      \
    GROUP(interrupts, METRICS_INTERRUPTS)                 \
    GROUP(memory_hotplug, METRICS_MEMORY_HOTPLUG)
