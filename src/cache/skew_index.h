// Some numbers of each key in a basis where few matter: the first rows of an
// orthogonal matrix (cache/skew.h) applied to q and k.
//
// columns / 2 + 2 bytes per entry, columns = floor(partial * head_dim), made
// even and at least 2: 12 for head_dim 64 and 0.3, which is 4.7 % of its K and
// V as f16; 10 for 0.25.
//
// Source: InfiniGen (arXiv 2406.19707), section 4.2. Departures: columns are
// 4 bits with one f16 scale per entry (docs/policies.md: at equal bytes four
// times as many are worth more than exact ones), and keys are taken less their
// mean, whose share of q.k is the same for all.

#ifndef PYRAMIDKV_CACHE_SKEW_INDEX_H_
#define PYRAMIDKV_CACHE_SKEW_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/key_index.h"

namespace pyramidkv {

// Columns that a share of head_dim stands for.
int SkewColumns(double partial, int head_dim);

class SkewIndex : public KeyIndex {
 public:
  // skew: as in KeyIndexOptions. REQUIRES: columns is even, at most head_dim
  // and kMaxCodes.
  SkewIndex(int head_dim, int columns, const float* skew)
      : head_dim_(head_dim), columns_(columns), skew_(skew) {}

  // The mean is that of the first keys that come, and stays.
  void Append(const float* k, int count, size_t stride) override;
  void Score(const float* q, int group, std::vector<float>* scratch,
             float* best) const override;
  int length() const override { return length_; }
  int64_t bytes() const override;
  KeyIndexState Export() const override;
  bool Import(KeyIndexState state) override;

 private:
  // [columns] of x [head_dim].
  void Project(const float* x, float* projected) const;

  int head_dim_;
  int columns_;
  const float* skew_;
  int length_ = 0;
  std::vector<float> mean_;        // [columns] projected
  std::vector<std::byte> groups_;  // kernels/code_scores.h
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_SKEW_INDEX_H_
