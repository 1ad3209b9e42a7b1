// Reading session files: SessionFileReader.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "fmt/format.h"
#include "runtime/little_endian.h"
#include "runtime/session_checksum.h"
#include "runtime/session_file.h"

namespace pyramidkv {

SessionFileReader::~SessionFileReader() {
  if (fd_ >= 0) close(fd_);
}

Status SessionFileReader::Damaged(const std::string& what) const {
  return Status::Model(fmt::format("{}: {}", path_, what));
}

Result<std::unique_ptr<SessionFileReader>> SessionFileReader::Open(
    const std::string& path) {
  std::unique_ptr<SessionFileReader> reader(new SessionFileReader(path));
  PKV_RETURN_IF_ERROR(reader->OpenFile());
  PKV_RETURN_IF_ERROR(reader->ReadEnds());
  return reader;
}

Status SessionFileReader::OpenFile() {
  // A pipe of that name must not keep us waiting.
  fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    return Damaged(
        fmt::format("cannot open this session: {}", strerror(errno)));
  }
  struct stat info;
  if (fstat(fd_, &info) != 0) return Damaged(strerror(errno));
  if (!S_ISREG(info.st_mode)) return Damaged("is not a regular file");
  file_bytes_ = static_cast<uint64_t>(info.st_size);
  return {};
}

Status SessionFileReader::ReadAt(uint64_t offset,
                                 std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t n =
        pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return Status::Runtime(
          fmt::format("cannot read {}: {}", path_, strerror(errno)));
    }
    if (n == 0) return Damaged("truncated while it was read");
    offset += static_cast<uint64_t>(n);
    to = to.subspan(static_cast<size_t>(n));
  }
  return {};
}

// From the size alone follows where each chunk lies, so no length in the file
// is believed.
Status SessionFileReader::ReadEnds() {
  std::vector<std::byte> header(kSessionHeaderBytes);
  constexpr uint64_t kEnds = kSessionHeaderBytes + kSessionFooterBytes;
  const bool whole = file_bytes_ >= kEnds;
  header.resize(std::min<uint64_t>(file_bytes_, kSessionHeaderBytes));
  PKV_RETURN_IF_ERROR(ReadAt(0, header));
  if (header.size() < 8 || std::memcmp(header.data(), "PKVSESS\x1a", 8) != 0) {
    return Damaged("is not a session file");
  }
  if (!whole) return Damaged("truncated");
  const auto version = LoadLittle<uint32_t>(&header[8]);
  const auto checksum = LoadLittle<uint64_t>(&header[kSessionHeaderBytes - 8]);
  const bool sound =
      checksum ==
      HeaderChecksum(std::span(header).first(kSessionHeaderBytes - 8));
  if (version != kSessionFileVersion && (sound || version > 1000)) {
    return Damaged(fmt::format("has the format version {}, expected {}",
                               version, kSessionFileVersion));
  }
  if (!sound || LoadLittle<uint32_t>(&header[12]) != kSessionHeaderBytes ||
      LoadLittle<uint32_t>(&header[40]) != kChunkBytes ||
      version != kSessionFileVersion) {
    return Damaged("its header is damaged");
  }
  id_.session = {LoadLittle<uint64_t>(&header[16]),
                 LoadLittle<uint64_t>(&header[24])};
  id_.generation = LoadLittle<uint64_t>(&header[32]);
  checksums_.push_back(checksum);

  const uint64_t middle = file_bytes_ - kEnds;
  constexpr uint64_t kWhole = kChunkHeaderBytes + kChunkBytes;
  const uint64_t chunks = (middle + kWhole - 1) / kWhole;
  footer_.resize(kSessionFooterBytes);
  PKV_RETURN_IF_ERROR(ReadAt(file_bytes_ - kSessionFooterBytes, footer_));
  if (std::memcmp(footer_.data(), "PKVDONE\x1a", 8) != 0) {
    return Damaged(
        "has no footer: it is truncated, or something was added to it");
  }
  if (chunks > std::numeric_limits<uint32_t>::max() ||
      middle < chunks * kChunkHeaderBytes ||
      LoadLittle<uint32_t>(&footer_[8]) != chunks ||
      LoadLittle<uint32_t>(&footer_[12]) != 0 ||
      LoadLittle<uint64_t>(&footer_[16]) !=
          middle - chunks * kChunkHeaderBytes) {
    return Damaged(fmt::format("its footer does not fit its size of {} bytes",
                               file_bytes_));
  }
  chunks_ = static_cast<uint32_t>(chunks);
  payload_bytes_ = middle - chunks * kChunkHeaderBytes;
  footer_checksum_ = LoadLittle<uint64_t>(&footer_[24]);
  return {};
}

Status SessionFileReader::NextChunk() {
  constexpr uint64_t kWhole = kChunkHeaderBytes + kChunkBytes;
  const uint64_t offset = kSessionHeaderBytes + next_chunk_ * kWhole;
  const auto bytes = static_cast<size_t>(std::min<uint64_t>(
      kChunkBytes, payload_bytes_ - uint64_t{next_chunk_} * kChunkBytes));
  std::byte header[kChunkHeaderBytes];
  chunk_.resize(bytes);
  PKV_RETURN_IF_ERROR(ReadAt(offset, header));
  PKV_RETURN_IF_ERROR(ReadAt(offset + kChunkHeaderBytes, chunk_));
  const auto checksum = LoadLittle<uint64_t>(&header[8]);
  if (LoadLittle<uint32_t>(&header[0]) != next_chunk_ ||
      LoadLittle<uint32_t>(&header[4]) != bytes ||
      checksum != ChunkChecksum(id_, next_chunk_, chunk_)) {
    return Damaged(fmt::format(
        "damaged: chunk {} of {} (bytes {} to {}) does not match its checksum",
        next_chunk_ + 1, chunks_, offset, offset + kChunkHeaderBytes + bytes));
  }
  checksums_.push_back(checksum);
  ++next_chunk_;
  chunk_at_ = 0;
  return {};
}

Status SessionFileReader::Read(std::span<std::byte> to) {
  if (to.size() > remaining()) {
    return Damaged("damaged: it ends before what it says it holds");
  }
  given_ += to.size();
  while (!to.empty()) {
    if (chunk_at_ == chunk_.size()) PKV_RETURN_IF_ERROR(NextChunk());
    const size_t part = std::min(to.size(), chunk_.size() - chunk_at_);
    std::memcpy(to.data(), chunk_.data() + chunk_at_, part);
    chunk_at_ += part;
    to = to.subspan(part);
  }
  return {};
}

Status SessionFileReader::Finish() {
  while (next_chunk_ < chunks_) PKV_RETURN_IF_ERROR(NextChunk());
  if (FooterChecksum(checksums_, std::span(footer_).first(24)) !=
      footer_checksum_) {
    return Damaged("its footer is damaged");
  }
  return {};
}

}  // namespace pyramidkv
