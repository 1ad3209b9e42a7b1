#include "kernels/prompt_keys.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention_form.h"
#include "kernels/key_rounding.h"
#include "kernels/page_rows.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

TEST(AttentionForm, TheFastestThatTheCpuRuns) {
  const auto choose = [](const CpuFeatures& cpu) {
    return ChooseAttentionForm(/*exact=*/false, cpu);
  };
  EXPECT_EQ(choose({}), AttentionForm::kF32);
  EXPECT_EQ(choose({.f16c = true}), AttentionForm::kF32);
  EXPECT_EQ(choose({.f16c = true, .avx2 = true}), AttentionForm::kInt16);
  CpuFeatures all = {true, true, true, true, false};
  EXPECT_EQ(choose(all), AttentionForm::kInt16);
  all.avx512_bf16 = true;
  EXPECT_EQ(choose(all), AttentionForm::kBf16);
  EXPECT_EQ(ChooseAttentionForm(/*exact=*/true, all), AttentionForm::kF32);
}

constexpr int kDim = 40, kGroup = 2, kPast = 83, kRows = 21;
constexpr int kEntries = kPast + kRows;
constexpr float kScale = 0.2f;

// Those that this CPU runs.
std::vector<AttentionForm> Forms() {
  std::vector<AttentionForm> forms;
  for (AttentionForm form : kAttentionForms) {
    if (Covers(Cpu(), FormNeeds(form))) forms.push_back(form);
  }
  return forms;
}

struct Rows {
  Rows()
      : q(RandomFloats(size_t{kRows} * kGroup * kDim, 1)),
        k(RandomFloats(size_t{kEntries} * kDim, 2)),
        v(RandomFloats(size_t{kEntries} * kDim, 3)) {}
  const float* key(int entry) const { return &k[size_t(entry) * kDim]; }
  const float* value(int entry) const { return &v[size_t(entry) * kDim]; }

  std::vector<float> q, k, v;
};

void AddFresh(const Rows& rows, PromptKeys* keys) {
  for (int r = 0; r < kRows; ++r) {
    keys->AddFresh(r, rows.key(kPast + r), rows.value(kPast + r));
  }
  keys->Close(kRows);
}

PrefillTile TileOf(const Rows& rows, std::vector<float>* out) {
  out->assign(rows.q.size(), 0.0f);
  PrefillTile t;
  t.rows = kRows;
  t.group = kGroup;
  t.head_dim = kDim;
  t.scale = kScale;
  t.q = rows.q.data();
  t.out = out->data();
  t.q_stride = t.out_stride = size_t{kGroup} * kDim;
  for (int r = 0; r < kRows; ++r) t.end[r] = kPast + r + 1;
  return t;
}

std::vector<float> Attend(const Rows& rows, const PromptKeys& keys) {
  std::vector<float> out;
  const PrefillTile t = TileOf(rows, &out);
  PrefillScratch scratch;
  scratch.Resize(kGroup, kDim);
  keys.Attend(t, &scratch);
  return out;
}

// All options: every form, and what is held in f32 beside it.
std::vector<PromptKeys::Options> AllOptions() {
  std::vector<PromptKeys::Options> all;
  for (AttentionForm form : Forms()) {
    for (bool past_keys : {false, true}) {
      for (bool f32_values : {false, true}) {
        all.push_back({form, kDim, past_keys, f32_values});
      }
    }
  }
  return all;
}

std::vector<float> Want(const Rows& rows) {
  std::vector<float> want(rows.q.size());
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroup; ++g) {
      const size_t at = (size_t(r) * kGroup + g) * kDim;
      reference::Attend(&rows.q[at], rows.k.data(), rows.v.data(), 0,
                        kPast + r + 1, kDim, kScale, nullptr, &want[at]);
    }
  }
  return want;
}

float Tolerance(AttentionForm form) {
  return form == AttentionForm::kF32     ? 3e-5f
         : form == AttentionForm::kInt16 ? 0.008f
                                         : 0.06f;
}

TEST(PromptKeys, AttendAsTheOracle) {
  const Rows rows;
  for (const PromptKeys::Options& options : AllOptions()) {
    SCOPED_TRACE(FormName(options.form));
    PromptKeys keys;
    keys.Configure(options);
    keys.Begin(kPast, kRows, kEntries);
    keys.SetPast(0, kPast, rows.k.data(), rows.v.data());
    AddFresh(rows, &keys);
    ExpectNear(Attend(rows, keys), Want(rows), Tolerance(options.form));
  }
}

TEST(PromptKeys, HoldsWhatIsReadInF32) {
  const Rows rows;
  for (const PromptKeys::Options& options : AllOptions()) {
    PromptKeys keys;
    keys.Configure(options);
    keys.Begin(kPast, kRows, kEntries);
    keys.SetPast(0, kPast, rows.k.data(), rows.v.data());
    AddFresh(rows, &keys);
    const int first = options.past_keys ? 0 : kPast;
    EXPECT_TRUE(std::equal(rows.key(first), rows.key(0) + rows.k.size(),
                           keys.k() + size_t(first) * kDim));
    const PromptKeys& read = keys;
    if (options.f32_values || options.form == AttentionForm::kF32) {
      EXPECT_TRUE(std::equal(rows.v.begin(), rows.v.end(), read.v()));
      EXPECT_EQ(read.fresh_v16(), nullptr);
      continue;
    }
    EXPECT_EQ(read.v(), nullptr);
    std::vector<uint16_t> want(size_t{kRows} * kDim);
    ToF16(rows.value(kPast), want.size(), want.data());
    EXPECT_TRUE(std::equal(want.begin(), want.end(), read.fresh_v16()));
  }
}

// Entries one by one, in any order, written by the caller or from pages: the
// bits that they have when they come at once.
TEST(PromptKeys, HowPastEntriesComeChangesNoBit) {
  const Rows rows;
  for (PromptKeys::Options options : AllOptions()) {
    SCOPED_TRACE(FormName(options.form));
    PromptKeys at_once, one_by_one;
    for (PromptKeys* keys : {&at_once, &one_by_one}) {
      keys->Configure(options);
      keys->Begin(kPast, kRows, kEntries);
    }
    at_once.SetPast(0, kPast, rows.k.data(), rows.v.data());
    for (int i = kPast - 1; i >= 0; --i) {
      one_by_one.SetPast(i, 1, rows.key(i), rows.value(i));
    }
    AddFresh(rows, &at_once);
    AddFresh(rows, &one_by_one);
    const auto want = Attend(rows, at_once);
    EXPECT_EQ(Attend(rows, one_by_one), want);
    if (!options.f32_values) continue;
    PromptKeys written;
    written.Configure(options);
    written.Begin(kPast, kRows, kEntries);
    std::copy_n(rows.k.begin(), size_t{kPast} * kDim, written.k());
    std::copy_n(rows.v.begin(), size_t{kPast} * kDim, written.v());
    written.RoundPast(kPast);
    AddFresh(rows, &written);
    EXPECT_EQ(Attend(rows, written), want);
  }
}

// Pages of any format, after an even or an odd number of other entries, with
// and without a mean of the keys: what their entries give one by one.
TEST(PromptKeys, Pages) {
  const Rows rows;
  std::vector<float> rounding(2 * size_t{kDim}, 0.0f);
  std::fill_n(rounding.begin(), kDim, 0.5f);
  for (int c = 0; c < kDim; c += 8) rounding[kDim + c] = 1.0f;
  for (const PageFormat& format :
       {PageFormat{kDim, Codec::kF16, Codec::kF16},
        PageFormat{kDim, Codec::kF32, Codec::kBf16},
        PageFormat{kDim, Codec::kInt8, Codec::kInt4}}) {
    std::vector<std::byte> page(format.page_bytes());
    for (const PromptKeys::Options& options : AllOptions()) {
      SCOPED_TRACE(FormName(options.form));
      for (int others : {19, 20}) {
        for (bool mean : {false, true}) {
          const int count = kPast - others;
          const float* const key_rounding = mean ? rounding.data() : nullptr;
          for (int i = 0; i < count; ++i) {
            StoreEntry(format, page.data(), i, rows.key(others + i),
                       rows.value(others + i), {key_rounding});
          }
          PromptKeys paged, single;
          for (PromptKeys* keys : {&paged, &single}) {
            keys->Configure(options);
            keys->Begin(kPast, kRows, kEntries);
            keys->SetPast(0, others, rows.k.data(), rows.v.data());
          }
          AlignedBuffer<float> scratch;
          paged.SetPastPage(others, count, format, page.data(), key_rounding,
                            &scratch);
          for (int i = 0; i < count; ++i) {
            std::vector<float> k(kDim), v(kDim);
            LoadEntry(format, page.data(), i, k.data(), v.data());
            if (mean) AddKeyMean(key_rounding, kDim, 1, k.data());
            single.SetPast(others + i, 1, k.data(), v.data());
          }
          AddFresh(rows, &paged);
          AddFresh(rows, &single);
          EXPECT_EQ(Attend(rows, paged), Attend(rows, single));
        }
      }
    }
  }
}

// The half of a pair that is not there yet holds whatever memory held.
TEST(PromptKeys, CloseMakesAHalfPairANumber) {
  const Rows rows;
  for (const PromptKeys::Options& options : AllOptions()) {
    SCOPED_TRACE(FormName(options.form));
    PromptKeys clean, used;
    for (PromptKeys* keys : {&clean, &used}) {
      keys->Configure(options);
      keys->Begin(kPast, kRows + 1, kEntries + 1);
    }
    const std::vector<float> bad(kDim, std::nanf(""));
    used.AddFresh(kRows - 1, bad.data(), bad.data());
    used.AddFresh(kRows, bad.data(), bad.data());
    for (PromptKeys* keys : {&clean, &used}) {
      keys->SetPast(0, kPast, rows.k.data(), rows.v.data());
      for (int r = 0; r < kRows; ++r) {
        keys->AddFresh(r, rows.key(kPast + r), rows.value(kPast + r));
      }
      keys->Close(kRows - 1);
      keys->AddFresh(kRows - 1, rows.key(kEntries - 1),
                     rows.value(kEntries - 1));
      keys->Close(kRows);
    }
    const auto want = Attend(rows, clean);
    for (float x : want) ASSERT_TRUE(std::isfinite(x));
    EXPECT_EQ(Attend(rows, used), want);
  }
}

// A query, or an entry that is seen, that is not finite: no number comes out.
TEST(PromptKeys, WhatIsNotFiniteShows) {
  for (const PromptKeys::Options& options : AllOptions()) {
    SCOPED_TRACE(FormName(options.form));
    for (float bad : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
      const auto expect_no_number = [&](const Rows& rows, int from) {
        PromptKeys keys;
        keys.Configure(options);
        keys.Begin(kPast, kRows, kEntries);
        keys.SetPast(0, kPast, rows.k.data(), rows.v.data());
        AddFresh(rows, &keys);
        const auto out = Attend(rows, keys);
        for (int c = 0; c < kDim; ++c) {
          EXPECT_FALSE(std::isfinite(out[from + c])) << bad << " " << c;
        }
      };
      Rows rows;
      rows.q[3 * kGroup * kDim + 5] = bad;
      expect_no_number(rows, 3 * kGroup * kDim);
      rows = Rows();
      std::fill_n(rows.v.begin() + 7 * kDim, kDim, bad);
      expect_no_number(rows, 0);
    }
  }
}

}  // namespace
}  // namespace pyramidkv
