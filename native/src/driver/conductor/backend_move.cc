// SPDX-License-Identifier: Apache-2.0
// All endpoints from one backend to another while their streams go on: when the current backend is lost, or, where that is configured, when
// a better one can be had again. Sessions, positions and clients notice nothing; what falls between the two is repaired as any loss.
//
// In this order: adds and look-ups wait (nothing is opened on a backend that is being left); the next backend that lives opens every
// endpoint on the same address and port, sharing the socket that holds it, and resolves every next hop; sender and receiver change over, each
// in one step; then the old endpoints and at last the old backend are closed. An endpoint whose address the new backend does not have (a VF's
// under vfio) keeps its streams' objects but hears nothing more: its channel is marked as errored and tried again, and who can rejoins.
#include <algorithm>

#include "driver/backend_switch.h"
#include "driver/conductor/state.h"

namespace outrigger::driver {

using cnc::OutriggerCounter;

namespace {

// A tenth of the time in which a stream without datagrams still counts as connected, and a tenth of the default window's patience.
constexpr int64_t kHealthIntervalNs = 100 * kMilliNs;
// A link that goes down and up again (a flapping cable, an `ip link set` in two steps) is not worth a move.
constexpr int64_t kDownGraceNs = 500 * kMilliNs;
// After a move that found no backend.
constexpr int64_t kMoveAgainNs = kSecondNs;
constexpr int64_t kDisplacedIntervalNs = kSecondNs;
// A better backend that was lost n times is tried again after 2^n intervals, at most this n.
constexpr int32_t kMaxBackOff = 6;

io::SockAddr anyAddress(const io::SockAddr& like, uint16_t port) {
  auto any = io::SockAddr::parseNumeric(like.isV6() ? "::" : "0.0.0.0", port);
  return any.take();
}

}  // namespace

// One move. `run` opens and resolves on the thread for backends; the rest is the conductor's.
struct ConductorState::BackendMove {
  struct Send {
    SendEndpointEntry* entry = nullptr;
    io::EndpointConfig config;
    std::optional<io::SockAddr> nextHop;
    std::vector<std::pair<MdcDestination*, io::SockAddr>> destinations;
  };
  struct Receive {
    ReceiveEndpointEntry* entry = nullptr;
    io::EndpointConfig config;
  };
  // Everything open on one backend. Endpoints go before the pair they are of: members are destroyed from the last to the first.
  struct Opened {
    OpenedBackend backend;
    SenderSwitch toSender;
    ReceiverSwitch toReceiver;
    std::vector<const SendEndpointEntry*> displacedSends;
    std::vector<const ReceiveEndpointEntry*> displacedReceives;
    std::vector<std::string> problems;
    size_t displaced() const { return displacedSends.size() + displacedReceives.size(); }
  };

  std::string reason;
  bool lost = false;
  bool started = false;        // the task runs or has run
  bool onlyDisplaced = false;  // the backend stays: endpoints get their own address back
  bool twoThreads = false;
  std::vector<std::string> candidates;
  const BackendChoice* choice = nullptr;
  std::vector<Send> sends;
  std::vector<Receive> receives;

  std::unique_ptr<Opened> opened;
  std::vector<BackendRefusal> refused;
  int32_t awaited = 0;  // agents that have not changed over yet

  void run();
  // Fails when the backend can't carry these streams at all.
  Result<void> reopen(io::DatagramIo& sender, io::DatagramIo& receiver, Opened& into) const;
  static Result<std::unique_ptr<io::Endpoint>> reopenSocket(io::DatagramIo& io, const io::EndpointConfig& config, bool keepPort,
                                                            Opened& into, bool& displaced);
};

Result<std::unique_ptr<io::Endpoint>> ConductorState::BackendMove::reopenSocket(io::DatagramIo& io, const io::EndpointConfig& config,
                                                                                bool keepPort, Opened& into, bool& displaced) {
  auto socket = io.openEndpoint(config);
  if (socket) return socket;
  into.problems.push_back(socket.error().message);
  displaced = true;
  // Something must stand where the agents expect a socket.
  io::EndpointConfig standIn = config;
  standIn.predecessor = nullptr;
  standIn.bindAddress = anyAddress(config.bindAddress, keepPort ? config.bindAddress.port() : 0);
  auto opened = io.openEndpoint(standIn);
  if (opened || !keepPort) return opened;
  standIn.bindAddress.setPort(0);
  return io.openEndpoint(standIn);
}

Result<void> ConductorState::BackendMove::reopen(io::DatagramIo& sender, io::DatagramIo& receiver, Opened& into) const {
  into.toSender.to = &sender;
  into.toReceiver.to = &receiver;
  for (const Send& send : sends) {
    bool displaced = false;
    auto socket = reopenSocket(sender, send.config, true, into, displaced);
    if (!socket) return socket.error();
    SendEndpointMove move;
    move.endpoint = &send.entry->endpoint;
    move.socket = socket.take();
    const auto resolve = [&](const io::SockAddr& address) { return sender.resolve(*move.socket, address); };
    if (send.nextHop) {
      auto nextHop = resolve(*send.nextHop);
      if (!nextHop) return nextHop.error();
      move.nextHop = nextHop.take();
    }
    for (const auto& [destination, address] : send.destinations) {
      auto nextHop = resolve(address);
      if (!nextHop) return nextHop.error();
      move.destinations.emplace_back(destination, nextHop.take());
    }
    if (displaced) into.displacedSends.push_back(send.entry);
    into.toSender.moves.push_back(std::move(move));
  }
  for (const Receive& receive : receives) {
    bool displaced = false;
    auto socket = reopenSocket(receiver, receive.config, false, into, displaced);
    if (!socket) return socket.error();
    if (displaced) into.displacedReceives.push_back(receive.entry);
    into.toReceiver.moves.push_back({&receive.entry->endpoint, socket.take()});
  }
  return {};
}

void ConductorState::BackendMove::run() {
  for (const std::string& name : candidates) {
    auto backend = choice->open(name, twoThreads);
    if (!backend) {
      refused.push_back({name, backend.error().message});
      continue;
    }
    auto attempt = std::make_unique<Opened>();
    attempt->backend = backend.take();
    if (auto r = reopen(*attempt->backend.pair.sender, *attempt->backend.pair.receiver, *attempt); !r) {
      refused.push_back({name, r.error().message});
      continue;
    }
    // An address is worth more than a better backend.
    if (attempt->displaced() > 0) refused.push_back({name, attempt->problems.front()});
    if (opened == nullptr || attempt->displaced() < opened->displaced()) opened = std::move(attempt);
    if (opened->displaced() == 0) return;
  }
  // Nobody is moved from where it is heard only for a better backend.
  if (!lost && opened != nullptr && opened->displaced() > 0) opened.reset();
}

// ---- when ----

bool ConductorState::anyDisplaced() const {
  const auto is = [](const auto& entry) { return entry->displaced && !entry->removing; };
  return std::any_of(sendEndpoints_.begin(), sendEndpoints_.end(), is) ||
         std::any_of(receiveEndpoints_.begin(), receiveEndpoints_.end(), is);
}

int32_t ConductorState::stepBackend() {
  if (parts_.backends == nullptr) return 0;
  if (moving()) {
    if (move_->started || laneBusy_ || healthAsked_ || resolves_ > 0) return 0;
    reopenEndpoints();
    return 1;
  }
  if (closing_ || nowNs_ < nextHealthNs_) return 0;
  nextHealthNs_ = nowNs_ + kHealthIntervalNs;
  if (config_.backendRetryNs > 0 && nowNs_ >= nextBetterNs_ && !parts_.backends->alternatives(true).empty()) {
    startMove("a better backend can be had again", false);
    return 1;
  }
  if (nowNs_ >= nextDisplacedNs_ && anyDisplaced()) {
    reopenDisplaced();
    return 1;
  }
  if (alwaysHealthy_ || healthAsked_) return 0;
  healthAsked_ = true;
  struct Looked {
    io::Health health;
    std::vector<std::pair<std::string, std::string>> facts;
  };
  auto looked = std::make_shared<Looked>();
  ResourceTask task;
  task.run = [looked, sender = senderIo_, receiver = receiverIo_] {
    io::Health& health = looked->health;
    health = receiver->health();
    const io::Health other = sender->health();
    if (other.state > health.state || health.reason.empty()) {
      health.state = std::max(health.state, other.state);
      health.reason = other.reason;
    }
    health.always = health.always && other.always;
    if (health.state == io::Health::State::kOk) looked->facts = factsOf(*receiver, *sender);
  };
  task.complete = [this, looked, receiver = receiverIo_] {
    healthAsked_ = false;
    const bool current = !closing_ && !moving() && receiver == receiverIo_;
    if (current && looked->health.state == io::Health::State::kOk) {
      parts_.backends->observe(std::move(looked->facts), looked->health.reason);
    }
    onHealth(looked->health);
  };
  parts_.resources.submit(std::move(task));
  return 0;
}

void ConductorState::onHealth(const io::Health& health) {
  if (closing_ || moving()) return;
  alwaysHealthy_ = health.always;
  if (health.state == io::Health::State::kOk) {
    downSinceNs_ = 0;
    return;
  }
  if (health.state == io::Health::State::kDown) {
    if (downSinceNs_ == 0) downSinceNs_ = nowNs_;
    if (nowNs_ - downSinceNs_ < kDownGraceNs) return;
  }
  startMove(health.reason, true);
}

void ConductorState::startMove(std::string reason, bool lost) {
  const BackendChoice& choice = *parts_.backends;
  move_ = std::make_shared<BackendMove>();
  move_->reason = std::move(reason);
  move_->lost = lost;
  move_->twoThreads = config_.threadingMode == ThreadingMode::kDedicated;
  move_->candidates = choice.alternatives(!lost);
  move_->choice = &choice;
}

void ConductorState::reopenDisplaced() {
  nextDisplacedNs_ = nowNs_ + kDisplacedIntervalNs;
  move_ = std::make_shared<BackendMove>();
  move_->onlyDisplaced = true;
}

// ---- how ----

void ConductorState::reopenEndpoints() {
  move_->started = true;
  const auto moves = [this](const auto& entry) { return !entry.removing && (entry.displaced || !move_->onlyDisplaced); };
  for (const auto& entry : sendEndpoints_) {
    if (!moves(*entry)) continue;
    ++entry->pendingTasks;  // it stays until the move is over
    BackendMove::Send send;
    send.entry = entry.get();
    send.config = entry->socketConfig;
    if (entry->current.length != 0) send.nextHop = entry->current;
    if (!entry->displaced) send.config.predecessor = entry->endpoint.socket.get();
    for (const auto& destination : entry->endpoint.ownedDestinations) {
      if (entry->removingDestinations.contains(destination.get())) continue;
      send.destinations.emplace_back(destination.get(), destination->address);
    }
    move_->sends.push_back(std::move(send));
  }
  for (const auto& entry : receiveEndpoints_) {
    if (!moves(*entry)) continue;
    ++entry->pendingTasks;
    BackendMove::Receive receive;
    receive.entry = entry.get();
    receive.config = entry->socketConfig;
    if (!entry->displaced) receive.config.predecessor = entry->endpoint.socket.get();
    move_->receives.push_back(std::move(receive));
  }
  ResourceTask task;
  task.complete = [this] { onReopened(); };
  if (move_->onlyDisplaced) {
    // The backend is in use: its control part is the resource agent's.
    task.run = [move = move_, sender = senderIo_, receiver = receiverIo_] {
      move->opened = std::make_unique<BackendMove::Opened>();
      if (!move->reopen(*sender, *receiver, *move->opened) || move->opened->displaced() > 0) move->opened.reset();
    };
    return parts_.resources.submit(std::move(task));
  }
  task.run = [move = move_] { move->run(); };
  backends_.submit(std::move(task));
}

void ConductorState::onReopened() {
  BackendMove& move = *move_;
  if (move.opened == nullptr) {
    if (move.lost) {
      std::string why;
      for (const BackendRefusal& each : move.refused) why += "; " + each.name + ": " + each.reason;
      recordError("network backend " + parts_.backends->name() + " is lost (" + move.reason + ") and no other can take its streams" +
                  (why.empty() ? ": OUTRIGGER_BACKENDS lists no other, add mmsg" : why));
    }
    return finishMove();
  }
  // What is being removed since then has left its agent before the change gets there.
  std::erase_if(move.opened->toSender.moves, [&](const SendEndpointMove& each) {
    const SendEndpointEntry* entry = entryOf(each.endpoint);
    return entry == nullptr || entry->removing;
  });
  for (SendEndpointMove& each : move.opened->toSender.moves) {
    const SendEndpointEntry& entry = *entryOf(each.endpoint);
    const auto& owned = entry.endpoint.ownedDestinations;
    std::erase_if(each.destinations, [&](const auto& pair) {
      return entry.removingDestinations.contains(pair.first) ||
             std::none_of(owned.begin(), owned.end(), [&](const auto& known) { return known.get() == pair.first; });
    });
  }
  std::erase_if(move.opened->toReceiver.moves, [&](const ReceiveEndpointMove& each) {
    return std::any_of(receiveEndpoints_.begin(), receiveEndpoints_.end(),
                       [&](const auto& entry) { return &entry->endpoint == each.endpoint && entry->removing; });
  });
  move.awaited = 2;
  SenderCommand toSender;
  toSender.type = SenderCommand::Type::kSwitchBackend;
  toSender.change = &move.opened->toSender;
  sendToSender(toSender);
  if (closing_) endSwitchNow();
  ReceiverCommand toReceiver;
  toReceiver.type = ReceiverCommand::Type::kSwitchBackend;
  toReceiver.change = &move.opened->toReceiver;
  sendToReceiver(toReceiver);
}

// Whoever told this driver to end waits less long for it than the sender for what is still read.
void ConductorState::endSwitchNow() {
  if (move_ == nullptr || move_->awaited == 0) return;
  SenderCommand command;
  command.type = SenderCommand::Type::kEndSwitch;
  sendToSender(command);
}

void ConductorState::onBackendSwitched() {
  if (--move_->awaited > 0) return;
  BackendMove& move = *move_;
  BackendMove::Opened& opened = *move.opened;
  senderIo_ = opened.toSender.to;
  receiverIo_ = opened.toReceiver.to;
  for (const auto& send : move.sends) {
    const auto& list = opened.displacedSends;
    afterMove(*send.entry, std::find(list.begin(), list.end(), send.entry) != list.end());
  }
  for (const auto& receive : move.receives) {
    const auto& list = opened.displacedReceives;
    afterMove(*receive.entry, std::find(list.begin(), list.end(), receive.entry) != list.end());
  }
  for (const std::string& problem : opened.problems) {
    recordError("the streams of an endpoint must rejoin, backend " + opened.backend.name + " does not have its address: " + problem);
  }
  opened.toSender.moves.clear();  // the old sockets and next hops, before what they are of
  opened.toReceiver.moves.clear();
  if (!move.onlyDisplaced) {
    const std::string from = parts_.backends->name();
    const std::string to = opened.backend.name;
    auto before =
        std::make_shared<io::IoPair>(parts_.backends->replace(std::move(opened.backend), move.reason, move.lost, move.refused, nowMs_));
    // Closing a device may take long, too.
    ResourceTask task;
    task.run = [before] {
      before->sender.reset();
      before->receiver.reset();
    };
    backends_.submit(std::move(task));
    parts_.counters.add(OutriggerCounter::kBackendChanges, 1);
    if (move.lost) recordError("network backend " + from + " is lost (" + move.reason + "): all streams go on with " + to);
    alwaysHealthy_ = false;
    downSinceNs_ = 0;
  }
  finishMove();
}

void ConductorState::finishMove() {
  // Whatever came of it: who has lost a backend looks for another, who has found none waits.
  const bool found = move_->opened != nullptr;
  if (!move_->onlyDisplaced) {
    int32_t backOff = 0;
    for (const std::string& name : parts_.backends->alternatives(true)) backOff = std::max(backOff, parts_.backends->losses(name));
    nextBetterNs_ = nowNs_ + (config_.backendRetryNs << std::min(backOff, kMaxBackOff));
    nextHealthNs_ = nowNs_ + (found ? kHealthIntervalNs : kMoveAgainNs);
  }
  nextDisplacedNs_ = nowNs_ + kDisplacedIntervalNs;
  const std::shared_ptr<BackendMove> over = std::move(move_);
  for (const auto& send : over->sends) {
    --send.entry->pendingTasks;
    destroySendEndpoint(*send.entry);
  }
  for (const auto& receive : over->receives) {
    --receive.entry->pendingTasks;
    destroyReceiveEndpoint(*receive.entry);
  }
}

void ConductorState::afterMove(SendEndpointEntry& entry, bool displaced) {
  if (entry.removing) return;
  SendChannelEndpoint& endpoint = entry.endpoint;
  entry.displaced = displaced;
  if (endpoint.status.valid()) endpoint.status.set(displaced ? cnc::kChannelStatusErrored : cnc::kChannelStatusActive);
}

void ConductorState::afterMove(ReceiveEndpointEntry& entry, bool displaced) {
  if (entry.removing) return;
  entry.displaced = displaced;
  entry.receiveBufferBytes = entry.endpoint.socket->receiveBufferBytes();
  entry.sendBufferBytes = entry.endpoint.socket->sendBufferBytes();
  const int64_t status = displaced ? cnc::kChannelStatusErrored : cnc::kChannelStatusActive;
  if (entry.endpoint.status.valid()) entry.endpoint.status.set(status);
  if (entry.endpoint.localAddress.valid()) entry.endpoint.localAddress.set(status);
}

void ConductorState::destroyReceiveEndpoint(ReceiveEndpointEntry& entry) {
  if (!entry.released || entry.pendingTasks > 0) return;
  parts_.counterFactory.release(entry.endpoint.localAddress, nowMs_);
  parts_.counterFactory.release(entry.endpoint.status, nowMs_);
  std::erase_if(receiveEndpoints_, [&](const auto& each) { return each.get() == &entry; });
}

}  // namespace outrigger::driver
