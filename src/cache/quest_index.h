// The least and the largest value of each channel in a block of keys, which
// bound its best q.k from above.
//
// 4 head_dim bytes per block: 16 per entry for head_dim 64 and blocks of 16,
// which is 6.2 % of its K and V as f16.
//
// Source: Quest (arXiv 2406.10774), section 3.3. Departures: f16, rounded
// outwards so that it stays a bound; an unfinished block counts what it has.

#ifndef PYRAMIDKV_CACHE_QUEST_INDEX_H_
#define PYRAMIDKV_CACHE_QUEST_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/key_index.h"

namespace pyramidkv {

class QuestIndex : public KeyIndex {
 public:
  // With another number of entries in a block than kBlockEntries, Score writes
  // [group, pages()].
  explicit QuestIndex(int head_dim, int page_entries = kBlockEntries)
      : head_dim_(head_dim), page_entries_(page_entries) {}

  void Append(const float* k, int count, size_t stride) override;
  // best: upper bounds.
  void Score(const float* q, int group, std::vector<float>* scratch,
             float* best) const override;
  int length() const override { return length_; }
  int pages() const { return (length_ + page_entries_ - 1) / page_entries_; }
  int64_t bytes() const override;
  KeyIndexState Export() const override;
  bool Import(KeyIndexState state) override;

 private:
  int head_dim_;
  int page_entries_;
  int length_ = 0;
  std::vector<std::byte> groups_;  // kernels/bound_scores.h
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_QUEST_INDEX_H_
