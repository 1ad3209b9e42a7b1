#include "text/answer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

namespace pyramidkv {
namespace {

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - start)
      .count();
}

// log(sum(exp(logits))).
double LogSumExp(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float v : logits) sum += std::exp(v - max);
  return max + std::log(sum);
}

std::string_view FinishReason(std::string_view stop_reason) {
  if (stop_reason == "cancelled") return "cancelled";
  const bool cut = stop_reason == "limit" || stop_reason == "context_full";
  return cut ? "length" : "stop";
}

void FillLogprobs(std::span<const float> logits, int top,
                  GeneratedToken* token) {
  const double norm = LogSumExp(logits);
  const auto logprob = [&](int id) {
    return static_cast<float>(logits[id] - norm);
  };
  token->logprob = logprob(token->id);
  std::vector<int> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min<size_t>(std::max(top, 0), ids.size());
  std::partial_sort(ids.begin(), end, ids.end(), [&](int a, int b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (auto i = ids.begin(); i != end; ++i) {
    token->top.push_back({*i, logprob(*i)});
  }
}

}  // namespace

Answer::Answer(GenerateOptions options, const Tokenizer& tokenizer,
               size_t most_tokens, std::unique_ptr<Sampler> sampler)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      limit_(options_.max_tokens >= 0 ? size_t(options_.max_tokens)
                                      : most_tokens),
      sampler_(std::move(sampler)),
      stream_(options_.stop) {
  if (options_.forced.size() > limit_) options_.forced.resize(limit_);
}

Result<std::unique_ptr<Answer>> Answer::Begin(GenerateOptions options,
                                              const Tokenizer& tokenizer,
                                              size_t most_tokens) {
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Sampler> sampler,
                       Sampler::Make(options.sampling, tokenizer));
  return std::unique_ptr<Answer>(new Answer(std::move(options), tokenizer,
                                            most_tokens, std::move(sampler)));
}

std::span<const int> Answer::forced() const {
  return std::span<const int>(options_.forced).subspan(forced_);
}

void Answer::End(std::string_view reason) {
  if (ended()) return;
  result_.stop_reason = reason;
  result_.finish_reason = FinishReason(reason);
}

bool Answer::Cancelled() {
  const bool cancelled = options_.cancel != nullptr && options_.cancel->load();
  if (cancelled) End("cancelled");
  return cancelled;
}

Result<std::optional<int>> Answer::Next(std::span<const float> logits) {
  const std::optional<int> complete;
  // No logits are shown to who wants no token.
  const bool wants = !options_.forced.empty() || !(ended() || full());
  if (!wants || Cancelled()) return complete;
  if (options_.on_logits && !options_.on_logits(logits)) {
    return Status::Runtime("writing the logits failed");
  }
  if (!forced().empty()) {
    const int id = options_.forced[forced_++];
    Add(id, logits);
    sampler_->Accept(id);
    return std::optional<int>(id);
  }
  if (ended() || full()) return complete;
  const int id = sampler_->Sample(logits);
  if (!options_.ignore_eos && tokenizer_.IsEndOfGeneration(id)) {
    End("eos");
    return complete;
  }
  Add(id, logits);
  if (ended() || full() || Cancelled()) return complete;
  return std::optional<int>(id);
}

// `logits`: what the token was chosen from.
void Answer::Add(int id, std::span<const float> logits) {
  if (result_.tokens.empty()) NoteFirst();
  GeneratedToken token;
  token.id = id;
  if (options_.logprobs >= 0) FillLogprobs(logits, options_.logprobs, &token);
  result_.tokens.push_back(std::move(token));
  if (options_.on_token) options_.on_token(result_.tokens.back());
  if (ended()) return;  // forced after a stop string
  const std::string piece = tokenizer_.Piece(id, /*special=*/false);
  Show(stream_.Push(piece));
  if (stream_.stopped() || StopsAt(id, piece)) End("stop");
  if (options_.stop_loops && !options_.ignore_eos && options_.forced.empty() &&
      loops_.Add(id)) {
    End("loop");
  }
}

// A control token, which shows no text, ends the answer as a stop string that
// is its name.
bool Answer::StopsAt(int id, std::string_view piece) const {
  if (options_.stop.empty() || !piece.empty()) return false;
  const std::string name = tokenizer_.Piece(id, /*special=*/true);
  return !name.empty() && std::find(options_.stop.begin(), options_.stop.end(),
                                    name) != options_.stop.end();
}

Generation Answer::Finish() {
  Show(stream_.Finish());
  result_.text = stream_.text();
  const bool limited = options_.max_tokens >= 0 && full();
  End(limited ? "limit" : "context_full");
  if (result_.tokens.empty()) NoteFirst();  // the first one ended the answer
  result_.decode_ms = MillisecondsSince(first_);
  return std::move(result_);
}

void Answer::NoteFirst() {
  result_.first_token_ms = MillisecondsSince(start_);
  first_ = Clock::now();
}

void Answer::Show(const std::string& text) const {
  if (!text.empty() && options_.on_text) options_.on_text(text);
}

}  // namespace pyramidkv
