// Status and Result<T>: how the library reports what a user or a file got
// wrong. Nothing in the library throws, prints, aborts or exits on bad input.

#ifndef PYRAMIDKV_STATUS_H_
#define PYRAMIDKV_STATUS_H_

#include <optional>
#include <string>
#include <utility>

namespace pyramidkv {

// The values are the command line's exit codes (docs/architecture.md).
enum class StatusCode {
  kOk = 0,
  kRuntime = 1,      // disk full, I/O, NaN logits
  kUsage = 2,        // flag, spec, value, text that is not UTF-8
  kThreshold = 3,    // a threshold that was asked for was missed
  kModel = 4,        // model or session missing, damaged, unsupported
  kDoesNotFit = 5,   // prompt over the context, budget below the least
  kCancelled = 130,  // the caller asked to stop
};

// A code and one sentence that says what was wrong, where, and what would be
// right. Cheap to move; ok() has no message.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message)
      : code_(code), message_(std::move(message)) {}

  static Status Runtime(std::string m) {
    return {StatusCode::kRuntime, std::move(m)};
  }
  static Status Usage(std::string m) {
    return {StatusCode::kUsage, std::move(m)};
  }
  static Status Model(std::string m) {
    return {StatusCode::kModel, std::move(m)};
  }
  static Status DoesNotFit(std::string m) {
    return {StatusCode::kDoesNotFit, std::move(m)};
  }
  static Status Cancelled() { return {StatusCode::kCancelled, "cancelled"}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A value or the Status that says why there is none.
// REQUIRES: ok() before value(), operator* and operator->.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT
  Result(Status status) : status_(std::move(status)) {}  // NOLINT

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace pyramidkv

// Leaves the function with the Status of `expr` unless that is ok.
#define PKV_RETURN_IF_ERROR(expr)              \
  do {                                         \
    ::pyramidkv::Status pkv_status_ = (expr);  \
    if (!pkv_status_.ok()) return pkv_status_; \
  } while (false)

#define PKV_CONCAT_INNER(a, b) a##b
#define PKV_CONCAT(a, b) PKV_CONCAT_INNER(a, b)

// PKV_ASSIGN_OR_RETURN(auto x, F()): x, or leaves with F's Status.
#define PKV_ASSIGN_OR_RETURN(lhs, expr) \
  PKV_ASSIGN_OR_RETURN_IMPL(PKV_CONCAT(pkv_result_, __LINE__), lhs, expr)
#define PKV_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                              \
  if (!result.ok()) return result.status();          \
  lhs = std::move(result.value())

#endif  // PYRAMIDKV_STATUS_H_
