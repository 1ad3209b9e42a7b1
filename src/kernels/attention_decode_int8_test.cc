#include "kernels/attention_decode_int8.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/attention_decode.h"
#include "kernels/kv_quant.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// A page and, rotated, the rows that are stored in it.
struct Page {
  explicit Page(const PageFormat& f) : format(f), bytes(f.page_bytes()) {
    const int d = f.head_dim;
    k.resize(size_t(f.entries) * d);
    v.resize(k.size());
    for (int slot = 0; slot < f.entries; ++slot) {
      const auto row = RandomFloats(d, slot + 1);
      StoreEntry(f, bytes.data(), slot, row.data(), row.data());
      LoadEntry(f, bytes.data(), slot, &k[slot * d], &v[slot * d]);
      RotateChannels(d, &k[slot * d]);
      RotateChannels(d, &v[slot * d]);
    }
  }
  PageFormat format;
  std::vector<std::byte> bytes;
  std::vector<float> k, v;
};

// Those that this CPU can run.
std::vector<const IntegerForm*> Forms() {
  std::vector<const IntegerForm*> forms;
  for (const IntegerForm* form : IntegerForms()) {
    if (Covers(Cpu(), form->needs)) forms.push_back(form);
  }
  return forms;
}

TEST(AttentionDecodeInt8, TheFastestFormThatTheCpuRuns) {
  EXPECT_EQ(BestIntegerForm({}), nullptr);
  EXPECT_EQ(BestIntegerForm({.f16c = true, .avx2 = true}), &Avx2Form());
  EXPECT_EQ(BestIntegerForm({.avx2 = true, .avx512 = true}), &Avx2Form());
  EXPECT_EQ(BestIntegerForm({.avx2 = true, .avx512_vnni = true}), &VnniForm());
}

void CheckScores(const IntegerForm& form, const Page& page, int heads,
                 int end) {
  const PageFormat& f = page.format;
  const int d = f.head_dim;
  const auto q = RandomFloats(size_t(heads) * d, 90);
  std::vector<IntegerQuery> integers(size_t(heads) * QuantGroups(d));
  form.round_queries(f.k, q.data(), heads, d, integers.data());
  std::vector<float> got(size_t(heads) * kPageEntries);
  form.score({f.k, d, f.entries, page.bytes.data(), 0, end}, integers.data(),
             heads, got.data());
  const auto want = reference::MatMul(q.data(), page.k.data(), heads, end, d);
  for (int h = 0; h < heads; ++h) {
    const float* row = &got[size_t(h) * kPageEntries];
    // A unit of a query is 1/127 or 1/32512 of its largest channel, about 3.
    const float unit = f.k == Codec::kInt4 ? 0.02f : 1e-4f;
    ExpectNear({row, row + end}, {&want[h * end], &want[h * end] + end},
               unit * std::sqrt(float(d)));
  }
}

// share: the largest weight's of the sum of all so far.
void CheckValues(const IntegerForm& form, const Page& page, int heads,
                 int begin, int end, float share = 1.0f) {
  const PageFormat& f = page.format;
  const int d = f.head_dim;
  std::vector<float> p(size_t(heads) * kPageEntries, 0.0f);
  std::vector<float> got(size_t(heads) * d, 1.0f), want = got;
  for (int h = 0; h < heads; ++h) {
    for (int j = begin; j < end; ++j) {
      p[h * kPageEntries + j] = 1.0f / float(1 + (j * 7 + h) % 31);
      for (int c = 0; c < d; ++c) {
        want[h * d + c] += p[h * kPageEntries + j] * page.v[j * d + c];
      }
    }
  }
  const std::vector<float> sums(heads, 1.0f / share);
  form.add_values(
      {f.v, d, f.entries, page.bytes.data() + f.k_bytes(), begin, end},
      p.data(), sums.data(), heads, d, got.data());
  // In 7 bits a weight is off by up to 1/127, and up to 64 by chance.
  const bool bytes = f.v != Codec::kInt8 && share < 0.05f;
  ExpectNear(got, want, bytes ? 0.15f : 1e-3f);
}

TEST(AttentionDecodeInt8, MatchesFloats) {
  for (int d : {8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 128, 256}) {
    for (Codec v : {Codec::kInt8, Codec::kInt4, Codec::kInt2}) {
      for (int entries : {kPageEntries, 16}) {
        const Codec k = v == Codec::kInt8 ? v : Codec::kInt4;
        const Page page({d, k, v, entries});
        for (int heads : {1, kSharingHeads}) {
          for (int end : {1, 7, 16, 17, 33, 63, 64}) {
            if (end > entries) continue;
            for (const IntegerForm* form : Forms()) {
              CheckScores(*form, page, heads, end);
              CheckValues(*form, page, heads, end / 3, end);
              CheckValues(*form, page, heads, end / 3, end, 0.01f);
            }
          }
        }
      }
    }
  }
}

// Slots beside the entries may hold anything at all.
TEST(AttentionDecodeInt8, SlotsThatAreNotSeenDoNotCount) {
  Page page({64, Codec::kInt8, Codec::kInt8});
  const std::vector<float> bad(64, std::nanf(""));
  for (int slot : {0, 1, 40, 63}) {
    StoreEntry(page.format, page.bytes.data(), slot, bad.data(), bad.data());
  }
  for (const IntegerForm* form : Forms()) CheckValues(*form, page, 3, 2, 40);
}

// Channels of a query that no integer stands for.
const float kNotFinite[] = {HUGE_VALF, -HUGE_VALF, std::nanf(""),
                            -std::nanf("")};

// The scores of one query next to a page of which all entries are seen.
std::vector<float> ScoresOf(const IntegerForm& form, const Page& page,
                            const std::vector<float>& q, int heads) {
  const PageFormat& f = page.format;
  std::vector<IntegerQuery> integers(size_t(heads) * QuantGroups(f.head_dim));
  form.round_queries(f.k, q.data(), heads, f.head_dim, integers.data());
  std::vector<float> scores(size_t(heads) * kPageEntries);
  form.score({f.k, f.head_dim, f.entries, page.bytes.data(), 0, f.entries},
             integers.data(), heads, scores.data());
  return scores;
}

// One channel that is not finite: all scores of that query are NaN, and those
// of others keep their bits.
TEST(AttentionDecodeInt8, QueriesThatAreNotFinite) {
  constexpr int kDim = 40, kHeads = kSharingHeads;
  for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
    const Page page({kDim, codec, codec});
    for (const IntegerForm* form : Forms()) {
      const auto q = RandomFloats(size_t{kHeads} * kDim, 3);
      const auto want = ScoresOf(*form, page, q, kHeads);
      for (float bad : kNotFinite) {
        for (int channel : {0, 7, 15, 16, 31, 32, 39}) {
          auto worse = q;
          worse[kDim + channel] = bad;
          const auto got = ScoresOf(*form, page, worse, kHeads);
          for (int i = 0; i < kHeads * kPageEntries; ++i) {
            if (i / kPageEntries == 1) {
              ASSERT_TRUE(std::isnan(got[i])) << bad << " at " << channel;
            } else {
              ASSERT_EQ(got[i], want[i]);
            }
          }
        }
      }
    }
  }
}

// Values as large as floats get are finite, and so are their sums.
TEST(AttentionDecodeInt8, LargeAndTinyQueries) {
  constexpr int kDim = 64;
  for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
    const Page page({kDim, codec, codec});
    for (const IntegerForm* form : Forms()) {
      const auto q = RandomFloats(kDim, 3, 0.1f);
      const auto want = ScoresOf(*form, page, q, 1);
      for (float factor : {0x1p120f, 0x1p-60f}) {
        auto scaled = q;
        for (float& x : scaled) x *= factor;
        const auto got = ScoresOf(*form, page, scaled, 1);
        for (int i = 0; i < kPageEntries; ++i) {
          ASSERT_NEAR(got[i] / factor, want[i], 1e-4f);
        }
      }
      const std::vector<float> tiny(kDim, 1e-40f);
      for (float score : ScoresOf(*form, page, tiny, 1)) {
        ASSERT_NEAR(score, 0.0f, 1e-35f);
      }
    }
  }
}

// A weight, or an entry that is seen, that is not finite shows in every
// channel of its group.
TEST(AttentionDecodeInt8, WeightsThatAreNotFinite) {
  constexpr int kDim = 64;
  for (Codec v : {Codec::kInt8, Codec::kInt4, Codec::kInt2}) {
    Page page({kDim, v == Codec::kInt8 ? v : Codec::kInt4, v});
    const PageFormat& f = page.format;
    const auto not_finite = [&](const IntegerForm& form, float weight) {
      std::vector<float> p(kPageEntries, 0.25f), acc(kDim, 1.0f);
      p[37] = weight;
      const float sum = 16.0f;
      form.add_values(
          {f.v, kDim, f.entries, page.bytes.data() + f.k_bytes(), 0, f.entries},
          p.data(), &sum, 1, kDim, acc.data());
      for (float x : acc) EXPECT_FALSE(std::isfinite(x)) << weight;
    };
    for (const IntegerForm* form : Forms()) {
      not_finite(*form, HUGE_VALF);
      not_finite(*form, std::nanf(""));
    }
    const std::vector<float> bad(kDim, std::nanf(""));
    StoreEntry(f, page.bytes.data(), 3, bad.data(), bad.data());
    for (const IntegerForm* form : Forms()) not_finite(*form, 0.25f);
  }
}

// Weighs int4 values that are all 1, but for those of slot 5.
// sum: of all weights so far.
void CheckOnesButOne(float value, const std::vector<float>& p, float sum,
                     float want, float tolerance) {
  constexpr int kDim = 64;
  const PageFormat format = {kDim, Codec::kInt4, Codec::kInt4};
  std::vector<std::byte> page(format.page_bytes());
  const std::vector<float> other(kDim, value), ones(kDim, 1.0f);
  for (int slot = 0; slot < kPageEntries; ++slot) {
    const float* row = slot == 5 ? other.data() : ones.data();
    StoreEntry(format, page.data(), slot, row, row);
  }
  for (const IntegerForm* form : Forms()) {
    std::vector<float> got(kDim, 0.0f);
    form->add_values({format.v, kDim, format.entries,
                      page.data() + format.k_bytes(), 0, kPageEntries},
                     p.data(), &sum, 1, kDim, got.data());
    RotateChannels(kDim, got.data());
    for (float x : got) EXPECT_NEAR(x, want, tolerance);
  }
}

// One value a thousand times larger than the others, with hardly any weight.
TEST(AttentionDecodeInt8, ALargeScaleDoesNotHideOthers) {
  std::vector<float> p(kPageEntries, 1.0f);
  p[5] = 0.0f;
  CheckOnesButOne(1000.0f, p, 1000.0f, 63.0f, 0.1f);
}

// One weight of a page is hundreds of times the others: those still count as
// much as they should.
TEST(AttentionDecodeInt8, SmallWeightsBesideALargeOneCount) {
  std::vector<float> p(kPageEntries, 1.0f / 600);
  p[5] = 1.0f;
  CheckOnesButOne(0.0f, p, 1000.0f, 63.0f / 600, 0.03f);
}

}  // namespace
}  // namespace pyramidkv
