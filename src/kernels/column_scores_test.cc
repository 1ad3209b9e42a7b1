#include "kernels/column_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/kv_codec.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// A row of a block, as the header describes its layout.
void LoadColumns(const std::byte* block, int columns, int row, float* x) {
  uint16_t half;
  std::memcpy(&half, block + row * sizeof(half), sizeof(half));
  const std::byte* const values = block + kColumnBlock * sizeof(half);
  for (int c = 0; c < columns; ++c) {
    x[c] =
        F32FromF16(half) *
        static_cast<float>(static_cast<int8_t>(values[c * kColumnBlock + row]));
  }
}

struct Problem {
  Problem(int columns, int count, int queries)
      : columns(columns),
        count(count),
        queries(queries),
        rows(RandomFloats(size_t(count) * kColumnBlock * columns, 1)),
        q(RandomFloats(size_t(queries) * columns, 2)),
        blocks(count * ColumnBlockBytes(columns)) {
    for (int r = 0; r < count * kColumnBlock; ++r) {
      StoreColumns(rows.data() + size_t(r) * columns, columns, r % kColumnBlock,
                   Block(r / kColumnBlock));
    }
  }
  std::byte* Block(int b) {
    return blocks.data() + b * ColumnBlockBytes(columns);
  }
  std::vector<float> Scores() const {
    std::vector<float> scores(size_t(queries) * count * kColumnBlock);
    ColumnScores({columns, blocks.data(), count, q.data(), queries},
                 scores.data());
    return scores;
  }

  int columns, count, queries;
  std::vector<float> rows, q;
  std::vector<std::byte> blocks;
};

TEST(ColumnScores, MatchesOracle) {
  ForAllTargets([] {
    for (int columns : {1, 8, 19, 64}) {
      for (int count : {0, 1, 3, 10}) {
        for (int queries : {1, 2, 3, 4, 7}) {
          Problem p(columns, count, queries);
          std::vector<float> want, x(columns);
          for (int r = 0; r < queries; ++r) {
            for (int e = 0; e < count * kColumnBlock; ++e) {
              LoadColumns(p.Block(e / kColumnBlock), columns, e % kColumnBlock,
                          x.data());
              double sum = 0;
              for (int c = 0; c < columns; ++c) {
                sum += double{x[c]} * p.q[size_t(r) * columns + c];
              }
              want.push_back(static_cast<float>(sum));
            }
          }
          ExpectNear(p.Scores(), want, 1e-6f * (columns + 8));
        }
      }
    }
  });
}

TEST(ColumnScores, AQueryDoesNotDependOnOthers) {
  ForAllTargets([] {
    const Problem all(19, 5, 7);
    const std::vector<float> scores = all.Scores();
    for (int r = 0; r < 7; ++r) {
      Problem one(19, 5, 1);
      std::copy_n(all.q.data() + r * 19, 19, one.q.data());
      const auto alone = one.Scores();
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                             scores.begin() + r * 5 * kColumnBlock));
    }
  });
}

TEST(ColumnScores, ValuesComeBackWithinHalfAStep) {
  Problem p(33, 1, 1);
  std::vector<float> x(33);
  for (int r = 0; r < kColumnBlock; ++r) {
    const float* row = p.rows.data() + r * 33;
    float most = 0;
    for (int c = 0; c < 33; ++c) most = std::max(most, std::fabs(row[c]));
    LoadColumns(p.Block(0), 33, r, x.data());
    for (int c = 0; c < 33; ++c) {
      // Scales are halves: the largest may be cut by 2^-11.
      EXPECT_NEAR(x[c], row[c], most * (0.5f / 127 + 0x1p-10f));
    }
  }
}

TEST(ColumnScores, BadValuesGiveNumbers) {
  std::vector<float> x = {0, 0, 0}, back(3);
  std::vector<std::byte> block(ColumnBlockBytes(3));
  StoreColumns(x.data(), 3, 4, block.data());
  LoadColumns(block.data(), 3, 4, back.data());
  EXPECT_EQ(back, x);
  x = {std::nanf(""), std::numeric_limits<float>::infinity(), -1};
  StoreColumns(x.data(), 3, 4, block.data());
  LoadColumns(block.data(), 3, 4, back.data());
  EXPECT_EQ(back, (std::vector<float>{0, 127 * 65504.0f, 0}));
}

}  // namespace
}  // namespace pyramidkv
