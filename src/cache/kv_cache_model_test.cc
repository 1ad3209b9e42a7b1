// KvCache against a dumb model, driven by seeded random operations.

#include <algorithm>
#include <array>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/key_rounding.h"

namespace pyramidkv {
namespace {

constexpr int kLayers = 2;
constexpr int kKvHeads = 2;
constexpr int kHeads = kLayers * kKvHeads;
constexpr int kRows = 40;          // that rounding is fitted to
constexpr int kOperations = 4000;  // for each of ten formats
constexpr size_t kForks = 4;
constexpr int kNever = std::numeric_limits<int>::max();

// One row of K or V as the format stores it.
std::vector<float> Rounded(const PageFormat& format, bool is_k,
                           const float* row,
                           const std::vector<float>& rounding = {}) {
  std::vector<std::byte> page(format.page_bytes());
  std::vector<float> k(format.head_dim), v(format.head_dim);
  const float* const own = rounding.empty() ? nullptr : rounding.data();
  StoreEntry(format, page.data(), 0, row, row, {own});
  LoadEntry(format, page.data(), 0, k.data(), v.data(), own);
  return is_k ? k : v;
}

struct Entry {
  int position = 0;
  std::vector<float> k, v;  // as the codec rounds them
  std::vector<float> fine_k, fine_v;
  bool recent = false;  // in the recent pages for sure
  int rope = 0;         // what k is rotated for
  float bias = 0;
  float score = 0;
};

struct ModelHead {
  std::vector<Entry> entries;
  bool has_bias = false, has_scores = false, has_rope = false;
  int seen = 0;
  int evicted_from = kNever;
  int evicted_before = 0;

  // Keeps entries[i] where keep(i); the others count as evicted now.
  template <typename Keep>
  void Filter(Keep keep) {
    std::vector<Entry> left;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (keep(i)) {
        left.push_back(entries[i]);
      } else {
        Missing(entries[i].position, seen);
      }
    }
    entries = std::move(left);
  }
  void Missing(int position, int when) {
    evicted_from = std::min(evicted_from, position);
    evicted_before = std::max(evicted_before, when);
  }
  bool Consecutive() const {
    return entries.empty() ||
           entries.back().position - entries.front().position + 1 ==
               static_cast<int>(entries.size());
  }
};

struct Model {
  std::array<ModelHead, kHeads> heads;
  int rope_shift = 0;

  bool MayTruncate(int position) const {
    return std::none_of(heads.begin(), heads.end(), [&](const auto& h) {
      return h.evicted_from < position && position < h.evicted_before;
    });
  }
  void Truncate(int position) {
    for (ModelHead& h : heads) {
      if (position >= h.seen) continue;
      std::erase_if(h.entries,
                    [&](const Entry& e) { return e.position >= position; });
      h.seen = position;
      if (position > h.evicted_from) continue;
      h.evicted_from = kNever;
      h.evicted_before = 0;
    }
  }
};

class KvCacheModel : public testing::TestWithParam<PageFormat> {
 protected:
  struct Sequence {
    KvCache cache;
    Model model;
  };

  KvCacheModel() : format_(GetParam()) {
    if (IsQuantized(format_.k)) {
      MakeRows(kRows);
      const size_t stride = size_t{kKvHeads} * format_.head_dim;
      rounding_ = FitKeyRounding(format_.head_dim, kRows, k_.data(), kRows, 1,
                                 stride, v_.data());
    }
    sequences_.push_back({NewCache(), {}});
  }

  KvCache NewCache() {
    KvCache cache(&pool_, {kLayers, kKvHeads, format_});
    SetRounding(&cache);
    return cache;
  }
  void SetRounding(KvCache* cache) const {
    for (int i = 0; i < kHeads && !rounding_.empty(); ++i) {
      cache->SetKeyRounding(i / kKvHeads, i % kKvHeads, rounding_);
    }
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

  Entry EntryOf(int row, int head, int position) const {
    Entry entry;
    entry.position = entry.rope = position;
    const float* k = &k_[(row * kKvHeads + head) * format_.head_dim];
    const float* v = &v_[(row * kKvHeads + head) * format_.head_dim];
    entry.k = Rounded(format_, true, k, rounding_);
    entry.v = Rounded(format_, false, v);
    entry.fine_k = Rounded(FineFormat(format_), true, k);
    entry.fine_v = Rounded(FineFormat(format_), false, v);
    return entry;
  }

  // Whether entry e of a head is read from a fine page.
  bool IsFine(const ModelHead& m, const HeadView& view, int e) const {
    if (!HasFinePages(format_)) return false;
    const int position = m.entries[e].position;
    return position < kFinePositions ||
           (e >= view.recent_begin && position >= m.seen - FineRecent(format_));
  }

  // Entries that so many tokens later may leave the recent pages.
  void Age(ModelHead* m) const {
    for (Entry& e : m->entries) {
      e.recent =
          e.recent && e.position >= m->seen - FineRecent(format_) - kFineSlack;
    }
  }

  // Mostly single tokens, sometimes a chunk, to all heads.
  void Append(Sequence& s, bool gather) {
    const int count = Random(4) != 0 ? 1 : 1 + Random(120);
    const int keep_percent = Random(101);
    MakeRows(count);
    for (int i = 0; i < kHeads; ++i) {
      if (Random(30) == 0) continue;  // this head misses them
      ModelHead& m = s.model.heads[i];
      int position = m.seen;
      for (const ModelHead& other : s.model.heads) {
        position = std::max(position, other.seen);  // heads may be ragged
      }
      if (Random(40) == 0) position += Random(3);
      if (position > m.seen) m.Missing(m.seen, position);
      const int h = i % kKvHeads;
      const float* const k = &k_[h * format_.head_dim];
      const float* const v = &v_[h * format_.head_dim];
      const size_t stride = kKvHeads * format_.head_dim;
      std::vector<int> rows;
      m.seen = position + count;
      for (int r = 0; r < count; ++r) {
        if (gather && Random(100) >= keep_percent) {
          m.Missing(position + r, m.seen);
          continue;
        }
        rows.push_back(r);
        m.entries.push_back(EntryOf(r, h, position + r));
        m.entries.back().rope -= s.model.rope_shift;
        m.has_rope = m.has_rope || s.model.rope_shift != 0;
        m.entries.back().recent = FineRecent(format_) > 0;
      }
      Age(&m);
      const Status status =
          gather
              ? s.cache.AppendKept(i / kKvHeads, h, position, rows, k, v,
                                   stride, count)
              : s.cache.Append(i / kKvHeads, h, position, count, k, v, stride);
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
    ModelHead& m = s.model.heads[i];
    const std::vector<int> kept =
        RandomKept(static_cast<int>(m.entries.size()));
    const Status status = s.cache.Compact(i / kKvHeads, i % kKvHeads, kept);
    ASSERT_TRUE(status.ok()) << status.message();
    m.Filter([&](size_t e) {
      return std::binary_search(kept.begin(), kept.end(), static_cast<int>(e));
    });
  }

  // Some of the entries that leave come back as merged ones.
  void CompactAndMerge(Sequence& s) {
    const int i = Random(kHeads);
    ModelHead& m = s.model.heads[i];
    const int n = static_cast<int>(m.entries.size());
    std::vector<int> kept;
    std::vector<MergedEntry> merged;
    std::vector<Entry> left;
    MakeRows(std::max(n, 1));
    for (int e = 0; e < n; ++e) {
      const int dice = Random(3);
      if (dice == 0) {
        kept.push_back(e);
        left.push_back(m.entries[e]);
      } else if (dice == 1) {
        Entry entry = EntryOf(e, 0, m.entries[e].position);
        entry.bias = static_cast<float>(Random(5));
        entry.score = m.has_scores ? static_cast<float>(Random(9)) : 0;
        entry.rope = m.entries[e].rope;
        merged.push_back({entry.position, entry.rope, entry.bias, entry.score,
                          &k_[e * kKvHeads * format_.head_dim],
                          &v_[e * kKvHeads * format_.head_dim]});
        left.push_back(std::move(entry));
      }
    }
    const Status status =
        s.cache.CompactAndMerge(i / kKvHeads, i % kKvHeads, kept, merged);
    ASSERT_TRUE(status.ok()) << status.message();
    if (!merged.empty()) {
      m.Missing(m.entries[0].position, m.seen);
      m.has_bias = true;
      m.entries = std::move(left);
    } else {
      m.Filter([&](size_t e) {
        return std::binary_search(kept.begin(), kept.end(),
                                  static_cast<int>(e));
      });
    }
  }

  void SetScores(Sequence& s) {
    const int i = Random(kHeads);
    ModelHead& m = s.model.heads[i];
    std::vector<float> scores;
    for (Entry& entry : m.entries) {
      entry.score = static_cast<float>(Random(100));
      scores.push_back(entry.score);
    }
    s.cache.SetScores(i / kKvHeads, i % kKvHeads, scores);
    m.has_scores = true;
  }

  // All heads, as a sequence does it; their ends meet.
  void Renumber(Sequence& s) {
    const float inv_freq[] = {1.0f, 0.125f};
    const Rotation rope = {inv_freq, Random(2) == 0};
    size_t longest = 0;
    for (const ModelHead& m : s.model.heads) {
      longest = std::max(longest, m.entries.size());
    }
    for (int i = 0; i < kHeads; ++i) {
      ModelHead& m = s.model.heads[i];
      const HeadView view = s.cache.View(i / kKvHeads, i % kKvHeads);
      const int first = static_cast<int>(longest - m.entries.size());
      const Status status =
          s.cache.Renumber(i / kKvHeads, i % kKvHeads, first, rope);
      ASSERT_TRUE(status.ok()) << status.message();
      for (size_t e = 0; e < m.entries.size(); ++e) {
        Entry& entry = m.entries[e];
        const int to = first + static_cast<int>(e);
        if (to != entry.rope) {
          float table[4];
          RopeTable(inv_freq, 2, to - entry.rope, 1.0f, table);
          const bool fine = IsFine(m, view, static_cast<int>(e));
          std::vector<float> k = fine ? entry.fine_k : entry.k;
          const std::vector<float> v = fine ? entry.fine_v : entry.v;
          ApplyRope(table, 2, rope.neox, 1, format_.head_dim, k.data());
          entry.k = Rounded(format_, true, k.data(), rounding_);
          entry.fine_k = Rounded(FineFormat(format_), true, k.data());
          entry.v = Rounded(format_, false, v.data());
          entry.fine_v = Rounded(FineFormat(format_), false, v.data());
        }
        entry.rope = to;
      }
      m.has_rope = !m.entries.empty();
    }
    s.model.rope_shift = Random(50);
    s.cache.set_rope_shift(s.model.rope_shift);
  }

  void DropBefore(Sequence& s) {
    const int i = Random(kHeads);
    ModelHead& m = s.model.heads[i];
    const int position = m.seen - Random(200);
    const size_t n = m.entries.size();
    m.Filter([&, old = m.entries](size_t e) {
      const size_t last =
          std::min(e / kPageEntries * kPageEntries + kPageEntries - 1, n - 1);
      return old[last].position >= position;
    });
    s.cache.DropBefore(i / kKvHeads, i % kKvHeads, position);
  }

  void Truncate(Sequence& s) {
    int newest = 0;
    for (const ModelHead& m : s.model.heads) newest = std::max(newest, m.seen);
    const int position = Random(20) == 0 ? Random(newest + 1)
                                         : std::max(0, newest + 2 - Random(40));
    const Status status = s.cache.Truncate(position);
    ASSERT_EQ(status.ok(), s.model.MayTruncate(position)) << position;
    if (!status.ok()) {
      EXPECT_EQ(status.code(), StatusCode::kUsage);
      ++refused_;
    } else {
      s.model.Truncate(position);
    }
  }

  // Forks, ends a fork, or moves one over another.
  void ForkOrEnd(size_t i) {
    if (sequences_.size() < kForks) {
      sequences_.push_back({sequences_[i].cache.Fork(), sequences_[i].model});
    } else if (Random(2) == 0) {
      sequences_.erase(sequences_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      Sequence& to = sequences_[(i + 1) % kForks];
      to.cache = sequences_[i].cache.Fork();
      to.model = sequences_[i].model;
    }
  }

  void Step() {
    const size_t i = Random(static_cast<int>(sequences_.size()));
    Sequence& s = sequences_[i];
    const int dice = Random(100);
    if (dice < 45) {
      Append(s, false);
    } else if (dice < 60) {
      Append(s, true);
    } else if (dice < 76) {
      Compact(s);
    } else if (dice < 80) {
      CompactAndMerge(s);
    } else if (dice < 84) {
      SetScores(s);
    } else if (dice < 86) {
      Renumber(s);
    } else if (dice < 91) {
      DropBefore(s);
    } else if (dice < 95) {
      Truncate(s);
    } else if (dice < 99) {
      return ForkOrEnd(i);
    } else if (Random(4) == 0) {
      s.cache.Clear();
      SetRounding(&s.cache);
      s.model = Model();
    }
    for (ModelHead& m : s.model.heads) {
      if (m.entries.empty()) {  // nothing to have a side array of
        m.has_bias = m.has_scores = m.has_rope = false;
      }
    }
    Compare(s);
  }

  void CompareSides(const ModelHead& m, const HeadView& view) {
    ASSERT_EQ(view.scores != nullptr, m.has_scores);
    ASSERT_EQ(view.bias != nullptr, m.has_bias);
    for (int e = 0; e < view.length; ++e) {
      const Entry& want = m.entries[e];
      ASSERT_EQ(view.rotated_for(e), want.rope);
      ASSERT_EQ(view.bias != nullptr ? view.bias[e] : 0, want.bias);
      if (m.has_scores) {
        ASSERT_EQ(view.scores[e], want.score);
      }
    }
  }

  void Compare(const Sequence& s) {
    const size_t d = format_.head_dim;
    int64_t entries = 0, least = 0, most = 0;
    for (int i = 0; i < kHeads; ++i) {
      const ModelHead& m = s.model.heads[i];
      const HeadView view = s.cache.View(i / kKvHeads, i % kKvHeads);
      ASSERT_EQ(view.length, static_cast<int>(m.entries.size()));
      ASSERT_EQ(s.cache.length(i / kKvHeads, i % kKvHeads), view.length);
      ASSERT_EQ(view.positions == nullptr, m.Consecutive());
      const int64_t n = view.length;
      const int64_t pages = (n + kPageEntries - 1) / kPageEntries;
      entries += n;
      least += pages * static_cast<int64_t>(format_.page_bytes());
      most += pages * static_cast<int64_t>(format_.page_bytes());
      const int sides =
          !m.Consecutive() + m.has_bias + m.has_scores + (view.rope != nullptr);
      const int fine_pages =
          (view.fine > 0) +
          (view.length - view.recent_begin + kFinePositions - 1) /
              kFinePositions;
      ASSERT_LE(static_cast<int64_t>(fine_pages * FinePageBytes(format_)),
                FineBytes(format_));
      least += fine_pages * static_cast<int64_t>(FinePageBytes(format_));
      most += fine_pages * static_cast<int64_t>(FinePageBytes(format_));
      const auto rounding =
          static_cast<int64_t>(rounding_.size() * sizeof(float));
      least += sides * n * 4 + rounding;
      most += sides * pages * kPageEntries * 4 + rounding;
      ASSERT_NO_FATAL_FAILURE(CompareSides(m, view));
      std::vector<float> k(n * d), v(n * d);
      s.cache.Decode(i / kKvHeads, i % kKvHeads, k.data(), v.data());
      for (int e = 0; e < n; ++e) {
        ASSERT_EQ(view.position(e), m.entries[e].position);
        const Entry& want = m.entries[e];
        const bool fine = IsFine(m, view, e);
        ASSERT_TRUE(e >= view.recent_begin || !want.recent);
        const auto& want_k = fine ? want.fine_k : want.k;
        const auto& want_v = fine ? want.fine_v : want.v;
        ASSERT_TRUE(std::equal(want_k.begin(), want_k.end(), k.begin() + e * d))
            << e << " of " << n;
        ASSERT_TRUE(std::equal(want_v.begin(), want_v.end(), v.begin() + e * d))
            << e << " of " << n;
      }
    }
    ASSERT_EQ(s.cache.entries(), entries);
    ASSERT_GE(s.cache.bytes(), least);
    ASSERT_LE(s.cache.bytes(), most);
    ASSERT_EQ(s.cache.bytes(), s.cache.layer_bytes(0) + s.cache.layer_bytes(1));
  }

  // Shared pages count once in the pool, and nothing else lives there.
  void ComparePool() {
    std::set<const std::byte*> pages, fine;
    for (const Sequence& s : sequences_) {
      for (int i = 0; i < kHeads; ++i) {
        const HeadView view = s.cache.View(i / kKvHeads, i % kKvHeads);
        const int n = (view.length + kPageEntries - 1) / kPageEntries;
        pages.insert(view.pages, view.pages + n);
        if (view.fine > 0) fine.insert(*view.fine_page);
        for (int p = 0; p * kFinePositions < view.length - view.recent_begin;
             ++p) {
          fine.insert(view.recent_pages[p]);
        }
      }
    }
    ASSERT_EQ(pool_.live_bytes(),
              static_cast<int64_t>(pages.size() * format_.page_bytes() +
                                   fine.size() * FinePageBytes(format_)));
    ASSERT_GE(pool_.mapped_bytes(), pool_.live_bytes());
  }

  const PageFormat format_;
  PagePool pool_;
  std::mt19937 random_;
  std::vector<float> rounding_;  // of all heads, or empty
  std::vector<Sequence> sequences_;
  std::vector<float> k_, v_;
  int refused_ = 0;
};

TEST_P(KvCacheModel, RandomOperations) {
  const unsigned seed = 20240603;
  SCOPED_TRACE("seed " + std::to_string(seed));
  random_.seed(seed);
  for (int step = 0; step < kOperations; ++step) {
    if (sequences_.empty()) sequences_.push_back({NewCache(), {}});
    ASSERT_NO_FATAL_FAILURE(Step()) << "step " << step;
    if (step % 50 != 0) continue;
    for (const Sequence& s : sequences_) {
      ASSERT_NO_FATAL_FAILURE(Compare(s)) << "step " << step;
    }
    ASSERT_NO_FATAL_FAILURE(ComparePool()) << "step " << step;
  }
  EXPECT_GT(refused_, 10);  // both answers of Truncate were seen
  sequences_.clear();
  EXPECT_EQ(pool_.live_bytes(), 0);
  EXPECT_EQ(pool_.mapped_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, KvCacheModel,
    testing::Values(PageFormat{8, Codec::kF32, Codec::kF32},
                    PageFormat{8, Codec::kF16, Codec::kF16},
                    PageFormat{8, Codec::kBf16, Codec::kBf16},
                    PageFormat{16, Codec::kF32, Codec::kF16},
                    PageFormat{40, Codec::kF16, Codec::kBf16},
                    PageFormat{16, Codec::kInt8, Codec::kInt8},
                    PageFormat{40, Codec::kInt4, Codec::kInt4},
                    PageFormat{64, Codec::kInt4, Codec::kInt2},
                    PageFormat{32, Codec::kInt4, Codec::kInt4, kPageEntries,
                               Codec::kInt8},
                    PageFormat{16, Codec::kInt8, Codec::kInt4, kPageEntries,
                               Codec::kInt4}));

}  // namespace
}  // namespace pyramidkv
