// SPDX-License-Identifier: Apache-2.0
// XDP program that hands UDP datagrams for the driver's own addresses and ports to its AF_XDP sockets. Everything else goes on to the
// kernel untouched: ARP, NDP, ICMP, TCP, other ports, fragments (only the first of them has ports), packets with IPv4 options or IPv6
// extension headers, frames of other VLANs or with two tags, and in generic mode what may be a train of datagrams in one piece, which the
// kernel cuts for an ordinary socket.
//
// Program: `steer`. It can be loaded with BPF_F_XDP_HAS_FRAGS: all that it reads lies in the first buffer of a frame.
// Maps (host byte order unless said otherwise):
//   steer_rules     HASH, key struct steer_key, value u32 owner. An address of zeros: any address of that family
//   steer_owners    ARRAY by receive queue, u32 owner of its socket. A rule counts only on queues of its owner, STEER_ANYONE's on all: drivers
//                   that share a NIC must not get each other's datagrams, whatever queue the NIC chooses
//   steer_sockets   XSKMAP by receive queue. A queue without a socket: the kernel gets the frame
//   steer_config    ARRAY, one entry: struct steer_config
//   steer_counters  PERCPU_ARRAY, u64 frames by enum steer_reason (sum over CPUs)
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer_maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, STEER_MAX_RULES);
  __type(key, struct steer_key);
  __type(value, __u32);
} steer_rules SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, STEER_MAX_QUEUES);
  __type(key, __u32);
  __type(value, __u32);
} steer_owners SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, STEER_MAX_QUEUES);
  __type(key, __u32);
  __type(value, __u32);
} steer_sockets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct steer_config);
} steer_config SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, STEER_REASONS);
  __type(key, __u32);
  __type(value, __u64);
} steer_counters SEC(".maps");

struct vlan_header {
  __be16 tci;
  __be16 protocol;
};

static __always_inline int count(__u32 reason, int action) {
  __u64 *counter = bpf_map_lookup_elem(&steer_counters, &reason);
  if (counter) *counter += 1;
  return action;
}

static __always_inline int pass(__u32 reason) { return count(reason, XDP_PASS); }

// The checksum field holds the folded sum of the pseudo-header, for a device to go on from (checksum-offloads.rst in the kernel's
// documentation). UDP trains are always like that: the kernel sends no other, and makes no other when it coalesces.
static __always_inline int is_partial(struct udphdr *udp, __be32 *addresses, int words) {
  __u64 sum = bpf_htons(IPPROTO_UDP) + udp->len;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < words) sum += addresses[i];
  }
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return udp->check == sum;
}

// `key` has family and address; the port comes from the datagram.
static __always_inline int steer_udp(struct xdp_md *context, struct steer_config *config, struct steer_key *key, struct udphdr *udp,
                                     void *end, __be32 *addresses, int words, __u32 packet_length) {
  if ((void *)(udp + 1) > end) return pass(STEER_TRUNCATED);
  key->port = udp->dest;
  __u32 *owner = bpf_map_lookup_elem(&steer_rules, key);
  if (!owner) {
    __builtin_memset(key->address, 0, sizeof(key->address));
    owner = bpf_map_lookup_elem(&steer_rules, key);
    if (!owner) return pass(STEER_NO_RULE);
  }
  __u32 queue = context->rx_queue_index;
  if (*owner != STEER_ANYONE) {
    __u32 *holder = bpf_map_lookup_elem(&steer_owners, &queue);
    if (!holder || *holder != *owner) return pass(STEER_NO_SOCKET);
  }
  if (config->mtu && packet_length > config->mtu) return pass(STEER_TOO_LONG);
  if (config->pass_partial && is_partial(udp, addresses, words)) return pass(STEER_PARTIAL);
  int action = bpf_redirect_map(&steer_sockets, queue, XDP_PASS);
  return count(action == XDP_REDIRECT ? STEER_STEERED : STEER_NO_SOCKET, action);
}

static __always_inline int steer_ipv4(struct xdp_md *context, struct steer_config *config, struct iphdr *ip, void *end) {
  if ((void *)(ip + 1) > end) return pass(STEER_TRUNCATED);
  if (ip->protocol != IPPROTO_UDP) return pass(ip->protocol == IPPROTO_ICMP ? STEER_ICMP : STEER_OTHER_IP);
  // Offset or more-fragments (RFC 791).
  if (ip->frag_off & bpf_htons(0x3FFF)) return pass(STEER_FRAGMENT);
  if (ip->version != 4 || ip->ihl != 5) return pass(STEER_OPTIONS);
  struct steer_key key = {.family = 4};
  __builtin_memcpy(key.address, &ip->daddr, 4);
  return steer_udp(context, config, &key, (void *)(ip + 1), end, &ip->saddr, 2, bpf_ntohs(ip->tot_len));
}

static __always_inline int steer_ipv6(struct xdp_md *context, struct steer_config *config, struct ipv6hdr *ip, void *end) {
  if ((void *)(ip + 1) > end) return pass(STEER_TRUNCATED);
  switch (ip->nexthdr) {
    case IPPROTO_UDP:
      break;
    case IPPROTO_ICMPV6:
      return pass(STEER_ICMP);
    case IPPROTO_FRAGMENT:
      return pass(STEER_FRAGMENT);
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_DSTOPTS:
      return pass(STEER_OPTIONS);
    default:
      return pass(STEER_OTHER_IP);
  }
  struct steer_key key = {.family = 6};
  __builtin_memcpy(key.address, &ip->daddr, 16);
  return steer_udp(context, config, &key, (void *)(ip + 1), end, ip->saddr.in6_u.u6_addr32, 8, bpf_ntohs(ip->payload_len) + sizeof(*ip));
}

SEC("xdp")
int steer(struct xdp_md *context) {
  void *data = (void *)(long)context->data;
  void *end = (void *)(long)context->data_end;
  struct ethhdr *ethernet = data;
  if ((void *)(ethernet + 1) > end) return pass(STEER_TRUNCATED);
  __u32 zero = 0;
  struct steer_config *config = bpf_map_lookup_elem(&steer_config, &zero);
  if (!config) return XDP_PASS;
  __be16 protocol = ethernet->h_proto;
  void *next = ethernet + 1;
  __u32 vlan_id = 0;
  if (protocol == bpf_htons(ETH_P_8021Q)) {
    struct vlan_header *vlan = next;
    if ((void *)(vlan + 1) > end) return pass(STEER_TRUNCATED);
    vlan_id = bpf_ntohs(vlan->tci) & 0x0FFF;
    protocol = vlan->protocol;
    next = vlan + 1;
  }
  if (vlan_id != config->vlan) return pass(STEER_OTHER_VLAN);
  if (protocol == bpf_htons(ETH_P_IP)) return steer_ipv4(context, config, next, end);
  if (protocol == bpf_htons(ETH_P_IPV6)) return steer_ipv6(context, config, next, end);
  return pass(STEER_NOT_IP);
}

char _license[] SEC("license") = "Apache-2.0";  // no helper used here is restricted to GPL programs
