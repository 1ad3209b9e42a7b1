// Which entries stay: the part of a cache spec that scorers and the choice by
// score read.

#ifndef PYRAMIDKV_POLICY_SCORE_SPEC_H_
#define PYRAMIDKV_POLICY_SCORE_SPEC_H_

namespace pyramidkv {

class Scorer;

enum class SelectKind { kTopk, kMixed, kRecent };
// kChunk: mean over chunks of `kernel` entries instead of a sliding pool.
enum class PoolKind { kAvg, kMax, kChunk };
enum class RowReduce { kMean, kMax };
enum class GroupReduce { kMean, kMax, kSum };
enum class ValueNorm { kOff, kV, kWo };
enum class SumVariant { kSum, kObserved };

inline constexpr int kRecentHalf = -1;  // half of a head's budget

struct ScoreSpec {
  // Fixed by the policy, no keys.
  const Scorer* scorer = nullptr;  // null: entries stay for their place
  bool one_set = false;  // all KV heads of a layer keep the same entries

  SelectKind select = SelectKind::kTopk;
  int sinks = 0;
  int recent = 0;  // or kRecentHalf
  int window = 32;
  int kernel = 5;
  PoolKind pool = PoolKind::kAvg;
  RowReduce reduce = RowReduce::kMean;
  GroupReduce group = GroupReduce::kMean;
  ValueNorm vnorm = ValueNorm::kOff;
  int spread = 0;    // entries after a peak that stay with it
  double decay = 1;  // scorers that sum: what a sum keeps of itself per token
  int grace = 0;     // scorers that sum: newest entries that cannot leave
  SumVariant variant = SumVariant::kSum;

  // Ranks the entries; null: nothing does.
  const Scorer* ranking() const {
    return select == SelectKind::kRecent ? nullptr : scorer;
  }
  bool operator==(const ScoreSpec&) const = default;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORE_SPEC_H_
