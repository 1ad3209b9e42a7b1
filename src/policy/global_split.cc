#include "policy/global_split.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "policy/select.h"
#include "policy/top_cut.h"

namespace pyramidkv {
namespace {

// A trim reads every score held; with this slack it runs about once in every
// few layers and memory grows by an eighth.
constexpr double kSlack = 1.125;
constexpr float kSure = std::numeric_limits<float>::infinity();

// Protected entries and the best `floor_entries` become kSure: no threshold
// ever drops them, and they count towards the total like the others.
void MarkSure(const CacheSpec& spec, int floor_entries,
              std::vector<float>* scores) {
  const int n = static_cast<int>(scores->size());
  const Protected p = ProtectedEntries(spec, n, n);
  for (float& x : *scores) {
    // Only the marks below are infinite.
    x = std::min(Rankable(x), std::numeric_limits<float>::max());
  }
  std::fill_n(scores->begin(), p.sinks, kSure);
  std::fill(scores->end() - p.recent, scores->end(), kSure);
  const int sure = std::min(n, std::max(floor_entries, p.sinks + p.recent));
  std::vector<float> scratch = *scores;
  TopCut cut(&scratch, sure);
  for (float& x : *scores) {
    if (cut.Keep(x)) x = kSure;
  }
}

template <typename T>
void Gather(const std::vector<int>& kept, std::vector<T>* values) {
  if (values->empty()) return;
  for (size_t i = 0; i < kept.size(); ++i) (*values)[i] = (*values)[kept[i]];
  values->resize(kept.size());
}

}  // namespace

int GlobalFloorEntries(const CacheSpec& spec, int64_t total, int layers,
                       int kv_heads) {
  const double mean = static_cast<double>(total) / layers / kv_heads;
  return std::max(1, static_cast<int>(spec.budget.floor * mean + 1e-9));
}

GlobalSplit::GlobalSplit(const CacheSpec& spec, int layers, int kv_heads,
                         int64_t total, int floor_entries)
    : spec_(spec),
      layers_(layers),
      kv_heads_(kv_heads),
      total_(total),
      floor_entries_(floor_entries),
      heads_(static_cast<size_t>(layers) * kv_heads) {
  DCHECK(total >= int64_t{layers} * kv_heads * floor_entries);
}

void GlobalSplit::AddHead(int layer, int head, std::span<const float> scores,
                          std::span<const float> mass) {
  DCHECK(layer < layers_ && head < kv_heads_);
  DCHECK(mass.empty() || mass.size() == scores.size());
  Head& h = heads_[layer * kv_heads_ + head];
  DCHECK(!h.added);
  h.added = true;
  h.scores.assign(scores.begin(), scores.end());
  h.mass.assign(mass.begin(), mass.end());
  h.mass_total = mass.empty() ? -1 : 0;
  for (float m : mass) h.mass_total += m;
  MarkSure(spec_, floor_entries_, &h.scores);
  held_ += static_cast<int64_t>(scores.size());
}

std::vector<GlobalSplit::Change> GlobalSplit::Trim(bool last) {
  const double limit = last ? total_ : total_ * kSlack;
  if (held_ <= limit) return {};
  std::vector<float> flat;
  flat.reserve(held_);
  for (const Head& h : heads_) {
    flat.insert(flat.end(), h.scores.begin(), h.scores.end());
  }
  // Heads are visited by layer, then head, then index: the order of ties.
  TopCut cut(&flat, total_);
  std::vector<Change> changes;
  for (size_t i = 0; i < heads_.size(); ++i) {
    Head& h = heads_[i];
    Change change;
    change.layer = static_cast<int>(i) / kv_heads_;
    change.head = static_cast<int>(i) % kv_heads_;
    for (size_t j = 0; j < h.scores.size(); ++j) {
      if (cut.Keep(h.scores[j])) change.kept.push_back(static_cast<int>(j));
    }
    if (change.kept.size() == h.scores.size()) continue;
    Gather(change.kept, &h.scores);
    Gather(change.kept, &h.mass);
    changes.push_back(std::move(change));
  }
  held_ = total_;
  return changes;
}

int64_t GlobalSplit::held() const { return held_; }

double GlobalSplit::HeldMass(int layer, int head) const {
  const Head& h = heads_[layer * kv_heads_ + head];
  if (h.mass_total < 0) return -1;
  if (h.mass_total == 0) return 1;
  double held = 0;
  for (float m : h.mass) held += m;
  return held / h.mass_total;
}

}  // namespace pyramidkv
