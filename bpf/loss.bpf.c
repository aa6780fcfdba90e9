// SPDX-License-Identifier: Apache-2.0
// XDP program that drops a share of the UDP datagrams to a range of ports: loss from outside of whatever is measured, the same
// for each contender. Everything else passes untouched. No seed: bpf_get_prandom_u32 is the kernel's own.
//
// Attach it in native mode (XDP_FLAGS_DRV_MODE). On veth the kernel then segments trains before the program, so that it sees
// one datagram a run; in generic mode a UDP_SEGMENT train is one packet to it, and is dropped or passed whole.
//
// Program: `loss`, section "xdp".
// Maps, to be filled and read by name:
//   loss_config    ARRAY, one entry, key u32 0, value struct loss_config (12 bytes, all host byte order):
//     0  u32 threshold   a datagram is dropped when a random u32 is below it: probability * 2^32, 0xFFFFFFFF for all but none
//     4  u16 port_low    first destination port that is subject to loss
//     6  u16 port_high   last one, inclusive; port_low 1 and port_high 65535 for all. All zero (as loaded): nothing is dropped
//     8  u32 frame_mask  0: any datagram; else only Aeron frames whose type is in it, as bits 1 << type (0x2 = DATA)
//   loss_counters  PERCPU_ARRAY, u64 packets by key u32 (sum over CPUs):
//     0 dropped   1 kept (subject to loss, passed)   2 UDP to other ports   3 UDP of frame types outside the mask
//     4 IP fragments   5 other IP   6 not IP   7 truncated headers
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum loss_reason {
  LOSS_DROPPED = 0,
  LOSS_KEPT = 1,
  LOSS_OTHER_PORT = 2,
  LOSS_OTHER_FRAME = 3,
  LOSS_FRAGMENT = 4,
  LOSS_OTHER_IP = 5,
  LOSS_NOT_IP = 6,
  LOSS_TRUNCATED = 7,
  LOSS_REASONS = 8,
};

struct loss_config {
  __u32 threshold;
  __u16 port_low;
  __u16 port_high;
  __u32 frame_mask;
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct loss_config);
} loss_config SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, LOSS_REASONS);
  __type(key, __u32);
  __type(value, __u64);
} loss_counters SEC(".maps");

struct vlan_header {
  __be16 tci;
  __be16 protocol;
};

static __always_inline int answer(__u32 reason) {
  __u64 *counter = bpf_map_lookup_elem(&loss_counters, &reason);
  if (counter) *counter += 1;
  return reason == LOSS_DROPPED ? XDP_DROP : XDP_PASS;
}

// Common header of an Aeron frame: i32 length, u8 version, u8 flags, u16 type, little-endian.
static __always_inline int frame_in_mask(void *payload, void *end, __u32 mask) {
  __u8 *bytes = payload;
  if ((void *)(bytes + 8) > end) return 0;
  __u32 type = bytes[6] | (__u32)bytes[7] << 8;
  return type < 32 && (mask >> type & 1);
}

static __always_inline int decide_udp(void *header, void *end) {
  struct udphdr *udp = header;
  if ((void *)(udp + 1) > end) return answer(LOSS_TRUNCATED);
  __u32 key = 0;
  struct loss_config *config = bpf_map_lookup_elem(&loss_config, &key);
  if (!config) return XDP_PASS;
  __u16 port = bpf_ntohs(udp->dest);
  if (port < config->port_low || port > config->port_high) return answer(LOSS_OTHER_PORT);
  if (config->frame_mask && !frame_in_mask(udp + 1, end, config->frame_mask)) return answer(LOSS_OTHER_FRAME);
  return answer(bpf_get_prandom_u32() < config->threshold ? LOSS_DROPPED : LOSS_KEPT);
}

SEC("xdp")
int loss(struct xdp_md *context) {
  void *data = (void *)(long)context->data;
  void *end = (void *)(long)context->data_end;
  struct ethhdr *ethernet = data;
  if ((void *)(ethernet + 1) > end) return answer(LOSS_TRUNCATED);
  __be16 protocol = ethernet->h_proto;
  void *next = ethernet + 1;
#pragma unroll
  for (int depth = 0; depth < 2; ++depth) {
    if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD)) break;
    struct vlan_header *vlan = next;
    if ((void *)(vlan + 1) > end) return answer(LOSS_TRUNCATED);
    protocol = vlan->protocol;
    next = vlan + 1;
  }
  if (protocol == bpf_htons(ETH_P_IP)) {
    struct iphdr *ip = next;
    if ((void *)(ip + 1) > end) return answer(LOSS_TRUNCATED);
    if (ip->protocol != IPPROTO_UDP) return answer(LOSS_OTHER_IP);
    // Offset or more-fragments (RFC 791): a fragment may carry no port.
    if (ip->frag_off & bpf_htons(0x3FFF)) return answer(LOSS_FRAGMENT);
    __u32 header_length = ip->ihl * 4U;
    if (header_length < sizeof(*ip)) return answer(LOSS_TRUNCATED);
    return decide_udp(next + header_length, end);
  }
  if (protocol == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr *ip = next;
    if ((void *)(ip + 1) > end) return answer(LOSS_TRUNCATED);
    if (ip->nexthdr == IPPROTO_FRAGMENT) return answer(LOSS_FRAGMENT);
    if (ip->nexthdr != IPPROTO_UDP) return answer(LOSS_OTHER_IP);
    return decide_udp(ip + 1, end);
  }
  return answer(LOSS_NOT_IP);
}

char _license[] SEC("license") = "Apache-2.0";  // no helper used here is restricted to GPL programs
