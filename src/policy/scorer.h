// Scorer: gives each entry of a layer an importance; the entries with the
// highest scores stay (policy/select.h).
//
// Each method is one object without state, in a file of its own under
// policy/scorers/; a preset's row (policy/registry.cc) points to it. A scorer
// says in its traits what it needs to see and what it goes with: the forward
// pass brings only that, and the checks of the spec, the keys that have an
// effect and what is said of stored sessions follow from them.
//
// After Score all methods are alike: shared between heads, pooled over
// neighbours, spread after peaks, weighted by values (policy/layer_scores.h).
//
// Thread safety: scorers are constants.

#ifndef PYRAMIDKV_POLICY_SCORER_H_
#define PYRAMIDKV_POLICY_SCORER_H_

#include <span>

#include "base/thread_pool.h"
#include "policy/layer_view.h"
#include "policy/spec.h"

namespace pyramidkv {

// A yes or a no without a default: an aggregate that leaves one out does not
// compile.
class YesNo {
 public:
  constexpr YesNo(bool value) : value_(value) {}  // NOLINT: as plain as a bool
  // NOLINTNEXTLINE(google-explicit-constructor)
  constexpr operator bool() const { return value_; }

 private:
  bool value_;
};

struct ScorerTraits {
  // --- what it looks at, beside keys (values are not shown to it) ---

  // The last `window` queries. The spec's `window` and `reduce` have an effect.
  YesNo window;
  // Every query of a prompt, and the log-sum-exp of its logits.
  YesNo all_rows;
  // Mean and covariance of the queries before RoPE.
  YesNo query_statistics;
  // The queries of a pass that repeats the context.
  YesNo repetition;
  // Its own scores of past entries: the cache keeps them, and a scorer that
  // works while decoding is given the attention of generated tokens in them.
  YesNo gathers;

  // --- which keys of the spec it uses, and what it does itself ---

  // `group`: the query heads of a KV head have scores of their own.
  YesNo query_heads;
  // `decay`, `grace` and `variant`: scores are sums over rows.
  YesNo sums;
  // Its scores come pooled (PoolScores), as it joins them with others.
  YesNo pools;

  // --- what it goes with ---

  // A question at the end of a prompt decides what stays of the rest.
  YesNo question_aware;
  YesNo decodes;  // evict=decode and both: without the rows of a prompt
  YesNo streams;  // prefill=streaming: a chunk at a time
  YesNo sparse;   // prefill=sparse: not all rows see all entries
};

struct ScoreRequest {
  const CacheSpec& spec;
  const LayerView& view;
  std::span<const int> budgets;  // [kv_heads] entries that will stay
  ThreadPool* pool;
};

class Scorer {
 public:
  virtual ScorerTraits traits() const = 0;

  // Fills `score`; also `mass` where view.want_mass and it falls out on the
  // way. Deterministic, whatever the number of threads.
  virtual LayerScores Score(const ScoreRequest& request) const = 0;

 protected:
  ~Scorer() = default;  // constants, never deleted through this
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORER_H_
