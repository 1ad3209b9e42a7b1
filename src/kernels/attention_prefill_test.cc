#include "kernels/attention_prefill.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention_form.h"
#include "kernels/elementwise.h"
#include "kernels/int16_rows.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

bool Runs(AttentionForm form) { return Covers(Cpu(), FormNeeds(form)); }

struct Case {
  int rows, group, head_dim, past, window;
};

const Case kCases[] = {
    {1, 1, 8, 0, 0},      {16, 3, 64, 0, 0},      {5, 3, 64, 1, 0},
    {16, 3, 64, 112, 0},  {16, 3, 64, 113, 0},    {7, 2, 16, 300, 0},
    {16, 4, 128, 127, 0}, {16, 7, 80, 40, 0},     {16, 3, 64, 400, 100},
    {9, 8, 32, 500, 1},   {16, 1, 256, 250, 130}, {48, 3, 64, 90, 0},
    {41, 1, 64, 7, 0},    {33, 4, 24, 260, 70},   {17, 2, 40, 0, 3},
    {48, 3, 64, 100, 20}, {33, 2, 96, 129, 0},
};

// Row i sits after `past` entries and sees the last `window` (0: all).
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
  explicit Data(const Case& c, bool with_bias = false)
      : q(RandomFloats(size_t(c.rows) * c.group * c.head_dim, 1)),
        k(RandomFloats(size_t(c.past + c.rows) * c.head_dim, 2)),
        v(RandomFloats(size_t(c.past + c.rows) * c.head_dim, 3)) {
    if (with_bias) bias = RandomFloats(c.past + c.rows, 4, 2.0f);
  }

  std::vector<float> q, k, v, bias;  // no bias: empty
};

const float* BiasOf(const Data& d) {
  return d.bias.empty() ? nullptr : d.bias.data();
}

struct Output {
  explicit Output(const PrefillTile& t)
      : lse_stride(t.group + 2),
        out(t.rows * t.q_stride),
        lse(t.rows * lse_stride, 777.0f) {}

  size_t lse_stride;
  // [rows, group, head_dim]; [rows, lse_stride], the gaps left as they were.
  std::vector<float> out, lse;
};

Output Want(const PrefillTile& t, const Data& d) {
  Output want(t);
  for (int i = 0; i < t.rows; ++i) {
    for (int g = 0; g < t.group; ++g) {
      const size_t at = i * t.q_stride + size_t(g) * t.head_dim;
      reference::Attend(&d.q[at], d.k.data(), d.v.data(), t.begin[i], t.end[i],
                        t.head_dim, t.scale, BiasOf(d), &want.out[at]);
      want.lse[i * want.lse_stride + g] =
          reference::LogSumExp(&d.q[at], d.k.data(), t.begin[i], t.end[i],
                               t.head_dim, t.scale, BiasOf(d));
    }
  }
  return want;
}

// Points the tile at the data and at where its results go.
void Bind(const Data& d, Output* output, PrefillTile* t) {
  t->q = d.q.data();
  t->bias = BiasOf(d);
  t->out = output->out.data();
  t->lse = output->lse.data();
  t->lse_stride = output->lse_stride;
}

Output Attend(PrefillTile t, const Data& d) {
  Output output(t);
  Bind(d, &output, &t);
  PrefillScratch scratch;
  scratch.Resize(t.group, t.head_dim);
  AttendPrefill(t, d.k.data(), d.v.data(), &scratch);
  return output;
}

TEST(AttentionPrefill, MatchesOracle) {
  ForAllTargets([] {
    for (const Case& c : kCases) {
      for (bool bias : {false, true}) {
        const Data d(c, bias);
        const PrefillTile t = MakeTile(c);
        const Output got = Attend(t, d), want = Want(t, d);
        ExpectNear(got.out, want.out, 3e-5f);
        ExpectNear(got.lse, want.lse, 2e-5f);
      }
    }
  });
}

// Results not asked for change no bit of the rest.
TEST(AttentionPrefill, LogSumExpIsOptional) {
  ForAllTargets([] {
    const Case c = {16, 3, 64, 200, 0};
    const Data d(c);
    PrefillTile t = MakeTile(c);
    const Output with = Attend(t, d);
    Output without(t);
    Bind(d, &without, &t);
    t.lse = nullptr;
    PrefillScratch scratch;
    scratch.Resize(t.group, t.head_dim);
    AttendPrefill(t, d.k.data(), d.v.data(), &scratch);
    EXPECT_EQ(without.out, with.out);
  });
}

// Merging equal entries into one with the logarithm of their count as bias
// leaves the attention as it was.
TEST(AttentionPrefill, BiasStandsForACount) {
  ForAllTargets([] {
    const Case c = {1, 3, 64, 20, 0};
    Data all(c), merged(c);
    const size_t head_dim = c.head_dim;
    for (size_t j = 5; j < 12; ++j) {  // seven times entry 4
      std::copy_n(&all.k[4 * head_dim], head_dim, &all.k[j * head_dim]);
      std::copy_n(&all.v[4 * head_dim], head_dim, &all.v[j * head_dim]);
    }
    merged.k = all.k;
    merged.v = all.v;
    merged.k.erase(merged.k.begin() + 5 * head_dim,
                   merged.k.begin() + 12 * head_dim);
    merged.v.erase(merged.v.begin() + 5 * head_dim,
                   merged.v.begin() + 12 * head_dim);
    merged.bias.assign(14, 0.0f);
    merged.bias[4] = std::log(8.0f);
    const PrefillTile t = MakeTile(c);
    PrefillTile fewer = t;
    fewer.end[0] = 14;
    const Output want = Attend(t, all), got = Attend(fewer, merged);
    ExpectNear(got.out, want.out, 1e-5f);
    ExpectNear(got.lse, want.lse, 1e-5f);
  });
}

// Row 0 of `got` holds the bits of row i of `all`.
void ExpectRow(const Output& got, const Output& all, int i) {
  for (size_t x = 0; x < got.out.size(); ++x) {
    ASSERT_EQ(got.out[x], all.out[i * got.out.size() + x]) << i;
  }
  for (size_t g = 0; g < got.lse_stride; ++g) {
    ASSERT_EQ(got.lse[g], all.lse[i * all.lse_stride + g]) << i;
  }
}

// Row i of a tile alone, and its query.
struct OneRow {
  OneRow(const PrefillTile& t, const Data& d, int i) : tile(t), data(d) {
    tile.rows = 1;
    tile.begin[0] = t.begin[i];
    tile.end[0] = t.end[i];
    data.q.assign(d.q.begin() + i * t.q_stride,
                  d.q.begin() + (i + 1) * t.q_stride);
  }
  PrefillTile tile;
  Data data;
};

// A row alone, at any place of a tile: the same bits.
TEST(AttentionPrefill, RowDoesNotDependOnItsTile) {
  ForAllTargets([] {
    const Case c = {16, 3, 64, 200, 0};
    const Data d(c, true);
    const PrefillTile t = MakeTile(c);
    const Output all = Attend(t, d);
    for (int i : {0, 1, 9, 15}) {
      const OneRow one(t, d, i);
      ExpectRow(Attend(one.tile, one.data), all, i);
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
    ExpectNear(Attend(t, d).out, Want(t, d).out, 2e-3f);
  });
}

Output RunBf16(PrefillTile t, const Data& d) {
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
  Output output(t);
  Bind(d, &output, &t);
  PrefillScratch scratch;
  scratch.Resize(t.group, t.head_dim);
  AttendPrefillBf16(t, k.data(), v.data(), &scratch);
  return output;
}

// 8 bits of mantissa in q, k, p and v.
void ExpectNearBf16(const Output& got, const Output& want) {
  ExpectNear(got.out, want.out, 0.06f);
  ExpectNear(got.lse, want.lse, 0.03f);
  double error = 0, size = 0;
  for (size_t i = 0; i < got.out.size(); ++i) {
    error += (got.out[i] - want.out[i]) * (got.out[i] - want.out[i]);
    size += want.out[i] * want.out[i];
  }
  EXPECT_LT(error / size, 1e-4);
}

TEST(AttentionPrefill, Bf16MatchesOracle) {
  if (!Runs(AttentionForm::kBf16)) GTEST_SKIP() << "no AVX-512 BF16";
  for (const Case& c : kCases) {
    for (bool bias : {false, true}) {
      const Data d(c, bias);
      const PrefillTile t = MakeTile(c);
      ExpectNearBf16(RunBf16(t, d), Want(t, d));
    }
  }
}

// Logits over entries, exact in bf16: from block to block, from tile to tile,
// too slowly to renew the maximum, downwards, and as far as it gets.
float Steps(float height, int entry, int length) {
  const int steps = entry / length;
  return height * static_cast<float>(steps);
}
float Leaps(int entry) { return Steps(300.0f, entry, 128); }
float Climbs(int entry) { return Steps(8.0f, entry, 8); }
float Creeps(int entry) { return Steps(0.25f, entry, 16); }
float Falls(int entry) { return -Climbs(entry); }
float Jumps(int entry) { return entry == 77 ? 1e30f : -1e30f; }
using Rise = float (*)(int);
const Rise kRises[] = {Leaps, Climbs, Creeps, Falls, Jumps};

// Key channel 0 becomes `rise`, beside little else.
Data Rising(const Case& c, Rise rise) {
  Data d(c);
  for (float& x : d.k) x *= 0.1f;
  for (size_t j = 0; j * c.head_dim < d.k.size(); ++j) {
    d.k[j * c.head_dim] = rise(static_cast<int>(j));
  }
  return d;
}

TEST(AttentionPrefill, Bf16ScoresThatRise) {
  if (!Runs(AttentionForm::kBf16)) GTEST_SKIP() << "no AVX-512 BF16";
  for (const Rise rise : kRises) {
    const Case c = {33, 3, 64, 460, 0};
    Data d = Rising(c, rise);
    for (size_t i = 0; i < d.q.size(); i += c.head_dim) d.q[i] = 1.0f;
    PrefillTile t = MakeTile(c);
    t.scale = 1.0f;
    const Output got = RunBf16(t, d), want = Want(t, d);
    if (rise == Jumps) {
      ExpectNear(got.out, want.out, 0.06f);
    } else {
      ExpectNearBf16(got, want);
    }
  }
}

TEST(AttentionPrefill, Bf16RowDoesNotDependOnItsTile) {
  if (!Runs(AttentionForm::kBf16)) GTEST_SKIP() << "no AVX-512 BF16";
  for (const Case& c : {Case{16, 3, 64, 201, 0}, Case{48, 3, 64, 313, 0},
                        Case{35, 1, 24, 300, 60}}) {
    std::vector<Data> all_data = {Data(c, true)};
    for (const Rise rise : kRises) all_data.push_back(Rising(c, rise));
    for (const Data& d : all_data) {
      const PrefillTile t = MakeTile(c);
      const Output all = RunBf16(t, d);
      for (int i : {0, 1, 8, 15, 31, 34, 47}) {
        if (i >= c.rows) continue;
        const OneRow one(t, d, i);
        ExpectRow(RunBf16(one.tile, one.data), all, i);
      }
    }
  }
}

using Form = Output (*)(PrefillTile, const Data&);

// Entries that nobody sees may be gone.
void ExpectDroppedEntriesChangeNoBit(Form run) {
  const Case c = {20, 3, 64, 400, 211};
  for (const Rise rise : kRises) {
    const Data d = Rising(c, rise);
    const PrefillTile t = MakeTile(c);
    const Output want = run(t, d);
    for (int dropped : {2, 8, 70, 128, 190}) {
      PrefillTile rest = t;
      rest.origin = dropped;
      for (int i = 0; i < t.rows; ++i) {
        rest.begin[i] -= dropped;
        rest.end[i] -= dropped;
      }
      Data left = d;
      for (auto* x : {&left.k, &left.v}) {
        x->erase(x->begin(), x->begin() + dropped * c.head_dim);
      }
      const Output got = run(rest, left);
      EXPECT_EQ(got.out, want.out) << dropped;
      EXPECT_EQ(got.lse, want.lse) << dropped;
    }
  }
}

TEST(AttentionPrefill, Bf16DroppedEntriesChangeNoBit) {
  if (!Runs(AttentionForm::kBf16)) GTEST_SKIP() << "no AVX-512 BF16";
  ExpectDroppedEntriesChangeNoBit(RunBf16);
}

Output RunInt16(PrefillTile t, const Data& d) {
  const size_t head_dim = t.head_dim, entries = d.k.size() / head_dim;
  std::vector<int16_t> k(d.k.size()), v((entries + 1) / 2 * 2 * head_dim);
  std::vector<float> k_scale(entries), v_scale(entries);
  for (size_t e = 0; e < entries; ++e) {
    const size_t at = e * head_dim;
    k_scale[e] = ToInt16Row(&d.k[at], head_dim, &k[at]);
    v_scale[e] = StoreInt16Values(&d.v[at], t.head_dim, e, v.data());
  }
  Output output(t);
  Bind(d, &output, &t);
  PrefillScratch scratch;
  scratch.Resize(t.group, t.head_dim);
  AttendPrefillInt16(t, {k.data(), k_scale.data(), v.data(), v_scale.data()},
                     &scratch);
  return output;
}

// Root mean square of the errors, relative to that of the values.
double RelativeError(const std::vector<float>& got,
                     const std::vector<float>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(error / size);
}

// Half a unit in each of a block's 128 probabilities, whose sum is 32,500
// units at least, moves a result by up to 0.002 times the largest value, and
// by a ninth of that if they are independent. Logits are off by a few
// millionths of the lengths of query and key.
TEST(AttentionPrefill, Int16MatchesOracle) {
  if (!Runs(AttentionForm::kInt16)) GTEST_SKIP() << "no AVX2";
  for (const Case& c : kCases) {
    for (bool bias : {false, true}) {
      const Data d(c, bias);
      const PrefillTile t = MakeTile(c);
      const Output got = RunInt16(t, d), want = Want(t, d);
      ExpectNear(got.out, want.out, 0.008f);
      ExpectNear(got.lse, want.lse, 2e-3f);
      EXPECT_LT(RelativeError(got.out, want.out), 8e-4);
    }
  }
}

// A channel that is far above the others, of keys or of values, leaves them
// more exact than 8 bits would.
TEST(AttentionPrefill, Int16OutlierChannels) {
  if (!Runs(AttentionForm::kInt16)) GTEST_SKIP() << "no AVX2";
  for (int head_dim : {64, 80, 128, 256}) {
    const Case c = {48, 2, head_dim, 300, 0};
    Data d(c);
    for (size_t i = 5; i < d.k.size(); i += head_dim) {
      d.k[i] = 40 + d.k[i];  // as RoPE's slow channels have
      d.v[i] *= 40;
    }
    PrefillTile t = MakeTile(c);
    t.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    Output got = RunInt16(t, d), want = Want(t, d);
    ExpectNear(got.lse, want.lse, 2e-3f);
    EXPECT_LT(RelativeError(got.out, want.out), 0.0024);
    for (size_t i = 5; i < got.out.size(); i += head_dim) {
      got.out[i] = want.out[i] = 0;
    }
    EXPECT_LT(RelativeError(got.out, want.out), 0.0024);
  }
}

// Weights far below the maximum of a row count where there are many: an
// entry that takes half of the attention and has no value leaves the rest as
// exact as it was.
TEST(AttentionPrefill, Int16SinkWithoutValue) {
  if (!Runs(AttentionForm::kInt16)) GTEST_SKIP() << "no AVX2";
  const Case c = {48, 3, 64, 4000, 0};
  Data d(c);
  for (float& x : d.k) x *= 0.1f;
  std::fill_n(d.v.begin(), c.head_dim, 0.0f);
  d.bias.assign(c.past + c.rows, 0.0f);
  d.bias[0] = std::log(4000.0f);
  const PrefillTile t = MakeTile(c);
  EXPECT_LT(RelativeError(RunInt16(t, d).out, Want(t, d).out), 0.0024);
}

// A key of length 900 has units of 900 / 32767: a logit is off by up to half
// of one for each channel of the query, at random.
TEST(AttentionPrefill, Int16ScoresThatRise) {
  if (!Runs(AttentionForm::kInt16)) GTEST_SKIP() << "no AVX2";
  for (const Rise rise : kRises) {
    const Case c = {33, 3, 64, 460, 0};
    Data d = Rising(c, rise);
    for (size_t i = 0; i < d.q.size(); i += c.head_dim) d.q[i] = 1.0f;
    PrefillTile t = MakeTile(c);
    t.scale = 1.0f;
    const Output got = RunInt16(t, d), want = Want(t, d);
    if (rise == Jumps) {
      ExpectNear(got.out, want.out, 1e-3f);
    } else {
      ExpectNear(got.lse, want.lse, 0.25f);
      EXPECT_LT(RelativeError(got.out, want.out), 0.1);
    }
  }
}

TEST(AttentionPrefill, Int16RowDoesNotDependOnItsTile) {
  if (!Runs(AttentionForm::kInt16)) GTEST_SKIP() << "no AVX2";
  for (const Case& c : {Case{16, 3, 64, 201, 0}, Case{48, 3, 64, 313, 0},
                        Case{48, 1, 64, 100, 20}, Case{35, 1, 24, 300, 60}}) {
    std::vector<Data> all_data = {Data(c, true)};
    for (const Rise rise : kRises) all_data.push_back(Rising(c, rise));
    for (const Data& d : all_data) {
      const PrefillTile t = MakeTile(c);
      const Output all = RunInt16(t, d);
      for (int i = 0; i < c.rows; ++i) {
        const OneRow one(t, d, i);
        ExpectRow(RunInt16(one.tile, one.data), all, i);
      }
    }
  }
}

TEST(AttentionPrefill, Int16DroppedEntriesChangeNoBit) {
  if (!Runs(AttentionForm::kInt16)) GTEST_SKIP() << "no AVX2";
  ExpectDroppedEntriesChangeNoBit(RunInt16);
}

// Skipped blocks leave no trace: as if their entries were not there.
TEST(AttentionPrefill, SkippedBlocks) {
  const Case c = {48, 3, 64, 8 * kKeyBlock - 48, 0};
  const Data all(c);
  Data left = all;
  left.k.clear();
  left.v.clear();
  const std::vector<uint8_t> skip = {0, 1, 1, 0, 1, 0, 0, 0};
  for (size_t b = 0; b < skip.size(); ++b) {
    if (skip[b] != 0) continue;
    const size_t from = b * kKeyBlock * c.head_dim;
    const size_t to = from + size_t{kKeyBlock} * c.head_dim;
    left.k.insert(left.k.end(), all.k.begin() + from, all.k.begin() + to);
    left.v.insert(left.v.end(), all.v.begin() + from, all.v.begin() + to);
  }
  PrefillTile skipping = MakeTile(c);
  skipping.skip = skip.data();
  const PrefillTile fewer = MakeTile({48, 3, 64, 5 * kKeyBlock - 48, 0});
  ForAllTargets([&] {
    const Output got = Attend(skipping, all), want = Attend(fewer, left);
    EXPECT_EQ(got.out, want.out);
    EXPECT_EQ(got.lse, want.lse);
  });
  const auto expect_equal = [&](Form run) {
    const Output got = run(skipping, all), want = run(fewer, left);
    EXPECT_EQ(got.out, want.out);
    EXPECT_EQ(got.lse, want.lse);
  };
  if (Runs(AttentionForm::kBf16)) expect_equal(RunBf16);
  if (Runs(AttentionForm::kInt16)) expect_equal(RunInt16);
}

}  // namespace
}  // namespace pyramidkv
