// SPDX-License-Identifier: Apache-2.0
// Names of the counters, in the order of the enumerations.
#include "io/network_counters.h"

namespace outrigger::io {
namespace {

constexpr const char* kNames[] = {
    "datagrams_received",
    "trains_received",
    "linearised_frames",
    "kernel_datagrams",
    "stashed_datagrams",
    "short_frames",
    "truncated_frames",
    "bad_ip_headers",
    "bad_ip_checksums",
    "bad_udp_lengths",
    "bad_udp_checksums",
    "zero_udp_checksums",
    "double_tagged_frames",
    "own_mac_frames",
    "oversized_frames",
    "other_mac_frames",
    "other_vlan_frames",
    "fragments",
    "ip_option_packets",
    "extension_header_packets",
    "other_protocol_packets",
    "other_port_datagrams",
    "other_address_datagrams",
    "duplicate_kernel_copies",
    "queue_full_drops",
    "reserved_socket_drops",
    "isolation_polls",
    "neighbour_packets",
    "neighbour_packets_limited",
    "neighbour_requests_sent",
    "echo_requests",
    "echo_requests_limited",
    "icmp_errors",
    "icmp_errors_ignored",
    "bad_control_packets",
    "address_conflicts",
    "frames_sent",
    "trains_sent",
    "kernel_sends",
    "fragmented_sends",
    "too_long_sends",
    "neighbour_waits",
    "ring_full",
    "unreachable_sends",
    "path_changes",
    "path_table_full",
    "device_frames_received",
    "device_frames_sent",
    "device_ring_full_drops",
    "device_no_buffer",
    "device_fill_ring_empty",
    "device_invalid_descriptors",
    "device_transmit_errors",
    "device_oversized_frames",
    "device_other_vlan_frames",
    "device_left_to_kernel",
    "device_receive_errors",
    "device_exception_frames",
    "device_exception_drops",
    "zero_copy_sends",
    "zero_copy_copied",
    "zero_copy_refused",
    "zero_copy_late",
};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == kNetworkCounters);

}  // namespace

const char* networkCounterName(size_t index) { return kNames[index]; }

}  // namespace outrigger::io
