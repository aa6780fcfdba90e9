// SPDX-License-Identifier: Apache-2.0
// Assembled by hand: sixty instructions don't pay for a compiler and a loader. Offsets are those of linux/if_ether.h, RFC 791 and RFC 8200.
#include "nicd/packet_filter_program.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>

#include <cstddef>

namespace outrigger::nicd {
namespace {

constexpr int16_t kKey = -24;  // SteerKey on the stack: address, port, family
constexpr int16_t kKeyPort = -8;
constexpr int16_t kKeyFamily = -6;
constexpr int16_t kHeader = -64;  // the IP header: 20 or 40 bytes

enum class Label : uint8_t { kIpv4, kIpv6, kLookup, kAccept, kDrop, kCount };

// Jumps are written with labels and patched at the end.
class Assembler {
 public:
  void add(uint8_t code, uint8_t destination, uint8_t source, int16_t offset, int32_t immediate) {
    bpf_insn instruction{};
    instruction.code = code;
    instruction.dst_reg = destination & 15;
    instruction.src_reg = source & 15;
    instruction.off = offset;
    instruction.imm = immediate;
    code_.push_back(instruction);
  }
  void move(uint8_t to, uint8_t from) { add(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
  void set(uint8_t to, int32_t value) { add(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
  void load(uint8_t size, uint8_t to, uint8_t base, int16_t offset) { add(BPF_LDX | BPF_MEM | size, to, base, offset, 0); }
  void store(uint8_t size, uint8_t base, int16_t offset, uint8_t from) { add(BPF_STX | BPF_MEM | size, base, from, offset, 0); }
  void storeValue(uint8_t size, int16_t offset, int32_t value) { add(BPF_ST | BPF_MEM | size, BPF_REG_10, 0, offset, value); }
  void stackAddress(uint8_t to, int16_t offset) {
    move(to, BPF_REG_10);
    add(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, offset);
  }
  void call(int32_t helper) { add(BPF_JMP | BPF_CALL, 0, 0, 0, helper); }
  void loadMap(uint8_t to, int map) {
    add(BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, map);
    add(0, 0, 0, 0, 0);
  }
  // Jumps when `reg` compares to the value.
  void jump(uint8_t comparison, uint8_t reg, int32_t value, Label to) {
    jumps_.push_back({code_.size(), to});
    add(static_cast<uint8_t>(BPF_JMP | comparison | BPF_K), reg, 0, 0, value);
  }
  void jumpAlways(Label to) {
    jumps_.push_back({code_.size(), to});
    add(BPF_JMP | BPF_JA, 0, 0, 0, 0);
  }
  void exit() { add(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }
  void place(Label label) { places_[static_cast<size_t>(label)] = code_.size(); }
  // Bytes of the frame to the stack; drops what is too short.
  void loadFrame(int32_t offset, int16_t to, int32_t length) {
    move(BPF_REG_1, BPF_REG_6);
    set(BPF_REG_2, offset);
    stackAddress(BPF_REG_3, to);
    set(BPF_REG_4, length);
    call(BPF_FUNC_skb_load_bytes);
    jump(BPF_JNE, BPF_REG_0, 0, Label::kDrop);
  }
  void lookUp(int map) {
    loadMap(BPF_REG_1, map);
    stackAddress(BPF_REG_2, kKey);
    call(BPF_FUNC_map_lookup_elem);
  }
  std::vector<bpf_insn> finish() {
    for (const auto& [at, label] : jumps_) code_[at].off = static_cast<int16_t>(places_[static_cast<size_t>(label)] - at - 1);
    return std::move(code_);
  }

 private:
  struct Jump {
    size_t at;
    Label to;
  };
  std::vector<bpf_insn> code_;
  std::vector<Jump> jumps_;
  size_t places_[static_cast<size_t>(Label::kCount)] = {};
};

void checkIpv4(Assembler& a) {
  a.place(Label::kIpv4);
  a.loadFrame(ETH_HLEN, kHeader, 20);
  a.load(BPF_B, BPF_REG_0, BPF_REG_10, kHeader);
  a.jump(BPF_JNE, BPF_REG_0, 0x45, Label::kDrop);
  a.load(BPF_B, BPF_REG_0, BPF_REG_10, kHeader + 9);
  a.jump(BPF_JNE, BPF_REG_0, IPPROTO_UDP, Label::kDrop);
  // More fragments, or an offset.
  a.load(BPF_H, BPF_REG_0, BPF_REG_10, kHeader + 6);
  a.jump(BPF_JSET, BPF_REG_0, htons(0x3FFF), Label::kDrop);
  a.load(BPF_W, BPF_REG_0, BPF_REG_10, kHeader + 16);
  a.store(BPF_W, BPF_REG_10, kKey, BPF_REG_0);
  a.storeValue(BPF_B, kKeyFamily, 4);
  a.loadFrame(ETH_HLEN + 20 + 2, kKeyPort, 2);
  a.jumpAlways(Label::kLookup);
}

void checkIpv6(Assembler& a) {
  a.place(Label::kIpv6);
  a.loadFrame(ETH_HLEN, kHeader, 40);
  a.load(BPF_B, BPF_REG_0, BPF_REG_10, kHeader + 6);
  a.jump(BPF_JNE, BPF_REG_0, IPPROTO_UDP, Label::kDrop);
  for (int16_t i = 0; i < 16; i = static_cast<int16_t>(i + 8)) {
    a.load(BPF_DW, BPF_REG_0, BPF_REG_10, static_cast<int16_t>(kHeader + 24 + i));
    a.store(BPF_DW, BPF_REG_10, static_cast<int16_t>(kKey + i), BPF_REG_0);
  }
  a.storeValue(BPF_B, kKeyFamily, 6);
  a.loadFrame(ETH_HLEN + 40 + 2, kKeyPort, 2);
}

}  // namespace

std::vector<bpf_insn> packetFilterProgram(int map, uint32_t interfaceIndex) {
  Assembler a;
  a.move(BPF_REG_6, BPF_REG_1);
  a.load(BPF_W, BPF_REG_0, BPF_REG_6, offsetof(__sk_buff, pkt_type));
  a.jump(BPF_JNE, BPF_REG_0, PACKET_HOST, Label::kDrop);
  a.load(BPF_W, BPF_REG_0, BPF_REG_6, offsetof(__sk_buff, ifindex));
  a.jump(BPF_JNE, BPF_REG_0, static_cast<int32_t>(interfaceIndex), Label::kDrop);
  for (const int16_t at : {kKey, static_cast<int16_t>(kKey + 8)}) a.storeValue(BPF_DW, at, 0);
  a.storeValue(BPF_W, kKeyPort, 0);
  a.load(BPF_W, BPF_REG_7, BPF_REG_6, offsetof(__sk_buff, protocol));
  a.jump(BPF_JEQ, BPF_REG_7, htons(ETH_P_IP), Label::kIpv4);
  a.jump(BPF_JEQ, BPF_REG_7, htons(ETH_P_IPV6), Label::kIpv6);
  a.jumpAlways(Label::kDrop);
  checkIpv4(a);
  checkIpv6(a);
  a.place(Label::kLookup);
  a.lookUp(map);
  a.jump(BPF_JNE, BPF_REG_0, 0, Label::kAccept);
  for (const int16_t at : {kKey, static_cast<int16_t>(kKey + 8)}) a.storeValue(BPF_DW, at, 0);
  a.lookUp(map);
  a.jump(BPF_JNE, BPF_REG_0, 0, Label::kAccept);
  a.place(Label::kDrop);
  a.set(BPF_REG_0, 0);
  a.exit();
  a.place(Label::kAccept);
  a.set(BPF_REG_0, 0x40000);  // as tcpdump's: more than any frame
  a.exit();
  return a.finish();
}

}  // namespace outrigger::nicd
