#include "kernels/attention_prefill.h"

#include <algorithm>

#include "kernels/elementwise.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

struct Case {
  int rows, group, head_dim, past, window;
};

const Case kCases[] = {
    {1, 1, 8, 0, 0},      {16, 3, 64, 0, 0},      {5, 3, 64, 1, 0},
    {16, 3, 64, 112, 0},  {16, 3, 64, 113, 0},    {7, 2, 16, 300, 0},
    {16, 4, 128, 127, 0}, {16, 7, 80, 40, 0},     {16, 3, 64, 400, 100},
    {9, 8, 32, 500, 1},   {16, 1, 256, 250, 130},
};

// Row i sits behind `past` entries and sees the last `window` (0: all).
PrefillTile MakeTile(const Case& c) {
  PrefillTile t;
  t.rows = c.rows;
  t.group = c.group;
  t.head_dim = c.head_dim;
  t.scale = 0.3f;
  t.q_stride = t.out_stride = size_t(c.group) * c.head_dim;
  for (int i = 0; i < c.rows; ++i) {
    t.end[i] = c.past + i + 1;
    t.begin[i] = c.window > 0 ? std::max(0, t.end[i] - c.window) : 0;
  }
  return t;
}

struct Data {
  explicit Data(const Case& c)
      : q(RandomFloats(size_t(c.rows) * c.group * c.head_dim, 1)),
        k(RandomFloats(size_t(c.past + c.rows) * c.head_dim, 2)),
        v(RandomFloats(size_t(c.past + c.rows) * c.head_dim, 3)) {}

  std::vector<float> Want(const PrefillTile& t) const {
    std::vector<float> out(q.size());
    for (int i = 0; i < t.rows; ++i) {
      for (int g = 0; g < t.group; ++g) {
        const size_t at = i * t.q_stride + size_t(g) * t.head_dim;
        reference::Attend(&q[at], k.data(), v.data(), t.begin[i], t.end[i],
                          t.head_dim, t.scale, nullptr, &out[at]);
      }
    }
    return out;
  }

  std::vector<float> q, k, v;
};

std::vector<float> Attend(PrefillTile t, const Data& d) {
  std::vector<float> out(d.q.size());
  t.q = d.q.data();
  t.out = out.data();
  PrefillScratch scratch;
  scratch.Resize(t.group, t.head_dim);
  AttendPrefill(t, d.k.data(), d.v.data(), &scratch);
  return out;
}

TEST(AttentionPrefill, MatchesOracle) {
  ForAllTargets([] {
    for (const Case& c : kCases) {
      const Data d(c);
      const PrefillTile t = MakeTile(c);
      ExpectNear(Attend(t, d), d.Want(t), 3e-5f);
    }
  });
}

// A row alone, at any place of a tile: the same bits.
TEST(AttentionPrefill, RowDoesNotDependOnItsTile) {
  ForAllTargets([] {
    const Case c = {16, 3, 64, 200, 0};
    const Data d(c);
    const PrefillTile t = MakeTile(c);
    const auto all = Attend(t, d);
    for (int i : {0, 1, 9, 15}) {
      PrefillTile one = t;
      one.rows = 1;
      one.begin[0] = t.begin[i];
      one.end[0] = t.end[i];
      Data row = d;
      row.q.assign(d.q.begin() + i * t.q_stride,
                   d.q.begin() + (i + 1) * t.q_stride);
      const auto got = Attend(one, row);
      for (size_t x = 0; x < got.size(); ++x) {
        ASSERT_EQ(got[x], all[i * t.q_stride + x]) << i;
      }
    }
  });
}

TEST(AttentionPrefill, LargeScoresStayFinite) {
  ForAllTargets([] {
    const Case c = {16, 3, 64, 300, 0};
    Data d(c);
    for (float& x : d.k) x *= 100;
    PrefillTile t = MakeTile(c);
    t.scale = 1.0f;
    ExpectNear(Attend(t, d), d.Want(t), 2e-3f);
  });
}

std::vector<float> RunBf16(PrefillTile t, const Data& d) {
  const int entries = static_cast<int>(d.k.size()) / t.head_dim;
  std::vector<uint16_t> k(d.k.size()), v16(d.v.size());
  ToBf16(d.k.data(), d.k.size(), k.data());
  ToBf16(d.v.data(), d.v.size(), v16.data());
  std::vector<uint16_t> v(size_t(entries + 1) / 2 * 2 * t.head_dim, 0);
  for (int e = 0; e < entries; ++e) {
    for (int x = 0; x < t.head_dim; ++x) {
      v[(size_t(e / 2) * t.head_dim + x) * 2 + e % 2] =
          v16[size_t(e) * t.head_dim + x];
    }
  }
  std::vector<float> out(d.q.size());
  t.q = d.q.data();
  t.out = out.data();
  PrefillScratch scratch;
  scratch.Resize(t.group, t.head_dim);
  AttendPrefillBf16(t, k.data(), v.data(), &scratch);
  return out;
}

TEST(AttentionPrefill, Bf16MatchesOracle) {
  if (!HasNativeBf16()) GTEST_SKIP() << "no AVX-512 BF16";
  for (const Case& c : kCases) {
    const Data d(c);
    const PrefillTile t = MakeTile(c);
    // 8 bits of mantissa in q, k, p and v.
    ExpectNear(RunBf16(t, d), d.Want(t), 0.06f);
    double error = 0, size = 0;
    const auto got = RunBf16(t, d), want = d.Want(t);
    for (size_t i = 0; i < got.size(); ++i) {
      error += (got[i] - want[i]) * (got[i] - want[i]);
      size += want[i] * want[i];
    }
    EXPECT_LT(error / size, 1e-4);
  }
}

TEST(AttentionPrefill, Bf16RowDoesNotDependOnItsTile) {
  if (!HasNativeBf16()) GTEST_SKIP() << "no AVX-512 BF16";
  const Case c = {16, 3, 64, 201, 0};
  const Data d(c);
  const PrefillTile t = MakeTile(c);
  const auto all = RunBf16(t, d);
  for (int i : {0, 1, 8, 15}) {
    PrefillTile one = t;
    one.rows = 1;
    one.begin[0] = t.begin[i];
    one.end[0] = t.end[i];
    Data row = d;
    row.q.assign(d.q.begin() + i * t.q_stride,
                 d.q.begin() + (i + 1) * t.q_stride);
    const auto got = RunBf16(one, row);
    for (size_t x = 0; x < got.size(); ++x) {
      ASSERT_EQ(got[x], all[i * t.q_stride + x]) << i;
    }
  }
}

}  // namespace
}  // namespace pyramidkv
