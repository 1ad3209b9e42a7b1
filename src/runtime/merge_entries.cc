#include "runtime/merge_entries.h"

#include <algorithm>
#include <cmath>

namespace pyramidkv {
namespace {

// The entries that leave, side by side.
struct Leaving {
  std::vector<int> index;  // into past and fresh entries
  std::vector<float> k, v, score, bias;
  std::vector<int32_t> position, rope;
  std::vector<int> count;
};

Leaving Collect(const MergeRequest& request, const LayerEntries& e, int head,
                const HeadView& view, std::span<const int> kept) {
  const int past = e.past[head], n = past + e.fresh;
  const size_t d = request.head_dim;
  Leaving leaving;
  auto next = kept.begin();
  for (int i = request.from; i < n; ++i) {
    if (next != kept.end() && *next == i) {
      ++next;
      continue;
    }
    const float* k = e.k[head] + i * d;
    const float* v = e.v[head] + i * d;
    leaving.index.push_back(i);
    leaving.k.insert(leaving.k.end(), k, k + d);
    leaving.v.insert(leaving.v.end(), v, v + d);
    if (!request.attention.empty()) {
      leaving.score.push_back(request.attention[i]);
    }
    const bool old = i < past;
    const float bias = old && view.bias != nullptr ? view.bias[i] : 0.0f;
    leaving.bias.push_back(bias);
    leaving.count.push_back(
        std::max(1, static_cast<int>(std::lround(std::exp(bias)))));
    const int position = old ? view.position(i) : e.fresh_position + i - past;
    leaving.position.push_back(position);
    leaving.rope.push_back(old ? view.rotated_for(i)
                               : position - request.rope_shift);
  }
  return leaving;
}

constexpr int kStretch = 512;

template <typename T>
std::span<const T> Part(const std::vector<T>& all, int from, int count) {
  if (all.empty()) return {};
  return std::span<const T>(all).subspan(from, count);
}

MergedEntries MergeStretch(const MergeRequest& request, const Leaving& leaving,
                           int from, int count, int clusters) {
  const size_t offset = size_t(from) * request.head_dim;
  MergeArgs args;
  args.n = count;
  args.head_dim = request.head_dim;
  args.k = leaving.k.data() + offset;
  args.v = leaving.v.data() + offset;
  args.position = Part(leaving.position, from, count);
  args.score = Part(leaving.score, from, count);
  args.count = Part(leaving.count, from, count);
  args.bias = Part(leaving.bias, from, count);
  args.clusters = clusters;
  args.rule = request.rule;
  return MergeEvicted(args, nullptr);
}

}  // namespace

MergedRows MergeUnkept(const MergeRequest& request, const LayerEntries& e,
                       int head, const HeadView& view,
                       std::span<const int> kept) {
  Leaving leaving = Collect(request, e, head, view, kept);
  UnrotateKeys(request.rope, request.head_dim, leaving.rope, leaving.k.data());
  MergedRows merged;
  const int n = static_cast<int>(leaving.index.size());
  const int stretches =
      std::min((n + kStretch - 1) / kStretch, request.clusters);
  for (int s = 0; s < stretches; ++s) {
    const auto share = [&](int64_t all, int i) {
      return static_cast<int>(all * i / stretches);
    };
    const int from = share(n, s);
    merged.rows.push_back(MergeStretch(
        request, leaving, from, share(n, s + 1) - from,
        share(request.clusters, s + 1) - share(request.clusters, s)));
  }
  for (MergedEntries& rows : merged.rows) {
    std::vector<int32_t> rope;
    for (int i = 0; i < rows.size(); ++i) {
      // Positions are those of members: find them again.
      const auto at =
          std::lower_bound(leaving.position.begin(), leaving.position.end(),
                           rows.position[i]) -
          leaving.position.begin();
      MergedEntry entry;
      entry.position = rows.position[i];
      entry.rope = leaving.rope[at];
      entry.bias = rows.bias[i];
      if (!request.gathered.empty()) {
        entry.score = request.gathered[leaving.index[at]];
      }
      entry.k = rows.k.data() + size_t(i) * request.head_dim;
      entry.v = rows.v.data() + size_t(i) * request.head_dim;
      rope.push_back(entry.rope);
      merged.entries.push_back(entry);
    }
    RotateKeys(request.rope, request.head_dim, rope, rows.k.data());
  }
  return merged;
}

}  // namespace pyramidkv
