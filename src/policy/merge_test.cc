#include "policy/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "kernels/rope.h"
#include "kernels/scalar_reference.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr MergeRule kRules[] = {MergeRule::kMean, MergeRule::kAttention,
                                MergeRule::kCosine};

// Entries of a head with their own storage.
struct Entries {
  Entries(int n, int head_dim, uint32_t seed) : dim(head_dim) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < n; ++i) {
      for (int c = 0; c < dim; ++c) {
        k.push_back(normal(random));
        v.push_back(normal(random));
      }
      position.push_back(3 * i + static_cast<int>(random() % 3));
      score.push_back(std::exp(2 * normal(random)));
      count.push_back(1 + static_cast<int>(random() % 4));
    }
  }
  int n() const { return static_cast<int>(position.size()); }

  // The args refer to this.
  MergeArgs Args(int clusters, MergeRule rule) const {
    MergeArgs args;
    args.n = n();
    args.head_dim = dim;
    args.k = k.data();
    args.v = v.data();
    args.position = position;
    args.score = score;
    args.count = count;
    args.bias = bias;
    args.clusters = clusters;
    args.rule = rule;
    args.cosine = 0.1f;
    args.seed = 5;
    return args;
  }

  Entries Permuted(const std::vector<int>& order) const {
    Entries out(0, dim, 0);
    for (int i : order) {
      out.k.insert(out.k.end(), k.begin() + i * dim, k.begin() + (i + 1) * dim);
      out.v.insert(out.v.end(), v.begin() + i * dim, v.begin() + (i + 1) * dim);
      out.position.push_back(position[i]);
      out.score.push_back(score[i]);
      out.count.push_back(count[i]);
      if (!bias.empty()) out.bias.push_back(bias[i]);
    }
    return out;
  }

  int dim;
  std::vector<float> k, v;
  std::vector<int32_t> position;
  std::vector<float> score;
  std::vector<int> count;
  std::vector<float> bias;  // empty: from the counts
};

// n times the same entry at different positions.
Entries Copies(int n, int dim, uint32_t seed) {
  Entries e(n, dim, seed);
  for (int i = dim; i < n * dim; ++i) {
    e.k[i] = e.k[i - dim];
    e.v[i] = e.v[i - dim];
  }
  e.count.assign(n, 1);
  e.score.assign(n, 0.25f);
  return e;
}

MergedEntries Merge(const Entries& e, int clusters, MergeRule rule) {
  return MergeEvicted(e.Args(clusters, rule), nullptr);
}

void ExpectEqual(const MergedEntries& a, const MergedEntries& b) {
  EXPECT_EQ(a.position, b.position);
  EXPECT_EQ(a.k, b.k);
  EXPECT_EQ(a.v, b.v);
  EXPECT_EQ(a.count, b.count);
  EXPECT_EQ(a.bias, b.bias);
}

std::vector<float> LogCounts(const Entries& e) {
  std::vector<float> bias;
  for (int count : e.count) bias.push_back(std::log(static_cast<float>(count)));
  return bias;
}

// Attention of q over rows with biases, in double.
std::vector<float> Attend(const std::vector<float>& q,
                          const std::vector<float>& k,
                          const std::vector<float>& v,
                          const std::vector<float>& bias) {
  std::vector<float> out(q.size());
  const int dim = static_cast<int>(q.size());
  reference::Attend(q.data(), k.data(), v.data(), 0,
                    static_cast<int>(bias.size()), dim, 1, bias.data(),
                    out.data());
  return out;
}

std::vector<float> RandomQuery(int dim, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> q(dim);
  for (float& x : q) x = normal(random);
  return q;
}

double Logit(const std::vector<float>& q, const float* k) {
  return std::inner_product(q.begin(), q.end(), k, 0.0);
}

double LargestDifference(const std::vector<float>& a,
                         const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(double{a[i]} - b[i]));
  }
  return largest;
}

TEST(MergeTest, OrderOfTheInputDoesNotMatter) {
  std::mt19937 random(3);
  for (MergeRule rule : kRules) {
    for (int clusters : {1, 9, 60}) {
      const Entries e(211, 16, 1);
      std::vector<int> order(e.n());
      std::iota(order.begin(), order.end(), 0);
      std::shuffle(order.begin(), order.end(), random);
      ExpectEqual(Merge(e, clusters, rule),
                  Merge(e.Permuted(order), clusters, rule));
    }
  }
}

TEST(MergeThreadedTest, ThreadsDoNotChangeABit) {
  const Entries e(700, 16, 2);
  ThreadPool pool(2);
  for (MergeRule rule : kRules) {
    ExpectEqual(Merge(e, 40, rule), MergeEvicted(e.Args(40, rule), &pool));
  }
}

TEST(MergeTest, EqualEntriesBecomeThatEntry) {
  for (MergeRule rule : kRules) {
    for (int n : {2, 3, 7, 300}) {
      Entries e = Copies(n, 12, n);
      MergeArgs args = e.Args(n / 2, rule);
      args.cosine = 1;  // equal keys pass the strictest test
      const MergedEntries out = MergeEvicted(args, nullptr);
      ASSERT_EQ(out.size(), 1);
      EXPECT_EQ(out.k, std::vector<float>(e.k.begin(), e.k.begin() + 12));
      EXPECT_EQ(out.v, std::vector<float>(e.v.begin(), e.v.begin() + 12));
      EXPECT_EQ(out.count[0], n);
      EXPECT_FLOAT_EQ(out.bias[0], std::log(static_cast<float>(n)));
    }
  }
}

// Whatever else the query sees, for every query.
TEST(MergeTest, EqualEntriesLeaveAttentionUnchanged) {
  for (int n : {2, 7, 300}) {
    const Entries e = Copies(n, 12, n);
    const MergedEntries out = Merge(e, 1, MergeRule::kMean);
    const Entries others(20, 12, 77);
    std::vector<float> k = others.k, v = others.v, bias(20, 0.0f);
    std::vector<float> merged_k = k, merged_v = v, merged_bias = bias;
    k.insert(k.end(), e.k.begin(), e.k.end());
    v.insert(v.end(), e.v.begin(), e.v.end());
    bias.resize(20 + n, 0.0f);
    merged_k.insert(merged_k.end(), out.k.begin(), out.k.end());
    merged_v.insert(merged_v.end(), out.v.begin(), out.v.end());
    merged_bias.push_back(out.bias[0]);
    for (uint32_t seed : {1, 2, 3}) {
      const auto q = RandomQuery(12, seed, 0.2f);
      const auto want = Attend(q, k, v, bias);
      EXPECT_LT(
          LargestDifference(Attend(q, merged_k, merged_v, merged_bias), want),
          1e-5);
      merged_bias.back() = 0;  // without it the law does not hold
      EXPECT_GT(
          LargestDifference(Attend(q, merged_k, merged_v, merged_bias), want),
          1e-3);
      merged_bias.back() = out.bias[0];
    }
  }
}

// The law of rule attention: the query whose attention the scores are gets
// the same output, from entries that were merged before too.
TEST(MergeTest, ScoresOfAQueryKeepItsOutput) {
  for (int clusters : {1, 8, 30}) {
    for (bool explicit_bias : {false, true}) {
      Entries e(90, 12, clusters);
      auto bias = LogCounts(e);
      if (explicit_bias) {
        for (int i = 0; i < e.n(); ++i) bias[i] *= 0.125f * (i % 9);
        e.bias = bias;
      }
      const auto q = RandomQuery(12, 40, 0.7f);
      for (int i = 0; i < e.n(); ++i) {
        // Any constant factor is all right.
        e.score[i] = static_cast<float>(
            0.01 * std::exp(Logit(q, e.k.data() + i * 12) + bias[i]));
      }
      const auto want = Attend(q, e.k, e.v, bias);
      const MergedEntries out = Merge(e, clusters, MergeRule::kAttention);
      EXPECT_LT(LargestDifference(Attend(q, out.k, out.v, out.bias), want),
                1e-5);
      const MergedEntries mean = Merge(e, clusters, MergeRule::kMean);
      EXPECT_GT(LargestDifference(Attend(q, mean.k, mean.v, mean.bias), want),
                1e-2);
    }
  }
}

TEST(MergeTest, NeverTakesMoreAttentionThanItsMembers) {
  const Entries e(50, 8, 9);
  const auto bias = LogCounts(e);
  for (MergeRule rule : {MergeRule::kMean, MergeRule::kAttention}) {
    const MergedEntries out = Merge(e, 1, rule);
    for (uint32_t seed = 0; seed < 50; ++seed) {
      const auto q = RandomQuery(8, seed, 1);
      double mass = 0;
      for (int i = 0; i < e.n(); ++i) {
        mass += std::exp(Logit(q, e.k.data() + i * 8) + bias[i]);
      }
      EXPECT_LE(Logit(q, out.k.data()) + out.bias[0], std::log(mass) + 1e-5);
    }
  }
}

TEST(MergeTest, CountsAddUp) {
  for (MergeRule rule : {MergeRule::kMean, MergeRule::kAttention}) {
    for (int n : {1, 2, 30, 211}) {
      const Entries e(n, 8, n);
      const int tokens = std::accumulate(e.count.begin(), e.count.end(), 0);
      for (int clusters : {1, 5, 29, 500}) {
        const MergedEntries out = Merge(e, clusters, rule);
        EXPECT_EQ(out.size(), std::min(n, clusters));
        EXPECT_EQ(std::accumulate(out.count.begin(), out.count.end(), 0),
                  tokens);
      }
    }
  }
}

TEST(MergeTest, KeysAndValuesStayPaired) {
  for (MergeRule rule : kRules) {
    Entries e(211, 16, 4);
    e.v = e.k;
    const MergedEntries out = Merge(e, 20, rule);
    EXPECT_EQ(out.k, out.v);
    EXPECT_GT(out.size(), 0);
  }
}

TEST(MergeTest, EnoughClustersChangeNothing) {
  for (MergeRule rule : kRules) {
    const Entries sorted(40, 8, 6);
    std::vector<int> order(40);
    std::iota(order.rbegin(), order.rend(), 0);
    for (int clusters : {40, 41, 1000}) {
      Entries e = sorted.Permuted(order);
      MergedEntries out = Merge(e, clusters, rule);
      EXPECT_EQ(out.position, sorted.position);
      EXPECT_EQ(out.k, sorted.k);
      EXPECT_EQ(out.v, sorted.v);
      EXPECT_EQ(out.count, sorted.count);
      EXPECT_EQ(out.bias, LogCounts(sorted));
      e.count.clear();
      out = Merge(e, clusters, rule);
      EXPECT_EQ(out.count, std::vector<int>(40, 1));
      EXPECT_EQ(out.bias, std::vector<float>(40, 0.0f));
      e.bias.assign(40, 1.5f);
      EXPECT_EQ(Merge(e, clusters, rule).bias, e.bias);
    }
  }
}

TEST(MergeTest, MergingInTwoStepsIsMergingAtOnce) {
  Entries e(120, 8, 7);
  const MergedEntries once = Merge(e, 1, MergeRule::kMean);
  const MergedEntries first = Merge(e, 15, MergeRule::kMean);
  ASSERT_EQ(first.size(), 15);
  MergeArgs args;
  args.n = first.size();
  args.head_dim = 8;
  args.k = first.k.data();
  args.v = first.v.data();
  args.position = first.position;
  args.count = first.count;
  args.clusters = 1;
  for (bool explicit_bias : {false, true}) {
    if (explicit_bias) args.bias = first.bias;
    const MergedEntries twice = MergeEvicted(args, nullptr);
    EXPECT_LT(LargestDifference(twice.k, once.k), 1e-6);
    EXPECT_LT(LargestDifference(twice.v, once.v), 1e-6);
    EXPECT_EQ(twice.count, once.count);
    EXPECT_NEAR(twice.bias[0], once.bias[0], 1e-6);
  }
}

TEST(MergeTest, MeanIsWeightedByTokens) {
  Entries e(3, 1, 0);
  e.k = {1, 2, 7};
  e.v = {10, 20, 70};
  e.count = {1, 4, 3};
  const MergedEntries out = Merge(e, 1, MergeRule::kMean);
  EXPECT_THAT(out.k, ElementsAre(30.0f / 8));
  EXPECT_THAT(out.v, ElementsAre(300.0f / 8));
  EXPECT_THAT(out.count, ElementsAre(8));
  EXPECT_FLOAT_EQ(out.bias[0], std::log(8.0f));
}

TEST(MergeTest, AttentionIsWeightedByScores) {
  Entries e(3, 1, 0);
  e.k = {1, 2, 7};
  e.v = {10, 20, 70};
  e.count = {1, 1, 1};
  e.score = {0.5f, 0.25f, 0.25f};
  MergedEntries out = Merge(e, 1, MergeRule::kAttention);
  EXPECT_THAT(out.k, ElementsAre(2.75f));
  EXPECT_THAT(out.v, ElementsAre(27.5f));
  EXPECT_FLOAT_EQ(out.bias[0], 1.5f * std::log(2.0f));  // the entropy
  e.score = {0, 0, 3};                                  // one member has it all
  out = Merge(e, 1, MergeRule::kAttention);
  EXPECT_THAT(out.k, ElementsAre(7));
  EXPECT_THAT(out.bias, ElementsAre(0));
  EXPECT_THAT(out.count, ElementsAre(3));
  EXPECT_THAT(out.position, ElementsAre(e.position[2]));
}

TEST(MergeTest, WithoutUsableScoresAttentionIsMean) {
  Entries e(80, 8, 8);
  const MergedEntries mean = Merge(e, 10, MergeRule::kMean);
  for (float score : {0.0f, -1.0f, kNan, HUGE_VALF}) {
    e.score.assign(80, score);
    ExpectEqual(Merge(e, 10, MergeRule::kAttention), mean);
  }
  e.score.clear();
  ExpectEqual(Merge(e, 10, MergeRule::kAttention), mean);
}

TEST(MergeTest, CosineDropsWhatPointsElsewhere) {
  Entries e(4, 2, 0);
  e.k = {10, 0, 10, 1, 10, -1, -1, 3};
  e.v = {1, 1, 2, 2, 6, 6, 100, 100};
  e.count = {1, 2, 1, 5};
  MergeArgs args = e.Args(1, MergeRule::kCosine);
  args.cosine = 0.9f;
  const MergedEntries out = MergeEvicted(args, nullptr);
  ASSERT_EQ(out.size(), 1);
  EXPECT_THAT(out.k, ElementsAre(10, 0.25f));
  EXPECT_THAT(out.v, ElementsAre(2.75f, 2.75f));
  EXPECT_THAT(out.count, ElementsAre(4));
  EXPECT_FLOAT_EQ(out.bias[0], std::log(4.0f));
  args.cosine = -1;
  ExpectEqual(MergeEvicted(args, nullptr), Merge(e, 1, MergeRule::kMean));
}

TEST(MergeTest, CosineMayLeaveNothing) {
  Entries e(2, 2, 0);
  e.k = {1, 0, -1, 0};
  EXPECT_EQ(Merge(e, 1, MergeRule::kCosine).size(), 0);
  e.k = {0, 0, 0, 0};
  EXPECT_EQ(Merge(e, 1, MergeRule::kCosine).size(), 1);
}

TEST(MergeTest, PositionsAreMembersAscendingAndUnique) {
  for (MergeRule rule : kRules) {
    const Entries e(300, 4, 10);
    const std::set<int> members(e.position.begin(), e.position.end());
    for (int clusters : {3, 50, 299}) {
      const MergedEntries out = Merge(e, clusters, rule);
      EXPECT_TRUE(std::is_sorted(out.position.begin(), out.position.end()));
      const std::set<int> unique(out.position.begin(), out.position.end());
      EXPECT_EQ(unique.size(), out.position.size());
      for (int p : out.position) EXPECT_TRUE(members.contains(p));
    }
  }
}

TEST(MergeTest, PositionIsNearestToTheMean) {
  Entries e = Copies(3, 4, 1);
  e.position = {100, 10, 20};
  EXPECT_THAT(Merge(e, 1, MergeRule::kMean).position, ElementsAre(20));
  e.count = {8, 1, 1};  // the mean is 83
  EXPECT_THAT(Merge(e, 1, MergeRule::kMean).position, ElementsAre(100));
  e = Copies(2, 4, 1);
  e.position = {20, 10};  // a tie
  EXPECT_THAT(Merge(e, 1, MergeRule::kMean).position, ElementsAre(10));
}

TEST(MergeTest, NothingInOrNothingAskedFor) {
  EXPECT_EQ(Merge(Entries(0, 4, 0), 5, MergeRule::kMean).size(), 0);
  EXPECT_EQ(Merge(Entries(9, 4, 0), 0, MergeRule::kMean).size(), 0);
}

TEST(MergeTest, NansStayApart) {
  Entries e(60, 4, 11);
  e.k[5 * 4 + 1] = kNan;
  e.k[40 * 4] = kNan;
  const MergedEntries out = Merge(e, 7, MergeRule::kMean);
  ASSERT_EQ(out.size(), 7);
  int with_nan = 0;
  for (int i = 0; i < 7; ++i) {
    with_nan += std::any_of(out.k.begin() + i * 4, out.k.begin() + i * 4 + 4,
                            [](float x) { return std::isnan(x); });
  }
  EXPECT_EQ(with_nan, 1);
  EXPECT_TRUE(std::none_of(out.v.begin(), out.v.end(),
                           [](float x) { return std::isnan(x); }));
}

std::vector<float> Frequencies(int pairs, double base) {
  std::vector<float> inv_freq;
  for (int i = 0; i < pairs; ++i) {
    inv_freq.push_back(
        static_cast<float>(std::pow(base, -double{1} * i / pairs)));
  }
  return inv_freq;
}

TEST(RotateKeysTest, EqualsTheRotationOfTheModel) {
  for (bool neox : {false, true}) {
    for (int pairs : {0, 3, 8}) {  // of 16 channels
      const auto inv_freq = Frequencies(pairs, 1e4);
      const std::vector<int32_t> positions = {0, 1, 63, 64, 65, 1000, 99999, 7};
      const Entries e(8, 16, 12);
      std::vector<float> want = e.k, table(2 * pairs);
      for (int i = 0; i < 8; ++i) {
        RopeTable(inv_freq.data(), pairs, positions[i], 1, table.data());
        ApplyRope(table.data(), pairs, neox, 1, 16, want.data() + i * 16);
      }
      std::vector<float> got = e.k;
      RotateKeys({inv_freq, neox}, 16, positions, got.data());
      EXPECT_LT(LargestDifference(got, want), 1e-6);
      UnrotateKeys({inv_freq, neox}, 16, positions, got.data());
      EXPECT_LT(LargestDifference(got, e.k), 2e-6);
    }
  }
}

TEST(RotateKeysTest, Golden) {
  const auto inv_freq = Frequencies(2, 1e4);
  std::vector<float> k = {1, 2, 3, 4, 1, 2, 3, 4};
  const std::vector<float> want = {3.160435f,  1.797584f,  -0.107938f,
                                   4.094959f,  -3.144039f, 1.919605f,
                                   -0.339143f, 4.039197f};
  const std::vector<int32_t> positions = {5, 2};
  RotateKeys({inv_freq, true}, 4, positions, k.data());
  EXPECT_LT(LargestDifference(k, want), 1e-6);
}

// YaRN scales cosines and sines: the factor stays in the key once.
TEST(RotateKeysTest, MagnitudeIsNotAppliedAgain) {
  const auto inv_freq = Frequencies(4, 1e4);
  const Entries e(1, 8, 13);
  std::vector<float> k = e.k, table(8), want = e.k;
  for (float& x : want) x *= 1.3f;
  RopeTable(inv_freq.data(), 4, 500, 1.3f, table.data());
  ApplyRope(table.data(), 4, false, 1, 8, k.data());
  const auto rotated = k;
  const std::vector<int32_t> positions = {500};
  UnrotateKeys({inv_freq, false}, 8, positions, k.data());
  EXPECT_LT(LargestDifference(k, want), 2e-6);
  RotateKeys({inv_freq, false}, 8, positions, k.data());
  EXPECT_LT(LargestDifference(k, rotated), 2e-6);
}

// Why keys are merged at equal rotation: equal keys at distant positions merge
// into that key at full length; as the cache holds them they would not.
TEST(RotateKeysTest, MergedKeysKeepTheirLength) {
  const auto inv_freq = Frequencies(6, 1e4);
  const Rotation rotation{inv_freq, false};
  Entries e = Copies(5, 12, 14);
  e.position = {3, 40, 500, 777, 1200};
  const std::vector<float> key(e.k.begin(), e.k.begin() + 12);
  RotateKeys(rotation, 12, e.position, e.k.data());
  const auto length = [](const std::vector<float>& x) {
    return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
  };
  EXPECT_LT(length(Merge(e, 1, MergeRule::kMean).k), 0.9 * length(key));
  UnrotateKeys(rotation, 12, e.position, e.k.data());
  const MergedEntries out = Merge(e, 1, MergeRule::kMean);
  ASSERT_EQ(out.size(), 1);
  EXPECT_LT(LargestDifference(out.k, key), 2e-6);
}

}  // namespace
}  // namespace pyramidkv
