// KvCache against a dumb model, driven by seeded random operations, in formats
// that are drawn at random: codecs, scales and overlays together.

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/testing/head_model.h"
#include "gtest/gtest.h"
#include "kernels/key_rounding.h"

namespace pyramidkv {
namespace {

constexpr int kLayers = 2;
constexpr int kKvHeads = 2;
constexpr int kHeads = kLayers * kKvHeads;
constexpr int kRows = 40;  // that rounding is fitted to
constexpr int kFormats = 24;
constexpr int kOperations = 2000;  // for each of them
constexpr unsigned kSeed = 20240603;
constexpr size_t kForks = 4;

// One of each codec for K first, then whatever comes.
std::vector<HeadFormat> DrawFormats() {
  std::mt19937 random(kSeed);
  const auto pick = [&](auto... of) {
    const std::vector all = {of...};
    return all[random() % all.size()];
  };
  const Codec keys[] = {Codec::kF32, Codec::kF16, Codec::kBf16, Codec::kInt8,
                        Codec::kInt4};
  std::vector<HeadFormat> formats;
  for (int i = 0; i < kFormats; ++i) {
    HeadFormat f;
    f.head_dim = pick(8, 16, 40, 64);
    f.k = i < 5 ? keys[i] : pick(Codec::kF16, Codec::kInt8, Codec::kInt4);
    f.v = pick(f.k, f.k, Codec::kF16, Codec::kInt8, Codec::kInt4, Codec::kInt2);
    f.recent = pick(Codec::kF16, Codec::kF16, Codec::kInt8, Codec::kInt4);
    if (random() % 2 == 0) f.top = pick(Codec::kF16, Codec::kInt8);
    const int scale = pick(0, 1, 2);
    f.tensor_scales = scale == 1;
    // Keys that wait need a finer place to wait in.
    f.channel = scale == 2 && IsQuantized(f.k) && f.recent_page().k != f.k;
    formats.push_back(f);
  }
  return formats;
}

std::string NameOf(const testing::TestParamInfo<HeadFormat>& info) {
  const char* const names[] = {"f32", "f16", "bf16", "int8", "int4", "int2"};
  const auto name = [&](Codec c) { return names[static_cast<int>(c)]; };
  const HeadFormat& f = info.param;
  return std::to_string(info.index) + "_k" + name(f.k) + "_v" + name(f.v) +
         "_recent" + name(f.recent) +
         (f.top ? std::string("_top") + name(*f.top) : "") +
         (f.channel         ? "_channel"
          : f.tensor_scales ? "_tensor"
                            : "") +
         "_dim" + std::to_string(f.head_dim);
}

class KvCacheModel : public testing::TestWithParam<HeadFormat> {
 protected:
  struct Sequence {
    KvCache cache;
    std::vector<HeadModel> heads;
    int rope_shift = 0;
  };

  KvCacheModel() : format_(GetParam()), random_(kSeed) {
    if (IsQuantized(format_.k) && !format_.channel) {
      MakeRows(kRows);
      const size_t stride = size_t{kKvHeads} * format_.head_dim;
      rounding_ = FitKeyRounding(format_.head_dim, kRows, k_.data(), kRows, 1,
                                 stride, v_.data());
    }
    sequences_.push_back(NewSequence());
  }

  KvCache NewCache() {
    KvCache cache(&pool_, {kLayers, kKvHeads, format_});
    SetRounding(&cache);
    return cache;
  }
  std::vector<HeadModel> NewModels() const {
    return std::vector<HeadModel>(kHeads, HeadModel(format_, rounding_));
  }
  Sequence NewSequence() { return {NewCache(), NewModels()}; }
  void SetRounding(KvCache* cache) const {
    for (int i = 0; i < kHeads && !rounding_.empty(); ++i) {
      ASSERT_TRUE(HeadOf(*cache, i).SetKeyRounding(rounding_).ok());
    }
  }
  static KvHead& HeadOf(KvCache& cache, int i) {
    return cache.head(i / kKvHeads, i % kKvHeads);
  }
  static const KvHead& HeadOf(const KvCache& cache, int i) {
    return cache.head(i / kKvHeads, i % kKvHeads);
  }
  static int RecentBegin(const KvCache& cache, int i) {
    return HeadOf(cache, i).Export().recent_begin;
  }

  static int Newest(const Sequence& s) {
    int newest = 0;
    for (const HeadModel& m : s.heads) newest = std::max(newest, m.seen);
    return newest;
  }

  int Random(int n) { return static_cast<int>(random_() % n); }

  // A run of rows for one head, the KV heads of a layer side by side as they
  // come from a projection.
  void MakeRows(int count) {
    const size_t n = static_cast<size_t>(count) * kKvHeads * format_.head_dim;
    k_.resize(n);
    v_.resize(n);
    std::normal_distribution<float> normal;
    for (float& x : k_) x = normal(random_);
    for (float& x : v_) x = normal(random_);
  }

  // Mostly single tokens, sometimes a chunk, to all heads.
  void Append(Sequence& s, bool gather) {
    const int count = Random(4) != 0 ? 1 : 1 + Random(120);
    const int keep_percent = Random(101);
    MakeRows(count);
    for (int i = 0; i < kHeads; ++i) {
      if (Random(30) == 0) continue;  // this head misses them
      HeadModel& m = s.heads[i];
      int position = Newest(s);  // heads may be ragged
      if (Random(40) == 0) position += Random(3);
      const int l = i / kKvHeads, h = i % kKvHeads;
      const float* const k = &k_[h * format_.head_dim];
      const float* const v = &v_[h * format_.head_dim];
      const size_t stride = kKvHeads * format_.head_dim;
      std::vector<int> rows;
      for (int r = 0; r < count; ++r) {
        if (!gather || Random(100) < keep_percent) rows.push_back(r);
      }
      m.Append(position, rows, count, k, v, stride, s.rope_shift,
               RecentBegin(s.cache, i));
      const Status status =
          gather ? s.cache.AppendKept(l, h, position, rows, k, v, stride, count)
                 : s.cache.Append(l, h, position, count, k, v, stride);
      ASSERT_TRUE(status.ok()) << status.message();
    }
  }

  std::vector<int> RandomKept(int n) {
    std::vector<int> kept;
    const int kind = Random(7);
    const int cut = Random(n + 1);
    const int percent = Random(101);
    for (int i = 0; i < n; ++i) {
      const bool keep[] = {true,
                           i >= cut,
                           i < cut,
                           i % 2 == 0,
                           Random(100) < percent,
                           i < 4 || i >= cut,
                           kind == 6 && cut == 0};
      if (keep[kind]) kept.push_back(i);
    }
    return kept;
  }

  void Compact(Sequence& s) {
    const int i = Random(kHeads);
    HeadModel& m = s.heads[i];
    const std::vector<int> kept =
        RandomKept(static_cast<int>(m.entries.size()));
    m.Keep(kept, RecentBegin(s.cache, i));
    const Status status = s.cache.Compact(i / kKvHeads, i % kKvHeads, kept);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // Some of the entries that leave come back as merged ones.
  void CompactAndMerge(Sequence& s) {
    const int i = Random(kHeads);
    HeadModel& m = s.heads[i];
    const int n = static_cast<int>(m.entries.size());
    std::vector<int> kept;
    std::vector<MergedEntry> merged;
    std::vector<HeadModel::Source> order;
    MakeRows(std::max(n, 1));
    for (int e = 0; e < n; ++e) {
      const int dice = Random(3);
      if (dice == 0) {
        kept.push_back(e);
        order.push_back({e, {}});
      } else if (dice == 1) {
        const float score = m.has_scores ? static_cast<float>(Random(9)) : 0;
        const size_t row = size_t(e) * kKvHeads * format_.head_dim;
        merged.push_back({m.entries[e].position, m.entries[e].rope,
                          static_cast<float>(Random(5)), score, &k_[row],
                          &v_[row]});
        order.push_back({-1, merged.back()});
      }
    }
    const int recent_begin = RecentBegin(s.cache, i);
    if (merged.empty()) {
      m.Keep(kept, recent_begin);
    } else {
      m.Merge(order, recent_begin);
    }
    const Status status =
        s.cache.CompactAndMerge(i / kKvHeads, i % kKvHeads, kept, merged);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  void SetScores(Sequence& s) {
    const int i = Random(kHeads);
    HeadModel& m = s.heads[i];
    std::vector<float> scores;
    for (ModelEntry& entry : m.entries) {
      entry.score = static_cast<float>(Random(100));
      scores.push_back(entry.score);
    }
    s.cache.SetScores(i / kKvHeads, i % kKvHeads, scores);
    m.has_scores = true;
  }

  void SetTop(Sequence& s) {
    if (!format_.top) return;
    const int i = Random(kHeads);
    HeadModel& m = s.heads[i];
    const int percent = Random(101);
    std::vector<int> top;
    for (size_t e = 0; e < m.entries.size(); ++e) {
      const bool sink =
          format_.has_sinks() && m.entries[e].position < kSinkPositions;
      if (!sink && Random(100) < percent) top.push_back(static_cast<int>(e));
    }
    MakeRows(static_cast<int>(top.size()) + 1);
    m.SetTop(top, k_.data(), v_.data());
    const Status status = HeadOf(s.cache, i).SetTop(top, k_.data(), v_.data());
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // A head that has entries gives them new codes.
  void FitAnew(Sequence& s) {
    if (rounding_.empty()) return;
    const int i = Random(kHeads);
    MakeRows(kRows);
    const size_t stride = size_t{kKvHeads} * format_.head_dim;
    const auto rounding =
        Random(2) == 0 ? FitKeyMeans(format_.head_dim, kRows, k_.data())
                       : FitKeyRounding(format_.head_dim, kRows, k_.data(),
                                        kRows, 1, stride, v_.data());
    s.heads[i].SetKeyRounding(rounding, RecentBegin(s.cache, i));
    const Status status = HeadOf(s.cache, i).SetKeyRounding(rounding);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // All heads, as a sequence does it; their ends meet.
  void Renumber(Sequence& s) {
    const float inv_freq[] = {1.0f, 0.125f};
    const Rotation rope = {inv_freq, Random(2) == 0};
    size_t longest = 0;
    for (const HeadModel& m : s.heads) {
      longest = std::max(longest, m.entries.size());
    }
    for (int i = 0; i < kHeads; ++i) {
      HeadModel& m = s.heads[i];
      const int first = static_cast<int>(longest - m.entries.size());
      m.Renumber(first, rope, RecentBegin(s.cache, i));
      const Status status = HeadOf(s.cache, i).Renumber(first, rope);
      ASSERT_TRUE(status.ok()) << status.message();
    }
    s.rope_shift = Random(std::min(Newest(s) + 1, 50));
    s.cache.set_rope_shift(s.rope_shift);
  }

  void DropBefore(Sequence& s) {
    const int i = Random(kHeads);
    const int position = s.heads[i].seen - Random(200);
    s.heads[i].DropBefore(position);
    s.cache.DropBefore(i / kKvHeads, i % kKvHeads, position);
  }

  // A cache that is stored and restored takes its place.
  void StoreAndRestore(Sequence& s) {
    KvCache restored = NewCache();
    for (int i = 0; i < kHeads; ++i) {
      std::vector<std::vector<std::byte>> pages;
      HeadOf(s.cache, i).ForEachPage([&](std::span<const std::byte> page) {
        pages.emplace_back(page.begin(), page.end());
      });
      size_t next = 0;
      const Status status =
          HeadOf(restored, i)
              .Import(Newest(s) + 1, HeadOf(s.cache, i).Export(),
                      [&](std::span<std::byte> page) {
                        EXPECT_EQ(page.size(), pages[next].size());
                        std::copy(pages[next].begin(), pages[next].end(),
                                  page.begin());
                        ++next;
                        return Status();
                      });
      ASSERT_TRUE(status.ok()) << status.message();
      ASSERT_EQ(next, pages.size());
    }
    s.cache = std::move(restored);
    s.cache.set_rope_shift(s.rope_shift);
  }

  // Forks, ends a fork, or moves one over another.
  void ForkOrEnd(size_t i) {
    const auto fork = [&] {
      return Sequence{sequences_[i].cache.Fork(), sequences_[i].heads,
                      sequences_[i].rope_shift};
    };
    if (sequences_.size() < kForks) {
      sequences_.push_back(fork());
    } else if (Random(2) == 0) {
      sequences_.erase(sequences_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      sequences_[(i + 1) % kForks] = fork();
    }
  }

  void Step() {
    const size_t i = Random(static_cast<int>(sequences_.size()));
    Sequence& s = sequences_[i];
    const int dice = Random(100);
    if (dice < 43) {
      Append(s, false);
    } else if (dice < 56) {
      Append(s, true);
    } else if (dice < 71) {
      Compact(s);
    } else if (dice < 75) {
      CompactAndMerge(s);
    } else if (dice < 79) {
      SetScores(s);
    } else if (dice < 85) {
      SetTop(s);
    } else if (dice < 87) {
      Renumber(s);
    } else if (dice < 92) {
      DropBefore(s);
    } else if (dice < 95) {
      StoreAndRestore(s);
    } else if (dice < 97) {
      FitAnew(s);
    } else if (dice < 99) {
      return ForkOrEnd(i);
    } else if (Random(4) == 0) {
      s.cache.Clear();
      SetRounding(&s.cache);
      s.heads = NewModels();
      s.rope_shift = 0;
    }
    for (HeadModel& m : s.heads) {
      if (m.entries.empty()) {  // nothing to have a side array of
        m.has_bias = m.has_scores = m.has_rope = false;
      }
    }
    Compare(s);
  }

  void CompareSides(const HeadModel& m, const HeadView& view) {
    ASSERT_EQ(view.positions == nullptr, m.Consecutive());
    ASSERT_EQ(view.scores != nullptr, m.has_scores);
    ASSERT_EQ(view.bias != nullptr, m.has_bias);
    for (int e = 0; e < view.length; ++e) {
      const ModelEntry& want = m.entries[e];
      ASSERT_EQ(view.position(e), want.position);
      ASSERT_EQ(view.rotated_for(e), want.rope);
      ASSERT_EQ(view.bias != nullptr ? view.bias[e] : 0, want.bias);
      if (m.has_scores) {
        ASSERT_EQ(view.scores[e], want.score);
      }
    }
  }

  void CompareValues(const HeadModel& m, const KvHead& head) {
    const size_t d = format_.head_dim;
    const int n = head.length(), recent_begin = head.Export().recent_begin;
    std::vector<float> k(n * d), v(n * d);
    head.Decode(k.data(), v.data());
    for (int e = 0; e < n; ++e) {
      ASSERT_TRUE(e >= recent_begin || !m.entries[e].is_recent) << e;
      ASSERT_TRUE(!format_.channel || e >= recent_begin || e < m.coded) << e;
      const ModelRow& want = m.Read(e, recent_begin);
      const auto row = static_cast<ptrdiff_t>(e * d);
      ASSERT_TRUE(std::equal(want.k.begin(), want.k.end(), k.begin() + row))
          << "K of " << e << " of " << n;
      ASSERT_TRUE(std::equal(want.v.begin(), want.v.end(), v.begin() + row))
          << "V of " << e << " of " << n;
    }
  }

  // A row of a batch, with others after it, behind a window: it sees each
  // entry once, as it would alone.
  void CompareSegments(const HeadModel& m, const KvHead& head) {
    const int n = head.length(), recent_begin = head.Export().recent_begin;
    const int later = Random(std::min(n, kRecentSlack) + 1);
    const int visible = Random(2) * Random(m.seen + 1);
    const HeadSegments segments = head.Segments(visible, later);
    std::vector<int> seen(n, 0);
    for (const Segment& segment : segments.all) {
      for (int slot = segment.begin; slot < segment.end; ++slot) {
        if (segment.Sees(slot)) ++seen.at(segment.entry(slot));
      }
    }
    ModelRow row = {std::vector<float>(format_.head_dim),
                    std::vector<float>(format_.head_dim)};
    for (int e = 0; e < n; ++e) {
      const bool sees = e < n - later && m.entries[e].position >= visible;
      ASSERT_EQ(seen[e], sees) << e << " of " << n;
      if (!sees) continue;
      segments.Load(e, row.k.data(), row.v.data());
      ASSERT_TRUE(row == m.Read(e, recent_begin, later)) << e << " of " << n;
    }
  }

  // Whole pages, and arrays that grow by whole pages.
  void CompareBytes(const HeadModel& m, const KvHead& head) {
    const int64_t n = head.length();
    const int64_t rounded = (n + kPageEntries - 1) / kPageEntries;
    int64_t pages = 0;
    head.ForEachPage([&](std::span<const std::byte> page) {
      pages += static_cast<int64_t>(page.size());
    });
    const HeadState state = head.Export();
    const auto top = static_cast<int64_t>(state.top.size());
    const int64_t top_pages = (top + kOverlayEntries - 1) / kOverlayEntries;
    const int64_t top_page_bytes =
        static_cast<int64_t>(format_.top_page().page_bytes());
    EXPECT_LE(pages, rounded * static_cast<int64_t>(format_.page_bytes()) +
                         HeadFormat(format_).overlay_bytes() +
                         top_pages * top_page_bytes);
    const int sides = !m.Consecutive() + m.has_bias + m.has_scores + m.has_rope;
    const auto fixed =
        static_cast<int64_t>(rounding_.size() * sizeof(float)) + top * 4;
    EXPECT_GE(head.bytes(), pages + sides * n * 4 + fixed);
    EXPECT_LE(head.bytes(),
              pages + sides * rounded * kPageEntries * 4 + fixed + rounded * 8);
  }

  void Compare(const Sequence& s) {
    int64_t entries = 0;
    for (int i = 0; i < kHeads; ++i) {
      SCOPED_TRACE("head " + std::to_string(i));
      const HeadModel& m = s.heads[i];
      const KvHead& head = HeadOf(s.cache, i);
      ASSERT_EQ(head.length(), static_cast<int>(m.entries.size()));
      entries += head.length();
      ASSERT_NO_FATAL_FAILURE(CompareSides(m, head.View()));
      ASSERT_NO_FATAL_FAILURE(CompareValues(m, head));
      ASSERT_NO_FATAL_FAILURE(CompareSegments(m, head));
      CompareBytes(m, head);
    }
    ASSERT_EQ(s.cache.entries(), entries);
    ASSERT_EQ(s.cache.bytes(), s.cache.layer_bytes(0) + s.cache.layer_bytes(1));
  }

  // Shared pages count once in the pool, and nothing else lives there.
  void ComparePool() {
    std::map<const std::byte*, size_t> pages;
    for (const Sequence& s : sequences_) {
      for (int i = 0; i < kHeads; ++i) {
        HeadOf(s.cache, i).ForEachPage([&](std::span<const std::byte> page) {
          pages[page.data()] = page.size();
        });
      }
    }
    int64_t live = 0;
    for (const auto& [page, bytes] : pages) live += static_cast<int64_t>(bytes);
    ASSERT_EQ(pool_.live_bytes(), live);
    ASSERT_GE(pool_.mapped_bytes(), live);
  }

  const HeadFormat format_;
  PagePool pool_;
  std::mt19937 random_;
  std::vector<float> rounding_;  // of all heads, or empty
  std::vector<Sequence> sequences_;
  std::vector<float> k_, v_;
};

TEST_P(KvCacheModel, RandomOperations) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  for (int step = 0; step < kOperations; ++step) {
    if (sequences_.empty()) sequences_.push_back(NewSequence());
    ASSERT_NO_FATAL_FAILURE(Step()) << "step " << step;
    ASSERT_FALSE(HasFailure()) << "step " << step;
    if (step % 50 != 0) continue;
    for (const Sequence& s : sequences_) {
      ASSERT_NO_FATAL_FAILURE(Compare(s)) << "step " << step;
    }
    ASSERT_NO_FATAL_FAILURE(ComparePool()) << "step " << step;
  }
  sequences_.clear();
  EXPECT_EQ(pool_.live_bytes(), 0);
  EXPECT_EQ(pool_.mapped_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, KvCacheModel,
                         testing::ValuesIn(DrawFormats()), NameOf);

}  // namespace
}  // namespace pyramidkv
