#include "kernels/column_attention.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/attention_prefill.h"
#include "kernels/elementwise.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// With products of their own; kInt16 takes those of kF32.
constexpr AttentionForm kColumnForms[] = {AttentionForm::kF32,
                                          AttentionForm::kBf16};

bool Runs(AttentionForm form) { return Covers(Cpu(), FormNeeds(form)); }

using Group = WindowScoresArgs::Group;

// Rows after `past` entries; the columns [from, to) (to = 0: all).
struct Case {
  int rows, group, head_dim, past, from, to, min_distance;
  bool bias;
};

const Case kCases[] = {
    {1, 1, 8, 0, 0, 0, 0, false},        {16, 3, 64, 0, 0, 0, 0, false},
    {37, 3, 64, 5, 0, 0, 0, true},       {9, 2, 16, 300, 0, 0, 0, false},
    {20, 3, 64, 400, 0, 400, 0, true},   {50, 4, 128, 30, 7, 61, 0, false},
    {64, 7, 80, 150, 191, 200, 0, true}, {70, 3, 64, 10, 0, 0, 16, false},
    {23, 2, 32, 200, 3, 222, 64, true},  {12, 1, 256, 0, 0, 0, 64, false},
    {8, 8, 24, 500, 100, 437, 1, false},
};

// The data of a case, with args that point at it. Every row's log-sum-exp is
// over all that it sees.
struct Problem {
  explicit Problem(const Case& c, bool max_rows = false) {
    const int entries = c.past + c.rows;
    q = RandomFloats(size_t(c.rows) * c.group * c.head_dim, 1);
    k = RandomFloats(size_t(entries) * c.head_dim, 2);
    if (c.bias) bias = RandomFloats(entries, 3, 2.0f);
    args.group = c.group;
    args.head_dim = c.head_dim;
    args.scale = 0.3f;
    args.rows = c.rows;
    args.q = q.data();
    args.q_stride = size_t(c.group) * c.head_dim;
    args.lse_stride = c.group + 1;
    args.k = k.data();
    args.bias = c.bias ? bias.data() : nullptr;
    args.first_end = c.past + 1;
    args.min_distance = c.min_distance;
    args.from = c.from;
    args.to = c.to > 0 ? c.to : entries;
    args.max_rows = max_rows;
    args.received_stride = args.to - args.from + 5;
    lse.resize(c.rows * args.lse_stride);
    for (int i = 0; i < c.rows; ++i) {
      for (int g = 0; g < c.group; ++g) {
        lse[i * args.lse_stride + g] = reference::LogSumExp(
            &q[i * args.q_stride + size_t(g) * c.head_dim], k.data(), 0,
            args.first_end + i, c.head_dim, args.scale, args.bias);
      }
    }
    args.lse = lse.data();
    // Sums of other rows before.
    received = RandomFloats(size_t(c.group) * args.received_stride, 5, 0.1f);
    for (float& x : received) x = std::abs(x);
    args.received = received.data();
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  ColumnAttentionArgs args;
  std::vector<float> q, k, bias, lse;
  std::vector<float> received;  // [group, received_stride]
};

std::vector<float> Compute(const Case& c, bool max_rows, AttentionForm form) {
  Problem problem(c, max_rows);
  problem.args.form = form;
  ColumnScratch scratch;
  ColumnAttention(problem.args, &scratch);
  return problem.received;
}

std::vector<float> Want(const Case& c, bool max_rows) {
  Problem problem(c, max_rows);
  reference::ColumnAttention(problem.args);
  return problem.received;
}

TEST(ColumnAttention, MatchesOracle) {
  ForAllTargets([] {
    for (const Case& c : kCases) {
      for (bool max_rows : {false, true}) {
        SCOPED_TRACE(testing::Message() << "rows " << c.rows << " head_dim "
                                        << c.head_dim << " max " << max_rows);
        ExpectNear(Compute(c, max_rows, AttentionForm::kF32), Want(c, max_rows),
                   1e-5f);
      }
    }
  });
}

// Queries and keys of 8 bits: a logit of up to 20 is wrong by a few
// hundredths, so is a probability by as much of itself.
TEST(ColumnAttention, Bf16IsNearF32) {
  if (!Runs(AttentionForm::kBf16)) GTEST_SKIP() << "no AVX-512 BF16";
  for (const Case& c : kCases) {
    for (bool max_rows : {false, true}) {
      const auto got = Compute(c, max_rows, AttentionForm::kBf16);
      const auto want = Want(c, max_rows);
      ExpectNear(got, want, 0.06f);
      double error = 0, size = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
      }
      EXPECT_LT(error / size, 1e-4);
    }
  }
}

// In any slices of rows and columns: the same bits.
void CheckSlices(bool max_rows, AttentionForm form) {
  const Case c = {70, 3, 64, 230, 0, 0, 3, true};
  const auto want = Compute(c, max_rows, form);
  const int columns = c.past + c.rows;
  const std::pair<int, int> slices[] = {{1, 299}, {7, 50}, {33, 192}, {70, 1}};
  for (const auto& [rows, width] : slices) {
    Problem problem(c, max_rows);
    ColumnScratch scratch;
    for (int row = 0; row < c.rows; row += rows) {
      for (int from = 0; from < columns; from += width) {
        ColumnAttentionArgs part = problem.args;
        part.form = form;
        part.rows = std::min(rows, c.rows - row);
        part.q += row * part.q_stride;
        part.lse += row * part.lse_stride;
        part.first_end += row;
        part.from = from;
        part.to = std::min(from + width, columns);
        part.received += from;
        ColumnAttention(part, &scratch);
      }
    }
    EXPECT_EQ(problem.received, want) << rows << " " << width;
  }
}

TEST(ColumnAttention, SlicesChangeNoBit) {
  ForAllTargets([] {
    for (bool max_rows : {false, true})
      CheckSlices(max_rows, AttentionForm::kF32);
  });
  if (!Runs(AttentionForm::kBf16)) GTEST_SKIP() << "no AVX-512 BF16";
  for (bool max_rows : {false, true})
    CheckSlices(max_rows, AttentionForm::kBf16);
}

// Heads of different lengths over threads: what each gives alone.
TEST(ColumnAttentionThreaded, SameBitsForAnyNumberOfThreads) {
  for (AttentionForm form : kColumnForms) {
    if (!Runs(form)) continue;
    for (int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      std::vector<std::unique_ptr<Problem>> problems;
      std::vector<ColumnAttentionArgs> heads;
      for (const Case& c : kCases) {
        problems.push_back(std::make_unique<Problem>(c));
        problems.back()->args.form = form;
        heads.push_back(problems.back()->args);
      }
      ColumnAttention(heads, &pool);
      for (size_t i = 0; i < problems.size(); ++i) {
        EXPECT_EQ(problems[i]->received, Compute(kCases[i], false, form)) << i;
      }
    }
  }
}

// A prompt of `rows` tokens through prefill attention for the log-sum-exp,
// then all column sums.
std::vector<float> PromptSums(const std::vector<float>& q,
                              const std::vector<float>& k, int group,
                              int head_dim, float scale, AttentionForm form) {
  const size_t width = size_t(group) * head_dim;
  const int rows = static_cast<int>(q.size() / width);
  std::vector<float> lse(size_t(rows) * group), out(q.size());
  std::vector<uint16_t> k16(k.size()), v16(k.size() + head_dim, 0);
  ToBf16(k.data(), k.size(), k16.data());
  PrefillScratch prefill;
  prefill.Resize(group, head_dim);
  for (int first = 0; first < rows; first += kQueryTile) {
    PrefillTile t;
    t.rows = std::min(kQueryTile, rows - first);
    t.group = group;
    t.head_dim = head_dim;
    t.scale = scale;
    t.q = &q[first * width];
    t.out = &out[first * width];
    t.q_stride = t.out_stride = width;
    t.lse = &lse[size_t(first) * group];
    t.lse_stride = group;
    for (int i = 0; i < t.rows; ++i) t.end[i] = first + i + 1;
    if (form == AttentionForm::kBf16) {
      AttendPrefillBf16(t, k16.data(), v16.data(), &prefill);
    } else {
      AttendPrefill(t, k.data(), k.data(), &prefill);
    }
  }
  std::vector<float> received(size_t(group) * rows, 0.0f);
  ColumnAttentionArgs a;
  a.group = group;
  a.head_dim = head_dim;
  a.scale = scale;
  a.rows = rows;
  a.q = q.data();
  a.q_stride = width;
  a.lse = lse.data();
  a.lse_stride = group;
  a.k = k.data();
  a.first_end = 1;
  a.to = rows;
  a.form = form;
  a.received = received.data();
  a.received_stride = rows;
  ColumnScratch scratch;
  ColumnAttention(a, &scratch);
  return received;
}

// Every row gives 1 in all, in bf16 too: both kernels round the same.
TEST(ColumnAttention, RowsGiveOneInAll) {
  for (AttentionForm form : kColumnForms) {
    if (!Runs(form)) continue;
    const int group = 3, head_dim = 64, rows = 531;
    const auto q = RandomFloats(size_t(rows) * group * head_dim, 7);
    const auto k = RandomFloats(size_t(rows) * head_dim, 8);
    const auto sums = PromptSums(q, k, group, head_dim, 0.31f, form);
    for (int g = 0; g < group; ++g) {
      const auto* head = &sums[size_t(g) * rows];
      EXPECT_NEAR(std::accumulate(head, head + rows, 0.0) / rows, 1.0, 5e-6);
    }
  }
}

// The generator of the golden vectors: 16 tokens of 4 channels, to which
// zeros are appended.
std::vector<float> GoldenRows(int seed, float scale) {
  std::vector<float> rows(16 * 8, 0.0f);
  for (int t = 0; t < 16; ++t) {
    for (int d = 0; d < 4; ++d) {
      const int value = (37 * t + 11 * d + 7 * seed) % 17 - 8;
      rows[t * 8 + d] = scale * static_cast<float>(value) / 8.0f;
    }
  }
  return rows;
}

// H2O's column sums and, divided by the number of rows that see an entry,
// those of kvpress' ObservedAttention; computed in float64 from the formula.
TEST(ColumnAttention, GoldenColumnSums) {
  const std::vector<float> sums = {3.618424f, 2.341635f, 1.810009f, 1.782403f,
                                   1.631801f, 1.252733f, 0.748522f, 0.687517f,
                                   0.643780f, 0.329875f, 0.544270f, 0.246858f,
                                   0.206158f, 0.073739f, 0.051340f, 0.030935f};
  const std::vector<float> means = {0.226152f, 0.156109f, 0.129286f, 0.137108f,
                                    0.135983f, 0.113885f, 0.074852f, 0.076391f,
                                    0.080472f, 0.047125f, 0.090712f, 0.049372f,
                                    0.051540f, 0.024580f, 0.025670f, 0.030935f};
  const auto q = GoldenRows(2, 2.0f), k = GoldenRows(1, 1.0f);
  for (AttentionForm form : kColumnForms) {  // bf16 holds these values exactly
    if (!Runs(form)) continue;
    auto got = PromptSums(q, k, 1, 8, 0.5f, form);
    ExpectNear(got, sums, 3e-6f);
    for (int j = 0; j < 16; ++j) got[j] /= static_cast<float>(16 - j);
    ExpectNear(got, means, 1e-6f);
  }
}

TEST(ColumnAttention, ReducesTheGroup) {
  const std::vector<float> received = {1, 5, 3, -1,  //
                                       4, 2, 3, -1,  //
                                       1, 2, 9, -1};
  const auto reduce = [&](Group group) {
    std::vector<float> out(3);
    ReduceReceived(received.data(), 4, 3, 3, group, out.data());
    return out;
  };
  EXPECT_EQ(reduce(Group::kSum), (std::vector<float>{6, 9, 15}));
  EXPECT_EQ(reduce(Group::kMax), (std::vector<float>{4, 5, 9}));
  ExpectNear(reduce(Group::kMean), {2, 3, 5}, 1e-6f);
}

}  // namespace
}  // namespace pyramidkv
