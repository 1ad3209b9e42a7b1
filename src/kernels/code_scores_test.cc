#include "kernels/code_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/kv_codec.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// Keys and queries by signs, or by columns.
struct Problem {
  Problem(bool signs, int head_dim, int entries, int queries)
      : signs(signs),
        head_dim(head_dim),
        codes(signs ? head_dim / kChannelsOfSigns : head_dim),
        entries(entries),
        queries(queries),
        k(RandomFloats(size_t(entries) * head_dim, 1)),
        q(RandomFloats(size_t(queries) * head_dim, 2)),
        groups((entries + kCodeGroup - 1) / kCodeGroup * CodeGroupBytes(codes)),
        tables(queries * CodeTableBytes(codes)),
        steps(queries) {
    for (int e = 0; e < blocks() * kCodeBlock; ++e) {
      const int slot = e % kCodeGroup;
      if (e < entries) {
        StoreKey(e);
      } else {
        CopyCodes(codes, slot / kCodeBlock * kCodeBlock, slot, Group(e));
      }
    }
    for (int r = 0; r < queries; ++r) MakeTables(r);
  }

  std::byte* Group(int e) {
    return groups.data() + e / kCodeGroup * CodeGroupBytes(codes);
  }
  void StoreKey(int e) {
    const float* key = k.data() + size_t(e) * head_dim;
    std::vector<uint8_t> of_key(codes);
    const float scale =
        (signs ? SignCodes : ColumnCodes)(key, head_dim, of_key.data());
    StoreCodes(of_key.data(), codes, scale, e % kCodeGroup, Group(e));
  }
  void MakeTables(int r) {
    steps[r] = (signs ? SignTables : ColumnTables)(
        q.data() + size_t(r) * head_dim, head_dim,
        tables.data() + r * CodeTableBytes(codes));
  }

  int blocks() const { return (entries + kCodeBlock - 1) / kCodeBlock; }

  std::vector<float> Scores() const {
    std::vector<float> best(size_t(queries) * blocks());
    CodeScores(
        {codes, groups.data(), blocks(), tables.data(), steps.data(), queries},
        best.data());
    return best;
  }

  // The definition over entry e, in double precision. rounding: of q.
  double Estimate(int r, int e, bool rounding) const {
    double size = 0;
    for (int c = 0; c < head_dim; ++c) {
      const double key = std::fabs(k[size_t(e) * head_dim + c]);
      size = signs ? size + key / head_dim : std::max(size, key / 7);
    }
    const auto round = [&](double value) {
      return rounding ? std::round(value / steps[r]) * steps[r] : value;
    };
    double sum = 0;
    for (int c = 0; c < head_dim; ++c) {
      const double key = k[size_t(e) * head_dim + c];
      const double value = q[size_t(r) * head_dim + c];
      sum += signs ? (key < 0 ? -1 : 1) * round(value)
                   : round(value * std::round(key / size));
    }
    return sum * F32FromF16(F16FromF32(static_cast<float>(size)));
  }

  std::vector<float> Oracle(bool rounding) const {
    std::vector<float> best(size_t(queries) * blocks(),
                            std::numeric_limits<float>::lowest());
    for (int r = 0; r < queries; ++r) {
      for (int e = 0; e < entries; ++e) {
        float& most = best[size_t(r) * blocks() + e / kCodeBlock];
        most = std::max(most, static_cast<float>(Estimate(r, e, rounding)));
      }
    }
    return best;
  }

  bool signs;
  int head_dim, codes, entries, queries;
  std::vector<float> k, q;
  std::vector<std::byte> groups;
  std::vector<uint8_t> tables;
  std::vector<float> steps;
};

TEST(CodeScores, MatchesOracle) {
  ForAllTargets([] {
    for (int head_dim : {8, 64, 80, 96, 128, 256}) {
      for (int entries : {1, 15, 16, 17, 63, 64, 65, 200}) {
        for (int queries : {1, 2, 3, 4, 5, 9}) {
          const Problem p(true, head_dim, entries, queries);
          // Sums are exact; what is left is the rounding of scales that lie
          // between two halves, and of the products.
          ExpectNear(p.Scores(), p.Oracle(true),
                     3e-3f * std::sqrt(static_cast<float>(head_dim)));
        }
      }
    }
  });
}

TEST(CodeScores, OfColumnsMatchesOracle) {
  ForAllTargets([] {
    for (int columns : {2, 16, 20, 64, 264}) {
      for (int entries : {1, 63, 65, 200}) {
        for (int queries : {1, 3, 5}) {
          const Problem p(false, columns, entries, queries);
          // A value next to the middle of two steps may round either way.
          const float step = *std::max_element(p.steps.begin(), p.steps.end());
          ExpectNear(p.Scores(), p.Oracle(true),
                     3e-3f * std::sqrt(static_cast<float>(columns)) + step);
        }
      }
    }
  });
}

// A term is off by at most half a step, and in the mean far less: errors of
// many terms cancel.
TEST(CodeScores, RoundingOfTheQueryIsBounded) {
  for (bool signs : {true, false}) {
    for (int head_dim : {8, 64, 256}) {
      const Problem p(signs, head_dim, 500, 3);
      const auto got = p.Scores(), want = p.Oracle(false);
      const float step = *std::max_element(p.steps.begin(), p.steps.end());
      ExpectNear(got, want, 1.5f * step / 2 * float(head_dim));
      double square = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        square += (got[i] - want[i]) * (got[i] - want[i]);
      }
      EXPECT_LT(std::sqrt(square / double(got.size())),
                step * std::sqrt(head_dim / 12.0) * 1.2);
    }
  }
}

// Integers, and one fixed product: any width gives the same.
TEST(CodeScores, EqualBitsOnEveryTarget) {
  for (bool signs : {true, false}) {
    const Problem p(signs, 80, 333, 3);
    const std::vector<float> first = p.Scores();
    ForAllTargets([&] { EXPECT_EQ(p.Scores(), first); });
  }
}

// All of one sign, as large as it gets: the sums must not wrap.
TEST(CodeScores, ExtremeValuesStayInTheirPlace) {
  ForAllTargets([] {
    for (bool signs : {true, false}) {
      const int head_dim = 264;
      Problem p(signs, head_dim, 64, 2);
      std::fill(p.q.begin(), p.q.begin() + head_dim, 3.0f);
      std::fill(p.q.begin() + head_dim, p.q.end(), -3.0f);
      std::fill(p.k.begin(), p.k.begin() + head_dim, 1e30f);
      p.StoreKey(0);
      for (int r = 0; r < 2; ++r) p.MakeTables(r);
      const auto best = p.Scores();
      const float most = 3.0f * head_dim * 65504.0f * (signs ? 1 : 7);
      EXPECT_NEAR(best[0], most, most * 1e-5f);
      for (int b = 1; b < 8; ++b) EXPECT_LT(best[b], 3.0f * head_dim * 2);
    }
  });
}

TEST(CodeScores, ZeroAndInfiniteQueriesGiveNumbers) {
  for (bool signs : {true, false}) {
    Problem p(signs, 64, 16, 1);
    std::fill(p.q.begin(), p.q.end(), 0.0f);
    p.MakeTables(0);
    EXPECT_EQ(p.Scores()[0], 0.0f);
    p.q[3] = std::numeric_limits<float>::infinity();
    p.q[4] = std::nanf("");
    p.q[5] = 1.0f;
    p.MakeTables(0);
    EXPECT_TRUE(std::isfinite(p.Scores()[0]));
    p.k[9] = std::nanf("");
    p.k[10] = -std::numeric_limits<float>::infinity();
    p.StoreKey(0);
    EXPECT_TRUE(std::isfinite(p.Scores()[0]));
  }
}

}  // namespace
}  // namespace pyramidkv
