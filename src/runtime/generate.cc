// Session::Generate: sampling, forced tokens, stop strings, log-probabilities.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "runtime/session.h"
#include "text/stream.h"

namespace pyramidkv {
namespace {

using Clock = std::chrono::steady_clock;

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

// log(sum(exp(logits))).
double LogSumExp(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float v : logits) sum += std::exp(v - max);
  return max + std::log(sum);
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

// One answer in the making.
struct Answer {
  const GenerateOptions& options;
  const Tokenizer& tokenizer;
  TextStream stream;
  Generation result;

  // False: the caller's sink failed.
  bool ShowLogits(std::span<const float> logits) const {
    return !options.on_logits || options.on_logits(logits);
  }
  void Show(const std::string& text) const {
    if (!text.empty() && options.on_text) options.on_text(text);
  }
  void Add(int id, std::span<const float> logits) {
    GeneratedToken token;
    token.id = id;
    if (options.logprobs >= 0) {
      FillLogprobs(logits, options.logprobs, &token);
    }
    result.tokens.push_back(std::move(token));
    Show(stream.Push(tokenizer.Piece(id, /*special=*/false)));
  }
};

Status SinkFailed() { return Status::Runtime("writing the logits failed"); }

}  // namespace

Result<Generation> SessionImpl::Generate(const GenerateOptions& options) {
  PKV_RETURN_IF_ERROR(CheckTokens(options.forced));
  if (logits_.empty()) return Status::Usage("nothing was read to answer from");
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Sampler> sampler,
                       Sampler::Make(options.sampling, *parts_.tokenizer));
  Answer answer{options, *parts_.tokenizer, TextStream(options.stop), {}};
  const auto start = Clock::now();
  auto first = start;
  const auto cancelled = [&] {
    return options.cancel != nullptr && options.cancel->load();
  };
  const size_t vocabulary = logits_.size();
  const size_t limit = options.max_tokens >= 0
                           ? static_cast<size_t>(options.max_tokens)
                           : static_cast<size_t>(context_size_);
  std::string reason = "length";

  // Forced tokens: their rows are known, so up to kMaxRows go at once.
  const std::span<const int> forced =
      std::span<const int>(options.forced)
          .subspan(0, std::min(limit, options.forced.size()));
  std::vector<float> rows;
  for (size_t i = 0; i < forced.size() && reason == "length"; i += kMaxRows) {
    if (cancelled()) reason = "cancelled";
    const auto part =
        forced.subspan(i, std::min<size_t>(kMaxRows, forced.size() - i));
    std::vector<float> before = logits_;
    if (!answer.ShowLogits(before)) return SinkFailed();
    const std::vector<SessionImpl*> sessions(part.size(), this);
    PKV_RETURN_IF_ERROR(DecodeRows(parts_, sessions, part, &rows));
    if (i == 0) {
      answer.result.first_token_ms = MillisecondsSince(start);
      first = Clock::now();
    }
    for (size_t r = 0; r < part.size(); ++r) {
      const std::span<const float> row(rows.data() + r * vocabulary,
                                       vocabulary);
      answer.Add(part[r], before);
      sampler->Accept(part[r]);
      before.assign(row.begin(), row.end());
      if (r + 1 < part.size() && !answer.ShowLogits(row)) return SinkFailed();
    }
  }
  if (!forced.empty() && !answer.ShowLogits(logits_)) return SinkFailed();

  // Sampled tokens: one more decode only when one more is wanted.
  bool pending = false;
  while (reason == "length" && answer.result.tokens.size() < limit) {
    if (cancelled()) {
      reason = "cancelled";
      break;
    }
    if (pending) {
      if (position() >= context_size_) break;
      SessionImpl* const self = this;
      const int last = answer.result.tokens.back().id;
      PKV_RETURN_IF_ERROR(DecodeRows(parts_, {&self, 1}, {&last, 1}, &rows));
    }
    if ((pending || forced.empty()) && !answer.ShowLogits(logits_)) {
      return SinkFailed();
    }
    const int id = sampler->Sample(logits_);
    if (answer.result.tokens.empty()) {
      answer.result.first_token_ms = MillisecondsSince(start);
      first = Clock::now();
    }
    if (!options.ignore_eos && parts_.tokenizer->IsEndOfGeneration(id)) {
      reason = "stop";
      break;
    }
    answer.Add(id, logits_);
    pending = true;
    if (answer.stream.stopped()) reason = "stop";
  }
  answer.Show(answer.stream.Finish());
  answer.result.text = answer.stream.text();
  answer.result.finish_reason = reason;
  answer.result.decode_ms = MillisecondsSince(first);
  return std::move(answer.result);
}

}  // namespace pyramidkv
