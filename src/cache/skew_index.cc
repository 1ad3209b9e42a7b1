#include "cache/skew_index.h"

#include "cache/index_bytes.h"
#include "kernels/column_scores.h"

namespace pyramidkv {

static_assert(kColumnBlock == kBlockEntries);

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
  const size_t block_bytes = ColumnBlockBytes(columns_);
  const int blocks = (length_ + count + kBlockEntries - 1) / kBlockEntries;
  GrowTo(blocks * block_bytes, &blocks_);
  std::vector<float> row(columns_);
  for (int e = 0; e < count; ++e, ++length_) {
    Project(k + e * stride, row.data());
    for (int i = 0; i < columns_; ++i) row[i] -= mean_[i];
    StoreColumns(row.data(), columns_, length_ % kBlockEntries,
                 blocks_.data() + length_ / kBlockEntries * block_bytes);
  }
  // What is still empty of the last block must not be its best.
  const int last = (length_ - 1) % kBlockEntries;
  for (int e = last + 1; e < kBlockEntries; ++e) {
    CopyColumns(columns_, last, e, blocks_.data() + (blocks - 1) * block_bytes);
  }
}

void SkewIndex::Score(const float* q, int group, std::vector<float>* scratch,
                      float* best) const {
  const size_t entries = size_t(blocks()) * kBlockEntries;
  float* projected = ScratchOf(group * (columns_ + entries), scratch);
  float* scores = projected + size_t(group) * columns_;
  for (int g = 0; g < group; ++g) {
    Project(q + size_t(g) * head_dim_, projected + size_t(g) * columns_);
  }
  ColumnScores({columns_, blocks_.data(), blocks(), projected, group}, scores);
  BlockMaxima(scores, size_t(group) * blocks(), best);
}

int64_t SkewIndex::bytes() const {
  return static_cast<int64_t>(blocks_.capacity() +
                              mean_.capacity() * sizeof(float) + sizeof(*this));
}

}  // namespace pyramidkv
