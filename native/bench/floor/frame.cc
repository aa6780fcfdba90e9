// SPDX-License-Identifier: Apache-2.0
// What the raw floors ask the kernel for.
#include "floor/frame.h"

#include <linux/filter.h>
#include <net/if.h>
#include <sys/ioctl.h>

namespace outrigger::bench {

Netdevice netdeviceOf(const std::string& name) {
  Netdevice device;
  device.index = ::if_nametoindex(name.c_str());
  if (device.index == 0) dieErrno("no interface '" + name + "' in this network namespace");
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (::ioctl(fd.get(), SIOCGIFHWADDR, &request) != 0) dieErrno("the MAC address of " + name);
  std::memcpy(device.mac.data(), request.ifr_hwaddr.sa_data, device.mac.size());
  if (::ioctl(fd.get(), SIOCGIFMTU, &request) != 0) dieErrno("the MTU of " + name);
  device.mtu = static_cast<uint32_t>(request.ifr_mtu);
  return device;
}

UniqueFd reservePort(const Plan& plan) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(plan.port);
  address.sin_addr = plan.local;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    dieErrno("cannot bind port " + std::to_string(plan.port));
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{1, &nothing};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0) dieErrno("cannot close the kernel's socket");
  return fd;
}

}  // namespace outrigger::bench
