// SPDX-License-Identifier: Apache-2.0
#include "nicd/client.h"

#include <algorithm>
#include <array>

namespace outrigger::nicd {

bool Client::answer(Message message, UniqueFd descriptor) {
  if (waiting_.size() - feedWaiting_ >= kMaxAnswersWaiting) return false;
  waiting_.push_back({std::move(message), std::move(descriptor), false});
  return true;
}

void Client::feed() {
  if (feedDropped_) return;
  // Whoever does not read gets the state of the day when it does, not its history. The whole state at once is bounded.
  if (feedWaiting_ > kMaxFeedWaiting) return dropFeed();
  for (const auto& [session, feed] : feeds) {
    std::vector<FeedEntry> entries;
    feed->collect(entries);
    for (size_t at = 0; at < entries.size(); at += kMaxFeedEntries) {
      const size_t count = std::min(kMaxFeedEntries, entries.size() - at);
      waiting_.push_back({encodeFeed(session, {entries.data() + at, count}), {}, true});
      ++feedWaiting_;
    }
  }
}

void Client::dropFeed() {
  std::erase_if(waiting_, [](const Outgoing& each) { return each.isFeed; });
  feedWaiting_ = 0;
  ++feedResyncs;
  for (const auto& [session, feed] : feeds) feed->forgetTold();
  feedDropped_ = true;
}

bool Client::flush() {
  while (!waiting_.empty()) {
    const Outgoing& next = waiting_.front();
    const std::array<int, 1> descriptors{next.descriptor.get()};
    const Transfer sent = sendMessage(socket_.get(), next.message, {descriptors.data(), next.descriptor.valid() ? 1U : 0U});
    if (sent == Transfer::kWouldBlock) return true;
    if (sent != Transfer::kDone) return false;
    if (next.isFeed) --feedWaiting_;
    waiting_.pop_front();
    if (waiting_.empty() && feedDropped_) {
      feedDropped_ = false;
      feed();
    }
  }
  return !ending;
}

}  // namespace outrigger::nicd
