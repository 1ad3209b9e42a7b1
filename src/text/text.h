// Tokenizer, chat template and sampler: the only bridge to libllama, which
// is loaded with the vocabulary alone.

#ifndef PYRAMIDKV_TEXT_TEXT_H_
#define PYRAMIDKV_TEXT_TEXT_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Thread-safe: immutable once loaded.
class Tokenizer {
 public:
  // REQUIRES: the file passed Model::Load (which validates the arrays that
  // libllama would abort on). Errors: kModel.
  static Result<std::unique_ptr<Tokenizer>> Load(const std::string& model_path);
  ~Tokenizer();

  int vocabulary() const;
  // Errors: kUsage for text that is not valid UTF-8, naming the byte offset.
  Result<std::vector<int>> Tokenize(std::string_view text,
                                    const TokenizeOptions& options) const;
  // The bytes of one token (may be part of a UTF-8 character). Control
  // tokens give nothing unless `special`; ids out of range never do.
  std::string Piece(int token, bool special) const;
  std::string Detokenize(std::span<const int> tokens, bool special) const;
  bool IsEndOfGeneration(int token) const;

  // As Engine's functions of these names.
  const std::string& chat_template() const;
  Result<ChatText> RenderChat(std::span<const ChatMessage> messages,
                              const ChatOptions& options) const;
  Result<std::vector<int>> TokenizeChat(const ChatText& chat,
                                        bool add_special) const;

 private:
  friend class Sampler;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A chain of libllama's samplers; owns the random state of one answer. The
// same seed and logits give the same tokens, except that seed 0xFFFFFFFF
// (llama.cpp's -1) stands for a random one.
class Sampler {
 public:
  // Errors: kUsage, naming the option and what it must be.
  static Result<std::unique_ptr<Sampler>> Make(const SamplingOptions& options,
                                               const Tokenizer& tokenizer);
  ~Sampler();

  // Chooses from logits [vocabulary] and remembers the choice (penalties).
  // REQUIRES: no NaN among the logits.
  // Greedy (temp <= 0 and no penalty) takes the highest, lowest id on ties.
  int Sample(std::span<const float> logits);
  // Remembers a token that was not sampled (forced).
  void Accept(int token);

 private:
  struct Impl;
  explicit Sampler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_TEXT_H_
