#include "policy/value_norms.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "base/check.h"
#include "policy/gemm.h"
#include "policy/scorers/key_norm.h"
#include "policy/top_cut.h"

namespace pyramidkv {
namespace {

constexpr int kPanel = 128;  // rows of Wo in f32 at a time
constexpr int kTile = 64;    // values per matrix product, the last ones padded

constexpr float kCriticalEpsilon = 1e-4f;
constexpr float kMark = std::numeric_limits<float>::max();

// sum[j] += sum over the rows of `panel` [rows, head_dim] of |row . v[j]|,
// for the kTile values v.
void AddAbsoluteProducts(const GemmOperand& panel, int rows, int head_dim,
                         const float* v, std::vector<float>* product,
                         double* sum, int count) {
  Gemm({.m = rows,
        .n = kTile,
        .k = head_dim,
        .a = panel,
        .b = {v, head_dim, true},
        .c = product->data(),
        .c_stride = kTile});
  float absolute[kTile] = {};
  for (int r = 0; r < rows; ++r) {
    const float* row = product->data() + static_cast<size_t>(r) * kTile;
    for (int j = 0; j < kTile; ++j) absolute[j] += std::abs(row[j]);
  }
  for (int j = 0; j < count; ++j) sum[j] += absolute[j];
}

}  // namespace

void ValueNorms(std::span<const float> v, int n, int head_dim,
                std::span<float> norm) {
  DCHECK(v.size() == static_cast<size_t>(n) * head_dim);
  DCHECK(norm.size() == static_cast<size_t>(n));
  for (int j = 0; j < n; ++j) {
    norm[j] = static_cast<float>(
        EuclideanNorm(v.subspan(static_cast<size_t>(j) * head_dim, head_dim)));
  }
}

void ProjectedValueNorms(const ProjectedValueArgs& args,
                         std::span<float> norm) {
  const int head_dim = args.head_dim;
  DCHECK(args.v.size() == static_cast<size_t>(args.n) * head_dim);
  DCHECK(norm.size() == static_cast<size_t>(args.n));
  const int columns = args.group * head_dim;
  int offset = 0;
  const WeightMatrix wo =
      ColumnsOf(args.output, args.kv_head * columns, columns, &offset);
  const int tiles = (args.n + kTile - 1) / kTile;
  std::vector<float> v(static_cast<size_t>(tiles) * kTile * head_dim);
  std::copy(args.v.begin(), args.v.end(), v.begin());
  std::vector<float> panel(static_cast<size_t>(kPanel) * wo.cols);
  std::vector<float> product(kPanel * kTile);
  std::vector<double> sum(args.n, 0.0);
  for (int first = 0; first < wo.rows; first += kPanel) {
    const int rows = std::min(kPanel, wo.rows - first);
    DequantizeRows(wo, first, rows, panel.data());
    for (int g = 0; g < args.group; ++g) {
      const GemmOperand slice = {panel.data() + offset + g * head_dim, wo.cols,
                                 false};
      for (int t = 0; t < tiles; ++t) {
        const int at = t * kTile;
        AddAbsoluteProducts(slice, rows, head_dim,
                            v.data() + static_cast<size_t>(at) * head_dim,
                            &product, sum.data() + at,
                            std::min(kTile, args.n - at));
      }
    }
  }
  for (int j = 0; j < args.n; ++j) {
    norm[j] = static_cast<float>(sum[j] / args.group);
  }
}

void CriticalScores(std::span<const float> base, std::span<const float> norm,
                    int budget, std::span<float> out) {
  DCHECK(base.size() == norm.size() && base.size() == out.size());
  const int n = static_cast<int>(base.size());
  float lowest = 0;
  for (const float s : base) {
    if (std::isfinite(s)) lowest = std::min(lowest, s);
  }
  const int marked = std::clamp(budget / 2, 0, n);
  std::vector<float> ranked(n);
  std::transform(base.begin(), base.end(), ranked.begin(), Rankable);
  TopCut cut(&ranked, marked);
  const float below_mark = std::nextafter(kMark, 0.0f);
  for (int j = 0; j < n; ++j) {
    const float s = Rankable(base[j]);
    if (cut.Keep(s)) {
      out[j] = kMark;
      continue;
    }
    const float product = (s - lowest + kCriticalEpsilon) * norm[j];
    out[j] = std::min(Rankable(product), below_mark);
  }
}

}  // namespace pyramidkv
