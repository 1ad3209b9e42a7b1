// The sessions of one trial, one for each spec.

#ifndef PYRAMIDKV_EVAL_TRIAL_SESSIONS_H_
#define PYRAMIDKV_EVAL_TRIAL_SESSIONS_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "eval/trial.h"

namespace pyramidkv {

class TrialSessions {
 public:
  // Sessions that have read `tokens` in one prefill, each compressed by its
  // own spec. `max_new_tokens`: how many will be forced and generated.
  static Result<TrialSessions> Read(const TrialContext& context,
                                    std::span<const std::string> specs,
                                    std::span<const int> tokens,
                                    int max_new_tokens);

  std::span<Session* const> sessions() const { return pointers_; }
  // One for each spec, with what the cache holds at this moment.
  std::vector<EvalTrial> Results() const;

  // Decodes `tokens` in every session as if they had been generated: nothing
  // that is compressed when a prompt ends is compressed again, and no scorer
  // sees them.
  Status Force(std::span<const int> tokens);

  // kCancelled once the caller wants to stop.
  Status CheckCancelled() const;

 private:
  explicit TrialSessions(const TrialContext& context) : context_(context) {}

  TrialContext context_;
  std::vector<std::unique_ptr<Session>> owned_;
  std::vector<Session*> pointers_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_TRIAL_SESSIONS_H_
