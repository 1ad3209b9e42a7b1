#include "kernels/nearest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"
#include "kernels/testing/fused_targets.h"

namespace pyramidkv {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();

struct Problem {
  Problem(int panel_count, int dim, int count)
      : panels(panel_count),
        dim(dim),
        centroids(RandomFloats(size_t(count) * dim, 1)),
        start(count),
        packed(size_t(panels) * kNearestRows * dim) {
    for (int j = 0; j < count; ++j) {
      const float* c = centroids.data() + size_t(j) * dim;
      start[j] = -0.5f * std::inner_product(c, c + dim, c, 0.0f);
    }
    const auto rows = RandomFloats(packed.size(), 2);
    for (int p = 0; p < panels; ++p) {
      const size_t first = size_t(p) * kNearestRows * dim;
      PackNearestRows(rows.data() + first, kNearestRows, dim,
                      packed.data() + first);
    }
  }

  // Centroids [begin, end).
  NearestArgs Args(int begin, int end) const {
    NearestArgs args;
    args.panels = panels;
    args.dim = dim;
    args.rows = packed.data();
    args.centroids = end - begin;
    args.centroid = centroids.data() + size_t(begin) * dim;
    args.start = start.data() + begin;
    args.first = begin;
    return args;
  }
  int count() const { return static_cast<int>(start.size()); }

  int panels, dim;
  std::vector<float> centroids, start;
  AlignedBuffer<float> packed;
};

struct State {
  explicit State(const Problem& p)
      : score(size_t(p.panels) * kNearestRows), index(score.size()) {
    std::fill(score.span().begin(), score.span().end(), kLowest);
    std::fill(index.span().begin(), index.span().end(), -1);
  }
  void Update(const NearestArgs& args) {
    UpdateNearest(args, score.data(), index.data());
  }
  std::vector<float> scores() const {
    return {score.span().begin(), score.span().end()};
  }
  std::vector<int32_t> indices() const {
    return {index.span().begin(), index.span().end()};
  }
  AlignedBuffer<float> score;
  AlignedBuffer<int32_t> index;
};

TEST(Nearest, MatchesOracle) {
  ForAllTargets([] {
    for (int panels : {0, 1, 3}) {
      for (int dim : {1, 2, 7, 64, 80, 128}) {
        for (int count : {12, 24, 120}) {
          const Problem p(panels, dim, count);
          State got(p), want(p);
          got.Update(p.Args(0, count));
          reference::UpdateNearest(p.Args(0, count), want.score.data(),
                                   want.index.data());
          // dim roundings of sums that start at about -dim / 2.
          const float tolerance =
              0x1p-24f * static_cast<float>(dim + 1) * (dim / 2.0f + 8);
          ExpectNear(got.scores(), want.scores(), tolerance);
          for (size_t r = 0; r < got.index.size(); ++r) {
            // Near-ties may go either way: what is chosen must be as near.
            const int j = got.index[r];
            ASSERT_TRUE(j >= 0 && j < count);
            double score = p.start[j];
            for (int c = 0; c < dim; ++c) {
              score +=
                  double{p.packed[(r / kNearestRows * dim + c) * kNearestRows +
                                  r % kNearestRows]} *
                  p.centroids[size_t(j) * dim + c];
            }
            ASSERT_NEAR(score, want.score[r], tolerance);
          }
        }
      }
    }
  });
}

TEST(Nearest, PiecesEqualTheWhole) {
  ForAllTargets([] {
    const Problem p(2, 33, 60);
    State whole(p), pieces(p);
    whole.Update(p.Args(0, 60));
    for (int begin : {0, 12, 36}) {
      pieces.Update(p.Args(begin, begin == 0 ? 12 : begin + 24));
    }
    EXPECT_EQ(whole.scores(), pieces.scores());
    EXPECT_EQ(whole.indices(), pieces.indices());
    pieces.Update(p.Args(12, 36));  // once more changes nothing
    EXPECT_EQ(whole.indices(), pieces.indices());
  });
}

TEST(Nearest, TiesGoToTheLowerIndex) {
  ForAllTargets([] {
    Problem p(1, 9, 24);
    for (int j = 12; j < 24; ++j) {  // the second twelve repeat the first
      std::copy_n(p.centroids.begin() + (j - 12) * 9, 9,
                  p.centroids.begin() + j * 9);
      p.start[j] = p.start[j - 12];
    }
    State all(p);
    all.Update(p.Args(0, 24));
    for (int32_t i : all.indices()) EXPECT_LT(i, 12);
  });
}

TEST(Nearest, PaddingAndNanAreNeverNearest) {
  ForAllTargets([] {
    Problem p(2, 5, 12);
    std::fill(p.start.begin(), p.start.end(),
              -std::numeric_limits<float>::infinity());
    p.start[7] = -1;
    p.centroids[3 * 5] = std::nanf("");
    p.start[3] = std::nanf("");
    State state(p);
    state.Update(p.Args(0, 12));
    for (int32_t i : state.indices()) EXPECT_EQ(i, 7);
  });
}

// Rows in lanes: the chain over channels is the same in vectors of any width.
TEST(Nearest, EqualBitsOnTargetsThatFuse) {
  const Problem p(3, 64, 48);
  std::vector<float> first;
  ForAllTargets([&] {
    if (!FusesMultiplyAdd()) return;
    State state(p);
    state.Update(p.Args(0, 48));
    if (first.empty()) first = state.scores();
    EXPECT_EQ(state.scores(), first);
  });
}

TEST(Nearest, PackNearestRowsPadsWithZeros) {
  const std::vector<float> rows = {1, 2, 3, 4, 5, 6};  // [3, 2]
  std::vector<float> panel(2 * kNearestRows, -1.0f);
  PackNearestRows(rows.data(), 3, 2, panel.data());
  for (int r = 0; r < kNearestRows; ++r) {
    EXPECT_EQ(panel[r], r < 3 ? rows[2 * r] : 0);
    EXPECT_EQ(panel[kNearestRows + r], r < 3 ? rows[2 * r + 1] : 0);
  }
}

}  // namespace
}  // namespace pyramidkv
