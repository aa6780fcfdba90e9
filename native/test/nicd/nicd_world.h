// SPDX-License-Identifier: Apache-2.0
// A node for nicd: the namespace of its NIC (`va`, 10.77.0.1), a far host at the other end of the wire (`vb`, 10.77.0.2), pods (namespaces
// with nothing in them, and processes with no right to anything), and outrigger-nicd as a process that can be killed and started again.
// Everything goes with the child process that the body runs in.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "io/nicd_client/seqpacket.h"
#include "xdp/veth_world.h"

namespace outrigger::nicd::testing {

using io::testing::VethWorld;

// Only for a test that would otherwise hang: nothing asserts on it.
constexpr int kGuardMs = 30'000;
constexpr uint32_t kNobody = 65534;

inline std::string programPath() {
  if (const char* path = std::getenv("OUTRIGGER_NICD"); path != nullptr) return path;
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self));
  const std::string path(self, length > 0 ? static_cast<size_t>(length) : 0);
  return path.substr(0, path.rfind('/')) + "/outrigger-nicd";
}

// What a pod's process is: another user, no capability, no way to get one, and little memory that it may lock.
inline void becomePowerless(uint32_t uid = kNobody) {
  const rlimit locked{8u << 20, 8u << 20};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &locked), 0) << std::strerror(errno);
  ASSERT_EQ(::setresgid(uid, uid, uid), 0) << std::strerror(errno);
  ASSERT_EQ(::setresuid(uid, uid, uid), 0) << std::strerror(errno);
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0) << std::strerror(errno);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  ASSERT_EQ(::syscall(SYS_capset, &header, none), 0) << std::strerror(errno);
  ASSERT_EQ(::syscall(SYS_capget, &header, none), 0);
  ASSERT_EQ(none[0].effective | none[0].permitted | none[0].inheritable | none[1].effective | none[1].permitted, 0U);
}

// One message in, the answer out, on a connection of the test's own.
class RawClient {
 public:
  explicit RawClient(const std::string& path) {
    auto socket = connectTo(path);
    EXPECT_TRUE(socket) << socket.error().message;
    if (socket) socket_ = socket.take();
  }

  int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }
  Transfer send(const Message& message, std::vector<int> with = {}) { return sendMessage(socket_.get(), message, with); }

  // The next message, or none when nicd closed the connection. Descriptors that came along are in `descriptors`.
  std::optional<Answer> next() {
    for (;;) {
      pollfd polled{socket_.get(), POLLIN, 0};
      if (::poll(&polled, 1, kGuardMs) <= 0) {
        ADD_FAILURE() << "nicd says nothing";
        return std::nullopt;
      }
      Received received;
      const Transfer got = receiveMessage(socket_.get(), received);
      if (got == Transfer::kWouldBlock) continue;
      if (got != Transfer::kDone) return std::nullopt;
      descriptors = std::move(received.descriptors);
      auto answer = decodeAnswer(received.bytes);
      EXPECT_TRUE(answer) << answer.error().message;
      if (!answer) return std::nullopt;
      return answer.take();
    }
  }

  // The answer to a request; what nicd says of its own accord in between goes to `feed`.
  template <typename Body>
  std::optional<Answer> ask(MessageType type, const Body& body, std::vector<int> with = {}) {
    const uint64_t id = nextId_++;
    EXPECT_EQ(send(encode(type, id, body), std::move(with)), Transfer::kDone);
    while (auto answer = next()) {
      if (answer->requestId == id) return answer;
      if (const auto* entries = std::get_if<FeedEntries>(&answer->body)) {
        feed.insert(feed.end(), entries->entries.begin(), entries->entries.end());
      } else if (const auto* lost = std::get_if<LostText>(&answer->body)) {
        losses.push_back(lost->text);
      } else if (answer->requestId == 0) {
        return answer;
      }
    }
    return std::nullopt;
  }

  std::optional<Answer> hello(const std::string& claim = "", const std::string& token = "") {
    Hello hello;
    EXPECT_TRUE(setName(hello.claim, claim));
    for (size_t i = 0; i + 1 < token.size() && i / 2 < kTokenLength; i += 2) {
      hello.token[i / 2] = static_cast<uint8_t>(std::stoul(token.substr(i, 2), nullptr, 16));
    }
    return ask(MessageType::kHello, hello);
  }

  std::vector<UniqueFd> descriptors;
  std::vector<FeedEntry> feed;
  std::vector<std::string> losses;

 private:
  UniqueFd socket_;
  uint64_t nextId_ = 1;
};

// Of any layout that nicd takes.
inline OpenPacket packetRequest(const char* interface, PacketRole role) {
  OpenPacket request;
  EXPECT_TRUE(setName(request.interface, interface));
  request.role = static_cast<uint32_t>(role);
  request.slotLength = 2048;
  request.blockLength = 1 << 18;
  request.blocks = 4;
  return request;
}

// What was refused; empty when nothing was.
inline std::string refusalText(const std::optional<Answer>& answer) {
  if (!answer) return "(closed)";
  const auto* refused = std::get_if<RefusedText>(&answer->body);
  return refused == nullptr ? "" : refused->text;
}

template <typename Body>
const Body* bodyOf(const std::optional<Answer>& answer) {
  EXPECT_EQ(refusalText(answer), "");
  return answer ? std::get_if<Body>(&answer->body) : nullptr;
}

class NicdProcess {
 public:
  NicdProcess() = default;
  ~NicdProcess() { stop(); }
  NicdProcess(const NicdProcess&) = delete;
  NicdProcess& operator=(const NicdProcess&) = delete;

  // Returns when it serves. `before`: a program that becomes it.
  void start(std::vector<std::string> arguments, const std::vector<std::string>& before = {}) {
    arguments.insert(arguments.begin(), programPath());
    arguments.insert(arguments.begin(), before.begin(), before.end());
    int pipe[2];
    ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    log_ = UniqueFd(pipe[0]);
    UniqueFd end(pipe[1]);
    pid_ = ::fork();
    ASSERT_GE(pid_, 0);
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(end.get(), STDERR_FILENO);
      std::vector<char*> argv;
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
    end.reset();
    ASSERT_TRUE(await("nicd is ready")) << seen;
  }

  // Reads the log up to a line that holds the text. False when the log ends first.
  bool await(const std::string& text) {
    size_t from = 0;
    for (;;) {
      const size_t newline = rest_.find('\n', from);
      if (newline == std::string::npos) {
        pollfd polled{log_.get(), POLLIN, 0};
        if (::poll(&polled, 1, kGuardMs) <= 0) return false;
        char chunk[4096];
        const ssize_t length = ::read(log_.get(), chunk, sizeof(chunk));
        if (length <= 0) return false;
        rest_.append(chunk, static_cast<size_t>(length));
        seen.append(chunk, static_cast<size_t>(length));
        continue;
      }
      const std::string line = rest_.substr(0, newline);
      rest_.erase(0, newline + 1);
      from = 0;
      if (line.find(text) != std::string::npos) return true;
    }
  }

  void kill(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
  }
  // As an operator would. What does not end in time, or not by itself, is a failure, and ended.
  void stop(int patienceMs = kGuardMs) {
    if (pid_ <= 0) return;
    const pid_t pid = pid_;
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    ::kill(pid, SIGTERM);
    pollfd ended{process.get(), POLLIN, 0};
    if (::poll(&ended, 1, patienceMs) > 0) {
      ::waitpid(pid_, &status, 0);
      pid_ = -1;
      EXPECT_EQ(status, 0) << "outrigger-nicd (process " << pid << ") did not end in order after SIGTERM (wait status); its log so far:\n"
                           << seen;
      return;
    }
    ADD_FAILURE() << "outrigger-nicd (process " << pid << ") still runs " << patienceMs << " ms after SIGTERM; its log so far:\n" << seen;
    kill(SIGKILL);
  }
  pid_t pid() const { return pid_; }

  std::string seen;  // all of its log
  int status = 0;

 private:
  pid_t pid_ = -1;
  UniqueFd log_;
  std::string rest_;
};

// A process in a pod. It runs `body`; its failed expectations become the test's when it is joined.
class PodProcess {
 public:
  explicit PodProcess(const std::function<void(PodProcess&)>& body, uint32_t uid = kNobody) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    UniqueFd here(pair[0]);
    UniqueFd there(pair[1]);
    std::fflush(nullptr);
    pid_ = ::fork();
    EXPECT_GE(pid_, 0);
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::alarm(60);
      here.reset();
      channel_ = std::move(there);
      EXPECT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
      becomePowerless(uid);
      if (!::testing::Test::HasFailure()) body(*this);
      std::fflush(nullptr);
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    channel_ = std::move(here);
  }
  ~PodProcess() { kill(SIGKILL); }
  PodProcess(const PodProcess&) = delete;
  PodProcess& operator=(const PodProcess&) = delete;

  // Steps that the pod and the test agree on: each call on one side lets one await on the other go on.
  void say(char step) { EXPECT_EQ(::write(channel_.get(), &step, 1), 1) << std::strerror(errno); }
  // False when the other side ended instead.
  bool await(char step) {
    char got = 0;
    pollfd polled{channel_.get(), POLLIN, 0};
    if (::poll(&polled, 1, kGuardMs) <= 0 || ::read(channel_.get(), &got, 1) != 1) {
      ADD_FAILURE() << "the other side never came to step " << step;
      return false;
    }
    EXPECT_EQ(got, step);
    return got == step;
  }
  bool saysAnything() const {
    pollfd polled{channel_.get(), POLLIN, 0};
    return ::poll(&polled, 1, 0) > 0;
  }
  int channel() const { return channel_.get(); }

  void join() {
    int status = 0;
    ASSERT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    EXPECT_EQ(status, 0) << "see the pod's output above";
  }
  void kill(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  UniqueFd channel_;
};

class NicdWorld {
 public:
  static void run(const std::function<void(NicdWorld&)>& body) { run(VethWorld::Options{}, body); }
  static void run(const VethWorld::Options& options, const std::function<void(NicdWorld&)>& body) {
    VethWorld::run(options, [&](VethWorld& veth) {
      NicdWorld world(veth);
      world.create();
      if (!::testing::Test::HasFatalFailure()) body(world);
      world.nicd.stop();
      world.remove();
    });
  }

  VethWorld& veth() { return veth_; }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::string socket() const { return path("nicd.sock"); }

  // With a lease that a test can wait for; `more` comes after and wins.
  std::vector<std::string> arguments(std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"--socket",      socket(), "--state-dir", path("state"),
                                 "--socket-mode", "0666",   "--allow-uid", std::to_string(kNobody)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void start(std::vector<std::string> more = {}) { nicd.start(arguments(std::move(more))); }

  void write(const std::string& name, const std::string& text) const {
    UniqueFd fd(::open(path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd.valid());
    ASSERT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // What `outrigger-nicd --status` would print.
  std::string status() const {
    RawClient client(socket());
    if (bodyOf<Welcome>(client.hello()) == nullptr) return "";
    const auto answer = client.ask(MessageType::kStatus, StatusRequest());
    const auto* text = bodyOf<StatusText>(answer);
    return text == nullptr ? "" : text->text;
  }
  // In a folder that must be there.
  size_t countFiles(const std::string& folder, const std::string& prefix) const {
    size_t count = 0;
    DIR* open = ::opendir(path(folder).c_str());
    if (open == nullptr) {
      ADD_FAILURE() << path(folder) << ": " << std::strerror(errno);
      return SIZE_MAX;
    }
    while (const dirent* entry = ::readdir(open)) count += std::string(entry->d_name).starts_with(prefix) ? 1 : 0;
    ::closedir(open);
    return count;
  }
  void makeDirectory(const std::string& name) const { ASSERT_EQ(::mkdir(path(name).c_str(), 0755), 0); }

  // A UDP socket on the far host.
  UniqueFd farSocket(uint16_t port, const char* host = VethWorld::kFar) {
    UniqueFd socket;
    veth_.inFar([&] {
      auto address = io::SockAddr::parseNumeric(host, port);
      ASSERT_TRUE(address);
      socket = UniqueFd(::socket(address->family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
      ASSERT_EQ(::bind(socket.get(), address->get(), address->length), 0) << std::strerror(errno);
    });
    return socket;
  }

  NicdProcess nicd;

 private:
  explicit NicdWorld(VethWorld& veth) : veth_(veth) {}

  void create() {
    char name[] = "/tmp/outrigger-nicd-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    ASSERT_EQ(::chmod(name, 0755), 0);
    // Mounts of nicd's (a bpffs) stay here, and go with this process.
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << std::strerror(errno);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
  }
  void remove() {
    ::umount2(path("bpf").c_str(), MNT_DETACH);
    if (std::system(("rm -rf " + directory_).c_str()) != 0) ADD_FAILURE() << "cannot remove " << directory_;
  }

  VethWorld& veth_;
  std::string directory_;
};

class NicdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!VethWorld::possible()) GTEST_SKIP() << "needs root for network namespaces";
  }
};

}  // namespace outrigger::nicd::testing
