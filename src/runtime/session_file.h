// The container of a stored session: bytes in checked chunks, written so that
// a file of that name is at every moment the old one or the new one, whole.
// It knows nothing of what the bytes mean (session_state.h does).
//
// All numbers are little-endian. The file:
//   header   magic u8[8], version u32, header_bytes u32, session u64[2],
//            generation u64, chunk_bytes u32, zero u32, checksum u64
//   chunks   index u32, bytes u32, checksum u64, then the bytes; all but the
//            last have kChunkBytes, and the last at least one
//   footer   magic u8[8], chunks u32, zero u32, payload bytes u64, checksum
//            u64 of the header's checksum, all chunks' and the footer itself
// A chunk's checksum is XXH3 of its bytes, seeded with session, generation,
// index and length: a chunk of another file, place or save is damage, too.

#ifndef PYRAMIDKV_RUNTIME_SESSION_FILE_H_
#define PYRAMIDKV_RUNTIME_SESSION_FILE_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv {

inline constexpr uint32_t kSessionFileVersion = 3;
inline constexpr size_t kChunkBytes = size_t{1} << 20;
inline constexpr size_t kSessionHeaderBytes = 56;
inline constexpr size_t kChunkHeaderBytes = 16;
inline constexpr size_t kSessionFooterBytes = 32;

// Which save of which session.
struct SessionFileId {
  std::array<uint64_t, 2> session = {};
  uint64_t generation = 0;
  bool operator==(const SessionFileId&) const = default;
};

// The system calls of a writer, for tests that make them fail.
class SessionFileCalls {
 public:
  virtual ~SessionFileCalls() = default;
  virtual ssize_t Write(int fd, std::span<const std::byte> bytes);
  virtual int Sync(int fd);
  virtual int Rename(const char* from, const char* to);
};

// Removes what writers of `path` left beside it that died.
void RemoveSessionLitter(const std::string& path);

// Writes beside `path` ("path.tmp-PID-N") and takes its place in Commit.
class SessionFileWriter {
 public:
  // Removes litter first.
  // Errors: kUsage if `path` is something other than a regular file, kRuntime
  // if its directory cannot be written to.
  // calls: null for the system's.
  static Result<std::unique_ptr<SessionFileWriter>> Create(
      const std::string& path, const SessionFileId& id,
      std::unique_ptr<SessionFileCalls> calls = nullptr);
  // Without a successful Commit the old file stays and nothing else does.
  ~SessionFileWriter();
  SessionFileWriter(const SessionFileWriter&) = delete;
  SessionFileWriter& operator=(const SessionFileWriter&) = delete;

  // Errors (here and in Commit): kRuntime, what the system says.
  Status Append(std::span<const std::byte> bytes);

  // Footer, sync, rename, sync of the directory. Call it once, at the end.
  Status Commit();

 private:
  SessionFileWriter(std::string path, const SessionFileId& id,
                    std::unique_ptr<SessionFileCalls> calls);
  Status OpenBeside();
  Status WriteAll(std::span<const std::byte> bytes);
  Status FlushChunk();
  Status Failed(const char* what, int error) const;

  std::string path_, temporary_;  // the latter empty: none
  SessionFileId id_;
  std::unique_ptr<SessionFileCalls> calls_;
  int fd_ = -1;
  std::vector<std::byte> chunk_;  // room for its header, then its bytes
  uint64_t payload_bytes_ = 0;
  std::vector<uint64_t> checksums_;  // of the header, then of the chunks
};

// Gives out bytes only of chunks that were checked.
class SessionFileReader {
 public:
  // Checks header, footer and size. Errors: kModel for what is missing,
  // unreadable, of another version or damaged; the message says where.
  static Result<std::unique_ptr<SessionFileReader>> Open(
      const std::string& path);
  ~SessionFileReader();
  SessionFileReader(const SessionFileReader&) = delete;
  SessionFileReader& operator=(const SessionFileReader&) = delete;

  const std::string& path() const { return path_; }
  const SessionFileId& id() const { return id_; }
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t payload_bytes() const { return payload_bytes_; }
  uint64_t remaining() const { return payload_bytes_ - given_; }

  // The next to.size() bytes. Errors: kModel, a damaged chunk or no such
  // bytes; kRuntime if the system cannot read.
  Status Read(std::span<std::byte> to);

  // Checks what was not read yet, too, and the footer's checksum of all.
  // Nothing that was read may be trusted to be complete before.
  Status Finish();

  // kModel, "PATH: what".
  Status Damaged(const std::string& what) const;

 private:
  explicit SessionFileReader(const std::string& path) : path_(path) {}
  Status OpenFile();
  Status ReadEnds();
  Status ReadAt(uint64_t offset, std::span<std::byte> to) const;
  Status NextChunk();

  std::string path_;
  SessionFileId id_;
  int fd_ = -1;
  uint64_t file_bytes_ = 0;
  uint64_t payload_bytes_ = 0;
  uint64_t given_ = 0;
  uint32_t chunks_ = 0;
  uint32_t next_chunk_ = 0;
  uint64_t footer_checksum_ = 0;
  std::vector<std::byte> footer_;
  std::vector<std::byte> chunk_;
  size_t chunk_at_ = 0;              // first byte of chunk_ not given out
  std::vector<uint64_t> checksums_;  // as in the writer
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_FILE_H_
