// One answer in the making: from the logits of each step to its token, its
// text and its end. Sampling, forced tokens, log-probabilities, stop strings
// and what has to be held back of the text are here; who decodes the tokens,
// and when, is the caller's matter.
//
//   PKV_ASSIGN_OR_RETURN(auto answer, Answer::Begin(options, tokenizer));
//   for (;;) {
//     PKV_ASSIGN_OR_RETURN(const std::optional<int> id, answer->Next(logits));
//     if (!id) break;
//     logits = Decode(*id);
//   }
//   Generation generation = answer->Finish();
//
// Thread-compatible. Callbacks of the options run on the caller's thread.

#ifndef PYRAMIDKV_TEXT_ANSWER_H_
#define PYRAMIDKV_TEXT_ANSWER_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"
#include "text/loop_detector.h"
#include "text/stream.h"
#include "text/text.h"

namespace pyramidkv {

class Answer {
 public:
  // `tokenizer` must outlive the answer. most_tokens: where options.max_tokens
  // sets no limit. Errors: kUsage, those of Sampler::Make.
  static Result<std::unique_ptr<Answer>> Begin(GenerateOptions options,
                                               const Tokenizer& tokenizer,
                                               size_t most_tokens);

  // Chooses the next token from the logits [vocabulary] after everything so
  // far. The token has to be decoded for the answer to go on; none: the answer
  // is complete, and what was chosen last needs no decoding.
  // Errors: kRuntime if the caller's on_logits failed.
  Result<std::optional<int>> Next(std::span<const float> logits);

  // The forced tokens that Next has yet to give. All of them are decoded, the
  // last one too, and a stop string among them ends the text alone.
  std::span<const int> forced() const;

  bool ended() const { return !result_.finish_reason.empty(); }
  // reason: a Generation::stop_reason; the first one stays.
  void End(std::string_view reason);
  // Ends the answer if the caller's flag says so.
  bool Cancelled();

  // Shows what was held back. The answer is of no more use.
  Generation Finish();

 private:
  using Clock = std::chrono::steady_clock;

  Answer(GenerateOptions options, const Tokenizer& tokenizer,
         size_t most_tokens, std::unique_ptr<Sampler> sampler);
  bool full() const { return result_.tokens.size() >= limit_; }
  void Add(int id, std::span<const float> logits);
  bool StopsAt(int id, std::string_view piece) const;
  void Show(const std::string& text) const;
  void NoteFirst();

  GenerateOptions options_;
  const Tokenizer& tokenizer_;
  size_t limit_;  // tokens
  std::unique_ptr<Sampler> sampler_;
  TextStream stream_;
  LoopDetector loops_;
  size_t forced_ = 0;  // options_.forced given so far
  Generation result_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point first_ = start_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_ANSWER_H_
