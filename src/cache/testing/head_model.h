// A KvHead as it should be, said slowly: each entry with its values as every
// store rounds them, whether that store holds it or not.

#ifndef PYRAMIDKV_CACHE_TESTING_HEAD_MODEL_H_
#define PYRAMIDKV_CACHE_TESTING_HEAD_MODEL_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "cache/head_format.h"
#include "cache/kv_head.h"
#include "kernels/channel_keys.h"
#include "kernels/key_rounding.h"
#include "kernels/kv_quant.h"

namespace pyramidkv {

struct ModelRow {
  std::vector<float> k, v;
  bool operator==(const ModelRow&) const = default;
};

struct ModelEntry {
  int position = 0;
  int rope = 0;  // what k is rotated for
  float bias = 0;
  float score = 0;
  ModelRow base, recent, top;
  bool is_top = false;
  bool is_recent = false;  // it is among the recent entries for sure
};

class HeadModel {
 public:
  HeadModel(const HeadFormat& format, std::vector<float> rounding)
      : format_(format), rounding_(std::move(rounding)) {}

  // A row as a page of the format makes it.
  static ModelRow Stored(const PageFormat& format, const float* k,
                         const float* v, const Rounding& rounding) {
    std::vector<std::byte> page(format.page_bytes());
    ModelRow row = {std::vector<float>(format.head_dim),
                    std::vector<float>(format.head_dim)};
    StoreEntry(format, page.data(), 3, k, v, rounding);
    LoadEntry(format, page.data(), 3, row.k.data(), row.v.data(),
              rounding.keys);
    return row;
  }

  // An entry as the last row but `later` reads it.
  // recent_begin: first entry that the head holds as a recent one.
  const ModelRow& Read(int i, int recent_begin, int later = 0) const {
    const ModelEntry& e = entries[i];
    const int n = static_cast<int>(entries.size()) - later;
    const bool is_new =
        e.position >= seen - later - format_.recent_positions() ||
        i >= format_.FirstWaiting(n);
    if (format_.has_sinks() && e.position < kSinkPositions) return e.recent;
    if (i >= recent_begin && is_new) return e.recent;
    return e.is_top ? e.top : e.base;
  }

  // rows: of k and v, `stride` apart, at positions position + row. count: of
  // all rows, appended or not.
  void Append(int position, const std::vector<int>& rows, int count,
              const float* k, const float* v, size_t stride, int rope_shift,
              int recent_begin) {
    const int before = static_cast<int>(entries.size());
    const int first = format_.FirstWaiting(before);
    auto keys = KeysFrom(first, recent_begin);
    if (format_.tensor_scales && !rows.empty() &&
        (before == 0 || seen < kFitTokens ||
         (Keys() != nullptr && !HasWeights(rounding_, format_.head_dim)))) {
      const int all = rows.back() + 1;
      const std::array<float, 2> least =
          before == 0 ? std::array<float, 2>{} : scales_;
      Recode(rounding_,
             {std::max(least[0], Scale(format_.k, k, all, stride, Keys())),
              std::max(least[1], Scale(format_.v, v, all, stride, nullptr))},
             recent_begin);
    }
    for (int row : rows) {
      ModelEntry e;
      e.position = position + row;
      e.rope = e.position - rope_shift;
      e.is_recent = format_.recent_positions() > 0;
      has_rope = has_rope || rope_shift != 0;
      Store(k + row * stride, v + row * stride, &e);
      keys.emplace_back(k + row * stride, k + row * stride + format_.head_dim);
      entries.push_back(std::move(e));
    }
    const int end = format_.FirstWaiting(static_cast<int>(entries.size()));
    if (format_.channel && end > first && !rows.empty()) {
      keys.resize(end - first);
      Code(first, keys);
      coded = std::max(coded, end);
    }
    seen = position + count;
    for (ModelEntry& e : entries) {
      e.is_recent =
          e.is_recent &&
          e.position >= seen - format_.recent_positions() - kRecentSlack;
    }
  }

  void SetKeyRounding(const std::vector<float>& rounding, int recent_begin) {
    std::vector<float> all;
    for (const auto& k : KeysFrom(0, recent_begin)) {
      all.insert(all.end(), k.begin(), k.end());
    }
    std::array<float, 2> scales = scales_;
    if (scales[0] > 0 && !all.empty()) {
      scales[0] = Scale(format_.k, all.data(), static_cast<int>(entries.size()),
                        format_.head_dim, rounding.data());
    }
    Recode(rounding, scales, recent_begin);
  }

  void Keep(const std::vector<int>& kept, int recent_begin) {
    const int n = static_cast<int>(kept.size());
    int first = 0;
    while (first < n && kept[first] == first) ++first;
    const bool moves = first < n;
    first = format_.FirstWaiting(first);
    std::vector<std::vector<float>> keys;
    std::vector<ModelEntry> left;
    for (int i = 0; i < n; ++i) {
      if (i >= first) keys.push_back(Read(kept[i], recent_begin).k);
      left.push_back(entries[kept[i]]);
    }
    entries = std::move(left);
    coded = std::min(coded, n);
    if (format_.channel && moves) CodeAll(first, keys);
  }

  // entries[i] where order[i].entry >= 0, else a new one.
  struct Source {
    int entry = -1;
    MergedEntry merged;
  };
  void Merge(const std::vector<Source>& order, int recent_begin) {
    std::vector<std::vector<float>> keys;
    std::vector<ModelEntry> left;
    for (const auto& [i, merged] : order) {
      if (i >= 0) {
        keys.push_back(Read(i, recent_begin).k);
        left.push_back(entries[i]);
        continue;
      }
      keys.emplace_back(merged.k, merged.k + format_.head_dim);
      ModelEntry e;
      e.position = merged.position;
      e.rope = merged.rope;
      e.bias = merged.bias;
      e.score = merged.score;
      Store(merged.k, merged.v, &e);
      left.push_back(std::move(e));
    }
    entries = std::move(left);
    has_bias = true;
    if (format_.channel) CodeAll(0, keys);
  }

  void SetTop(const std::vector<int>& top, const float* k, const float* v) {
    std::vector<bool> is_top(entries.size(), false);
    for (size_t i = 0; i < top.size(); ++i) {
      ModelEntry& e = entries[top[i]];
      const size_t row = i * format_.head_dim;
      if (!e.is_top) {
        e.top = Stored(format_.top_page(), k + row, v + row, TopRounding());
      }
      is_top[top[i]] = true;
    }
    for (size_t i = 0; i < entries.size(); ++i) entries[i].is_top = is_top[i];
  }

  void Renumber(int first, const Rotation& rope, int recent_begin) {
    std::vector<std::vector<float>> keys;
    std::vector<ModelRow> rows;
    for (size_t i = 0; i < entries.size(); ++i) {
      rows.push_back(Read(static_cast<int>(i), recent_begin));
    }
    bool moves = false;
    for (size_t i = 0; i < entries.size(); ++i) {
      ModelEntry& e = entries[i];
      const int to = first + static_cast<int>(i);
      if (to != e.rope) {
        moves = true;
        std::vector<float> table(2 * rope.pairs());
        RopeTable(rope.inv_freq.data(), rope.pairs(), to - e.rope, 1.0f,
                  table.data());
        ApplyRope(table.data(), rope.pairs(), rope.neox, 1, format_.head_dim,
                  rows[i].k.data());
        Store(rows[i].k.data(), rows[i].v.data(), &e);
      }
      e.rope = to;
      keys.push_back(rows[i].k);
    }
    if (format_.channel && moves) CodeAll(0, keys);
    has_rope = !entries.empty();
  }

  // Whole pages of which every entry lies before the position.
  void DropBefore(int position) {
    const size_t n = entries.size();
    size_t gone = 0;
    while (gone < n &&
           entries[std::min(gone + kPageEntries, n) - 1].position < position) {
      gone = std::min(gone + kPageEntries, n);
    }
    entries.erase(entries.begin(), entries.begin() + gone);
    coded = std::max(coded - static_cast<int>(gone), 0);
  }

  bool Consecutive() const {
    return entries.empty() ||
           entries.back().position - entries.front().position + 1 ==
               static_cast<int>(entries.size());
  }

  std::vector<ModelEntry> entries;
  bool has_bias = false, has_scores = false, has_rope = false;
  int seen = 0;
  int coded = 0;  // entries that have codes, of keys by channel

 private:
  const float* Keys() const {
    return rounding_.empty() ? nullptr : rounding_.data();
  }
  Rounding TopRounding() const {
    return {IsQuantized(format_.top_page().k) ? Keys() : nullptr};
  }
  float Scale(Codec codec, const float* x, int rows, size_t stride,
              const float* mean) const {
    return IsQuantized(codec)
               ? LargestScale(codec, format_.head_dim, x, rows, stride, mean)
               : 0.0f;
  }

  void Store(const float* k, const float* v, ModelEntry* e) const {
    std::vector<float> coded_k = std::move(e->base.k);
    e->base = Stored(format_, k, v, {Keys(), scales_[0], scales_[1]});
    if (format_.channel) e->base.k = std::move(coded_k);
    e->recent = Stored(format_.recent_page(), k, v, {});
    if (e->is_top) e->top = Stored(format_.top_page(), k, v, TopRounding());
  }

  // Every entry with new codes, of what is rounded otherwise.
  void Recode(const std::vector<float>& rounding,
              const std::array<float, 2>& scales, int recent_begin) {
    std::vector<ModelRow> rows;
    for (size_t i = 0; i < entries.size(); ++i) {
      rows.push_back(Read(static_cast<int>(i), recent_begin));
    }
    const bool anew = rounding != rounding_;
    const bool keys = anew || scales[0] != scales_[0];
    const bool values = scales[1] != scales_[1];
    rounding_ = rounding;
    scales_ = scales;
    for (size_t i = 0; i < entries.size(); ++i) {
      const float *const k = rows[i].k.data(), *const v = rows[i].v.data();
      const ModelRow row =
          Stored(format_, k, v, {Keys(), scales[0], scales[1]});
      ModelEntry& e = entries[i];
      if (keys) e.base.k = row.k;
      if (values) e.base.v = row.v;
      if (anew && e.is_top && TopRounding().keys != nullptr) {
        e.top.k = Stored(format_.top_page(), k, v, TopRounding()).k;
      }
    }
  }

  std::vector<std::vector<float>> KeysFrom(int first, int recent_begin) const {
    std::vector<std::vector<float>> keys;
    for (int i = first; i < static_cast<int>(entries.size()); ++i) {
      keys.push_back(Read(i, recent_begin).k);
    }
    return keys;
  }
  // Groups from entry `first` on.
  void Code(int first, const std::vector<std::vector<float>>& keys) {
    const int d = format_.head_dim, n = static_cast<int>(keys.size());
    for (int at = 0; at < n; at += kChannelGroup) {
      const int count = std::min(kChannelGroup, n - at);
      std::vector<float> group;
      for (int i = at; i < at + count; ++i) {
        group.insert(group.end(), keys[i].begin(), keys[i].end());
      }
      std::vector<std::byte> page(format_.page_bytes());
      StoreKeyGroup(format_, 0, count, group.data(), page.data());
      for (int i = 0; i < count; ++i) {
        std::vector<float>& k = entries[first + at + i].base.k;
        k.resize(d);
        LoadChannelKey(format_, page.data(), i, k.data());
      }
    }
  }
  void CodeAll(int first, const std::vector<std::vector<float>>& keys) {
    Code(first, keys);
    coded = static_cast<int>(entries.size());
  }

  HeadFormat format_;
  std::vector<float> rounding_;  // [2, head_dim], or empty
  std::array<float, 2> scales_ = {0, 0};
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TESTING_HEAD_MODEL_H_
