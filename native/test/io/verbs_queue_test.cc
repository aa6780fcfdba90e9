// SPDX-License-Identifier: Apache-2.0
// The queue pair and the ports over a libibverbs that is made here: what a device does that fails, which none at hand can be brought to.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <vector>

#include "io/verbs_module/ibv_queue.h"

namespace {

// One device with one queue pair.
struct FakeDevice {
  ibv_context context{};
  ibv_device device{};
  ibv_pd domain{};
  ibv_cq receiveQueue{};
  ibv_cq sendQueue{};
  ibv_qp pair{};
  ibv_mr region{};
  ibv_comp_channel channel{};
  uint32_t cqsMade = 0;
  ibv_qp_state state = IBV_QPS_RESET;
  // The next send fails, and leaves the pair in this state.
  bool failSend = false;
  ibv_qp_state afterFailure = IBV_QPS_SQE;
  int modifyError = 0;    // of going on after a failed send
  int postSendError = 0;  // and none is taken
  int postReceiveError = 0;
  int receivesPosted = 0;
  int pollError = 0;
  int notifyError = 0;
  std::deque<uint64_t> receives;
  std::deque<ibv_wc> sendCompletions;
  std::deque<ibv_wc> receiveCompletions;
  std::vector<int> gidTableLengths{4};  // of each port; below zero: it does not answer
  ssize_t gidError = 0;
  size_t gidsAskedFor = 0;
  int gidQueries = 0;

  // As at first, with its functions.
  void renew() {
    const ibv_context kept = context;
    *this = FakeDevice();
    context = kept;
  }
  void enter(ibv_qp_state next) {
    state = next;
    if (state == IBV_QPS_ERR) flushReceives();
  }
  void flushReceives() {
    for (const uint64_t id : receives) receiveCompletions.push_back(completion(id, IBV_WC_WR_FLUSH_ERR));
    receives.clear();
  }
  static ibv_wc completion(uint64_t id, ibv_wc_status status) {
    ibv_wc one{};
    one.wr_id = id;
    one.status = status;
    return one;
  }
  int post(ibv_send_wr* request, ibv_send_wr** bad) {
    for (; request != nullptr; request = request->next) {
      if (postSendError != 0) {
        *bad = request;
        return postSendError;
      }
      if (state != IBV_QPS_RTS) {
        sendCompletions.push_back(completion(request->wr_id, IBV_WC_WR_FLUSH_ERR));
      } else if (failSend) {
        failSend = false;
        sendCompletions.push_back(completion(request->wr_id, IBV_WC_LOC_QP_OP_ERR));
        enter(afterFailure);
      } else if ((request->send_flags & IBV_SEND_SIGNALED) != 0) {
        sendCompletions.push_back(completion(request->wr_id, IBV_WC_SUCCESS));
      }
    }
    return 0;
  }
  int post(ibv_recv_wr* request, ibv_recv_wr** bad) {
    for (; request != nullptr; request = request->next) {
      if (postReceiveError != 0) {
        *bad = request;
        return postReceiveError;
      }
      ++receivesPosted;
      receives.push_back(request->wr_id);
    }
    if (state == IBV_QPS_ERR) flushReceives();
    return 0;
  }
  int poll(std::deque<ibv_wc>& from, int count, ibv_wc* to) {
    if (pollError != 0) return -pollError;
    int taken = 0;
    for (; taken < count && !from.empty(); ++taken) {
      to[taken] = from.front();
      from.pop_front();
    }
    return taken;
  }
};

FakeDevice* fake = nullptr;

}  // namespace

#undef ibv_reg_mr
#undef ibv_query_port

extern "C" {
ibv_device** ibv_get_device_list(int* count) {
  *count = 1;
  return new ibv_device* [2] { &fake->device, nullptr };
}
void ibv_free_device_list(ibv_device** list) { delete[] list; }
const char* ibv_get_device_name(ibv_device* device) { return device->name; }
ibv_context* ibv_open_device(ibv_device*) { return &fake->context; }
int ibv_close_device(ibv_context*) { return 0; }
ibv_pd* ibv_alloc_pd(ibv_context*) { return &fake->domain; }
int ibv_dealloc_pd(ibv_pd*) { return 0; }
ibv_ah* ibv_create_ah(ibv_pd*, ibv_ah_attr*) {
  errno = ENETUNREACH;
  return nullptr;
}
int ibv_destroy_ah(ibv_ah*) { return 0; }
const char* ibv_port_state_str(ibv_port_state) { return "ACTIVE"; }
int ibv_query_device(ibv_context*, ibv_device_attr* limits) {
  *limits = {};
  limits->max_qp_wr = 256;
  limits->max_cqe = 256;
  limits->phys_port_cnt = static_cast<uint8_t>(fake->gidTableLengths.size());
  return 0;
}
int ibv_query_port(ibv_context*, uint8_t port, _compat_ibv_port_attr* to) {
  if (fake->gidTableLengths.at(port - 1U) < 0) return EIO;
  auto* state = reinterpret_cast<ibv_port_attr*>(to);
  state->state = IBV_PORT_ACTIVE;
  state->active_mtu = IBV_MTU_4096;
  state->link_layer = IBV_LINK_LAYER_ETHERNET;
  state->gid_tbl_len = fake->gidTableLengths.at(port - 1U);
  return 0;
}
ssize_t _ibv_query_gid_table(ibv_context*, ibv_gid_entry*, size_t most, uint32_t, size_t) {
  ++fake->gidQueries;
  fake->gidsAskedFor = most;
  return fake->gidError;
}
ibv_comp_channel* ibv_create_comp_channel(ibv_context*) {
  fake->channel.fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return &fake->channel;
}
int ibv_destroy_comp_channel(ibv_comp_channel* channel) { return ::close(channel->fd); }
ibv_cq* ibv_create_cq(ibv_context* context, int, void*, ibv_comp_channel*, int) {
  ibv_cq* made = fake->cqsMade++ == 0 ? &fake->receiveQueue : &fake->sendQueue;
  made->context = context;
  return made;
}
int ibv_destroy_cq(ibv_cq*) { return 0; }
ibv_qp* ibv_create_qp(ibv_pd*, ibv_qp_init_attr*) {
  fake->pair.context = &fake->context;
  fake->pair.qp_num = 17;
  return &fake->pair;
}
int ibv_destroy_qp(ibv_qp*) { return 0; }
int ibv_modify_qp(ibv_qp*, ibv_qp_attr* attributes, int mask) {
  if ((mask & IBV_QP_CUR_STATE) != 0) {
    if (fake->modifyError != 0) return fake->modifyError;
    if (attributes->cur_qp_state != fake->state) return EINVAL;
  }
  fake->enter(attributes->qp_state);
  return 0;
}
int ibv_query_qp(ibv_qp*, ibv_qp_attr* attributes, int, ibv_qp_init_attr*) {
  attributes->qp_state = fake->state;
  return 0;
}
ibv_mr* ibv_reg_mr(ibv_pd*, void*, size_t, int) { return &fake->region; }
// Which of both it is, an unoptimized build finds out when it runs.
ibv_mr* ibv_reg_mr_iova2(ibv_pd*, void*, size_t, uint64_t, unsigned) { return &fake->region; }
int ibv_dereg_mr(ibv_mr*) { return 0; }
int ibv_get_cq_event(ibv_comp_channel*, ibv_cq**, void**) { return -1; }
void ibv_ack_cq_events(ibv_cq*, unsigned) {}
}

namespace outrigger::io::verbs {
namespace {

class VerbsQueue : public ::testing::Test {
 protected:
  static constexpr uint32_t kSlots = 256;

  VerbsQueue() {
    fake = &device_;
    std::strcpy(device_.device.name, "fake0");
    std::strcpy(device_.device.dev_name, "uverbs0");
    device_.context.ops.poll_cq = [](ibv_cq* queue, int count, ibv_wc* to) {
      return fake->poll(queue == &fake->sendQueue ? fake->sendCompletions : fake->receiveCompletions, count, to);
    };
    device_.context.ops.post_send = [](ibv_qp*, ibv_send_wr* first, ibv_send_wr** bad) { return fake->post(first, bad); };
    device_.context.ops.post_recv = [](ibv_qp*, ibv_recv_wr* first, ibv_recv_wr** bad) { return fake->post(first, bad); };
    device_.context.ops.req_notify_cq = [](ibv_cq*, int) { return fake->notifyError; };
  }
  ~VerbsQueue() override { fake = nullptr; }

  std::unique_ptr<DatagramQueue> open() {
    auto ibv = std::make_shared<IbvDevice>();
    ibv->context = &device_.context;
    ibv->domain = &device_.domain;
    PortFacts facts;
    facts.device = "fake0";
    facts.mtu = 1024;
    QueueOptions options;
    options.receiveSlots = kSlots;
    options.sendSlots = kSlots;
    auto queue = openIbvQueue(ibv, facts, options);
    EXPECT_TRUE(queue.ok()) << queue.error().message;
    return queue.take();
  }
  uint32_t send(DatagramQueue& queue, uint32_t count) {
    std::vector<SendSlot> slots(count);
    EXPECT_EQ(queue.reserve(slots), count);
    std::vector<Outgoing> datagrams(count);
    for (uint32_t i = 0; i < count; ++i) {
      datagrams[i].slot = slots[i].slot;
      datagrams[i].length = 8;
      datagrams[i].to = &to_;
    }
    return queue.send(datagrams);
  }

  FakeDevice device_;
  IbvAddress to_;
};

TEST_F(VerbsQueue, goesOnAfterAFailedSendWithTheNextOne) {
  auto queue = open();
  EXPECT_EQ(send(*queue, 10), 10U);
  device_.failSend = true;
  EXPECT_EQ(send(*queue, 10), 10U) << "the device took them, and flushes those behind the first";
  EXPECT_EQ(send(*queue, 10), 10U);
  EXPECT_EQ(device_.state, IBV_QPS_RTS);
  EXPECT_EQ(queue->stats().sendErrors, 10);
  EXPECT_EQ(send(*queue, 10), 10U);
  EXPECT_EQ(queue->stats().sendErrors, 10) << "none of the last two batches was flushed";
  EXPECT_FALSE(queue->fault().present()) << queue->fault().text();
}

TEST_F(VerbsQueue, givesEverySlotBackWhateverBecameOfTheSends) {
  auto queue = open();
  for (uint32_t round = 0; round < 40; ++round) {
    device_.failSend = round % 3 == 0;
    EXPECT_EQ(send(*queue, 50), 50U) << round;
  }
  std::vector<SendSlot> all(kSlots);
  EXPECT_EQ(queue->reserve(all), kSlots);
}

TEST_F(VerbsQueue, thatCanNotGoOnSaysSoAndSendsNothing) {
  auto queue = open();
  device_.failSend = true;
  device_.modifyError = EIO;
  send(*queue, 1);
  EXPECT_EQ(send(*queue, 1), 0U);
  EXPECT_EQ(queue->fault().text(), std::string("cannot make it send again after a failed send: ") + std::strerror(EIO));
  EXPECT_EQ(queue->stats().sendErrors, 2);
}

TEST_F(VerbsQueue, inErrorSaysSoAndLeavesItsReceiveBuffersAlone) {
  auto queue = open();
  EXPECT_EQ(device_.receivesPosted, static_cast<int>(kSlots));
  device_.failSend = true;
  device_.afterFailure = IBV_QPS_ERR;
  send(*queue, 1);
  EXPECT_EQ(send(*queue, 1), 0U);
  EXPECT_EQ(queue->fault().text(), "a send failed and left it in error");
  std::vector<Received> received(64);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(queue->receive(received), 0U);
  EXPECT_EQ(device_.receivesPosted, static_cast<int>(kSlots)) << "they would come back with the next poll, forever";
  EXPECT_TRUE(queue->arm());
}

TEST_F(VerbsQueue, whoseBuffersAreFlushedIsBroken) {
  auto queue = open();
  device_.enter(IBV_QPS_ERR);
  std::vector<Received> received(64);
  EXPECT_EQ(queue->receive(received), 0U);
  EXPECT_EQ(queue->fault().text(), "it is in error and gives its receive buffers back");
  EXPECT_EQ(device_.receivesPosted, static_cast<int>(kSlots));
}

TEST_F(VerbsQueue, tellsWhatTheDeviceRefuses) {
  {
    auto queue = open();
    device_.postReceiveError = ENODEV;
    queue->giveBack(std::array<uint32_t, 1>{0});
    EXPECT_EQ(queue->fault().text(), std::string("cannot post receive buffers: ") + std::strerror(ENODEV));
  }
  device_.renew();
  {
    auto queue = open();
    device_.postSendError = ENOMEM;
    EXPECT_EQ(send(*queue, 3), 0U);
    EXPECT_FALSE(queue->fault().present()) << "that passes";
    EXPECT_EQ(queue->stats().sendErrors, 3);
    device_.postSendError = EIO;
    EXPECT_EQ(send(*queue, 3), 0U);
    EXPECT_EQ(queue->fault().text(), std::string("cannot post sends: ") + std::strerror(EIO));
  }
  device_.renew();
  auto queue = open();
  device_.pollError = EIO;
  std::vector<Received> received(64);
  EXPECT_EQ(queue->receive(received), 0U);
  EXPECT_EQ(queue->fault().text(), "cannot read receive completions");
}

TEST_F(VerbsQueue, thatCanNotBeWaitedForSaysSo) {
  auto queue = open();
  EXPECT_TRUE(queue->arm());
  device_.notifyError = EIO;
  queue->arm();
  EXPECT_EQ(queue->fault().text(), std::string("cannot ask to be woken by what arrives: ") + std::strerror(EIO));
}

TEST_F(VerbsQueue, ofAPortWhoseGidsCanNotBeReadIsTrouble) {
  device_.gidTableLengths = {255, 1024};
  device_.gidError = -EPERM;
  auto ports = listIbvPorts();
  ASSERT_TRUE(ports.ok());
  ASSERT_EQ(ports->size(), 2U);
  EXPECT_EQ(ports->front().trouble, std::string("cannot read its GIDs: ") + std::strerror(EPERM));
  EXPECT_EQ(device_.gidsAskedFor, 255U + 1024) << "the device refuses when those of all its ports have no room";
  device_.gidError = 0;
  ports = listIbvPorts();
  ASSERT_TRUE(ports.ok());
  EXPECT_EQ(ports->front().trouble, "");
  // The other ports' are read all the same beside one that does not answer.
  device_.gidTableLengths = {16, -1};
  ports = listIbvPorts();
  ASSERT_TRUE(ports.ok());
  ASSERT_EQ(ports->size(), 2U);
  EXPECT_EQ(ports->front().trouble, "");
  EXPECT_NE(ports->back().trouble, "");
  EXPECT_EQ(device_.gidsAskedFor, 16U + 256) << "its own have room too";
  // One without any is not asked: it would refuse.
  device_.gidQueries = 0;
  device_.gidTableLengths = {0};
  ports = listIbvPorts();
  ASSERT_TRUE(ports.ok());
  ASSERT_EQ(ports->size(), 1U);
  EXPECT_EQ(ports->front().trouble, "");
  EXPECT_EQ(device_.gidQueries, 0);
}

}  // namespace
}  // namespace outrigger::io::verbs
