// Typed values into and out of a session file. Both sides remember the first
// error, so that callers look at it once, before they use what they read.

#ifndef PYRAMIDKV_RUNTIME_SESSION_STREAM_H_
#define PYRAMIDKV_RUNTIME_SESSION_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pyramidkv/status.h"
#include "runtime/little_endian.h"
#include "runtime/session_file.h"

namespace pyramidkv {

class StateWriter {
 public:
  explicit StateWriter(SessionFileWriter* file) : file_(file) {}

  template <typename T>
  void Put(std::type_identity_t<T> value) {
    std::byte bytes[sizeof(T)];
    StoreLittle<T>(value, bytes);
    PutBytes(bytes);
  }
  // The number of things that follow.
  void PutCount(uint64_t count) {
    counts_at_.push_back(bytes_);
    Put<uint64_t>(count);
  }
  // The count, then the values.
  template <typename T>
  void PutArray(const std::vector<T>& values) {
    static_assert(std::is_arithmetic_v<T>);
    PutCount(values.size());
    PutBytes(std::as_bytes(std::span(values)));
  }
  void PutText(std::string_view text) {
    PutCount(text.size());
    PutBytes(std::as_bytes(std::span(text.data(), text.size())));
  }
  void PutBytes(std::span<const std::byte> bytes) {
    if (status_.ok()) status_ = file_->Append(bytes);
    bytes_ += bytes.size();
  }

  const Status& status() const { return status_; }
  // Where counts stand, for tests that forge them.
  const std::vector<uint64_t>& counts_at() const { return counts_at_; }

 private:
  SessionFileWriter* file_;
  uint64_t bytes_ = 0;
  std::vector<uint64_t> counts_at_;
  Status status_;
};

class StateReader {
 public:
  explicit StateReader(SessionFileReader* file) : file_(file) {}

  // 0 after an error.
  template <typename T>
  T Get() {
    std::byte bytes[sizeof(T)] = {};
    GetBytes(bytes);
    return status_.ok() ? LoadLittle<T>(bytes) : T();
  }
  // A count that is above `most`, or more than the file still holds, is an
  // error before anything is allocated.
  template <typename T>
  std::vector<T> GetArray(uint64_t most) {
    static_assert(std::is_arithmetic_v<T>);
    const uint64_t count = Count(most, sizeof(T));
    std::vector<T> values(count);
    GetBytes(std::as_writable_bytes(std::span(values)));
    return values;
  }
  std::string GetText() {
    constexpr uint64_t kLongest = 1 << 16;
    const uint64_t size = Count(kLongest, 1);
    std::string text(size, '\0');
    GetBytes(std::as_writable_bytes(std::span(text.data(), text.size())));
    return text;
  }
  void GetBytes(std::span<std::byte> to) {
    if (status_.ok()) status_ = file_->Read(to);
  }
  // A number of things of at least `bytes_each`.
  uint64_t Count(uint64_t most, uint64_t bytes_each) {
    const auto count = Get<uint64_t>();
    if (count > most || count > file_->remaining() / bytes_each) {
      Fail("damaged: it counts more than it can hold");
      return 0;
    }
    return count;
  }

  uint64_t remaining() const { return file_->remaining(); }
  void Fail(const std::string& what) {
    if (status_.ok()) status_ = file_->Damaged(what);
  }
  // An error of somebody who does not know the file.
  void Fail(const Status& status) {
    if (status.code() == StatusCode::kModel) return Fail(status.message());
    if (status_.ok()) status_ = status;
  }
  const Status& status() const { return status_; }

 private:
  SessionFileReader* file_;
  Status status_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_STREAM_H_
