#include <algorithm>

#include "eval/divergence.h"
#include "eval/trial.h"
#include "eval/trial_sessions.h"

namespace pyramidkv {
namespace {

// Forced at once, so that the logits of one chunk are all that is held:
// kChunk * vocabulary * 4 bytes for the reference and for one cache.
constexpr size_t kChunk = 16;

// Rows [kChunk, vocabulary] as distributions.
std::vector<Distribution> Distributions(const std::vector<float>& rows,
                                        size_t count) {
  const size_t width = rows.size() / count;
  std::vector<Distribution> all;
  for (size_t i = 0; i < count; ++i) {
    all.emplace_back(std::span(rows).subspan(i * width, width));
  }
  return all;
}

// Forces `chunk` in every session. `next`: the token after each of them.
Status AddChunk(std::span<Session* const> sessions, std::span<const int> chunk,
                std::span<const int> next, std::vector<DivergenceSum>* sums) {
  PKV_ASSIGN_OR_RETURN(const std::vector<float> full_rows,
                       sessions[0]->Force(chunk));
  const auto full = Distributions(full_rows, chunk.size());
  const auto add = [&](const std::vector<Distribution>& cache,
                       DivergenceSum* sum) {
    for (size_t i = 0; i < chunk.size(); ++i) {
      sum->Add(full[i], cache[i], next[i]);
    }
  };
  add(full, &sums->front());
  for (size_t s = 1; s < sessions.size(); ++s) {
    PKV_ASSIGN_OR_RETURN(const std::vector<float> rows,
                         sessions[s]->Force(chunk));
    add(Distributions(rows, chunk.size()), &(*sums)[s]);
  }
  return {};
}

}  // namespace

Result<std::vector<EvalTrial>> RunDivergenceTrial(
    const TrialContext& context, std::span<const int> tokens,
    std::span<const std::string> specs) {
  const size_t read = context.options->tokens;
  const size_t scored = context.options->score_tokens;
  PKV_ASSIGN_OR_RETURN(TrialSessions sessions,
                       TrialSessions::Read(context, specs, tokens.first(read),
                                           static_cast<int>(scored)));
  std::vector<EvalTrial> results = sessions.Results();
  std::vector<DivergenceSum> sums(results.size());
  for (size_t at = read; at < read + scored; at += kChunk) {
    PKV_RETURN_IF_ERROR(sessions.CheckCancelled());
    const size_t count = std::min(kChunk, read + scored - at);
    PKV_RETURN_IF_ERROR(AddChunk(sessions.sessions(), tokens.subspan(at, count),
                                 tokens.subspan(at + 1, count), &sums));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    results[i].scored_tokens = static_cast<int>(scored);
    results[i].divergence = sums[i].Mean();
  }
  return results;
}

}  // namespace pyramidkv
