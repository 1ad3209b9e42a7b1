#include "kernels/sign_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/kv_codec.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

struct Problem {
  Problem(int head_dim, int entries, int queries)
      : head_dim(head_dim),
        entries(entries),
        queries(queries),
        k(RandomFloats(size_t(entries) * head_dim, 1)),
        q(RandomFloats(size_t(queries) * head_dim, 2)),
        groups((entries + kSignGroup - 1) / kSignGroup *
               SignGroupBytes(head_dim)),
        tables(queries * SignTableBytes(head_dim)),
        steps(queries) {
    for (int e = 0; e < blocks() * kSignBlock; ++e) {
      std::byte* group =
          groups.data() + e / kSignGroup * SignGroupBytes(head_dim);
      const int slot = e % kSignGroup;
      if (e < entries) {
        StoreSigns(k.data() + size_t(e) * head_dim, head_dim, slot, group);
      } else {
        CopySigns(head_dim, slot / kSignBlock * kSignBlock, slot, group);
      }
    }
    for (int r = 0; r < queries; ++r) {
      steps[r] = SignTables(q.data() + size_t(r) * head_dim, head_dim,
                            tables.data() + r * SignTableBytes(head_dim));
    }
  }

  int blocks() const { return (entries + kSignBlock - 1) / kSignBlock; }

  std::vector<float> Scores() const {
    std::vector<float> best(size_t(queries) * blocks());
    SignScores({head_dim, groups.data(), blocks(), tables.data(), steps.data(),
                queries},
               best.data());
    return best;
  }

  // The definition over entry e, in double precision. rounding: of q.
  double Estimate(int r, int e, bool rounding) const {
    double sum = 0, mean = 0;
    for (int c = 0; c < head_dim; ++c) {
      const double key = k[size_t(e) * head_dim + c];
      double value = q[size_t(r) * head_dim + c];
      if (rounding) value = std::round(value / steps[r]) * steps[r];
      sum += key < 0 ? -value : value;
      mean += std::fabs(key) / head_dim;
    }
    return sum * F32FromF16(F16FromF32(static_cast<float>(mean)));
  }

  std::vector<float> Oracle(bool rounding) const {
    std::vector<float> best(size_t(queries) * blocks(),
                            std::numeric_limits<float>::lowest());
    for (int r = 0; r < queries; ++r) {
      for (int e = 0; e < entries; ++e) {
        float& most = best[size_t(r) * blocks() + e / kSignBlock];
        most = std::max(most, static_cast<float>(Estimate(r, e, rounding)));
      }
    }
    return best;
  }

  int head_dim, entries, queries;
  std::vector<float> k, q;
  std::vector<std::byte> groups;
  std::vector<uint8_t> tables;
  std::vector<float> steps;
};

TEST(SignScores, MatchesOracle) {
  ForAllTargets([] {
    for (int head_dim : {8, 64, 80, 96, 128, 256}) {
      for (int entries : {1, 15, 16, 17, 63, 64, 65, 200}) {
        for (int queries : {1, 2, 3, 4, 5, 9}) {
          const Problem p(head_dim, entries, queries);
          // Sums are exact; what is left is the rounding of scales that lie
          // between two halves, and of the products.
          ExpectNear(p.Scores(), p.Oracle(true),
                     1e-3f * std::sqrt(static_cast<float>(head_dim)) * 3);
        }
      }
    }
  });
}

// A channel of q is off by at most half a step.
TEST(SignScores, RoundingOfTheQueryIsBounded) {
  for (int head_dim : {8, 64, 256}) {
    const Problem p(head_dim, 500, 3);
    const auto got = p.Scores(), want = p.Oracle(false);
    const float step = *std::max_element(p.steps.begin(), p.steps.end());
    ExpectNear(got, want, 1.5f * step / 2 * head_dim);
    // And in the mean far less: errors of many channels cancel.
    double square = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      square += (got[i] - want[i]) * (got[i] - want[i]);
    }
    EXPECT_LT(std::sqrt(square / double(got.size())),
              step * std::sqrt(head_dim / 12.0) * 1.2);
  }
}

// Integers, and one fixed product: any width gives the same.
TEST(SignScores, EqualBitsOnEveryTarget) {
  const Problem p(80, 333, 3);
  const std::vector<float> first = p.Scores();
  ForAllTargets([&] { EXPECT_EQ(p.Scores(), first); });
}

TEST(SignScores, ExtremeValuesStayInTheirPlace) {
  ForAllTargets([] {
    const int head_dim = 64;
    Problem p(head_dim, 64, 2);
    // All of one sign, as large as it gets: the sums must not wrap.
    std::fill(p.q.begin(), p.q.begin() + head_dim, 3.0f);
    std::fill(p.q.begin() + head_dim, p.q.end(), -3.0f);
    std::fill(p.k.begin(), p.k.begin() + head_dim, 1e30f);
    StoreSigns(p.k.data(), head_dim, 0, p.groups.data());
    for (int r = 0; r < 2; ++r) {
      p.steps[r] = SignTables(p.q.data() + r * head_dim, head_dim,
                              p.tables.data() + r * SignTableBytes(head_dim));
    }
    const auto best = p.Scores();
    EXPECT_NEAR(best[0], 3.0f * head_dim * 65504.0f, 100.0f);
    EXPECT_LT(best[4], 3.0f * head_dim);
    EXPECT_LT(best[1], 3.0f * head_dim * 2);
  });
}

TEST(SignScores, ZeroAndInfiniteQueriesGiveNumbers) {
  Problem p(64, 16, 1);
  std::fill(p.q.begin(), p.q.end(), 0.0f);
  p.steps[0] = SignTables(p.q.data(), 64, p.tables.data());
  EXPECT_EQ(p.Scores()[0], 0.0f);
  p.q[3] = std::numeric_limits<float>::infinity();
  p.q[4] = std::nanf("");
  p.q[5] = 1.0f;
  p.steps[0] = SignTables(p.q.data(), 64, p.tables.data());
  EXPECT_TRUE(std::isfinite(p.Scores()[0]));
}

}  // namespace
}  // namespace pyramidkv
