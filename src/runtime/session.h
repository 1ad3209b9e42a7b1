// The Session behind include/pyramidkv/engine.h.

#ifndef PYRAMIDKV_RUNTIME_SESSION_H_
#define PYRAMIDKV_RUNTIME_SESSION_H_

#include <memory>
#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "runtime/decode_pass.h"
#include "runtime/prompt_pass.h"
#include "runtime/sequence.h"
#include "text/text.h"

namespace pyramidkv {

// What sessions borrow from their engine, which outlives them.
struct EngineParts {
  ForwardContext context;
  DecodePass* decode = nullptr;
  const Tokenizer* tokenizer = nullptr;
};

class SessionImpl final : public Session {
 public:
  SessionImpl(const EngineParts& parts, PagePool* pages, const CacheSpec& spec,
              std::string requested, const SessionOptions& options);

  Status Read(std::span<const int> tokens, const Progress& progress) override;
  Result<Generation> Generate(const GenerateOptions& options) override;
  Result<std::vector<float>> Force(std::span<const int> tokens) override;
  std::span<const float> logits() const override { return logits_; }
  int position() const override { return sequence_.position; }
  int context_size() const override { return context_size_; }
  KvReport Report() const override;
  void SetTrace(std::function<void(std::string_view)> sink) override {
    sequence_.compressor.set_trace(std::move(sink));
  }

  Sequence* sequence() { return &sequence_; }

  // The checks of Read: ids, context size, earlier failure.
  Status CheckTokens(std::span<const int> tokens) const;

  // Runs `pass` to its end and takes over its logits for all `sessions`.
  static Status RunPass(PromptPass* pass, const EngineParts& parts,
                        std::span<SessionImpl* const> sessions,
                        const Progress& progress);

  // Decodes up to kMaxRows rows of several sessions; logits [rows,
  // vocabulary]. Each session's own logits are those of its last row.
  static Status DecodeRows(const EngineParts& parts,
                           std::span<SessionImpl* const> row_sessions,
                           std::span<const int> tokens,
                           std::vector<float>* logits);

 private:
  class Answer;  // in generate.cc
  Status AddForced(std::span<const int> forced, Answer* answer,
                   Sampler* sampler);
  Status AddSampled(size_t limit, bool shown, Answer* answer, Sampler* sampler,
                    bool ignore_eos);
  void NotePeak();

  EngineParts parts_;
  std::string requested_;
  int context_size_;
  Sequence sequence_;
  std::vector<float> logits_;  // [vocabulary]
  int64_t peak_bytes_ = 0;
  bool failed_ = false;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_H_
