// The Session behind include/pyramidkv/engine.h.

#ifndef PYRAMIDKV_RUNTIME_SESSION_H_
#define PYRAMIDKV_RUNTIME_SESSION_H_

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/engine.h"
#include "runtime/decode_pass.h"
#include "runtime/sequence.h"
#include "runtime/session_file.h"
#include "text/answer.h"
#include "text/text.h"

namespace pyramidkv {

struct SessionHead;  // runtime/session_state.h
class StateReader;   // runtime/session_stream.h

inline bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float v) { return std::isfinite(v); });
}

// Sessions borrow this from their engine, which outlives them.
struct EngineParts {
  ForwardContext context;
  DecodePass* decode = nullptr;
  const Tokenizer* tokenizer = nullptr;
  Compute compute = Compute::kF32;
  std::string_view model_name;
  ColdPlace cold;
};

class SessionImpl final : public Session {
 public:
  SessionImpl(const EngineParts& parts, PagePool* pages, const CacheSpec& spec,
              std::string requested, const SessionOptions& options);

  // Reads what the cache spec names. Before anything else.
  Status Open() { return sequence_.Open(parts_.cold); }

  Status Read(std::span<const int> tokens, const Progress& progress) override;
  Result<Generation> Generate(const GenerateOptions& options) override;
  Result<std::vector<float>> Force(std::span<const int> tokens) override;
  std::span<const float> logits() const override { return logits_; }
  int position() const override { return sequence_.position; }
  std::span<const int> tokens() const override { return tokens_; }
  int context_size() const override { return context_size_; }
  KvReport Report() const override;
  Status Save(const std::string& path) override;
  Result<std::unique_ptr<Session>> Fork() override;
  void SetTrace(std::function<void(std::string_view)> sink) override {
    sequence_.compressor.set_trace(std::move(sink));
  }

  // See Engine::LoadSession.
  static Result<std::unique_ptr<SessionImpl>> Load(const EngineParts& parts,
                                                   PagePool* pages,
                                                   const std::string& path,
                                                   const LoadOptions& options);

  Sequence* sequence() { return &sequence_; }

  // [layers] tokens that a layer sees of a prompt; 0: all of it.
  std::vector<int> WindowsWithin(size_t tokens) const;

  // The checks of Read: ids, context size, earlier failure.
  Status CheckTokens(std::span<const int> tokens) const;

  // Asks the model to repeat its context, for scorers that need it.
  static Result<std::vector<int>> RepeatTokens(const EngineParts& parts);

  // Reads tokens into all `sessions` with one pass (new ones, or one), and
  // gives them its logits.
  static Status ReadAll(const EngineParts& parts,
                        std::span<SessionImpl* const> sessions,
                        std::span<const int> tokens, const Progress& progress);

  // Decodes up to kMaxRows rows of several sessions; logits [rows,
  // vocabulary]. Each session's own logits are those of its last row.
  // status: [rows], of each row's session. One that fails is unusable from then
  // on; the others have gone on.
  static void DecodeRows(const EngineParts& parts,
                         std::span<SessionImpl* const> row_sessions,
                         std::span<const int> tokens,
                         std::vector<float>* logits, std::span<Status> status);

  // An answer from here on. Errors: as Generate, before its first token.
  Result<std::unique_ptr<Answer>> BeginAnswer(
      const GenerateOptions& options) const;
  // One token more can be decoded.
  bool HasRoom() const {
    return position() < context_size_ || sequence_.renumbers();
  }
  bool usable() const { return !failed_; }

  // --- of a prompt that is being read (PromptReader) ---
  void TakePrompt(std::span<const int> tokens, std::span<const float> logits);
  // Stopped half-way; first: nothing had been read before it.
  void DropPrompt(bool first);
  void NotePeak() { peak_bytes_ = std::max(peak_bytes_, sequence_.bytes()); }

 private:
  size_t RowsAtOnce() const { return sequence_.RowsAtOnce(); }
  Status DecodeOwnRows(std::span<const int> tokens, std::vector<float>* logits);
  Status AddForced(Answer* answer);
  std::optional<KvTierReport> TierReport() const;
  SessionHead Head() const;
  Status Restore(SessionHead head, SessionFileReader* file, StateReader* in);

  EngineParts parts_;
  PagePool* pages_;
  std::string requested_;
  int context_size_;
  int max_new_tokens_;
  Sequence sequence_;
  std::vector<float> logits_;  // [vocabulary]
  std::vector<int> tokens_;    // [position()]
  int64_t peak_bytes_ = 0;
  int decoded_ = 0;        // rows since this session began or was restored
  SessionFileId file_id_;  // of the last save; generation 0: none
  bool failed_ = false;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_H_
