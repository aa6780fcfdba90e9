// SPDX-License-Identifier: Apache-2.0
// MediaDriver: putting the parts together, and taking them apart in the order that clients and peers need.
#include "driver/media_driver.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/cpus.h"
#include "base/fd.h"
#include "base/spsc_ring.h"
#include "cnc/cnc_file.h"
#include "cnc/counters.h"
#include "cnc/doorbells.h"
#include "cnc/error_log.h"
#include "cnc/mpsc_ring.h"
#include "driver/agent_messages.h"
#include "driver/agent_runner.h"
#include "driver/agents.h"
#include "driver/backend_choice.h"
#include "driver/capture_service.h"
#include "driver/conductor.h"
#include "driver/counter_factory.h"
#include "driver/driver_counters.h"
#include "driver/driver_directory.h"
#include "driver/receiver.h"
#include "driver/resource_agent.h"
#include "driver/sender.h"
#include "io/backend.h"
#include "io/posix/port_holder.h"

namespace outrigger::driver {
namespace {

// A command or an event is worked off within a cycle; a conductor that adds hundreds of streams at once keeps the rest itself.
constexpr size_t kCommandRingLength = 512;
constexpr size_t kEventRingLength = 512;
// Closing waits for end-of-stream to be sent, but an orchestrator's patience is short.
constexpr int64_t kCloseTimeoutNs = kSecondNs;
constexpr int64_t kClosePauseNs = kMilliNs;
constexpr int32_t kInvokerCloseCycles = 256;
// Linux keeps 15 characters.
constexpr const char* kConductorThread = "or-conductor";
constexpr const char* kSenderThread = "or-sender";
constexpr const char* kReceiverThread = "or-receiver";
constexpr const char* kNetworkThread = "or-network";
constexpr const char* kSharedThread = "or-driver";
constexpr const char* kResourceThread = "or-resource";

// Each once: two instances may be faces of one device.
std::vector<std::shared_ptr<io::CaptureTap>> tapsOf(const io::IoPair& pair) {
  std::vector<std::shared_ptr<io::CaptureTap>> taps;
  for (io::DatagramIo* each : {pair.sender.get(), pair.receiver.get()}) {
    const auto tap = each->captureTap();
    if (tap != nullptr && std::find(taps.begin(), taps.end(), tap) == taps.end()) taps.push_back(tap);
  }
  return taps;
}

// Agents that share a thread share a FIFO.
struct FifoPlan {
  int32_t fifoOf[cnc::Doorbells::kAgentCount];
};
FifoPlan planFifos(ThreadingMode mode) {
  switch (mode) {
    case ThreadingMode::kDedicated:
      return {{0, 1, 2}};
    case ThreadingMode::kSharedNetwork:
      return {{0, 1, 1}};
    case ThreadingMode::kShared:
    case ThreadingMode::kInvoker:
      return {{0, 0, 0}};
  }
  return {{0, 0, 0}};
}

}  // namespace

// Members in the order of creation: later ones use earlier ones.
struct MediaDriver::State {
  DriverConfig config;
  SystemClock systemClock;
  Clock* clock = nullptr;
  std::vector<std::string> notices;

  DriverDirectory directory;
  MappedFile cncFile;
  cnc::CncRegions regions;
  MappedFile lossReportFile;
  cnc::Doorbells doorbells;
  cnc::CountersManager countersManager;
  std::unique_ptr<CounterFactory> counterFactory;
  DriverCounters counters;
  cnc::ErrorLog errorLog;
  cnc::LossReport lossReport;
  std::unique_ptr<BackendChoice> choice;
  bool mayMove = false;      // the choice has others to move to
  cnc::Counter backendInfo;  // conductor's thread, after the start
  std::mutex eventsMutex;    // between the conductor and the owner of the driver
  std::vector<std::string> events;
  std::unique_ptr<CaptureService> capture;
  std::string backend;
  std::string reasons;

  SpscRing<SenderCommand> toSender{kCommandRingLength};
  SpscRing<AgentEvent> fromSender{kEventRingLength};
  SpscRing<ReceiverCommand> toReceiver{kCommandRingLength};
  SpscRing<AgentEvent> fromReceiver{kEventRingLength};
  std::unique_ptr<ResourceAgent> resources;
  std::unique_ptr<Sender> sender;
  std::unique_ptr<Receiver> receiver;
  std::unique_ptr<Conductor> conductor;

  std::unique_ptr<ConductorAgent> conductorAgent;
  std::unique_ptr<SenderAgent> senderAgent;
  std::unique_ptr<ReceiverAgent> receiverAgent;
  std::vector<std::unique_ptr<AgentRunner>> runners;
  bool serving = false;
  std::string cpus;  // that this process may run on; read before there are threads, which are bound to one of them

  Result<void> takeDirectory();
  Result<void> openIo(const MediaDriverParts& parts);
  Result<void> makeFiles(const MediaDriverParts& parts);
  void announceBackend();
  void writeBackendNote();
  void observeBackend(bool standing);
  std::vector<std::pair<std::string, std::string>> threads() const;
  void makeAgents(const MediaDriverParts& parts);
  void makeRunners();
  void start();
  void close();
  ~State() { close(); }

 private:
  AgentRunner& addRunner(const char* name, const IdleStrategy& idle, int32_t cpu, int32_t fifo);
  CycleTimes cycleTimes(cnc::SystemCounter max, cnc::SystemCounter exceeded, int64_t thresholdNs) const {
    return {counters[max], counters[exceeded], thresholdNs};
  }
  void addConductor(AgentRunner& runner) const;
  void addSender(AgentRunner& runner) const;
  void addReceiver(AgentRunner& runner) const;
};

Result<void> MediaDriver::State::takeDirectory() {
  auto taken = DriverDirectory::take(config, clock->epochMillis(), notices);
  if (!taken) return taken.error();
  directory = taken.take();
  io::namePortsAfter("outrigger-driver " + std::to_string(::getpid()) + " in " + config.directory);
  return {};
}

Result<void> MediaDriver::State::makeFiles(const MediaDriverParts& parts) {
  const int64_t nowMs = clock->epochMillis();
  const std::string cncPath = config.directory + "/" + cnc::kCncFileName;
  auto file =
      cnc::createCnc(cncPath, config.cncSizes, config.clientLivenessTimeoutNs, nowMs, ::getpid(), config.filePageSize, config.fileMode);
  if (!file) return file.error();
  cncFile = file.take();
  auto mapped = cnc::mapOwnRegions(cncFile, cncPath);
  if (!mapped) return mapped.error();
  regions = mapped.take();

  const std::string lossPath = config.directory + "/" + cnc::kLossReportFileName;
  auto loss = MappedFile::create(lossPath, static_cast<uint64_t>(config.lossReportLength), config.fileMode);
  if (!loss) return loss.error();
  lossReportFile = loss.take();
  // Written by the driver alone, but a page that a full volume refuses would still be SIGBUS.
  if (const int err = lossReportFile.allocate(0, lossReportFile.length()); err != 0) {
    return makeError(ErrorCode::kStorageSpace, "no room for '" + lossPath + "'; enlarge the memory volume", err);
  }

  auto bells = cnc::Doorbells::create(config.directory, planFifos(config.threadingMode).fifoOf, config.fileMode);
  if (!bells) return bells.error();
  doorbells = bells.take();

  countersManager = cnc::CountersManager(regions.countersMetadata, regions.countersValues);
  counterFactory = std::make_unique<CounterFactory>(countersManager);
  const bool mayCount = !parts.makeIo && std::any_of(config.backends.begin(), config.backends.end(), io::countsNetworkEvents);
  if (!counterFactory->createDriverCounters(counters, nowMs) || (mayCount && !counterFactory->createNetworkCounters(counters, nowMs))) {
    return makeError(ErrorCode::kGeneric, "AERON_COUNTERS_BUFFER_LENGTH=" + std::to_string(config.cncSizes.countersValuesLength) +
                                              " does not even hold the driver's own counters; raise it");
  }
  errorLog = cnc::ErrorLog(regions.errorLog);
  lossReport = cnc::LossReport({lossReportFile.data(), lossReportFile.length()});
  return {};
}

Result<void> MediaDriver::State::openIo(const MediaDriverParts& parts) {
  // One instance an agent in every threading mode: a poll hands over what came for its own endpoints, and each agent knows only those.
  if (parts.makeIo) {
    auto first = parts.makeIo();
    if (!first) return first.error();
    auto second = parts.makeIo();
    if (!second) return second.error();
    OpenedBackend opened;
    opened.pair.sender = first.take();
    opened.pair.receiver = second.take();
    opened.name = opened.pair.sender->caps().name;
    choice = std::make_unique<BackendChoice>(std::vector<std::string>{opened.name}, nullptr);
    choice->adopt(std::move(opened), clock->epochMillis());
  } else {
    BackendChoice::Open open = parts.openBackend;
    if (!open) open = [options = backendOptionsOf(config)](const std::string& name) { return io::openPair(name, options); };
    choice = std::make_unique<BackendChoice>(config.backends, std::move(open));
    if (auto r = choice->openFirst(clock->epochMillis()); !r) return r;
    mayMove = true;
  }
  if (choice->pair().sameThread && config.threadingMode == ThreadingMode::kDedicated) {
    config.threadingMode = ThreadingMode::kSharedNetwork;
    notices.push_back("AERON_THREADING_MODE=DEDICATED becomes SHARED_NETWORK: backend " + choice->name() +
                      " needs one thread for sender and receiver (" + choice->pair().reason + ")");
  }
  return {};
}

// What counters, the note for `outrigger explain` and the driver's owner learn of the backend that is used from now on.
void MediaDriver::State::announceBackend() {
  const OpenedBackend& current = choice->current();
  std::string label = "outrigger: backend=" + current.name;
  for (const char* key : {"mode", "interface"}) {
    const std::string value = factOf(current, key);
    if (!value.empty()) label += std::string(" ") + key + "=\"" + value + "\"";
  }
  if (!config.impair.empty()) label += " impair=" + config.impair;
  const std::string why = choice->reasons();
  if (!why.empty()) label += " not better because: " + why;
  const int64_t nowMs = clock->epochMillis();
  counterFactory->release(backendInfo, nowMs);
  backendInfo = counterFactory->text(cnc::counter_type::kOutriggerBackendInfo, label, 0, nowMs);
  if (backendInfo.valid()) backendInfo.set(1);
  if (capture != nullptr) capture->show(current.name, tapsOf(current.pair));
  writeBackendNote();
  if (choice->changes().empty()) return;
  const BackendChange& last = choice->changes().back();
  const std::lock_guard lock(eventsMutex);
  events.push_back("network backend changed from " + last.from + " to " + last.to + ": " + last.reason);
}

void MediaDriver::State::writeBackendNote() {
  const auto written = BackendNote::of(*choice, config, threads()).write(config.directory, config.fileMode);
  if (written) return;
  const std::lock_guard lock(eventsMutex);
  events.push_back(written.error().message);
}

// The same backend, with another MTU, or without something that it had, or with that again.
void MediaDriver::State::observeBackend(bool standing) {
  if (standing) {
    const std::string& now = choice->current().standing;
    const std::lock_guard lock(eventsMutex);
    events.push_back("network backend " + choice->name() + ": " + (now.empty() ? "all is as it should be again" : now));
  }
  writeBackendNote();
}

std::vector<std::pair<std::string, std::string>> MediaDriver::State::threads() const {
  const auto on = [](const char* thread, int32_t cpu) {
    return cpu == kNoCpu ? std::string(thread) : std::string(thread) + " on CPU " + std::to_string(cpu);
  };
  const std::pair<std::string, std::string> allowed{"cpus", cpus};
  const std::string conductorThread = on(kConductorThread, config.conductorCpu);
  const std::string networkThread = on(kNetworkThread, config.senderCpu);
  const std::string sharedThread = on(kSharedThread, config.conductorCpu);
  switch (config.threadingMode) {
    case ThreadingMode::kDedicated:
      return {{"mode", "dedicated"},
              {"conductor", conductorThread},
              {"sender", on(kSenderThread, config.senderCpu)},
              {"receiver", on(kReceiverThread, config.receiverCpu)},
              allowed};
    case ThreadingMode::kSharedNetwork:
      return {{"mode", "shared-network"}, {"conductor", conductorThread}, {"sender", networkThread}, {"receiver", networkThread}, allowed};
    case ThreadingMode::kShared:
      return {{"mode", "shared"}, {"conductor", sharedThread}, {"sender", sharedThread}, {"receiver", sharedThread}, allowed};
    case ThreadingMode::kInvoker:
      break;
  }
  return {{"mode", "invoker"}};
}

void MediaDriver::State::makeAgents(const MediaDriverParts& parts) {
  // Constructed with the time and seed of the start, so that equal runs of a simulation are equal.
  const int64_t nowNs = clock->nanoTime();
  const int64_t nowMs = clock->epochMillis();
  if (config.randomSeed == 0) config.randomSeed = static_cast<uint64_t>(nowNs) ^ (static_cast<uint64_t>(::getpid()) << 40) ^ 0x0172'16E2;
  resources = std::make_unique<ResourceAgent>(kResourceThread, [this] { doorbells.ringAgent(cnc::AgentId::kConductor); });
  resources->useThread(config.threadingMode != ThreadingMode::kInvoker);
  io::DatagramIo& senderIo = *choice->pair().sender;
  io::DatagramIo& receiverIo = *choice->pair().receiver;
  if (config.threadingMode != ThreadingMode::kInvoker) {
    auto started = CaptureService::start(config.directory, config.fileMode);
    if (started) {
      capture = started.take();
    } else {
      notices.push_back(started.error().message);
    }
  }
  backend = choice->name();
  config.backend = backend;
  reasons = choice->reasons();
  announceBackend();
  choice->onChanged([this](const BackendChoice&) { announceBackend(); });
  choice->onObserved([this](const BackendChoice&, bool standing) { observeBackend(standing); });
  sender = std::make_unique<Sender>(senderIo, config, counters, toSender, fromSender, doorbells, *clock);
  receiver = std::make_unique<Receiver>(receiverIo, config, counters, toReceiver, fromReceiver, doorbells, *clock);
  ConductorParts conductorParts{
      .config = config,
      .cnc = regions,
      .counterFactory = *counterFactory,
      .counters = counters,
      .errorLog = errorLog,
      .lossReport = lossReport,
      .doorbells = doorbells,
      .resources = *resources,
      .senderIo = senderIo,
      .receiverIo = receiverIo,
      .toSender = toSender,
      .fromSender = fromSender,
      .toReceiver = toReceiver,
      .fromReceiver = fromReceiver,
      .allocator = parts.allocator ? parts.allocator : FileAllocator(allocateFile),
      .resolver = parts.resolver ? parts.resolver : net::HostResolver(net::resolveHost),
      .backends = mayMove ? choice.get() : nullptr,
  };
  conductor = std::make_unique<Conductor>(std::move(conductorParts), nowNs, nowMs);
  conductorAgent = std::make_unique<ConductorAgent>(*conductor, *clock, countersManager, doorbells, fromSender, fromReceiver);
  senderAgent = std::make_unique<SenderAgent>(*sender, toSender, fromSender, doorbells, counters);
  receiverAgent = std::make_unique<ReceiverAgent>(*receiver, toReceiver, fromReceiver, doorbells, counters);
}

AgentRunner& MediaDriver::State::addRunner(const char* name, const IdleStrategy& idle, int32_t cpu, int32_t fifo) {
  RunnerOptions options;
  options.threadName = name;
  options.idle = idle;
  options.cpu = cpu;
  options.fifo = fifo;
  runners.push_back(std::make_unique<AgentRunner>(std::move(options), *clock, doorbells, conductorAgent->silentClients()));
  return *runners.back();
}

void MediaDriver::State::addConductor(AgentRunner& runner) const {
  runner.add(*conductorAgent, cycleTimes(cnc::SystemCounter::kConductorMaxCycleTime,
                                         cnc::SystemCounter::kConductorCycleTimeThresholdExceeded, config.conductorCycleThresholdNs));
}

void MediaDriver::State::addSender(AgentRunner& runner) const {
  runner.add(*senderAgent, cycleTimes(cnc::SystemCounter::kSenderMaxCycleTime, cnc::SystemCounter::kSenderCycleTimeThresholdExceeded,
                                      config.senderCycleThresholdNs));
}

void MediaDriver::State::addReceiver(AgentRunner& runner) const {
  runner.add(*receiverAgent, cycleTimes(cnc::SystemCounter::kReceiverMaxCycleTime, cnc::SystemCounter::kReceiverCycleTimeThresholdExceeded,
                                        config.receiverCycleThresholdNs));
}

void MediaDriver::State::makeRunners() {
  switch (config.threadingMode) {
    case ThreadingMode::kDedicated:
      addConductor(addRunner(kConductorThread, config.conductorIdle, config.conductorCpu, 0));
      addSender(addRunner(kSenderThread, config.senderIdle, config.senderCpu, 1));
      addReceiver(addRunner(kReceiverThread, config.receiverIdle, config.receiverCpu, 2));
      break;
    case ThreadingMode::kSharedNetwork: {
      addConductor(addRunner(kConductorThread, config.conductorIdle, config.conductorCpu, 0));
      AgentRunner& network = addRunner(kNetworkThread, config.sharedNetworkIdle, config.senderCpu, 1);
      addSender(network);
      addReceiver(network);
      break;
    }
    case ThreadingMode::kShared:
    case ThreadingMode::kInvoker: {
      AgentRunner& shared = addRunner(kSharedThread, config.sharedIdle, config.conductorCpu, 0);
      addConductor(shared);
      addSender(shared);
      addReceiver(shared);
      break;
    }
  }
}

void MediaDriver::State::start() {
  cnc::MpscRing commands(regions.toDriver);
  // A client's id is its first correlation id, and 0 stands for nobody where ids are kept (counters, doorbell slots).
  commands.nextCorrelationId();
  commands.consumerHeartbeatMs(clock->epochMillis());
  cnc::publishCnc(cncFile);
  serving = true;
  if (config.threadingMode == ThreadingMode::kInvoker) return;
  for (const auto& runner : runners) runner->start();
}

void MediaDriver::State::close() {
  if (conductorAgent && serving) {
    conductorAgent->requestClose();
    if (config.threadingMode == ThreadingMode::kInvoker) {
      for (int32_t i = 0; i < kInvokerCloseCycles && !conductorAgent->closed(); ++i) runners.front()->cycle();
    } else {
      doorbells.ringAgent(cnc::AgentId::kConductor);
      const timespec pause{0, kClosePauseNs};
      for (int64_t waitedNs = 0; waitedNs < kCloseTimeoutNs && !conductorAgent->closed(); waitedNs += kClosePauseNs) {
        ::nanosleep(&pause, nullptr);
      }
    }
  }
  for (const auto& runner : runners) runner->stop();
  if (resources) resources->stop();
  capture.reset();
  runners.clear();
  receiverAgent.reset();
  senderAgent.reset();
  conductorAgent.reset();
  // What the conductor owns is used by sender and receiver, but those no longer run; endpoints must go before the backends they are of.
  conductor.reset();
  receiver.reset();
  sender.reset();
  resources.reset();
  choice.reset();
  // Clients learn at once that nobody serves them any more.
  if (serving) cnc::MpscRing(regions.toDriver).consumerHeartbeatMs(-1);
  serving = false;
  directory.remove(config.deleteDirectoryOnShutdown);
}

MediaDriver::MediaDriver() : state_(std::make_unique<State>()) {}
MediaDriver::~MediaDriver() = default;

Result<std::unique_ptr<MediaDriver>> MediaDriver::launch(const DriverConfig& config, MediaDriverParts parts) {
  std::unique_ptr<MediaDriver> driver(new MediaDriver());
  State& state = *driver->state_;
  state.config = config;
  state.clock = parts.clock != nullptr ? parts.clock : &state.systemClock;
  if (parts.clock != nullptr && config.threadingMode != ThreadingMode::kInvoker) {
    return makeError(ErrorCode::kNotSupported, "a clock of one's own works in invoker mode only: threads sleep on the system's");
  }
  state.cpus = cpuListText(allowedCpus());
  if (auto r = state.takeDirectory(); !r) return r.error();
  // Before the files: a backend may decide on the threads, and so on the doorbells.
  if (auto r = state.openIo(parts); !r) return r.error();
  if (auto r = state.makeFiles(parts); !r) return r.error();
  state.makeAgents(parts);
  state.makeRunners();
  state.start();
  return driver;
}

const DriverConfig& MediaDriver::config() const { return state_->config; }
const std::string& MediaDriver::backend() const { return state_->backend; }
const std::string& MediaDriver::backendReasons() const { return state_->reasons; }
const std::vector<std::string>& MediaDriver::notices() const { return state_->notices; }
std::vector<std::string> MediaDriver::takeEvents() {
  const std::lock_guard lock(state_->eventsMutex);
  return std::exchange(state_->events, {});
}

int32_t MediaDriver::doWork() { return state_->config.threadingMode == ThreadingMode::kInvoker ? state_->runners.front()->cycle() : 0; }

int64_t MediaDriver::workedUntilNs() const { return state_->runners.front()->cycleEndNs(); }

int64_t MediaDriver::nextDeadlineNs() { return state_->runners.front()->nextDeadlineNs(state_->clock->nanoTime()); }

bool MediaDriver::terminationRequested() const { return state_->conductorAgent->terminationRequested(); }

}  // namespace outrigger::driver
