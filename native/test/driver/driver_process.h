// SPDX-License-Identifier: Apache-2.0
// outrigger-driver as a process of its own, started and ended by a test.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "client/media_client.h"

namespace outrigger::test {

class DriverProcess {
 public:
  // Environment entries are added to an otherwise empty one. stderr goes to `logPath`. With an `id` it runs as that user and group.
  DriverProcess(const std::string& directory, const std::string& logPath, std::vector<std::string> environment = {}, uint32_t userId = 0,
                uint32_t groupId = 0)
      : directory_(directory), logPath_(logPath) {
    environment.push_back("AERON_DIR=" + directory);
    std::string program = executable();
    std::vector<char*> envp;
    for (auto& text : environment) envp.push_back(text.data());
    envp.push_back(nullptr);
    char* argv[] = {program.data(), nullptr};
    const int log = ::open(logPath.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    // By descriptor, since another user need not reach the folder of this build.
    const int programFd = ::open(program.c_str(), O_RDONLY | O_CLOEXEC);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(log, STDERR_FILENO);
      // Groups first: without root they could not be changed any more.
      if (groupId != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(groupId) != 0)) ::_exit(126);
      if (userId != 0 && ::setuid(userId) != 0) ::_exit(126);
      ::fexecve(programFd, argv, envp.data());
      ::_exit(127);
    }
    ::close(log);
    ::close(programFd);
    EXPECT_GT(pid_, 0) << "cannot start " << program;
  }
  DriverProcess(const DriverProcess&) = delete;
  DriverProcess& operator=(const DriverProcess&) = delete;
  ~DriverProcess() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  static std::string executable() {
    if (const char* named = ::getenv("OUTRIGGER_DRIVER"); named != nullptr) return named;
    char self[4096];
    const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self) - 1);
    std::string path(self, static_cast<size_t>(std::max<ssize_t>(length, 0)));
    return path.substr(0, path.rfind('/')) + "/outrigger-driver";
  }

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  // Exit status, or -signal.
  int wait() {
    int status = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) return -1000;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string log() const {
    std::ifstream file(logPath_);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  std::unique_ptr<client::MediaClient> connect(client::MediaClientOptions options = {}) const {
    options.directory = directory_;
    auto connected = client::MediaClient::connectWithin(options, 20'000'000'000);
    EXPECT_TRUE(connected.ok()) << connected.error().message << "\n" << log();
    return connected ? connected.take() : nullptr;
  }

 private:
  std::string directory_;
  std::string logPath_;
  pid_t pid_ = -1;
};

}  // namespace outrigger::test
