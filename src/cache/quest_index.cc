#include "cache/quest_index.h"

#include <utility>

#include "cache/index_bytes.h"
#include "kernels/bound_scores.h"

namespace pyramidkv {

void QuestIndex::Append(const float* k, int count, size_t stride) {
  const size_t group_bytes = BoundGroupBytes(head_dim_);
  const int pages = (length_ + count + page_entries_ - 1) / page_entries_;
  GrowTo((pages + kBoundGroup - 1) / kBoundGroup * group_bytes, &groups_);
  for (int e = 0; e < count; ++e, ++length_) {
    const int page = length_ / page_entries_;
    WidenBounds(k + e * stride, head_dim_, page % kBoundGroup,
                length_ % page_entries_ == 0,
                groups_.data() + page / kBoundGroup * group_bytes);
  }
}

void QuestIndex::Score(const float* q, int group, std::vector<float>*,
                       float* best) const {
  BoundScores({head_dim_, groups_.data(), pages(), q, group}, best);
}

int64_t QuestIndex::bytes() const {
  return static_cast<int64_t>(groups_.capacity() + sizeof(*this));
}

KeyIndexState QuestIndex::Export() const {
  KeyIndexState state;
  state.length = length_;
  state.codes = groups_;
  return state;
}

bool QuestIndex::Import(KeyIndexState s) {
  const size_t pages = (size_t(s.length) + page_entries_ - 1) / page_entries_;
  if (s.length < 0 || s.codes.size() != (pages + kBoundGroup - 1) /
                                            kBoundGroup *
                                            BoundGroupBytes(head_dim_)) {
    return false;
  }
  length_ = s.length;
  groups_ = std::move(s.codes);
  return true;
}

}  // namespace pyramidkv
