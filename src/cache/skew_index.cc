#include "cache/skew_index.h"

#include <algorithm>
#include <utility>

#include "cache/index_bytes.h"
#include "kernels/code_scores.h"

namespace pyramidkv {

static_assert(kCodeBlock == kBlockEntries);

int SkewColumns(double partial, int head_dim) {
  const auto columns = static_cast<int>(partial * head_dim);
  return std::clamp((columns + 1) / 2 * 2, 2, std::min(head_dim, kMaxCodes));
}

void SkewIndex::Project(const float* x, float* projected) const {
  const float* row = skew_;
  for (int i = 0; i < columns_; ++i, row += head_dim_) {
    // Four chains: a sum in one order would wait for every addition.
    float sum[4] = {};
    for (int c = 0; c < head_dim_; c += 4) {
      for (int j = 0; j < 4; ++j) sum[j] += row[c + j] * x[c + j];
    }
    projected[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
}

void SkewIndex::Append(const float* k, int count, size_t stride) {
  if (count == 0) return;
  if (length_ == 0) {
    mean_.resize(columns_);
    Project(MeanOfRows(k, count, head_dim_, stride).data(), mean_.data());
  }
  const size_t group_bytes = CodeGroupBytes(columns_);
  const int groups = (length_ + count + kCodeGroup - 1) / kCodeGroup;
  GrowTo(groups * group_bytes, &groups_);
  std::vector<float> row(columns_);
  std::vector<uint8_t> codes(columns_);
  for (int e = 0; e < count; ++e, ++length_) {
    Project(k + e * stride, row.data());
    for (int i = 0; i < columns_; ++i) row[i] -= mean_[i];
    const float scale = ColumnCodes(row.data(), columns_, codes.data());
    StoreCodes(codes.data(), columns_, scale, length_ % kCodeGroup,
               groups_.data() + length_ / kCodeGroup * group_bytes);
  }
  // The empty end of the last block must not be its best.
  const int last = (length_ - 1) % kCodeGroup;
  for (int e = last + 1; e % kBlockEntries != 0; ++e) {
    CopyCodes(columns_, last, e, groups_.data() + (groups - 1) * group_bytes);
  }
}

void SkewIndex::Score(const float* q, int group, std::vector<float>* scratch,
                      float* best) const {
  const size_t table_bytes = CodeTableBytes(columns_);
  float* row =
      ScratchOf(columns_ + group * (table_bytes / sizeof(float) + 1), scratch);
  float* steps = row + columns_;
  auto* tables = reinterpret_cast<uint8_t*>(steps + group);
  for (int g = 0; g < group; ++g) {
    Project(q + size_t(g) * head_dim_, row);
    steps[g] = ColumnTables(row, columns_, tables + g * table_bytes);
  }
  CodeScores({columns_, groups_.data(), blocks(), tables, steps, group}, best);
}

int64_t SkewIndex::bytes() const {
  return static_cast<int64_t>(groups_.capacity() +
                              mean_.capacity() * sizeof(float) + sizeof(*this));
}

KeyIndexState SkewIndex::Export() const {
  KeyIndexState state;
  state.length = length_;
  state.mean = mean_;
  state.codes = groups_;
  return state;
}

bool SkewIndex::Import(KeyIndexState s) {
  if (!IsOfCodedKeys(s, columns_, columns_)) return false;
  length_ = s.length;
  mean_ = std::move(s.mean);
  groups_ = std::move(s.codes);
  return true;
}

}  // namespace pyramidkv
