// Quantised entries that share one scale (HeadFormat::tensor_scales).

#include <algorithm>
#include <cmath>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/kv_quant.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 64;
constexpr int kEntries = 200;

class TensorScales : public testing::TestWithParam<Codec> {
 protected:
  // No entry of a cache like this is held finer.
  KvCache Cache() {
    const Codec codec = GetParam();
    HeadFormat format = {{kDim, codec, codec}, codec};
    format.tensor_scales = true;
    return KvCache(&pool_, {1, 1, format});
  }
  void Append(int from, int count, KvCache* cache) const {
    ASSERT_TRUE(cache
                    ->Append(0, 0, from, count, &k_[size_t(from) * kDim],
                             &v_[size_t(from) * kDim], kDim)
                    .ok());
  }
  // Entry i of K, rotated.
  std::vector<float> Rotated(const std::vector<float>& rows, int i) const {
    std::vector<float> row(rows.begin() + size_t(i) * kDim,
                           rows.begin() + size_t(i + 1) * kDim);
    RotateChannels(kDim, row.data());
    return row;
  }

  PagePool pool_;
  std::vector<float> k_ = RandomFloats(size_t{kEntries} * kDim, 1);
  std::vector<float> v_ = RandomFloats(size_t{kEntries} * kDim, 2, 3.0f);
};

// Every value is within half a step of itself, and a whole number of steps
// away from zero: the step being the largest value over the largest code.
TEST_P(TensorScales, AllValuesAreStepsOfOneSize) {
  KvCache cache = Cache();
  Append(0, kEntries, &cache);
  std::vector<float> k(k_.size()), v(v_.size());
  cache.Decode(0, 0, k.data(), v.data());
  const auto scales = cache.head(0, 0).Export().tensor_scales;
  const float codes = GetParam() == Codec::kInt8 ? 127 : 7;
  for (const bool is_k : {true, false}) {
    const auto& from = is_k ? k_ : v_;
    float largest = 0;
    for (int i = 0; i < kEntries; ++i) {
      for (float x : Rotated(from, i)) {
        largest = std::max(largest, std::fabs(x));
      }
    }
    const float step = scales[is_k ? 0 : 1];
    EXPECT_NEAR(step, largest / codes, 1e-3f * step);
    for (int i = 0; i < kEntries; ++i) {
      const auto want = Rotated(from, i);
      const auto got = Rotated(is_k ? k : v, i);
      for (int c = 0; c < kDim; ++c) {
        ASSERT_NEAR(got[c], want[c], 0.51f * step);
        ASSERT_NEAR(got[c] / step, std::round(got[c] / step), 1e-2f);
      }
    }
  }
}

// While there were few tokens, larger values make the scale larger, and what is
// there gets new codes.
TEST_P(TensorScales, AFewFirstEntriesDoNotDecide) {
  for (size_t i = 0; i < size_t{12} * kDim; ++i) k_[i] *= 0.1f;
  KvCache grown = Cache(), whole = Cache();
  Append(0, 1, &grown);
  Append(1, 11, &grown);
  const float small = grown.head(0, 0).Export().tensor_scales[0];
  KvCache fork = grown.Fork();
  Append(12, kEntries - 12, &grown);
  Append(0, kEntries, &whole);
  EXPECT_EQ(grown.head(0, 0).Export().tensor_scales,
            whole.head(0, 0).Export().tensor_scales);
  const float step = grown.head(0, 0).Export().tensor_scales[0];
  EXPECT_GT(step, 3 * small);
  std::vector<float> k(k_.size());
  grown.Decode(0, 0, k.data(), nullptr);
  for (int i = 0; i < kEntries; ++i) {
    const auto want = Rotated(k_, i), got = Rotated(k, i);
    for (int c = 0; c < kDim; ++c) {
      // Those that were coded before had been rounded twice.
      const float bound = 0.51f * step + (i < 12 ? 1.02f * small : 0);
      ASSERT_NEAR(got[c], want[c], bound) << i;
    }
  }
  EXPECT_EQ(fork.head(0, 0).Export().tensor_scales[0], small);
}

// The first call decides; what is larger later is cut off, and no code that is
// there changes.
TEST_P(TensorScales, LaterEntriesDoNotChangeIt) {
  for (size_t i = size_t{100} * kDim; i < k_.size(); ++i) k_[i] *= 10;
  KvCache cache = Cache();
  Append(0, 100, &cache);
  const auto before = cache.head(0, 0).Export().tensor_scales;
  std::vector<float> k(size_t{100} * kDim), all(k_.size());
  cache.Decode(0, 0, k.data(), nullptr);
  Append(100, 100, &cache);
  EXPECT_EQ(cache.head(0, 0).Export().tensor_scales, before);
  cache.Decode(0, 0, all.data(), nullptr);
  EXPECT_TRUE(std::equal(k.begin(), k.end(), all.begin()));
  const float reach =
      before[0] * (GetParam() == Codec::kInt8 ? 128.01f : 8.01f);
  for (int i = 100; i < kEntries; ++i) {
    for (float x : Rotated(all, i)) EXPECT_LE(std::fabs(x), reach);
  }
}

TEST_P(TensorScales, ZerosStayZeros) {
  std::fill(k_.begin(), k_.end(), 0.0f);
  KvCache cache = Cache();
  Append(0, 10, &cache);
  std::vector<float> k(size_t{10} * kDim, 1.0f);
  cache.Decode(0, 0, k.data(), nullptr);
  for (float x : k) EXPECT_EQ(x, 0);
}

INSTANTIATE_TEST_SUITE_P(Codecs, TensorScales,
                         testing::Values(Codec::kInt8, Codec::kInt4));

}  // namespace
}  // namespace pyramidkv
