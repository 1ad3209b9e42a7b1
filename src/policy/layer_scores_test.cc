#include "policy/layer_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "policy/select.h"
#include "policy/testing/golden.h"

namespace pyramidkv {
namespace {

CacheSpec Spec(const std::string& text) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

// One layer with its own storage.
class Layer {
 public:
  Layer(int group, int head_dim, std::vector<int> n, int window_rows)
      : n_(std::move(n)) {
    view_.kv_heads = static_cast<int>(n_.size());
    view_.group = group;
    view_.head_dim = head_dim;
    view_.window_rows = window_rows;
    view_.attention_scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    for (int n : n_) {
      k_.emplace_back(n * head_dim);
      v_.emplace_back(n * head_dim);
    }
    q_.resize(window_rows * view_.kv_heads * group * head_dim);
  }

  void Randomise(uint32_t seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    for (auto* all : {&k_, &v_}) {
      for (auto& head : *all) {
        for (float& x : head) x = normal(rng);
      }
    }
    for (float& x : q_) x = 2 * normal(rng);
  }

  const LayerView& view() {
    pointers_k_.clear();
    pointers_v_.clear();
    for (const auto& k : k_) pointers_k_.push_back(k.data());
    for (const auto& v : v_) pointers_v_.push_back(v.data());
    view_.n = n_.data();
    view_.k = pointers_k_.data();
    view_.v = pointers_v_.data();
    view_.window_q = q_.data();
    return view_;
  }

  LayerScores Score(const CacheSpec& spec, int threads = 1) {
    ThreadPool pool(threads);
    return ScoreLayer(spec, view(), n_, &pool);
  }

  // Row r of query head `head`: attention over the entries of KV head h.
  std::vector<double> Row(int h, int g, int r) const {
    const int heads = view_.kv_heads * view_.group;
    const float* q =
        q_.data() + (r * heads + h * view_.group + g) * view_.head_dim;
    return NaiveAttentionRow(q, k_[h].data(), n_[h] - view_.window_rows + r + 1,
                             n_[h], view_.head_dim, view_.attention_scale);
  }

  float NormOfValue(int h, int i) const {
    double sum = 0;
    for (int d = 0; d < view_.head_dim; ++d) {
      const double x = v_[h][i * view_.head_dim + d];
      sum += x * x;
    }
    return static_cast<float>(std::sqrt(sum));
  }

  std::vector<std::vector<float>> k_, v_;
  std::vector<float> q_;

 private:
  std::vector<int> n_;
  std::vector<const float*> pointers_k_, pointers_v_;
  LayerView view_;
};

// Queries A and B share the one KV head of the golden inputs.
Layer GoldenLayer() {
  Layer layer(2, kGoldenDim, {kGoldenTokens}, kGoldenWindow);
  layer.k_[0] = Golden(1);
  const auto a = Golden(2, 2), b = Golden(5, 2);
  layer.q_.clear();
  for (int t = kGoldenPast; t < kGoldenTokens; ++t) {
    for (const auto* q : {&a, &b}) {
      layer.q_.insert(layer.q_.end(), q->begin() + t * kGoldenDim,
                      q->begin() + (t + 1) * kGoldenDim);
    }
  }
  return layer;
}

void ExpectPast(const LayerScores& got, double factor,
                const std::vector<double>& want) {
  ASSERT_EQ(got.score[0].size(), static_cast<size_t>(kGoldenTokens));
  for (int j = 0; j < kGoldenPast; ++j) {
    EXPECT_NEAR(got.score[0][j] * factor, want[j], 2e-6) << "entry " << j;
  }
}

TEST(ScoreLayerGoldenTest, G1G2OneQueryHeadEach) {
  const std::vector<double> sums[2] = {
      {0.210336, 0.206829, 0.253637, 0.401096, 0.510753, 0.453187, 0.207371,
       0.209575, 0.292412, 0.191710, 0.485951, 0.214972},
      {0.334545, 0.276825, 0.234484, 0.201913, 0.340643, 0.272334, 0.311814,
       0.263659, 0.222603, 0.155497, 0.315591, 0.361499}};
  for (int which = 0; which < 2; ++which) {
    Layer layer(1, kGoldenDim, {kGoldenTokens}, kGoldenWindow);
    layer.k_[0] = Golden(1);
    const auto q = Golden(which == 0 ? 2 : 5, 2);
    layer.q_.assign(q.begin() + kGoldenPast * kGoldenDim, q.end());
    // Means over the four rows, where the golden vectors are sums.
    const auto got = layer.Score(Spec("snapkv,keep=1,window=4,kernel=1"));
    ExpectPast(got, 4, sums[which]);
  }
}

TEST(ScoreLayerGoldenTest, G3ThroughTheWindow) {
  Layer layer(1, kGoldenDim, {kGoldenTokens}, kGoldenWindow);
  layer.k_[0] = Golden(1);
  const auto q = Golden(2, 2);
  layer.q_.assign(q.begin() + kGoldenPast * kGoldenDim, q.end());
  const CacheSpec spec = Spec("snapkv,keep=1,window=4");
  const auto got = layer.Score(spec);
  ExpectPast(got, 4,
             {0.134160, 0.214380, 0.316530, 0.365100, 0.365209, 0.356396,
              0.334659, 0.270851, 0.277404, 0.278924, 0.237009, 0.178527});
  EXPECT_THAT(SelectKept(spec, got.score[0], kGoldenTokens, 10),
              testing::ElementsAre(2, 3, 4, 5, 6, 9, 12, 13, 14, 15));
}

TEST(ScoreLayerGoldenTest, G6MeanOfTheGroupThenPool) {
  ExpectPast(
      GoldenLayer().Score(Spec("snapkv,keep=1,window=4,kernel=3,pool=max")), 4,
      {0.272440, 0.272440, 0.301505, 0.425698, 0.425698, 0.425698, 0.362760,
       0.259593, 0.257508, 0.400771, 0.400771, 0.400771});
  ExpectPast(GoldenLayer().Score(
                 Spec("snapkv,keep=1,window=4,kernel=3,pool=max,group=sum")),
             2,
             {0.272440, 0.272440, 0.301505, 0.425698, 0.425698, 0.425698,
              0.362760, 0.259593, 0.257508, 0.400771, 0.400771, 0.400771});
}

TEST(ScoreLayerGoldenTest, G7MaxOfTheGroup) {
  ExpectPast(GoldenLayer().Score(
                 Spec("snapkv,keep=1,window=4,kernel=3,pool=max,group=max")),
             4,
             {0.334545, 0.334545, 0.401096, 0.510753, 0.510753, 0.510753,
              0.453187, 0.311814, 0.292412, 0.485951, 0.485951, 0.485951});
}

// The importance of the original description: the attention of the last query
// weighted with the size of the values.
TEST(ScoreLayerTest, WindowOfOneWithValueNorms) {
  Layer layer(1, 8, {50, 37}, 5);
  layer.Randomise(1);
  const auto got =
      layer.Score(Spec("snapkv,keep=1,window=1,kernel=1,vnorm=v,recent=0"));
  for (int h = 0; h < 2; ++h) {
    const auto last = layer.Row(h, 0, 4);
    ASSERT_EQ(got.score[h].size(), last.size());
    for (size_t j = 0; j < last.size(); ++j) {
      EXPECT_NEAR(got.score[h][j], last[j] * layer.NormOfValue(h, j), 1e-6);
    }
  }
}

TEST(ScoreLayerTest, RaggedHeadsMaxReduceAgainstNaive) {
  const int rows = 7, group = 3;
  Layer layer(group, 16, {90, 23, 64}, rows);
  layer.Randomise(2);
  const CacheSpec spec =
      Spec("snapkv-wide,keep=1,window=5,kernel=9,recent=6,vnorm=v,group=max");
  const auto got = layer.Score(spec);
  for (int h = 0; h < 3; ++h) {
    const int n = static_cast<int>(got.score[h].size());
    std::vector<double> top(n, 0.0), mass(n, 0.0);
    for (int g = 0; g < group; ++g) {
      for (int r = rows - 5; r < rows; ++r) {
        const auto row = layer.Row(h, g, r);
        for (int j = 0; j < n; ++j) {
          top[j] = std::max(top[j], row[j]);
          mass[j] += row[j] / (5 * group);
        }
      }
    }
    for (int j = 0; j < n; ++j) {
      EXPECT_NEAR(got.mass[h][j], mass[j], 1e-6);
      if (j >= n - 6) continue;  // protected
      double sum = 0;
      for (int i = j - 4; i <= j + 4; ++i) {
        // Recent entries are outside the pool, like SnapKV's window.
        if (i >= 0 && i < n - 6) sum += top[i];
      }
      EXPECT_NEAR(got.score[h][j], sum / 9 * layer.NormOfValue(h, j), 1e-5);
    }
  }
}

TEST(ScoreLayerThreadedTest, ThreadsDoNotChangeABit) {
  Layer layer(3, 16, {90, 23, 64}, 6);
  layer.Randomise(4);
  const CacheSpec spec = Spec("snapkv,keep=1,window=6,vnorm=v");
  const auto one = layer.Score(spec, 1), two = layer.Score(spec, 2);
  EXPECT_EQ(one.score, two.score);
  EXPECT_EQ(one.mass, two.mass);
}

TEST(ScoreLayerTest, FewerRowsThanTheWindow) {
  Layer layer(1, 8, {20}, 3);
  layer.Randomise(5);
  const auto got = layer.Score(Spec("snapkv,keep=1,kernel=1,recent=0"));
  for (int j = 0; j < 20; ++j) {
    double mean = 0;
    for (int r = 0; r < 3; ++r) mean += layer.Row(0, 0, r)[j] / 3;
    EXPECT_NEAR(got.score[0][j], mean, 1e-6);
  }
}

TEST(RetainedMassTest, ShareOfWhatIsKept) {
  const float mass[] = {0.5f, 0.25f, 0.125f, 0.125f};
  EXPECT_EQ(RetainedMass(mass, 4, {0, 1, 2, 3}), 1.0);
  EXPECT_EQ(RetainedMass(mass, 4, {0, 3}), 0.625);
  EXPECT_EQ(RetainedMass(mass, 4, {}), 0.0);
  const float none[] = {0, 0};
  EXPECT_EQ(RetainedMass(none, 2, {0}), 1.0);
}

TEST(ScorerNeedsTest, WhatEachScorerAsksFor) {
  EXPECT_EQ(NeedsOf(Spec("full")).window_rows, 0);
  EXPECT_EQ(NeedsOf(Spec("snapkv,keep=0.5")).window_rows, 32);
  EXPECT_EQ(NeedsOf(Spec("snapkv,keep=0.5,window=5")).window_rows, 5);
  // The mass of others is measured over a few rows.
  EXPECT_EQ(NeedsOf(Spec("knorm,keep=0.5")).window_rows, 16);
  EXPECT_TRUE(NeedsOf(Spec("h2o,keep=0.5")).all_rows);
  EXPECT_TRUE(NeedsOf(Spec("h2o,keep=0.5")).gathers);
  EXPECT_FALSE(NeedsOf(Spec("snapkv,keep=0.5")).all_rows);
  EXPECT_TRUE(NeedsOf(Spec("kvzip,keep=0.5")).repetition);
  EXPECT_TRUE(NeedsOf(Spec("expected-attention,keep=0.5")).query_statistics);
  EXPECT_FALSE(NeedsOf(Spec("h2o,keep=0.5,select=recent")).all_rows);
}

// Nothing leaves, so nothing is scored, unless the best are held finer.
TEST(ScorerNeedsTest, KeepOneNeedsNothing) {
  const ScorerNeeds none = NeedsOf(Spec("h2o,keep=1"));
  EXPECT_FALSE(none.all_rows || none.gathers || none.positions);
  EXPECT_EQ(none.window_rows, 0);
  EXPECT_TRUE(NeedsOf(Spec("h2o,keep=1,type=int4,top_type=f16")).all_rows);
}

}  // namespace
}  // namespace pyramidkv
