// SPDX-License-Identifier: Apache-2.0
// outrigger-init as a process: start, restart, drain, signals, orphans, bad configuration.
#include "base/cpus.h"
#include "init_process.h"

namespace outrigger::init {
namespace {

using Commands = InitProcess::Commands;

class InitTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_FALSE(InitProcess::program().empty()) << "OUTRIGGER_INIT must name the program: run this under ctest"; }
};

TEST_F(InitTest, drainsTheSidecarBeforeTheDriverOnSigterm) {
  InitProcess init(Commands{});
  init.awaitBothReady();
  init.signal(SIGTERM);
  init.await({"draining", "SIGTERM"});
  init.await({"sidecar-term"});
  init.await({"sidecar ended"});
  init.await({"driver-term"});
  EXPECT_EQ(init.exitStatus(), 0);
}

TEST_F(InitTest, restartsOnlyTheChildThatDiedAndSaysHow) {
  for (const std::string victim : {"driver", "sidecar"}) {
    InitProcess init(Commands{.settings = {"--backoff-min", "1ms"}});
    pid_t pid = 0;
    for (int i = 0; i < 2; ++i) {
      const std::string line = init.await({"\"msg\":\"started"});
      if (line.find("started " + victim) != std::string::npos) pid = static_cast<pid_t>(InitProcess::number(line, "childPid"));
    }
    ASSERT_GT(pid, 0);
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    EXPECT_EQ(InitProcess::number(init.await({"ended unasked", victim, "killed by SIGKILL"}), "restartInMs"), 1);
    const std::string again = init.await({"started " + victim});
    EXPECT_NE(InitProcess::number(again, "childPid"), pid);
    EXPECT_EQ(InitProcess::number(again, "restarts"), 1);
    init.signal(SIGTERM);
    EXPECT_EQ(init.exitStatus(), 0);
    EXPECT_EQ(init.count("\"msg\":\"started"), 3U) << init.all();
  }
}

TEST_F(InitTest, waitsTwiceAsLongBeforeEachRestartUpToTheLongestPause) {
  InitProcess init(Commands{.settings = {"--backoff-min", "2ms", "--backoff-max", "7ms"}, .driver = "exit 3"});
  for (const int64_t pauseMs : {2, 4, 7, 7}) {
    EXPECT_EQ(InitProcess::number(init.await({"ended unasked", "exited with status 3"}), "restartInMs"), pauseMs);
  }
}

TEST_F(InitTest, startsAtTheShortestPauseAgainAfterAStableRun) {
  InitProcess init(Commands{.settings = {"--backoff-min", "1ms", "--stable-after", "5ms"}, .driver = "sleep 0.01; exit 3"});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(InitProcess::number(init.await({"ended unasked"}), "restartInMs"), 1);
}

TEST_F(InitTest, givesUpOnAChildThatCannotBeConfiguredAndDrainsTheOther) {
  InitProcess init(Commands{.settings = {"--backoff-min", "1ms"}, .sidecar = "exit 78"});
  init.await({"can't run as it is configured", "\"child\":\"sidecar\"", "\"attempts\":3"});
  EXPECT_EQ(init.exitStatus(), 78);
  EXPECT_EQ(init.count("started sidecar"), 3U);
  EXPECT_EQ(init.count("started driver"), 1U);
}

TEST_F(InitTest, countsBadConfigurationInARowOnly) {
  const std::string flag = testing::TempDir() + "outrigger-init-row-" + std::to_string(::getpid());
  // 78 and 3 in turns.
  const std::string script = "if [ -e " + flag + " ]; then rm " + flag + "; exit 3; fi; touch " + flag + "; exit 78";
  InitProcess init(Commands{.settings = {"--backoff-min", "1ms", "--backoff-max", "1ms", "--config-attempts", "2"}, .sidecar = script});
  for (int i = 0; i < 4; ++i) init.await({"exited with status 78"});
  init.signal(SIGTERM);
  EXPECT_EQ(init.exitStatus(), 0);
  ::unlink(flag.c_str());
}

TEST_F(InitTest, takesAProgramThatIsMissingAsBadConfigurationAndNamesIt) {
  InitProcess init({"--config-attempts", "1", "--driver", "/nowhere/driver", "--sidecar", "/bin/sh", "-c", untilTerm("sidecar")});
  init.await({"/nowhere/driver", "No such file or directory"});
  EXPECT_EQ(init.exitStatus(), 78);
}

TEST_F(InitTest, killsASidecarThatDoesNotDrainAndLeavesTheDriverItsShare) {
  InitProcess init(Commands{.settings = {"--drain-timeout", "60s", "--driver-drain", "59900ms"}, .sidecar = deafToTerm("sidecar")});
  init.awaitBothReady();
  init.signal(SIGTERM);
  init.await({"the sidecar did not drain in time"});
  init.await({"driver-term"});
  EXPECT_EQ(init.exitStatus(), 1);
}

TEST_F(InitTest, killsADriverThatDoesNotEndWithinTheWholeTime) {
  InitProcess init(Commands{.settings = {"--drain-timeout", "200ms", "--driver-drain", "100ms"}, .driver = deafToTerm("driver")});
  init.awaitBothReady();
  init.signal(SIGTERM);
  init.await({"sidecar-term"});
  init.await({"killed the driver", "the drain took too long"});
  EXPECT_EQ(init.exitStatus(), 1);
}

TEST_F(InitTest, killsBothAtOnceOnASecondSigint) {
  InitProcess init(Commands{.driver = deafToTerm("driver"), .sidecar = deafToTerm("sidecar")});
  init.awaitBothReady();
  init.signal(SIGINT);
  init.await({"draining", "SIGINT"});
  init.signal(SIGINT);
  EXPECT_EQ(init.exitStatus(), 1);
  EXPECT_EQ(init.count("a second SIGINT"), 2U);
}

TEST_F(InitTest, forwardsSighupToTheChildThatHandlesItAndKeepsItFromTheOther) {
  InitProcess init(Commands{.sidecar = untilTermWithHup("sidecar")});
  init.awaitBothReady();
  init.signal(SIGHUP);
  init.await({"kept a signal", "\"child\":\"driver\"", "SIGHUP"});
  init.await({"forwarded a signal", "\"child\":\"sidecar\"", "SIGHUP"});
  init.signal(SIGTERM);
  EXPECT_EQ(init.exitStatus(), 0);
  EXPECT_EQ(init.count("sidecar-hup"), 1U);
  EXPECT_EQ(init.count("ended unasked"), 0U);
}

TEST_F(InitTest, endsWhenTheSidecarDrainedByItself) {
  InitProcess init(Commands{.sidecar = "exit 0"});
  init.await({"draining", "the sidecar drained and ended"});
  EXPECT_EQ(init.exitStatus(), 0);
}

TEST_F(InitTest, startsADriverAgainThatWasToldToEnd) {
  InitProcess init(Commands{.settings = {"--backoff-min", "1ms"}, .driver = "exit 0"});
  init.await({"ended unasked", "exited with status 0"});
  init.await({"started driver", "\"restarts\":1"});
}

TEST_F(InitTest, endsWhatADeadChildHadStarted) {
  InitProcess init(Commands{.settings = {"--backoff-min", "1s"}, .driver = "sleep 1000 & echo '{\"grandchild\":'$!'}' >&2; exit 3"});
  const auto grandchild = static_cast<pid_t>(InitProcess::number(init.await({"grandchild"}), "grandchild"));
  ASSERT_GT(grandchild, 0);
  EXPECT_TRUE(awaitGone(grandchild));
}

TEST_F(InitTest, reapsOrphans) {
  // A daemon: its parent is gone, it left the group, and it ends at once.
  InitProcess init(Commands{.driver = "(setsid sh -c 'echo \"{\\\"orphan\\\":$$}\" >&2' &); " + untilTerm("driver")});
  const auto orphan = static_cast<pid_t>(InitProcess::number(init.await({"orphan"}), "orphan"));
  ASSERT_GT(orphan, 0);
  EXPECT_TRUE(awaitGone(orphan));
}

TEST_F(InitTest, takesItsChildrenAlongWhenItIsKilled) {
  InitProcess init(Commands{});
  init.awaitBothReady();
  init.signal(SIGKILL);
  // The output ends only when the last of them is gone.
  EXPECT_EQ(init.exitStatus(), 128 + SIGKILL);
  EXPECT_EQ(init.count("driver-term"), 1U);
  EXPECT_EQ(init.count("sidecar-term"), 1U);
}

TEST_F(InitTest, isAWholePid1) {
  if (::geteuid() != 0) GTEST_SKIP() << "a pid namespace needs root";
  InitProcess init(
      Commands{.driver = "(setsid sh -c 'echo \"{\\\"orphan\\\":$$}\" >&2' &); " + untilTerm("driver"), .ownPidNamespace = true});
  EXPECT_EQ(InitProcess::number(init.await({"\"msg\":\"started"}), "pid"), 1);
  init.awaitBothReady();
  init.signal(SIGHUP);
  init.await({"kept a signal", "driver"});
  init.await({"kept a signal", "sidecar"});
  init.signal(SIGTERM);
  init.await({"sidecar-term"});
  init.await({"driver-term"});
  EXPECT_EQ(init.exitStatus(), 0);
}

// Prints the CPUs that it may run on, and then stands in for the child.
std::string tellingCpus(const std::string& name) {
  return "echo " + name + "-cpus $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)= >&2; " + untilTerm(name);
}

TEST_F(InitTest, givesTheDriverTheLastCpusForItselfAndTheSidecarTheOthersAlsoAfterARestart) {
  const std::vector<int> all = allowedCpus();
  if (all.size() < 2) GTEST_SKIP() << "one CPU can't be shared out";
  const std::string rest = cpuListText({all.begin(), all.end() - 1});
  const std::string last = std::to_string(all.back());
  InitProcess init(Commands{.settings = {"--driver-cores", "1", "--cpus", std::to_string(all.size()), "--backoff-min", "1ms"},
                            .driver = tellingCpus("driver"),
                            .sidecar = tellingCpus("sidecar")});
  init.await({"the driver has cores of its own", "\"driverCpus\":\"" + last + "\"", "\"sidecarCpus\":\"" + rest + "\""});
  init.awaitBothReady();
  EXPECT_EQ(init.count("driver-cpus " + last + "=\n"), 1U) << init.all();
  EXPECT_EQ(init.count("sidecar-cpus " + rest + "=\n"), 1U) << init.all();
  const size_t started = init.all().find("\"child\":\"driver\",\"childPid\":");
  ASSERT_NE(started, std::string::npos) << init.all();
  ASSERT_EQ(::kill(static_cast<pid_t>(InitProcess::number(init.all().substr(started), "childPid")), SIGKILL), 0);
  init.await({"ended unasked"});
  init.await({"driver-cpus " + last + "="});
}

TEST_F(InitTest, bindsNobodyWhereTheCpusAreOthersTooOrTooFewAndSaysWhy) {
  const std::vector<int> all = allowedCpus();
  for (const auto& [settings, reason] :
       {std::pair{std::vector<std::string>{"--driver-cores", "1", "--cpus", std::to_string(all.size() + 1)},
                  std::string("may run only on " + std::to_string(all.size()) + " CPUs")},
        std::pair{std::vector<std::string>{"--driver-cores", std::to_string(all.size())},
                  std::string("leave the sidecar none of " + std::to_string(all.size()) + " CPUs")},
        std::pair{std::vector<std::string>{"--driver-cores", std::to_string(all.size())},
                  std::string("lower OUTRIGGER_INIT_DRIVER_CORES")}}) {
    InitProcess init(Commands{.settings = settings, .driver = tellingCpus("driver"), .sidecar = tellingCpus("sidecar")});
    init.await({"the driver has no cores of its own", reason});
    init.awaitBothReady();
    EXPECT_EQ(init.count("driver-cpus " + cpuListText(all) + "=\n"), 1U) << init.all();
    EXPECT_EQ(init.count("sidecar-cpus " + cpuListText(all) + "=\n"), 1U) << init.all();
  }
}

TEST_F(InitTest, refusesWrongUsageWithTheArgumentTheValueAndWhatIsAllowed) {
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  const std::vector<std::string> both{"--driver", "true", "--sidecar", "true"};
  const auto with = [&](std::vector<std::string> settings) {
    settings.insert(settings.end(), both.begin(), both.end());
    return settings;
  };
  const Case cases[] = {
      {{}, "--driver COMMAND is missing"},
      {{"--driver", "true"}, "--sidecar COMMAND is missing"},
      {{"--driver", "a", "--sidecar", "b", "--driver", "c"}, "--driver is given twice"},
      {with({"--drain-timeout", "soon"}), "--drain-timeout is 'soon'; allowed: 1ms to 3600s"},
      {with({"--drain-timeout", "2h"}), "--drain-timeout is '2h'"},
      {with({"--drain-timeout", "-1s"}), "--drain-timeout is '-1s'"},
      {with({"--config-attempts", "0"}), "--config-attempts is '0'; allowed: 1 to 1000"},
      {with({"--drain-timeout", "5s", "--driver-drain", "5s"}), "leaves the sidecar nothing of --drain-timeout 5s"},
      {with({"--backoff-min", "20s"}), "--backoff-min is 20s, above --backoff-max 10s"},
      {with({"--drian-timeout", "5s"}), "argument '--drian-timeout' is unknown"},
      {{"--drain-timeout"}, "--drain-timeout lacks its value"},
  };
  for (const Case& each : cases) {
    InitProcess init(each.arguments);
    EXPECT_EQ(init.exitStatus(), 64) << each.message;
    EXPECT_NE(init.all().find(each.message), std::string::npos) << each.message << " not in: " << init.all();
  }
}

TEST_F(InitTest, takesSettingsFromTheEnvironmentBehindArguments) {
  ASSERT_EQ(::setenv("OUTRIGGER_INIT_BACKOFF_MIN", "3ms", 1), 0);
  {
    InitProcess init(Commands{.driver = "exit 3"});
    EXPECT_EQ(InitProcess::number(init.await({"ended unasked"}), "restartInMs"), 3);
  }
  {
    InitProcess init(Commands{.settings = {"--backoff-min", "4ms"}, .driver = "exit 3"});
    EXPECT_EQ(InitProcess::number(init.await({"ended unasked"}), "restartInMs"), 4);
  }
  ASSERT_EQ(::setenv("OUTRIGGER_INIT_BACKOFF_MIN", "often", 1), 0);
  InitProcess init(Commands{});
  EXPECT_EQ(init.exitStatus(), 64);
  EXPECT_NE(init.all().find("OUTRIGGER_INIT_BACKOFF_MIN is 'often'"), std::string::npos) << init.all();
  ::unsetenv("OUTRIGGER_INIT_BACKOFF_MIN");
}

TEST_F(InitTest, explainsItself) {
  InitProcess init({"--help"});
  EXPECT_EQ(init.exitStatus(), 0);
  EXPECT_NE(init.all().find("--drain-timeout, OUTRIGGER_INIT_DRAIN_TIMEOUT (25s)"), std::string::npos) << init.all();
}

}  // namespace
}  // namespace outrigger::init
