// The Batch behind include/pyramidkv/batch.h: which request's step is next.
//
// Requests wait in the order of their submission; prompts take turns by wave;
// answers go on together, a row each. Waves and rows take turns.

#ifndef PYRAMIDKV_RUNTIME_SCHEDULER_H_
#define PYRAMIDKV_RUNTIME_SCHEDULER_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "pyramidkv/batch.h"
#include "runtime/batch_job.h"

namespace pyramidkv {

class Scheduler final : public Batch {
 public:
  // Errors: kUsage for options out of range.
  static Result<std::unique_ptr<Batch>> Create(const EngineParts& parts,
                                               PagePool* pages,
                                               const BatchOptions& options);
  ~Scheduler() override;

  Result<RequestId> Submit(BatchRequest request) override;
  void Cancel(RequestId id) override;
  bool Step() override;
  bool Wait(std::chrono::milliseconds timeout) override;
  BatchLoad load() const override;

 private:
  using Jobs = std::vector<std::unique_ptr<BatchJob>>;

  Scheduler(const EngineParts& parts, PagePool* pages,
            const BatchOptions& options)
      : parts_(parts), pages_(pages), options_(options) {}

  // Each returns whether there was anything to do.
  bool TakeInbox();
  bool CancelJob(RequestId id);
  bool Admit();
  bool Fits(const BatchJob& job) const;
  void ReadOne();
  void DecodeAll();
  void DecodeRows(std::span<const std::unique_ptr<BatchJob>> jobs,
                  std::span<Status> status);
  // A job that is complete or failed leaves `jobs`.
  void EndAt(Jobs* jobs, size_t at, const Status& status);
  void EndAll(const Status& status);
  int64_t PlannedBytes() const;
  void NoteLoad();

  const EngineParts parts_;
  PagePool* const pages_;
  const BatchOptions options_;

  // Engine's thread only.
  std::deque<std::unique_ptr<BatchJob>> waiting_;
  Jobs prompts_;  // the next in turn first
  Jobs answers_;  // as they began
  bool read_last_ = false;
  std::vector<float> logits_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable work_;
  RequestId last_id_ = 0;
  std::vector<std::unique_ptr<BatchJob>> submitted_;
  std::vector<RequestId> cancelled_;
  BatchLoad load_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SCHEDULER_H_
