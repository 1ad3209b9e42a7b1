#include "cache/skew.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using testing::HasSubstr;

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

double Dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

TEST(ComputeSkew, IsOrthogonal) {
  for (int n : {1, 8, 64, 80, 128}) {
    const auto q = Random(size_t(200) * n, 1), k = Random(size_t(300) * n, 2);
    std::vector<float> skew(size_t(n) * n);
    ComputeSkew(q.data(), 200, k.data(), 300, n, skew.data());
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        ASSERT_NEAR(Dot(&skew[i * n], &skew[j * n], n), i == j, 1e-5);
      }
    }
  }
}

// Queries that span three directions: the first rows span the same, in the
// order of what keys do there.
TEST(ComputeSkew, FindsTheDirectionsThatMatter) {
  const int n = 64;
  const auto basis = Random(size_t(3) * n, 3), weight = Random(3 * 500, 4);
  std::vector<float> q(size_t(500) * n);
  for (int r = 0; r < 500; ++r) {
    for (int c = 0; c < n; ++c) {
      for (int i = 0; i < 3; ++i) {
        q[r * n + c] += weight[r * 3 + i] * basis[i * n + c] * float(3 - i);
      }
    }
  }
  const auto k = Random(size_t(400) * n, 5);
  std::vector<float> skew(size_t(n) * n), again(skew.size());
  ComputeSkew(q.data(), 500, k.data(), 400, n, skew.data());
  for (int r = 0; r < 500; ++r) {
    double inside = 0;
    for (int i = 0; i < 3; ++i) {
      inside += std::pow(Dot(&q[r * n], &skew[i * n], n), 2);
    }
    ASSERT_NEAR(inside / Dot(&q[r * n], &q[r * n], n), 1, 1e-5);
  }
  ComputeSkew(q.data(), 500, k.data(), 400, n, again.data());
  EXPECT_EQ(skew, again);
}

TEST(ComputeSkew, BadRowsDoNotCount) {
  const int n = 8;
  auto q = Random(20 * n, 6), k = Random(30 * n, 7);
  std::vector<float> skew(n * n), with_bad(n * n);
  ComputeSkew(q.data(), 20, k.data(), 30, n, skew.data());
  q.resize(21 * n, std::nanf(""));
  k.resize(31 * n, INFINITY);
  ComputeSkew(q.data(), 21, k.data(), 31, n, with_bad.data());
  EXPECT_EQ(skew, with_bad);
  // Nothing at all: still orthogonal.
  ComputeSkew(q.data(), 0, k.data(), 0, n, skew.data());
  EXPECT_NEAR(Dot(skew.data(), skew.data(), n), 1, 1e-6);
}

// One key at every position: all of them end where the spread puts them.
TEST(SpreadPositions, TurnsRowsToTheirNewPlace) {
  const std::vector<float> frequencies = {1.0f, 0.3f, 0.01f};
  const int dim = 8, rows = 50, first = 100, span = 4000, heads = 2;
  const auto plain = Random(heads * dim, 9);
  for (bool neox : {false, true}) {
    const Rotation rope = {frequencies, neox, 1.0f};
    const auto at = [&](int position) {
      std::vector<float> x = plain, table(2 * rope.pairs());
      RopeTable(frequencies.data(), rope.pairs(), position, 1.0f, table.data());
      ApplyRope(table.data(), rope.pairs(), neox, heads, dim, x.data());
      return x;
    };
    std::vector<float> x;
    for (int r = 0; r < rows; ++r) {
      const auto row = at(first + r);
      x.insert(x.end(), row.begin(), row.end());
    }
    SpreadPositions(rope, rows, heads, dim, first, span, x.data());
    for (int r = 0; r < rows; ++r) {
      const auto want = at(r * span / rows);
      for (int c = 0; c < heads * dim; ++c) {
        EXPECT_NEAR(x[r * heads * dim + c], want[c], 1e-3);
      }
    }
  }
}

class SkewFile : public testing::Test {
 protected:
  SkewFile()
      : folder_(std::filesystem::temp_directory_path() /
                ("pyramidkv_skew_" + std::to_string(getpid()))),
        path_((folder_ / "model.skew").string()) {
    std::filesystem::create_directories(folder_);
    table_.skew = Random(2 * 3 * 4 * 4, 8);
  }
  ~SkewFile() override { std::filesystem::remove_all(folder_); }

  std::string LoadError(const std::string& model, const SkewTable& expected) {
    const auto loaded = LoadSkew(path_, model, expected);
    EXPECT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.status().code(), StatusCode::kModel);
    EXPECT_THAT(loaded.status().message(), HasSubstr(path_));
    return loaded.status().message();
  }
  std::vector<char> Bytes() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void Write(const std::vector<char>& bytes) const {
    std::ofstream(path_, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  std::filesystem::path folder_;
  std::string path_;
  SkewTable table_{2, 3, 4, {}};
};

TEST_F(SkewFile, ComesBackAndReplaces) {
  for (int i = 0; i < 2; ++i) {
    table_.skew[5] += 1;
    ASSERT_TRUE(SaveSkew(path_, "a model", table_).ok());
    const auto loaded = LoadSkew(path_, "a model", SkewTable{2, 3, 4, {}});
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    EXPECT_EQ(loaded->skew, table_.skew);
    EXPECT_EQ(loaded->kv_heads, 3);
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    ++files;
    EXPECT_EQ(entry.path().string(), path_);
  }
  EXPECT_EQ(files, 1);
}

TEST_F(SkewFile, ForeignFilesAreRefused) {
  EXPECT_THAT(LoadError("a", table_), HasSubstr("cannot read"));
  ASSERT_TRUE(SaveSkew(path_, "a", table_).ok());
  EXPECT_THAT(LoadError("b", table_), HasSubstr("made for model a, not b"));
  EXPECT_THAT(LoadError("a", {2, 3, 8, {}}), HasSubstr("head_dim 4, not 2"));
  Write({'G', 'G', 'U', 'F'});
  EXPECT_THAT(LoadError("a", table_), HasSubstr("not a skew file"));
}

TEST_F(SkewFile, EveryDamagedByteIsSeen) {
  ASSERT_TRUE(SaveSkew(path_, "a", table_).ok());
  const std::vector<char> whole = Bytes();
  for (size_t i = 0; i < whole.size(); ++i) {
    std::vector<char> bytes = whole;
    bytes[i] ^= 4;
    Write(bytes);
    LoadError("a", table_);
  }
  for (size_t size = 0; size < whole.size(); ++size) {
    Write({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)});
    LoadError("a", table_);
  }
}

TEST_F(SkewFile, AFailedSaveLeavesTheOldFile) {
  ASSERT_TRUE(SaveSkew(path_, "a", table_).ok());
  const Status status =
      SaveSkew((folder_ / "none" / "model.skew").string(), "a", table_);
  EXPECT_EQ(status.code(), StatusCode::kRuntime);
  EXPECT_THAT(status.message(), HasSubstr("cannot write"));
  EXPECT_TRUE(LoadSkew(path_, "a", table_).ok());
}

}  // namespace
}  // namespace pyramidkv
