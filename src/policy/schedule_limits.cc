#include "policy/schedule_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/limits.h"
#include "kernels/kv_codec.h"
#include "policy/apportion.h"
#include "policy/schedule_arithmetic.h"
#include "policy/schedule_curves.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

constexpr int64_t kPositionBytes = 4;

int64_t Pages(int64_t entries) {
  return (entries + kPageEntries - 1) / kPageEntries;
}

class PublishedPyramid {
 public:
  PublishedPyramid(const CacheSpec& spec, const BudgetRequest& r)
      : spec_(spec), r_(r) {
    shape_ = {r.layers, r.tokens, LeastEntries(spec) - 1, spec.budget.beta};
  }

  // The least mean that the formula takes.
  int least() const {
    return is_reference() ? std::min(r_.tokens, shape_.window + 1) : 1;
  }

  std::vector<int> At(double mean) const {
    std::vector<int> layers =
        is_reference() ? ReferencePyramid(shape_, static_cast<int>(mean))
                       : KvpressPyramid(shape_, mean);
    for (int& e : layers) e = std::clamp(e, 1, r_.tokens);
    return RepeatForHeads(layers, r_.kv_heads);
  }

  double MeanForKeep(std::vector<std::string>* warnings) const {
    const double exact = *spec_.budget.keep * r_.tokens;
    const double mean = is_reference() ? std::floor(exact + 0.5) : exact;
    if (!is_reference() || mean >= least()) return mean;
    warnings->push_back(fmt::format(
        "keep={} is below the least that {} can keep of {} tokens; {} entries "
        "per head instead",
        *spec_.budget.keep, spec_.policy, r_.tokens, least()));
    return least();
  }

  Result<double> MeanForTokens() const {
    if (*spec_.budget.tokens >= least()) {
      return static_cast<double>(std::min(*spec_.budget.tokens, r_.tokens));
    }
    return Status::DoesNotFit(fmt::format(
        "tokens={} is below the least that {} can keep of {} tokens: "
        "tokens={}",
        *spec_.budget.tokens, spec_.policy, r_.tokens, least()));
  }

  // The formulas do not rise evenly, so every mean is tried, largest first.
  Result<double> MeanForMemory() const {
    int64_t least_bytes = 0;
    for (int mean = MostThatMayFit(); mean >= least(); --mean) {
      const std::vector<int> entries = At(mean);
      const int64_t total =
          std::accumulate(entries.begin(), entries.end(), int64_t{0});
      const int64_t bytes = spec_.budget.heads != HeadSplit::kEqual
                                ? MostSplitBytes(total, r_)
                                : CacheBytes(entries, r_);
      if (bytes <= *spec_.budget.memory) return static_cast<double>(mean);
      least_bytes = bytes;
    }
    return MemoryTooSmall(spec_, r_, least_bytes);
  }

 private:
  // Both formulas keep the mean or more, but for halves that are rounded down.
  int MostThatMayFit() const {
    const double heads = double(r_.layers) * r_.kv_heads;
    const double entry_bytes = double(r_.page_bytes) / kPageEntries;
    const double most =
        double(*spec_.budget.memory) / std::max(heads * entry_bytes, 1.0) + 1;
    return static_cast<int>(
        std::clamp<double>(most, least(), std::max(least(), r_.tokens)));
  }
  bool is_reference() const {
    return spec_.budget.mode == PyramidMode::kReference;
  }

  const CacheSpec& spec_;
  const BudgetRequest& r_;
  Pyramid shape_;
};

}  // namespace

int LeastEntries(const CacheSpec& spec) {
  if (!spec.compresses) return 1;
  int64_t least = int64_t{spec.score.sinks} + 1;
  if (spec.budget.heads == HeadSplit::kProfile) {
    least = int64_t{spec.score.sinks} + spec.score.recent;
  } else if (spec.score.select != SelectKind::kRecent) {
    // The other half holds the sinks and one entry to choose.
    least +=
        spec.score.recent == kRecentHalf ? spec.score.sinks : spec.score.recent;
  }
  return static_cast<int>(std::min<int64_t>(least, kMostTokens));
}

// The array of positions grows by whole pages (cache/kv_cache.cc).
static int64_t SideBytes(int64_t slots, int64_t bytes) {
  return Pages(slots) * kPageEntries * bytes;
}

int64_t CacheBytes(const std::vector<int>& entries, const BudgetRequest& r) {
  int64_t bytes = r.other_bytes;
  for (int kept : entries) {
    const int64_t slots = int64_t{kept} + r.reserve_tokens;
    bytes += Pages(slots) * r.page_bytes + SideBytes(slots, r.side_bytes) +
             r.head_bytes;
    if (kept < r.tokens) bytes += SideBytes(slots, kPositionBytes);
  }
  return bytes;
}

int64_t MostSplitBytes(int64_t total, const BudgetRequest& r) {
  const int64_t heads = int64_t{r.layers} * r.kv_heads;
  const int64_t slots = total + heads * r.reserve_tokens;
  if (total == heads * r.tokens) {  // no head lost anything
    return CacheBytes(std::vector<int>(heads, r.tokens), r);
  }
  // A head fills its last page with one entry at worst.
  const int64_t pages = (slots + heads * (kPageEntries - 1)) / kPageEntries;
  return r.other_bytes + heads * r.head_bytes +
         pages *
             (r.page_bytes + kPageEntries * (kPositionBytes + r.side_bytes));
}

std::vector<int> LayerFloors(const CacheSpec& spec, int layers, int tokens) {
  const int least =
      std::max(spec.budget.min.value_or(DefaultMin(spec.budget.schedule)),
               LeastEntries(spec));
  std::vector<int> floors(layers, std::min(least, tokens));
  const int full = static_cast<int>(spec.budget.warmup * layers + 1e-9);
  std::fill_n(floors.begin(), std::min(full, layers), tokens);
  return floors;
}

Status MemoryTooSmall(const CacheSpec& spec, const BudgetRequest& r,
                      int64_t least) {
  constexpr int64_t kKib = 1024;
  const int64_t rounded_up = (least + kKib - 1) / kKib * kKib;
  return Status::DoesNotFit(fmt::format(
      "memory={} is below the least that {} needs for {} tokens: memory={}",
      FormatBytes(*spec.budget.memory), spec.policy, r.tokens,
      FormatBytes(rounded_up)));
}

Result<Budgets> ResolvePublishedPyramid(const CacheSpec& spec,
                                        const BudgetRequest& r) {
  const PublishedPyramid pyramid(spec, r);
  Budgets budgets;
  double mean = 0;
  if (r.total) {
    const double heads = double(r.layers) * r.kv_heads;
    mean =
        std::clamp(*r.total / heads, double(pyramid.least()), double(r.tokens));
  } else if (spec.budget.keep) {
    mean = pyramid.MeanForKeep(&budgets.warnings);
  } else if (spec.budget.tokens) {
    PKV_ASSIGN_OR_RETURN(mean, pyramid.MeanForTokens());
  } else {
    PKV_ASSIGN_OR_RETURN(mean, pyramid.MeanForMemory());
  }
  budgets.entries = pyramid.At(mean);
  return budgets;
}

}  // namespace pyramidkv
