// SPDX-License-Identifier: Apache-2.0
// How probes leave and answers come: an ordinary UDP socket, or an AF_XDP socket under the driver's own stack.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/datagram_io.h"

namespace outrigger::probe {

enum class LinkKind { kSocket, kXdp };

class ProbeLink {
 public:
  struct Description {
    std::string via;        // "socket", "xdp (native copy)"
    std::string interface;  // that the probes leave through
    std::vector<std::string> notes;
  };
  using Take = std::function<void(const uint8_t* data, uint32_t length, int64_t nowNs)>;

  virtual ~ProbeLink() = default;
  // False when there is no room now: the probe is not sent.
  virtual bool send(std::span<const uint8_t> payload) = 0;
  virtual void receive(const Take& take) = 0;
  virtual int waitHandle() const = 0;
  virtual bool arm() { return true; }
  const Description& description() const { return description_; }

 protected:
  Description description_;
};

// `mode` of the XDP program on our side, as --mode says: auto, native, generic.
Result<std::unique_ptr<ProbeLink>> openLink(LinkKind kind, const io::SockAddr& target, const std::string& mode);

}  // namespace outrigger::probe
