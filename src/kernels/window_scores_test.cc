#include "kernels/window_scores.h"

#include <numeric>
#include <vector>

#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

using Group = WindowScoresArgs::Group;

struct Case {
  int kv_heads, group, head_dim, rows;
  std::vector<int> n;  // [kv_heads]
};

const Case kCases[] = {
    {1, 1, 8, 1, {1}},         {3, 3, 64, 16, {16, 17, 100}},
    {2, 2, 16, 5, {300, 5}},   {1, 4, 128, 32, {129}},
    {2, 1, 80, 33, {64, 200}},
};

// Weights of entries: all the same; by biases; by biases of all but head 0.
enum class Bias { kNone, kAll, kNotFirst };

struct Scores {
  Scores(const Case& c, bool max_rows, Group group_reduce, bool oracle,
         Bias weigh = Bias::kNone) {
    WindowScoresArgs a;
    a.kv_heads = c.kv_heads;
    a.group = c.group;
    a.head_dim = c.head_dim;
    a.n = c.n.data();
    a.rows = c.rows;
    a.scale = 0.25f;
    a.max_rows = max_rows;
    a.group_reduce = group_reduce;
    const auto q =
        RandomFloats(size_t(c.rows) * c.kv_heads * c.group * c.head_dim, 1);
    a.q = q.data();
    std::vector<std::vector<float>> keys, biases;
    std::vector<const float*> k, bias;
    std::vector<float*> s, m;
    for (int h = 0; h < c.kv_heads; ++h) {
      keys.push_back(RandomFloats(size_t(c.n[h]) * c.head_dim, 2 + h));
      biases.push_back(RandomFloats(c.n[h], 20 + h, 2.0f));
      score.emplace_back(c.n[h]);
      mass.emplace_back(c.n[h]);
    }
    for (int h = 0; h < c.kv_heads; ++h) {
      k.push_back(keys[h].data());
      bias.push_back(h == 0 && weigh == Bias::kNotFirst ? nullptr
                                                        : biases[h].data());
      s.push_back(score[h].data());
      m.push_back(mass[h].data());
    }
    a.k = k.data();
    a.bias = weigh != Bias::kNone ? bias.data() : nullptr;
    if (oracle) {
      reference::WindowScores(a, s.data(), m.data());
    } else {
      ThreadPool pool(2);
      WindowScores(a, &pool, s.data(), m.data());
    }
  }
  std::vector<std::vector<float>> score, mass;
};

void Check(const Case& c, bool max_rows, Group group, Bias bias) {
  const Scores got(c, max_rows, group, false, bias);
  const Scores want(c, max_rows, group, true, bias);
  for (int h = 0; h < c.kv_heads; ++h) {
    ExpectNear(got.score[h], want.score[h], 2e-6f);
    ExpectNear(got.mass[h], want.mass[h], 2e-6f);
  }
}

TEST(WindowScores, MatchesOracle) {
  ForAllTargets([] {
    for (const Case& c : kCases) {
      for (bool max_rows : {false, true}) {
        for (Group g : {Group::kMean, Group::kMax, Group::kSum}) {
          Check(c, max_rows, g, Bias::kNone);
        }
      }
    }
  });
}

TEST(WindowScores, MatchesOracleWithBiases) {
  ForAllTargets([] {
    for (const Case& c : kCases) {
      Check(c, false, Group::kMean, Bias::kAll);
      Check(c, true, Group::kMax, Bias::kNotFirst);
    }
  });
}

TEST(WindowScores, MassSumsToOne) {
  for (const Case& c : kCases) {
    const Scores run(c, true, Group::kMax, false);
    for (const auto& mass : run.mass) {
      EXPECT_NEAR(std::accumulate(mass.begin(), mass.end(), 0.0), 1.0, 1e-5);
    }
  }
}

}  // namespace
}  // namespace pyramidkv
