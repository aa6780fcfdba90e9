// SPDX-License-Identifier: Apache-2.0
// What agents tell each other over SPSC rings (contract). Objects are created and destroyed by the conductor; sender and receiver only use
// them between the Add command and the Released event that answers the Remove command.
#pragma once

#include <cstdint>

#include "cnc/counters.h"
#include "io/datagram_io.h"
#include "wire/frames.h"

namespace outrigger::driver {

class SendChannelEndpoint;
class ReceiveChannelEndpoint;
class NetworkPublication;
class PublicationImage;
class SourceList;
struct MdcDestination;
struct SendEndpointMove;
struct ReceiveEndpointMove;
template <typename Move>
struct BackendSwitch;

// conductor -> sender
struct SenderCommand {
  enum class Type : uint8_t {
    kAddEndpoint,     // attach the socket
    kRemoveEndpoint,  // detach; answered by kEndpointReleased
    kAddPublication,
    kRemovePublication,  // answered by kPublicationReleased
    kAddDestination,     // endpoint + destination (manual MDC, or dynamic MDC after kResolveDestination)
    kRemoveDestination,  // by destination pointer; answered by kDestinationReleased
    kAddSpy,             // publication + counter (a spy subscriber's position)
    kRemoveSpy,
    kTermBacked,      // publication: memory exists up to position `value`
    kReplaceNextHop,  // endpoint (unicast) trades its next hop for that of `destination`, which is answered by kDestinationReleased
    kSwitchBackend,   // `change`: other sockets and next hops, and most often another DatagramIo; answered by kBackendSwitched
    kEndSwitch,       // that answer now, whatever is still read of what the former instance sent: the driver closes
  };
  Type type{};
  BackendSwitch<SendEndpointMove>* change = nullptr;
  SendChannelEndpoint* endpoint = nullptr;
  NetworkPublication* publication = nullptr;
  MdcDestination* destination = nullptr;
  cnc::Counter counter;
  int64_t value = 0;
};

// conductor -> receiver
struct ReceiverCommand {
  enum class Type : uint8_t {
    kAddEndpoint,
    kRemoveEndpoint,     // answered by kEndpointReleased; its images are removed first, each on its own
    kAddStreamInterest,  // endpoint, streamId, sessionId when `sessionSpecific`
    kRemoveStreamInterest,
    kAddImage,          // image is ready: packets go to it from now on (its subscriber positions are set already)
    kRemoveImage,       // answered by kImageReleased; `value` 1 when the session may not come back before the cool-down
    kAddSubscriber,     // image + counter (subscriber position), value: 1 tethered
    kRemoveSubscriber,  // image + counter
    kSetupRefused,      // endpoint, streamId, sessionId: forget the pending setup (image could not be created)
    kRejectImage,       // image, value: ErrorCode; reason text is in the image (set by the conductor before sending this)
    kTermBacked,        // image: memory exists up to position `value`
    kSwitchBackend,     // as the sender's
    kSetSources,        // endpoint, streamId, sources: who may publish, null: nobody. The list before it is answered by kSourcesReleased
  };
  Type type{};
  BackendSwitch<ReceiveEndpointMove>* change = nullptr;
  bool sessionSpecific = false;
  ReceiveChannelEndpoint* endpoint = nullptr;
  PublicationImage* image = nullptr;
  const SourceList* sources = nullptr;
  cnc::Counter counter;
  int32_t streamId = 0;
  int32_t sessionId = 0;
  int64_t value = 0;
};

// sender or receiver -> conductor
struct AgentEvent {
  enum class Type : uint8_t {
    kEndpointReleased,  // sendEndpoint or receiveEndpoint
    kPublicationReleased,
    kDestinationReleased,
    kImageReleased,
    kResolveDestination,  // sendEndpoint: a dynamic MDC receiver (address, receiverId) appeared
    kDestinationExpired,  // sendEndpoint, destination: silent for the destination timeout; the conductor answers kRemoveDestination
    kCreateImage,         // receiveEndpoint, setup, address (source): answered by kAddImage or kSetupRefused
    kBackTerm,            // publication or image: memory up to position `value` will be needed
    kPublicationError,    // publication, address, receiverId, groupTag, errorCode, text: an ERR frame came (image rejected by a receiver)
    kLossObserved,        // image, value: bytes lost (for the loss report)
    kError,               // text, errorCode: an entry for the error log
    kBackendSwitched,     // the only answer under way to a kSwitchBackend of this agent
    kSourcesReleased,     // sources
    kSourceRefused,       // receiveEndpoint, setup.streamId, address: none of the sources; value 1: and it goes on
    kImageStateChanged,   // image is draining, has lingered or is done: see PublicationImage::state()
  };
  Type type{};
  int32_t errorCode = 0;
  SendChannelEndpoint* sendEndpoint = nullptr;
  ReceiveChannelEndpoint* receiveEndpoint = nullptr;
  NetworkPublication* publication = nullptr;
  PublicationImage* image = nullptr;
  MdcDestination* destination = nullptr;
  const SourceList* sources = nullptr;
  io::SockAddr address;
  int64_t receiverId = 0;
  int64_t groupTag = 0;
  int64_t value = 0;
  wire::SetupFrame setup{};
  char text[256] = {};  // NUL-terminated
};

}  // namespace outrigger::driver
