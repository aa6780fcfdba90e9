// SPDX-License-Identifier: Apache-2.0
// The conductor's state: every record it keeps, and the parts of its work, one .cc file each. Conductor thread only, except where a task
// of the resource agent is said to run elsewhere.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cnc/mpsc_ring.h"
#include "driver/conductor.h"
#include "driver/conductor/client_commands.h"
#include "driver/conductor/client_responses.h"
#include "driver/conductor/ipc_publication.h"
#include "driver/conductor/stream_params.h"
#include "driver/endpoints.h"
#include "driver/network_publication.h"
#include "driver/policy_file.h"
#include "driver/publication_image.h"

namespace outrigger::driver {

// ---- records ----

enum class SubscriptionKind : uint8_t { kNetwork, kIpc, kSpy };

struct ReceiveEndpointEntry;

struct Subscription {
  int64_t registrationId = 0;
  int64_t clientId = 0;
  int32_t streamId = 0;
  SubscriptionKind kind = SubscriptionKind::kNetwork;
  std::string channel;                       // as the client wrote it
  net::UdpChannel udp;                       // network and spies
  ReceiveEndpointEntry* endpoint = nullptr;  // network
  SubscriptionStreamParams params;

  bool matchesSession(int32_t sessionId) const { return !params.sessionId || *params.sessionId == sessionId; }
};

// Where an untethered subscriber that fell behind stands; tethered ones stay kActive.
enum class PositionState : uint8_t {
  kActive,
  kLinger,   // told that the image is gone, still holds the stream back
  kResting,  // holds nothing back; comes back after the resting time
  kClosed,   // rejoin=false: stays away
};

// One subscription's reading position in one source (an image, a spied publication or an IPC publication).
struct SubscriberPosition {
  Subscription* subscription = nullptr;
  cnc::Counter counter;
  PositionState state = PositionState::kActive;
  UntetheredTimeouts timeouts;
  int64_t lastUpdateNs = 0;
};

// The memory behind a log: which part exists, which is asked for. The descriptor is the log object's own.
struct LogBacking {
  int fd = -1;
  int32_t termLength = 0;
  int64_t backedPosition = 0;
  int64_t wantedPosition = 0;
  int64_t wholePosition = 0;  // backed up to here every byte of the file has memory: three terms in a row have been backed
  int64_t retryAtNs = 0;
  bool busy = false;  // a task has the descriptor: the log must not be destroyed

  // `backed`: the end of the first term, or beyond any position for a log that has all of its memory.
  static LogBacking of(int fd, int32_t termLength, int64_t backed) {
    return {fd, termLength, backed, backed, backed + (logbuffer::kPartitionCount - 1) * int64_t{termLength}};
  }
};

struct SendEndpointEntry {
  SendChannelEndpoint endpoint;
  io::EndpointConfig socketConfig;  // with the port that it got
  bool displaced = false;           // the backend of now does not have its address: another one stands in
  int32_t pendingTasks = 0;         // tasks of the resource agent that use the socket
  bool removing = false;            // kRemoveEndpoint was sent
  bool released = false;
  std::unordered_set<const MdcDestination*> removingDestinations;
  struct ManualDestination {
    int64_t registrationId = 0;
    std::string channel;
    MdcDestination* destination = nullptr;
    bool named = false;  // by a host name, which may come to stand for another address
  };
  std::vector<ManualDestination> manualDestinations;
  bool named = false;    // unicast, by a host name
  io::SockAddr current;  // unicast: what the name stands for
  int32_t lookUps = 0;   // under way
};

struct ReceiveEndpointEntry {
  ReceiveChannelEndpoint endpoint;
  io::EndpointConfig socketConfig;  // with the port that it got
  int32_t receiveBufferBytes = 0;   // granted; read here, since the receiver may be changing the socket itself
  int32_t sendBufferBytes = 0;
  bool displaced = false;    // the backend of now does not have its address: nothing arrives
  int32_t pendingTasks = 0;  // of a move, which looks at the socket
  bool removing = false;
  bool released = false;
  struct Interest {
    int32_t streamId = 0;
    std::optional<int32_t> sessionId;
    int32_t count = 0;
  };
  std::vector<Interest> interests;
  // Who may publish, by stream, as the receiver has it or is about to; where there is a policy.
  std::unordered_map<int32_t, std::unique_ptr<const SourceList>> sources;
};

enum class StreamState : uint8_t { kActive, kDraining, kLinger, kRemoving, kReleased };

struct NetworkEntry {
  std::unique_ptr<NetworkPublication> publication;
  SendEndpointEntry* endpoint = nullptr;
  StreamState state = StreamState::kActive;
  int32_t references = 0;  // clients' adds
  bool revoked = false;
  int64_t lingerEndNs = 0;
  PublicationStreamParams stream;
  std::string channel;
  std::vector<SubscriberPosition> spies;
  LogBacking backing;
  uint64_t logLength = 0;
};

struct IpcEntry {
  std::unique_ptr<IpcPublication> publication;
  StreamState state = StreamState::kActive;
  int32_t references = 0;
  bool revoked = false;
  int64_t cooldownEndNs = 0;  // after a reject: nobody may join
  PublicationStreamParams stream;
  std::string channel;
  std::vector<SubscriberPosition> subscribers;
  LogBacking backing;
};

struct ImageEntry {
  std::unique_ptr<PublicationImage> image;
  ReceiveEndpointEntry* endpoint = nullptr;
  bool told = false;      // the clients know that it is gone
  bool removing = false;  // kRemoveImage was sent
  bool released = false;
  int64_t removeAtNs = 0;   // told: until then the receiver repeats to the sender that it has gone
  int64_t lingerEndNs = 0;  // told: until then its file stays, for clients that were slow to open it
  std::string channel;
  std::string source;
  UntetheredTimeouts untethered;
  std::vector<SubscriberPosition> subscribers;
  LogBacking backing;
  uint64_t logLength = 0;
  int64_t lossOffset = -1;
};

struct PublicationLink {
  int64_t registrationId = 0;
  NetworkEntry* network = nullptr;  // one of the two
  IpcEntry* ipc = nullptr;
};

struct CounterLink {
  int64_t registrationId = 0;
  int32_t counterId = 0;
  int32_t typeId = 0;
};

struct ClientSession {
  int64_t id = 0;
  cnc::Counter heartbeat;
  std::vector<PublicationLink> publications;
  std::vector<CounterLink> counters;
};

struct StaticCounter {
  int32_t typeId = 0;
  int64_t registrationId = 0;
  int32_t counterId = 0;
};

// An add that needs something slow first: a name look-up, a socket, a file.
struct PendingAdd {
  ClientCommand command;
  std::optional<net::UdpChannel> udp;
  std::vector<ClientCommand> deferred;  // commands of the client that refer to it, run when it has finished
};

// ---- the conductor ----

class ConductorState {
 public:
  ConductorState(ConductorParts parts, int64_t nowNs, int64_t nowMs);
  ~ConductorState();

  int32_t doWork(int64_t nowNs, int64_t nowMs);
  int64_t nextDeadlineNs(int64_t nowNs) const;
  void close(int64_t nowNs);
  bool closed() const;
  bool terminationRequested() const { return terminationRequested_; }

 private:
  // conductor.cc: duty cycle, agents, timers
  int32_t readCommands();
  int32_t pollEvents(SpscRing<AgentEvent>& ring);
  void onEvent(const AgentEvent& event);
  void onTimer();
  int32_t onTransitions();
  bool inTransition() const;
  void sendToSender(const SenderCommand& command);
  void sendToReceiver(const ReceiverCommand& command);
  void flushToAgents();
  void recordError(const std::string& text);
  void refuse(int64_t correlationId, const Error& error);

  // dispatch.cc: commands to their handlers
  void onMessage(int32_t type, const uint8_t* message, int32_t length);
  void execute(ClientCommand command);
  bool deferToPending(ClientCommand& command);
  bool isRegistrationInUse(int64_t registrationId) const;
  void onTerminate(const ClientCommand& command);
  void onNextSessionId(const ClientCommand& command);

  // clients.cc
  ClientSession* findSession(int64_t clientId);
  ClientSession* sessionOf(const ClientCommand& command);
  void checkSessions();
  void endSession(ClientSession& session, bool timedOut);

  // pending_adds.cc: what waits for the resource agent
  void startAdd(ClientCommand command);
  void startDestination(ClientCommand command);
  void lookUp(std::shared_ptr<PendingAdd> add);
  void enqueue(std::shared_ptr<PendingAdd> add) { lane_.push_back(std::move(add)); }
  int32_t stepLane();

  // policy.cc: what clients may open and who may publish to it
  bool hasPolicy() const { return !config_.policyFile.empty(); }
  void admit(std::shared_ptr<PendingAdd> add);
  bool isAllowed(const ClientCommand& command, std::string& reason) const;
  void lookAtPolicy();
  void onPolicyRead(PolicyReading reading);
  void decideWaiting();
  void forbid(const PendingAdd& add, const std::string& reason);
  void updateSources(ReceiveEndpointEntry& entry, int32_t streamId);
  void onSourcesReleased(const SourceList* sources);
  void onSourceRefused(const AgentEvent& event);
  enum class LaneStep : uint8_t { kFinished, kTaskRunning, kWait };
  LaneStep runAdd(const std::shared_ptr<PendingAdd>& add);
  void finishAdd(const std::shared_ptr<PendingAdd>& add);
  void failAdd(const std::shared_ptr<PendingAdd>& add, const Error& error);

  // network_publications.cc
  LaneStep addNetworkPublication(const std::shared_ptr<PendingAdd>& add, ClientSession& session);
  struct NetworkPublicationJob;
  void installNetworkPublication(const std::shared_ptr<PendingAdd>& add, NetworkPublicationJob& job);
  SendEndpointEntry* findSendEndpoint(const net::UdpChannel& channel);
  SendEndpointEntry* installSendEndpoint(std::unique_ptr<SendEndpointEntry> entry, std::unique_ptr<io::Endpoint> socket,
                                         const std::string& channel, int64_t registrationId);
  void releaseSendEndpoint(SendEndpointEntry& entry);
  void destroySendEndpoint(SendEndpointEntry& entry);
  void linkPublication(ClientSession& session, int64_t correlationId, NetworkEntry& entry);
  void onRemovePublication(const ClientCommand& command, ClientSession& session);
  void unlinkPublication(const PublicationLink& link, bool revoke);
  bool stepNetworkPublication(NetworkEntry& entry);
  void onPublicationReleased(NetworkPublication* publication);
  void onPublicationError(const AgentEvent& event);
  NetworkEntry* findNetwork(const NetworkPublication* publication);
  Result<int32_t> chooseSessionId(const PublicationStreamParams& stream, int32_t streamId, const SendEndpointEntry* endpoint, bool ipc);
  bool isSessionTaken(int32_t sessionId, int32_t streamId, const SendEndpointEntry* endpoint, bool ipc) const;
  int32_t nextSessionId();
  LogSpec logSpecOf(const PublicationStreamParams& stream, const ClientCommand& command, int32_t sessionId) const;
  void fillPosition(PublicationStreamParams& stream);

  // ipc_publications.cc
  LaneStep addIpcPublication(const std::shared_ptr<PendingAdd>& add, ClientSession& session);
  void linkPublication(ClientSession& session, int64_t correlationId, IpcEntry& entry);
  bool stepIpcPublication(IpcEntry& entry);
  void rejectIpc(IpcEntry& entry, const ClientCommand& command);

  // subscriptions.cc
  LaneStep addSubscription(const std::shared_ptr<PendingAdd>& add, ClientSession& session);
  void addLocalSubscription(std::unique_ptr<Subscription> subscription);
  void installSubscription(const std::shared_ptr<PendingAdd>& add, ReceiveEndpointEntry& entry, SubscriptionStreamParams params);
  ReceiveEndpointEntry* findReceiveEndpoint(const net::UdpChannel& channel);
  void releaseReceiveEndpoint(ReceiveEndpointEntry& entry);
  void changeInterest(const Subscription& subscription, int32_t delta);
  void onRemoveSubscription(const ClientCommand& command);
  void removeSubscription(Subscription& subscription);
  bool spies(const Subscription& subscription, const NetworkEntry& entry) const;
  void linkSpy(NetworkEntry& entry, Subscription& subscription);
  void linkIpc(IpcEntry& entry, Subscription& subscription);
  void unlinkSpies(NetworkEntry& entry);
  void unlinkIpc(IpcEntry& entry);
  void tellUnavailable(int64_t imageId, const SubscriberPosition& position);
  std::optional<SubscriberPosition> makePosition(Subscription& subscription, int32_t sessionId, int64_t joinPosition,
                                                 const UntetheredTimeouts& fallback);
  void checkUntethered();

  // images.cc
  void onCreateImage(const AgentEvent& event);
  struct ImageJob;
  void installImage(ImageJob& job);
  void refuseSetup(ReceiveChannelEndpoint* endpoint, int32_t streamId, int32_t sessionId);
  void linkImage(ImageEntry& entry, Subscription& subscription);
  void makeImageUnavailable(ImageEntry& entry);
  void removeImage(ImageEntry& entry);
  void dropImageSubscriber(ImageEntry& entry, const Subscription& subscription);
  bool stepImage(ImageEntry& entry);
  void onImageReleased(PublicationImage* image);
  void onLoss(const AgentEvent& event);
  void onRejectImage(const ClientCommand& command);
  ImageEntry* findImage(const PublicationImage* image);

  // destinations.cc
  LaneStep addDestination(const std::shared_ptr<PendingAdd>& add, ClientSession& session);
  void onRemoveDestination(const ClientCommand& command, ClientSession& session);
  void removeDestination(SendEndpointEntry& entry, MdcDestination* destination);
  void countDestination(MdcDestination& destination, const std::string& channel);
  void releaseDestination(MdcDestination& destination);
  void onResolveDestination(const AgentEvent& event);
  void onDestinationExpired(const AgentEvent& event);
  void onDestinationReleased(const AgentEvent& event);
  SendEndpointEntry* entryOf(const SendChannelEndpoint* endpoint);
  Result<SendEndpointEntry*> destinationEndpoint(const ClientCommand& command, const ClientSession& session);

  // reresolution.cc
  void checkNames();
  void lookUpAgain(SendEndpointEntry& entry, const std::string& channel, std::optional<int64_t> destinationId);
  void moveTo(SendEndpointEntry& entry, const io::SockAddr& address, std::optional<int64_t> destinationId,
              std::unique_ptr<io::NextHop> nextHop);

  // backend_move.cc: all endpoints to another backend, when the current one is lost or a better one can be had again
  bool moving() const { return move_ != nullptr; }
  int32_t stepBackend();
  void onHealth(const io::Health& health);
  struct BackendMove;
  void startMove(std::string reason, bool lost);
  void reopenDisplaced();
  void reopenEndpoints();
  void onReopened();
  void onBackendSwitched();
  void endSwitchNow();
  void finishMove();
  void afterMove(SendEndpointEntry& entry, bool displaced);
  void afterMove(ReceiveEndpointEntry& entry, bool displaced);
  void destroyReceiveEndpoint(ReceiveEndpointEntry& entry);
  bool anyDisplaced() const;

  // counter_commands.cc
  void onAddCounter(const ClientCommand& command, ClientSession& session);
  void onAddStaticCounter(const ClientCommand& command, const ClientSession& session);
  void onRemoveCounter(const ClientCommand& command, ClientSession& session);

  // memory.cc
  void wantMemory(LogBacking& backing, int64_t position);
  template <typename Entry>
  void stepBacking(Entry& entry);
  void onBackTerm(const AgentEvent& event);
  void retireLog(std::shared_ptr<void> owner, std::string path, uint64_t logLength);
  void onStorageFull(const std::string& text);

  ConductorParts parts_;
  const DriverConfig& config_;
  cnc::MpscRing toDriver_;
  ClientResponses responses_;
  io::DatagramIo* senderIo_;  // of the current backend, control part only
  io::DatagramIo* receiverIo_;
  ResourceAgent names_;     // name look-ups have a thread of their own: memory for running streams must not wait for a DNS server
  ResourceAgent backends_;  // opening a device may take long: as names_
  std::shared_ptr<BackendMove> move_;  // tasks hold it, too
  int32_t resolves_ = 0;               // under way on the resource agent
  int32_t destinationCounters_ = 0;
  bool healthAsked_ = false;  // under way
  bool alwaysHealthy_ = false;
  int64_t downSinceNs_ = 0;  // 0: it is not down
  int64_t nextHealthNs_ = 0;
  int64_t nextBetterNs_ = 0;  // when better backends are tried again
  int64_t nextDisplacedNs_ = 0;
  Random random_;
  int64_t nowNs_;
  int64_t nowMs_;
  int64_t nextTimerNs_;
  int64_t nextTransitionNs_ = 0;
  int64_t nextNameCheckNs_ = 0;
  std::vector<uint8_t> scratch_;
  int64_t lastRingHead_ = 0;
  int64_t lastRingProgressNs_ = 0;
  bool terminationRequested_ = false;
  bool closing_ = false;
  bool limitMoved_ = false;
  int32_t nextSessionId_;

  std::deque<SenderCommand> toSender_;  // found the ring full; in order
  std::deque<ReceiverCommand> toReceiver_;
  bool senderRung_ = false;
  bool receiverRung_ = false;

  std::unordered_map<int64_t, std::unique_ptr<ClientSession>> sessions_;
  std::unordered_map<int64_t, std::unique_ptr<Subscription>> subscriptions_;
  std::vector<std::unique_ptr<SendEndpointEntry>> sendEndpoints_;
  std::vector<std::unique_ptr<ReceiveEndpointEntry>> receiveEndpoints_;
  std::vector<std::unique_ptr<NetworkEntry>> networks_;
  std::vector<std::unique_ptr<IpcEntry>> ipcs_;
  std::vector<std::unique_ptr<ImageEntry>> images_;
  std::vector<StaticCounter> staticCounters_;

  std::shared_ptr<const Policy> policy_ = std::make_shared<const Policy>();                // until there is one: nothing is allowed
  std::shared_ptr<const std::string> policyText_ = std::make_shared<const std::string>();  // looks share it: it may be megabytes
  std::string policyProblem_;  // why there is none, or why the file of now is not taken
  bool policyKnown_ = false;   // there has been one
  bool policyLooking_ = false;
  int64_t nextPolicyLookNs_ = 0;                                // of those that strangers cause
  std::vector<std::shared_ptr<PendingAdd>> policyWaiting_;      // for the look that is under way
  std::vector<std::shared_ptr<PendingAdd>> policyWaitingNext_;  // came while it was: for the next one
  std::vector<std::unique_ptr<const SourceList>> oldSources_;   // replaced, and not yet released by the receiver

  std::unordered_map<int64_t, std::shared_ptr<PendingAdd>> pending_;  // by correlation id
  std::deque<std::shared_ptr<PendingAdd>> lane_;                      // ready to run, one at a time
  bool laneBusy_ = false;
  int32_t pendingImages_ = 0;
};

struct Conductor::State : ConductorState {
  using ConductorState::ConductorState;
};

}  // namespace outrigger::driver
