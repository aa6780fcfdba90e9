// SPDX-License-Identifier: Apache-2.0
// Slots of the doorbell file: who has one, whoever it is.
#include "cnc/doorbells.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace outrigger::cnc {
namespace {

class DoorbellSlots : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "outrigger-doorbells-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    auto created = Doorbells::create(directory_, {0, 0, 0}, 0600);
    ASSERT_TRUE(created.ok()) << created.error().message;
    bells_ = created.take();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  Doorbells bells_;
};

TEST_F(DoorbellSlots, TheFirstClientOfADriverWhoseIdIsZeroHasASlotOfItsOwn) {
  EXPECT_FALSE(bells_.hasSlot(0));
  const int32_t first = bells_.claimSlot(0);
  const int32_t second = bells_.claimSlot(7);
  EXPECT_GE(first, 0);
  EXPECT_NE(first, second);
  EXPECT_TRUE(bells_.hasSlot(0));
  EXPECT_TRUE(bells_.hasSlot(7));
}

TEST_F(DoorbellSlots, AClientThatDiedGivesItsSlotBack) {
  const int32_t first = bells_.claimSlot(0);
  bells_.claimSlot(7);
  bells_.releaseSlotsOf(0);
  EXPECT_FALSE(bells_.hasSlot(0));
  EXPECT_TRUE(bells_.hasSlot(7));
  EXPECT_EQ(bells_.claimSlot(9), first);
}

TEST_F(DoorbellSlots, AreOutForWhoComesLast) {
  for (int32_t id = 0; id < Doorbells::kSlotCount; ++id) ASSERT_GE(bells_.claimSlot(id), 0) << id;
  EXPECT_EQ(bells_.claimSlot(Doorbells::kSlotCount), -1);
}

}  // namespace
}  // namespace outrigger::cnc
