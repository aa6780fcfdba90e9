// SPDX-License-Identifier: Apache-2.0
// The sender's private state of a network publication. Only publication_sending.cc, publication_repairs.cc and
// the constructor touch it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "driver/network_publication.h"
#include "driver/retransmit_handler.h"
#include "logbuffer/term_ops.h"

namespace outrigger::driver {

inline int64_t datagrams(uint32_t length, uint32_t segment) { return segment == 0 ? 1 : (length + segment - 1) / segment; }

struct NetworkPublication::SenderState {
  static constexpr size_t kExpectedSpies = 256;  // more of them cost an allocation on the command, nothing else
  static constexpr size_t kMaxReceivers = 256;

  struct HeardReceiver {
    int64_t id = 0;
    int64_t lastHeardNs = 0;
  };

  // A train that some destinations of an MDC have and others still lack, because the socket was full: it goes on where it stopped, so
  // that neither the first destinations get it again and again nor the last ones never.
  struct PartialTrain {
    logbuffer::Train train;
    int32_t destination = 0;  // the next one to serve
    uint32_t sentBytes = 0;   // what that one already has
    bool pending = false;
  };

  int64_t startPosition = 0;
  int64_t senderPosition = 0;
  int64_t senderLimit = 0;
  int64_t publisherLimit = 0;
  int64_t backedPosition = 0;     // memory exists up to here
  int64_t requestedPosition = 0;  // and was asked for up to here
  int64_t cleanedTo = 0;          // positions below may be written: their memory is zero or holds them already
  int64_t lastPadBegin = 0;       // of the last PAD that was sent
  int64_t lastPadEnd = 0;
  int64_t lastSendNs = 0;
  int64_t lastSetupNs = 0;
  int64_t lastRttRequestNs = 0;
  int64_t lastTermRequestNs = 0;
  int64_t lastErrorEventNs = 0;
  int64_t lastNakNs = 0;
  int32_t probes = 0;  // early heartbeats since the last data
  int64_t repairBudgetResetNs = 0;
  int64_t repairedBytes = 0;  // since the reset
  int32_t receiverWindow = 128 * 1024;
  bool setupWanted = true;
  bool setupElicited = false;
  bool hasInitialConnection = false;
  bool eosSent = false;
  bool limitMoved = false;
  bool socketFull = false;  // the last send of this publication was short
  bool memoryLent = false;  // what is to be cleaned next may still be read by the network
  bool tooLongReported = false;
  bool damagedReported = false;
  PartialTrain partial;
  std::vector<cnc::Counter> spies;
  std::array<HeardReceiver, kMaxReceivers> receivers{};
  size_t receiverCount = 0;
};

}  // namespace outrigger::driver
