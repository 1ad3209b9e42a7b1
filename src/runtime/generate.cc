// Session::Generate: sampling, forced tokens, stop strings, log-probabilities.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
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

Status SinkFailed() { return Status::Runtime("writing the logits failed"); }

}  // namespace

// One answer in the making.
class SessionImpl::Answer {
 public:
  Answer(const GenerateOptions& options, const Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer), stream_(options.stop) {}

  const std::vector<GeneratedToken>& tokens() const { return result_.tokens; }
  bool ended() const { return !result_.finish_reason.empty(); }
  void End(std::string_view reason) { result_.finish_reason = reason; }

  bool Cancelled() {
    const bool cancelled =
        options_.cancel != nullptr && options_.cancel->load();
    if (cancelled) End("cancelled");
    return cancelled;
  }

  // False: the caller's sink failed.
  bool ShowLogits(std::span<const float> logits) const {
    return !options_.on_logits || options_.on_logits(logits);
  }

  // `logits`: what the token was chosen from.
  void Add(int id, std::span<const float> logits) {
    if (result_.tokens.empty()) {
      result_.first_token_ms = MillisecondsSince(start_);
      first_ = Clock::now();
    }
    GeneratedToken token;
    token.id = id;
    if (options_.logprobs >= 0) {
      FillLogprobs(logits, options_.logprobs, &token);
    }
    result_.tokens.push_back(std::move(token));
    Show(stream_.Push(tokenizer_.Piece(id, /*special=*/false)));
    if (stream_.stopped()) End("stop");
  }

  Generation Finish() {
    Show(stream_.Finish());
    result_.text = stream_.text();
    if (!ended()) End("length");
    if (result_.tokens.empty()) {  // the first one ended the answer
      result_.first_token_ms = MillisecondsSince(start_);
      first_ = Clock::now();
    }
    result_.decode_ms = MillisecondsSince(first_);
    return std::move(result_);
  }

 private:
  void Show(const std::string& text) const {
    if (!text.empty() && options_.on_text) options_.on_text(text);
  }

  const GenerateOptions& options_;
  const Tokenizer& tokenizer_;
  TextStream stream_;
  Generation result_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point first_ = start_;
};

// Forced tokens: their rows are known, so up to kMaxRows go at once. A stop
// string among them ends the text, not the forcing: the caller asked for all.
Status SessionImpl::AddForced(std::span<const int> forced, Answer* answer,
                              Sampler* sampler) {
  const size_t vocabulary = logits_.size();
  std::vector<float> rows, before;
  std::array<SessionImpl*, kMaxRows> sessions;
  sessions.fill(this);
  while (!forced.empty() && !answer->Cancelled()) {
    const auto part = forced.subspan(0, std::min(RowsAtOnce(), forced.size()));
    forced = forced.subspan(part.size());
    before = logits_;
    if (!answer->ShowLogits(before)) return SinkFailed();
    PKV_RETURN_IF_ERROR(
        DecodeRows(parts_, {sessions.data(), part.size()}, part, &rows));
    for (size_t r = 0; r < part.size(); ++r) {
      answer->Add(part[r], before);
      sampler->Accept(part[r]);
      const auto row = rows.begin() + r * vocabulary;
      before.assign(row, row + vocabulary);
      if (r + 1 < part.size() && !answer->ShowLogits(before)) {
        return SinkFailed();
      }
    }
  }
  return answer->ShowLogits(logits_) ? Status() : SinkFailed();
}

// Sampled tokens up to `limit` in all: one more decode only when one more is
// wanted. `shown`: the first one's logits have been shown already.
Status SessionImpl::AddSampled(size_t limit, bool shown, Answer* answer,
                               Sampler* sampler, bool ignore_eos) {
  std::vector<float> rows;
  bool pending = false;
  while (!answer->ended() && answer->tokens().size() < limit &&
         !answer->Cancelled()) {
    if (pending) {
      if (position() >= context_size_ && !sequence_.renumbers()) break;
      SessionImpl* const self = this;
      const int last = answer->tokens().back().id;
      PKV_RETURN_IF_ERROR(DecodeRows(parts_, {&self, 1}, {&last, 1}, &rows));
    }
    if (!shown && !answer->ShowLogits(logits_)) return SinkFailed();
    shown = false;
    const int id = sampler->Sample(logits_);
    if (!ignore_eos && parts_.tokenizer->IsEndOfGeneration(id)) {
      answer->End("stop");
      break;
    }
    answer->Add(id, logits_);
    pending = true;
  }
  return {};
}

Result<Generation> SessionImpl::Generate(const GenerateOptions& options) {
  PKV_RETURN_IF_ERROR(CheckTokens(options.forced));
  if (logits_.empty()) return Status::Usage("nothing was read to answer from");
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Sampler> sampler,
                       Sampler::Make(options.sampling, *parts_.tokenizer));
  Answer answer(options, *parts_.tokenizer);
  // Unbounded only where positions are: forced tokens may pass the context.
  const int most =
      sequence_.renumbers() ? std::numeric_limits<int>::max() : context_size_;
  const auto limit =
      static_cast<size_t>(options.max_tokens >= 0 ? options.max_tokens : most);
  const std::span<const int> forced =
      std::span<const int>(options.forced)
          .subspan(0, std::min(limit, options.forced.size()));
  if (!forced.empty()) {
    PKV_RETURN_IF_ERROR(AddForced(forced, &answer, sampler.get()));
  }
  PKV_RETURN_IF_ERROR(AddSampled(limit, !forced.empty(), &answer, sampler.get(),
                                 options.ignore_eos));
  return answer.Finish();
}

}  // namespace pyramidkv
