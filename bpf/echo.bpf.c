// SPDX-License-Identifier: Apache-2.0
// XDP programs for measuring round trips without a peer process.
//   echo  sends each probe straight back from the receive queue (XDP_TX): Ethernet, IP and UDP source and destination change places.
//         The UDP checksum covers the same words in another order, so it stays valid.
//   pass  does nothing. On veth, XDP_TX returns a frame only when the other end runs a native program too.
//
// A probe is UDP to `echo_config.port` whose payload starts with ECHO_MAGIC: no other protocol can be bounced off this port. Each
// reflection lowers the hop limit as a router does, so two reflectors that were made to face each other lose a probe after 255
// passages at most; a probe that comes from the reflectors' own port is dropped at once.
//
// Maps:
//   echo_config    ARRAY, one entry: struct echo_config
//   echo_counters  PERCPU_ARRAY, u64 frames by enum echo_reason (sum over CPUs)
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "echo_maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct echo_config);
} echo_config SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, ECHO_REASONS);
  __type(key, __u32);
  __type(value, __u64);
} echo_counters SEC(".maps");

static __always_inline int count(__u32 reason, int action) {
  __u64 *counter = bpf_map_lookup_elem(&echo_counters, &reason);
  if (counter) *counter += 1;
  return action;
}

// 1: a probe to our port. 0: none. -1: to our port, but no probe.
static __always_inline int is_probe(struct udphdr *udp, void *end) {
  if ((void *)(udp + 1) > end) return 0;
  __u32 zero = 0;
  struct echo_config *config = bpf_map_lookup_elem(&echo_config, &zero);
  if (!config || !config->port || udp->dest != config->port) return 0;
  __be32 *magic = (void *)(udp + 1);
  if ((void *)magic + ECHO_MIN_PAYLOAD_LENGTH > end || *magic != bpf_htonl(ECHO_MAGIC)) return -1;
  return 1;
}

static __always_inline void swap_ports(struct udphdr *udp) {
  __be16 source = udp->source;
  udp->source = udp->dest;
  udp->dest = source;
}

static __always_inline void swap_macs(struct ethhdr *ethernet) {
  __u8 source[ETH_ALEN];
  __builtin_memcpy(source, ethernet->h_source, ETH_ALEN);
  __builtin_memcpy(ethernet->h_source, ethernet->h_dest, ETH_ALEN);
  __builtin_memcpy(ethernet->h_dest, source, ETH_ALEN);
}

static __always_inline int echo_ipv4(struct ethhdr *ethernet, struct iphdr *ip, void *end) {
  if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_UDP) return count(ECHO_OTHER, XDP_PASS);
  if (ip->ihl != 5 || (ip->frag_off & bpf_htons(0x3FFF))) return count(ECHO_OTHER, XDP_PASS);
  struct udphdr *udp = (void *)(ip + 1);
  int probe = is_probe(udp, end);
  if (probe <= 0) return count(probe ? ECHO_NOT_A_PROBE : ECHO_OTHER, XDP_PASS);
  __u8 first = bpf_ntohl(ip->saddr) >> 24;
  // 0/8 is "this host", 224/4 multicast, 240/4 reserved with broadcast (RFC 6890).
  if (udp->source == udp->dest || (ethernet->h_source[0] & 1) || first == 0 || first >= 224) return count(ECHO_NO_RETURN, XDP_DROP);
  if (ip->ttl <= 1) return count(ECHO_TTL_EXPIRED, XDP_DROP);
  // The time to live is the high byte of its word, so one less takes 0x0100 from the sum: RFC 1624.
  __u32 check = ip->check;
  check += bpf_htons(0x0100);
  ip->check = (__u16)(check + (check >= 0xFFFF));
  ip->ttl -= 1;
  __be32 source = ip->saddr;
  ip->saddr = ip->daddr;
  ip->daddr = source;
  swap_ports(udp);
  swap_macs(ethernet);
  return count(ECHO_REFLECTED, XDP_TX);
}

static __always_inline int echo_ipv6(struct ethhdr *ethernet, struct ipv6hdr *ip, void *end) {
  if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_UDP) return count(ECHO_OTHER, XDP_PASS);
  struct udphdr *udp = (void *)(ip + 1);
  int probe = is_probe(udp, end);
  if (probe <= 0) return count(probe ? ECHO_NOT_A_PROBE : ECHO_OTHER, XDP_PASS);
  __be32 *words = ip->saddr.in6_u.u6_addr32;
  int unspecified = !(words[0] | words[1] | words[2] | words[3]);
  if (udp->source == udp->dest || (ethernet->h_source[0] & 1) || unspecified || ip->saddr.in6_u.u6_addr8[0] == 0xFF) {
    return count(ECHO_NO_RETURN, XDP_DROP);
  }
  if (ip->hop_limit <= 1) return count(ECHO_TTL_EXPIRED, XDP_DROP);
  ip->hop_limit -= 1;
  struct in6_addr source = ip->saddr;
  ip->saddr = ip->daddr;
  ip->daddr = source;
  swap_ports(udp);
  swap_macs(ethernet);
  return count(ECHO_REFLECTED, XDP_TX);
}

SEC("xdp")
int echo(struct xdp_md *context) {
  void *data = (void *)(long)context->data;
  void *end = (void *)(long)context->data_end;
  struct ethhdr *ethernet = data;
  if ((void *)(ethernet + 1) > end) return count(ECHO_OTHER, XDP_PASS);
  if (ethernet->h_proto == bpf_htons(ETH_P_IP)) return echo_ipv4(ethernet, (void *)(ethernet + 1), end);
  if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) return echo_ipv6(ethernet, (void *)(ethernet + 1), end);
  return count(ECHO_OTHER, XDP_PASS);
}

SEC("xdp")
int pass(struct xdp_md *context) { return XDP_PASS; }

char _license[] SEC("license") = "Apache-2.0";  // no helper used here is restricted to GPL programs
