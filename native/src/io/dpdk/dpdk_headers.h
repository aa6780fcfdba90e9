// SPDX-License-Identifier: Apache-2.0
// DPDK's headers, of any release from 22.11 on. What changed between releases and matters here is bridged in this file only.
#pragma once

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_version.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 is the oldest release that this is written for"
#endif

namespace outrigger::io::dpdk {

// Whether receive side scaling hashes by Toeplitz, addresses and ports in their order: the default, and before 23.11 all there was.
inline bool isToeplitz(const rte_eth_rss_conf& configuration) {
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
  return configuration.algorithm == RTE_ETH_HASH_FUNCTION_DEFAULT || configuration.algorithm == RTE_ETH_HASH_FUNCTION_TOEPLITZ;
#else
  static_cast<void>(configuration);
  return true;
#endif
}

}  // namespace outrigger::io::dpdk
