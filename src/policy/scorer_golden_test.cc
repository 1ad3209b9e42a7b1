// Scores and sets of kvpress and of the golden vectors that come from the
// window's scores (kernels/window_scores.h) and the lengths of keys.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/window_scores.h"
#include "policy/scorers/key_norm.h"
#include "policy/select.h"
#include "policy/testing/golden.h"
#include "policy/testing/small_1layer.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;
using Heads = std::vector<std::vector<float>>;

// Mean attention of the last `rows` queries and of the group.
Heads WindowMeans(const Small1Layer& layer, int rows) {
  const auto q = layer.LastQueries(rows);
  const std::vector<int> n(layer.kv_heads, layer.tokens);
  Heads keys, score;
  std::vector<const float*> k;
  std::vector<float*> out;
  for (int h = 0; h < layer.kv_heads; ++h) {
    keys.push_back(layer.Keys(h));
    score.emplace_back(layer.tokens);
  }
  for (int h = 0; h < layer.kv_heads; ++h) {
    k.push_back(keys[h].data());
    out.push_back(score[h].data());
  }
  WindowScoresArgs args;
  args.kv_heads = layer.kv_heads;
  args.group = layer.group();
  args.head_dim = layer.head_dim;
  args.n = n.data();
  args.rows = rows;
  args.scale = kSmall1LayerScale;
  args.q = q.data();
  args.k = k.data();
  ThreadPool pool(1);
  WindowScores(args, &pool, out.data(), nullptr);
  return score;
}

// Column sums of the attention, each by the number of rows that see it.
Heads MeanOfRowsThatSee(Heads score) {
  for (auto& head : score) {
    const int n = static_cast<int>(head.size());
    for (int j = 0; j < n; ++j) head[j] *= static_cast<float>(n) / (n - j);
  }
  return score;
}

void ExpectSet(const Small1Layer& layer, Small1Layer::Set set,
               const CacheSpec& spec, const Heads& score) {
  for (int h = 0; h < layer.kv_heads; ++h) {
    const auto& want = layer.kept[set][h];
    EXPECT_EQ(
        SelectKept(spec, score[h], layer.tokens, static_cast<int>(want.size())),
        want)
        << "head " << h;
  }
}

void ExpectScore(const Small1Layer& layer, Small1Layer::Score which,
                 const Heads& score, int n, double tolerance) {
  for (int h = 0; h < layer.kv_heads; ++h) {
    for (int j = 0; j < n; ++j) {
      EXPECT_NEAR(score[h][j], layer.score[which][h][j], tolerance)
          << "head " << h << ", entry " << j;
    }
  }
}

TEST(ScorerGoldenTest, KnormOfKvpress) {
  const Small1Layer layer = LoadSmall1Layer();
  Heads score;
  for (int h = 0; h < layer.kv_heads; ++h) {
    score.emplace_back(layer.tokens);
    KeyNormScores(layer.Keys(h), layer.tokens, layer.head_dim, score[h]);
  }
  ExpectScore(layer, Small1Layer::kKnormScore, score, layer.tokens, 1e-5);
  ExpectSet(layer, Small1Layer::kKnorm, CacheSpec{}, score);
}

TEST(ScorerGoldenTest, TovaOfKvpress) {
  const Small1Layer layer = LoadSmall1Layer();
  Heads score = WindowMeans(layer, 1);
  for (int j = 0; j < layer.tokens; ++j) {  // one set for all heads
    double mean = 0;
    for (const auto& head : score) mean += head[j] / layer.kv_heads;
    for (auto& head : score) head[j] = static_cast<float>(mean);
  }
  // The last entry is marked there, and protected here.
  ExpectScore(layer, Small1Layer::kTovaScore, score, layer.tokens - 1, 1e-7);
  CacheSpec spec;
  spec.score.recent = 1;
  ExpectSet(layer, Small1Layer::kTova, spec, score);
}

TEST(ScorerGoldenTest, ObservedAttentionOfKvpress) {
  const Small1Layer layer = LoadSmall1Layer();
  const Heads score = MeanOfRowsThatSee(WindowMeans(layer, layer.tokens));
  ExpectScore(layer, Small1Layer::kObservedScore, score, layer.tokens, 1e-7);
  ExpectSet(layer, Small1Layer::kObserved, CacheSpec{}, score);
}

TEST(ScorerGoldenTest, StreamingOfKvpress) {
  const Small1Layer layer = LoadSmall1Layer();
  CacheSpec spec;
  spec.score.select = SelectKind::kRecent;
  spec.score.sinks = 4;
  ExpectSet(layer, Small1Layer::kStreaming, spec,
            Heads(layer.kv_heads, std::vector<float>()));
}

// The golden inputs as a layer of one head.
Small1Layer GoldenLayer() {
  Small1Layer layer = {};
  layer.query_heads = layer.kv_heads = 1;
  layer.head_dim = kGoldenDim;
  layer.tokens = kGoldenTokens;
  // Scale 1/2 of the vectors, times what WindowMeans scales with.
  layer.q = Golden(2, 2 * 0.5 / kSmall1LayerScale);
  layer.k = Golden(1);
  return layer;
}

TEST(ScorerGoldenTest, G8G9ColumnSums) {
  const std::vector<double> sums = {3.618424, 2.341635, 1.810009, 1.782403,
                                    1.631801, 1.252733, 0.748522, 0.687517,
                                    0.643780, 0.329875, 0.544270, 0.246858,
                                    0.206158, 0.073739, 0.051340, 0.030935};
  const std::vector<double> by_rows = {0.226152, 0.156109, 0.129286, 0.137108,
                                       0.135983, 0.113885, 0.074852, 0.076391,
                                       0.080472, 0.047125, 0.090712, 0.049372,
                                       0.051540, 0.024580, 0.025670, 0.030935};
  const Heads mean = WindowMeans(GoldenLayer(), kGoldenTokens);
  const Heads observed = MeanOfRowsThatSee(mean);
  for (int j = 0; j < kGoldenTokens; ++j) {
    EXPECT_NEAR(mean[0][j] * kGoldenTokens, sums[j], 2e-6);
    EXPECT_NEAR(observed[0][j], by_rows[j], 1e-6);
  }
  EXPECT_THAT(SelectKept(CacheSpec{}, observed[0], kGoldenTokens, 10),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 10));
}

TEST(ScorerGoldenTest, G12LastRow) {
  const std::vector<double> row = {0.126232, 0.114936, 0.027730, 0.025248,
                                   0.029983, 0.027300, 0.122348, 0.111399,
                                   0.026876, 0.024471, 0.029060, 0.130239,
                                   0.118584, 0.028610, 0.026049, 0.030935};
  const Heads score = WindowMeans(GoldenLayer(), 1);
  for (int j = 0; j < kGoldenTokens; ++j) {
    EXPECT_NEAR(score[0][j], row[j], 1e-6);
  }
  EXPECT_THAT(SelectKept(CacheSpec{}, score[0], kGoldenTokens, 8),
              ElementsAre(0, 1, 4, 6, 7, 11, 12, 15));
}

// H2O: column sums of the rows so far, of the entries still held; after each
// step the best three and the last three stay.
TEST(ScorerGoldenTest, G10HeavyHitters) {
  const auto q = Golden(2, 2), k = Golden(1);
  CacheSpec spec;
  spec.score.recent = 3;
  std::vector<int> held;
  std::vector<float> sum;
  for (int t = 0; t < kGoldenTokens; ++t) {
    held.push_back(t);
    sum.push_back(0);
    std::vector<float> keys;
    for (int j : held) {
      keys.insert(keys.end(), k.begin() + j * kGoldenDim,
                  k.begin() + (j + 1) * kGoldenDim);
    }
    const int n = static_cast<int>(held.size());
    const auto row = NaiveAttentionRow(q.data() + t * kGoldenDim, keys.data(),
                                       n, n, kGoldenDim, 0.5);
    for (int j = 0; j < n; ++j) sum[j] += static_cast<float>(row[j]);
    if (t < 7) continue;  // a prompt of eight
    const auto kept = SelectKept(spec, sum, n, 6);
    for (int i = 0; i < 6; ++i) {
      held[i] = held[kept[i]];
      sum[i] = sum[kept[i]];
    }
    held.resize(6);
    sum.resize(6);
    EXPECT_THAT(held, ElementsAre(0, 1, 2, t - 2, t - 1, t));
  }
  const double want[] = {4.113085, 2.865063, 2.487335,
                         0.230079, 0.185041, 0.065390};
  for (int j = 0; j < 6; ++j) EXPECT_NEAR(sum[j], want[j], 2e-6);
}

}  // namespace
}  // namespace pyramidkv
