// SPDX-License-Identifier: Apache-2.0
// The control part of a device that outrigger-nicd handed out: its sessions' ports and its tables' link.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "io/frame/device_control.h"
#include "io/nicd_client/nicd_ports.h"
#include "io/nicd_client/nicd_tables.h"

namespace outrigger::nicd {

class HandedControl final : public io::DeviceControl {
 public:
  // `steered`: sessions into which ports are steered. `others` only end with this object.
  HandedControl(std::shared_ptr<Connection> connection, std::vector<uint64_t> steered, std::shared_ptr<NicdTables> tables,
                std::vector<uint64_t> others = {})
      : tables_(std::move(tables)), connection_(connection), others_(std::move(others)), ports_(std::move(connection), std::move(steered)) {
    tables_->setResumed([this] { ports_.tellLate(); });
  }
  ~HandedControl() override {
    for (const uint64_t session : others_) connection_->drop(session);
  }
  HandedControl(const HandedControl&) = delete;
  HandedControl& operator=(const HandedControl&) = delete;

  Result<void> steer(const io::SteerRule& rule) override { return ports_.steer(rule); }
  Result<void> unsteer(const io::SteerRule& rule) override { return ports_.unsteer(rule); }
  Result<UniqueFd> openPort(const io::SockAddr& address, int32_t receiveBufferBytes) override {
    return ports_.open(address, receiveBufferBytes);
  }
  int64_t framesLeftToKernel() override { return tables_->framesLeftToKernel(); }
  io::LinkState link() override {
    io::LinkState state = tables_->link();
    Connection::Standing standing;
    for (const uint64_t session : others_) {
      if (state.gone || !connection_->tryStanding(session, standing) || standing.lost.empty()) continue;
      state.gone = true;
      state.reason = "outrigger-nicd took a socket back: " + standing.lost;
    }
    return state;
  }

 private:
  std::shared_ptr<NicdTables> tables_;
  std::shared_ptr<Connection> connection_;
  std::vector<uint64_t> others_;
  NicdPorts ports_;  // goes first, and with it the sessions: nothing calls the tables' hook afterwards
};

}  // namespace outrigger::nicd
