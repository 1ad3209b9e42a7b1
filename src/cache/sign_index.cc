#include "cache/sign_index.h"

#include <algorithm>
#include <utility>

#include "cache/index_bytes.h"
#include "kernels/code_scores.h"
#include "kernels/kv_quant.h"

namespace pyramidkv {
namespace {

static_assert(kCodeBlock == kBlockEntries);

}  // namespace

void SignIndex::Append(const float* k, int count, size_t stride) {
  if (count == 0) return;
  if (length_ == 0) {
    mean_ = MeanOfRows(k, count, head_dim_, stride);
    RotateChannels(head_dim_, mean_.data());
  }
  const size_t group_bytes = CodeGroupBytes(codes());
  const int groups = (length_ + count + kCodeGroup - 1) / kCodeGroup;
  GrowTo(groups * group_bytes, &groups_);
  std::vector<float> row(head_dim_);
  std::vector<uint8_t> of_row(codes());
  for (int e = 0; e < count; ++e, ++length_) {
    std::copy_n(k + e * stride, head_dim_, row.data());
    RotateChannels(head_dim_, row.data());
    for (int c = 0; c < head_dim_; ++c) row[c] -= mean_[c];
    const float scale = SignCodes(row.data(), head_dim_, of_row.data());
    StoreCodes(of_row.data(), codes(), scale, length_ % kCodeGroup,
               groups_.data() + length_ / kCodeGroup * group_bytes);
  }
  // The empty end of the last block must not be its best.
  const int last = (length_ - 1) % kCodeGroup;
  for (int e = last + 1; e % kCodeBlock != 0; ++e) {
    CopyCodes(codes(), last, e, groups_.data() + (groups - 1) * group_bytes);
  }
}

void SignIndex::Score(const float* q, int group, std::vector<float>* scratch,
                      float* best) const {
  const size_t table_floats = CodeTableBytes(codes()) / sizeof(float);
  float* row = ScratchOf(head_dim_ + group * (table_floats + 1), scratch);
  float* steps = row + head_dim_;
  auto* tables = reinterpret_cast<uint8_t*>(steps + group);
  for (int g = 0; g < group; ++g) {
    std::copy_n(q + size_t(g) * head_dim_, head_dim_, row);
    RotateChannels(head_dim_, row);
    steps[g] = SignTables(row, head_dim_, tables + g * CodeTableBytes(codes()));
  }
  CodeScores({codes(), groups_.data(), blocks(), tables, steps, group}, best);
}

int64_t SignIndex::bytes() const {
  return static_cast<int64_t>(groups_.capacity() +
                              mean_.capacity() * sizeof(float) + sizeof(*this));
}

KeyIndexState SignIndex::Export() const {
  KeyIndexState state;
  state.length = length_;
  state.mean = mean_;
  state.codes = groups_;
  return state;
}

bool SignIndex::Import(KeyIndexState s) {
  if (!IsOfCodedKeys(s, head_dim_, codes())) return false;
  length_ = s.length;
  mean_ = std::move(s.mean);
  groups_ = std::move(s.codes);
  return true;
}

}  // namespace pyramidkv
