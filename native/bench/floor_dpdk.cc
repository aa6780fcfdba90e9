// SPDX-License-Identifier: Apache-2.0
// The raw floor of DPDK: one port, one queue, one thread, mbufs filled and copied from. Arguments as floor's, and `--vdev` as EAL takes it.
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>

#include <array>
#include <vector>

#include "floor/frame.h"
#include "floor/roles.h"

namespace outrigger::bench {
namespace {

// Numbers of the CPUs that this thread may use.
std::string allowedCpus() {
  cpu_set_t set{};
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) dieErrno("sched_getaffinity");
  std::string text;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) text += (text.empty() ? "" : ",") + std::to_string(cpu);
  }
  return text;
}

class DpdkWire {
 public:
  DpdkWire(const Plan& plan, const std::string& vdev) : plan_(plan), reserved_(reservePort(plan)) {
    const Netdevice device = netdeviceOf(plan.interface);
    std::vector<std::string> words{
        "floor", "--no-huge", "-m", "256", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=error", "--vdev=" + vdev};
    // EAL pins this thread: where it may run is not changed.
    words.push_back("--lcores=0@(" + allowedCpus() + ")");
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    if (::rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) die("EAL does not start with --vdev=" + vdev);
    // EAL took the signals' place.
    installStop();
    if (::rte_eth_dev_count_avail() == 0) die("EAL made no port of --vdev=" + vdev);
    // One buffer holds a frame, and a slot of the kernel's ring.
    const auto room = static_cast<uint16_t>(RTE_PKTMBUF_HEADROOM + (device.mtu > 1500 ? 16'384 : 2'048));
    pool_ = ::rte_pktmbuf_pool_create("floor", kBuffers, 0, 0, room, SOCKET_ID_ANY);
    if (pool_ == nullptr) die("DPDK has no memory for " + std::to_string(kBuffers) + " buffers of " + std::to_string(room) + " bytes");
    rte_eth_conf configuration{};
    uint16_t receive = kDescriptors;
    uint16_t transmit = kDescriptors;
    if (::rte_eth_dev_configure(0, 1, 1, &configuration) != 0 || ::rte_eth_dev_adjust_nb_rx_tx_desc(0, &receive, &transmit) != 0 ||
        ::rte_eth_rx_queue_setup(0, 0, receive, 0, nullptr, pool_) != 0 || ::rte_eth_tx_queue_setup(0, 0, transmit, 0, nullptr) != 0 ||
        ::rte_eth_dev_start(0) != 0) {
      die("DPDK can't start the port of --vdev=" + vdev);
    }
    header_.emplace_back(plan, device.mac, plan.length);
  }
  DpdkWire(const DpdkWire&) = delete;
  ~DpdkWire() {
    ::rte_eth_dev_stop(0);
    ::rte_eth_dev_close(0);
    ::rte_eal_cleanup();
  }

  uint32_t room() {
    while (ready_ < kBatch) {
      rte_mbuf* const buffer = ::rte_pktmbuf_alloc(pool_);
      if (buffer == nullptr) break;
      auto* const frame = reinterpret_cast<uint8_t*>(::rte_pktmbuf_append(buffer, static_cast<uint16_t>(kHeaderBytes + plan_.length)));
      if (frame == nullptr) die("a datagram of " + std::to_string(plan_.length) + " bytes does not fit a buffer");
      header_.front().writeTo(frame);
      burst_[ready_++] = buffer;
    }
    return ready_;
  }
  uint8_t* slot(uint32_t i) { return rte_pktmbuf_mtod(burst_[i], uint8_t*) + kHeaderBytes; }
  void send(uint32_t count) {
    for (uint32_t sent = 0; sent < count && !stopped();) {
      sent += ::rte_eth_tx_burst(0, 0, &burst_[sent], static_cast<uint16_t>(count - sent));
    }
    std::move(burst_.begin() + count, burst_.begin() + ready_, burst_.begin());
    ready_ -= count;
  }
  void poll(Sink& sink) {
    std::array<rte_mbuf*, kBatch> received;
    const uint16_t count = ::rte_eth_rx_burst(0, 0, received.data(), kBatch);
    for (uint16_t i = 0; i < count; ++i) {
      const auto* const frame = rte_pktmbuf_mtod(received[i], const uint8_t*);
      const uint32_t length = rte_pktmbuf_data_len(received[i]);
      uint32_t payload = 0;
      if (isOurs(frame, length, plan_.port, payload) && payload > 0 && kHeaderBytes + payload <= length) {
        sink.take(frame + kHeaderBytes, payload, payload);
      }
      ::rte_pktmbuf_free(received[i]);
    }
  }
  std::string facts() const { return {}; }

 private:
  static constexpr uint32_t kBatch = 64;
  static constexpr uint32_t kBuffers = 4096;
  static constexpr uint16_t kDescriptors = 1024;

  const Plan plan_;
  UniqueFd reserved_;
  rte_mempool* pool_ = nullptr;
  std::vector<FrameHeader> header_;
  std::array<rte_mbuf*, kBatch> burst_{};
  uint32_t ready_ = 0;
};

int start(const Arguments& arguments) {
  installStop();
  const Plan plan = planOf(arguments);
  DpdkWire wire(plan, arguments.text("vdev"));
  return run(wire, plan, arguments);
}

}  // namespace
}  // namespace outrigger::bench

int main(int argc, char** argv) { return outrigger::bench::start(outrigger::bench::Arguments(argc, argv)); }
