// SPDX-License-Identifier: Apache-2.0
// Log buffer files: creation and growth.
#include "driver/log_buffer_factory.h"

#include <algorithm>

namespace outrigger::driver {
namespace {

namespace meta = logbuffer::meta;
constexpr uint64_t kPage = 4096;

void writeMetadata(const logbuffer::LogBuffer& log, const LogSpec& spec) {
  log.put<int64_t>(meta::kEndOfStreamPosition, INT64_MAX);
  log.put<int32_t>(meta::kIsConnected, 0);
  log.put<int32_t>(meta::kActiveTransportCount, 0);
  log.put<int64_t>(meta::kCorrelationId, spec.registrationId);
  log.put<int32_t>(meta::kInitialTermId, spec.initialTermId);
  log.put<int32_t>(meta::kDefaultFrameHeaderLength, wire::kDataHeaderLength);
  log.put<int32_t>(meta::kMtu, spec.mtu);
  log.put<int32_t>(meta::kTermLength, spec.termLength);
  log.put<int32_t>(meta::kPageSize, spec.pageSize);
  log.put<int32_t>(meta::kPublicationWindow, spec.publicationWindow);
  log.put<int32_t>(meta::kReceiverWindow, spec.receiverWindow);
  log.put<int32_t>(meta::kSocketSendBuffer, spec.socketSendBuffer);
  log.put<int32_t>(meta::kSocketReceiveBuffer, spec.socketReceiveBuffer);
  log.put<int32_t>(meta::kMaxResend, spec.maxResend);
  wire::DataHeader header{};
  header.header = {0, 0, wire::kFlagUnfragmented, static_cast<uint16_t>(wire::FrameType::kData)};
  header.sessionId = spec.sessionId;
  header.streamId = spec.streamId;
  header.termId = spec.initialTermId;
  std::memcpy(log.metadata() + meta::kDefaultHeader, &header, sizeof(header));
  log.put<int64_t>(meta::kEntityTag, spec.entityTag);
  log.put<int64_t>(meta::kResponseCorrelationId, -1);
  log.put<int64_t>(meta::kLingerNs, spec.lingerNs);
  log.put<int64_t>(meta::kUntetheredWindowLimitNs, spec.untetheredWindowLimitNs);
  log.put<int64_t>(meta::kUntetheredRestingNs, spec.untetheredRestingNs);
  writeAt<int64_t>(log.metadata(), meta::kUntetheredLingerNs, spec.untetheredLingerNs);  // the one field off its natural alignment
  log.put<uint8_t>(meta::kGroup, spec.group);
  log.put<uint8_t>(meta::kIsResponse, 0);
  log.put<uint8_t>(meta::kRejoin, spec.rejoin);
  log.put<uint8_t>(meta::kReliable, spec.reliable);
  log.put<uint8_t>(meta::kSparse, spec.sparse);
  log.put<uint8_t>(meta::kSignalEos, spec.signalEos);
  log.put<uint8_t>(meta::kSpiesSimulateConnection, spec.spiesSimulateConnection);
  log.put<uint8_t>(meta::kTether, spec.tether);
  log.put<uint8_t>(meta::kIsPublicationRevoked, 0);
  log.put<uint8_t>(meta::kType, static_cast<uint8_t>(spec.type));
  log.initialiseTails(spec.initialTermId, spec.startTermId, spec.startTermOffset);
}

}  // namespace

int allocateFile(int fd, uint64_t offset, uint64_t lengthBytes) {
  return ::posix_fallocate(fd, static_cast<off_t>(offset), static_cast<off_t>(lengthBytes));
}

int backTerms(int fd, int32_t termLength, int64_t fromPosition, int64_t toPosition, const FileAllocator& allocator) {
  // After three terms every byte of the file has memory, whatever the positions are.
  const int32_t bits = logbuffer::positionBitsToShift(termLength);
  int64_t begin = fromPosition - fromPosition % termLength;
  const int64_t end = std::min<int64_t>(toPosition, begin + int64_t{logbuffer::kPartitionCount} * termLength);
  for (; begin < end; begin += termLength) {
    const auto index = static_cast<uint64_t>(logbuffer::indexByPosition(begin, bits));
    const int err = allocator(fd, index * static_cast<uint64_t>(termLength), static_cast<uint64_t>(termLength));
    if (err != 0) return err;
  }
  return 0;
}

Result<CreatedLog> createLog(const LogSpec& spec, const FileAllocator& allocator) {
  const uint64_t fileLength = logbuffer::logFileLength(spec.termLength, spec.pageSize);
  auto file = MappedFile::create(spec.path, fileLength, spec.mode);
  if (!file) return file.error();
  const auto termLength = static_cast<uint64_t>(spec.termLength);
  const int64_t start = logbuffer::computePosition(spec.startTermId, spec.startTermOffset, logbuffer::positionBitsToShift(spec.termLength),
                                                   spec.initialTermId);
  const int64_t termBegin = start - spec.startTermOffset;
  const int32_t terms = spec.sparse ? 1 : logbuffer::kPartitionCount;
  int err = allocator(file->fd(), logbuffer::metadataOffset(spec.termLength), fileLength - logbuffer::metadataOffset(spec.termLength));
  // A reader that stands at the end of a term looks at the first frame of the next: that page exists from the start.
  for (int32_t index = 0; index < logbuffer::kPartitionCount && err == 0; ++index) {
    err = allocator(file->fd(), static_cast<uint64_t>(index) * termLength, kPage);
  }
  if (err == 0) err = backTerms(file->fd(), spec.termLength, termBegin, termBegin + int64_t{terms} * spec.termLength, allocator);
  if (err != 0) {
    ::unlink(spec.path.c_str());
    return makeError(err == ENOSPC ? ErrorCode::kStorageSpace : ErrorCode::kGeneric,
                     "no memory for log '" + spec.path + "' (" + std::to_string(spec.termLength) +
                         "-byte terms); enlarge the volume of the driver directory or use a smaller term-length",
                     err);
  }
  writeMetadata(logbuffer::LogBuffer(file->data(), spec.termLength, file->length()), spec);
  CreatedLog log;
  log.file = file.take();
  log.backedPosition = spec.sparse ? termBegin + spec.termLength : logbuffer::maxPossiblePosition(spec.termLength);
  return log;
}

}  // namespace outrigger::driver
