// A request of a batch on its way: waiting, being read, answering, done.

#ifndef PYRAMIDKV_RUNTIME_BATCH_JOB_H_
#define PYRAMIDKV_RUNTIME_BATCH_JOB_H_

#include <chrono>
#include <memory>
#include <vector>

#include "pyramidkv/batch.h"
#include "runtime/admission.h"
#include "runtime/prompt_reader.h"
#include "runtime/session.h"

namespace pyramidkv {

// Thread-compatible: made in the thread that submits it, from then on the
// engine's.
class BatchJob {
 public:
  // Checks the request and plans its bytes, without the engine's thread.
  // Errors: those of Batch::Submit, but for the batch's own limit.
  static Result<std::unique_ptr<BatchJob>> Make(const EngineParts& parts,
                                                PagePool* pages,
                                                BatchRequest request);

  const RequestBytes& bytes() const { return bytes_; }

  // Admitted. Afterwards it reads, or answers at once.
  Status Begin();
  bool reads() const { return reader_ != nullptr; }
  // One step of the prompt; once it is complete, the answer's first token.
  Status Read();

  bool complete() const { return complete_; }
  SessionImpl* session() const { return session_.get(); }
  // To be decoded next. REQUIRES: !reads(), !complete().
  int next() const { return next_; }
  // Its row has been decoded: chooses the next token.
  Status Choose();

  // Hands out the result, once. status: why it ends early, or ok.
  void End(const Status& status);

  Batch::RequestId id = 0;

 private:
  using Clock = std::chrono::steady_clock;

  BatchJob(const EngineParts& parts, BatchRequest request)
      : parts_(parts), request_(std::move(request)) {}
  Status OpenSession(PagePool* pages);
  Status FindPrompt();
  Status BeginAnswer();

  const EngineParts parts_;
  BatchRequest request_;
  std::unique_ptr<SessionImpl> session_;
  bool is_new_ = false;  // the session: to be opened
  RequestBytes bytes_;
  std::unique_ptr<PromptReader> reader_;  // while the prompt is read
  std::unique_ptr<Answer> answer_;        // afterwards
  int next_ = 0;
  bool complete_ = false;
  BatchResult result_;
  Clock::time_point since_ = Clock::now();  // submitted, then admitted
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_BATCH_JOB_H_
