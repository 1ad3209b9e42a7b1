#include "cache/cold_head.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pyramidkv {

std::unique_ptr<ColdScratch> ColdScratchPool::Take() {
  std::lock_guard lock(mutex_);
  if (free_.empty()) return std::make_unique<ColdScratch>();
  std::unique_ptr<ColdScratch> scratch = std::move(free_.back());
  free_.pop_back();
  return scratch;
}

void ColdScratchPool::Return(std::unique_ptr<ColdScratch> scratch) {
  std::lock_guard lock(mutex_);
  free_.push_back(std::move(scratch));
}

int64_t ColdScratchPool::bytes() const {
  std::lock_guard lock(mutex_);
  size_t floats = 0;
  for (const auto& s : free_) {
    floats += s->index.capacity() + s->best.capacity();
  }
  return static_cast<int64_t>(floats * sizeof(float));
}

ColdHead::ColdHead(ColdShared* shared, std::unique_ptr<KeyIndex> index)
    : shared_(shared),
      index_(std::move(index)),
      residents_(shared->options.victim) {}

ColdHead::~ColdHead() {
  std::vector<std::byte*> pages;
  residents_.Clear(&pages);
  if (tail_ != nullptr) pages.push_back(tail_);
  Release(&pages);
}

void ColdHead::Release(std::vector<std::byte*>* pages) {
  for (std::byte* page : *pages) shared_->pages.Release(page);
  pages->clear();
}

Status ColdHead::Append(int count, const float* k, const float* v,
                        size_t stride, const int32_t* positions) {
  DCHECK(count >= 0);
  const int after = length() + count;
  std::vector<std::byte*> pages;  // behind the one that is there
  const int have = full_blocks() + (tail_ != nullptr ? 1 : 0);
  const int want = after / kBlockEntries + 1;
  for (int b = have; b < want; ++b) {
    pages.push_back(shared_->pages.Allocate(shared_->block_bytes));
    if (pages.back() != nullptr) continue;
    pages.pop_back();
    Release(&pages);
    return Status::Runtime("no memory for entries of the cold tier");
  }
  if (tail_ != nullptr) pages.insert(pages.begin(), tail_);
  const int first = full_blocks();
  for (int r = 0; r < count; ++r) {
    const int i = length() + r;
    StoreEntry(shared_->options.format, pages[i / kBlockEntries - first],
               i % kBlockEntries, k + r * stride, v + r * stride);
  }
  for (int b = first; b < want - 1; ++b) residents_.Add(b, pages[b - first]);
  tail_ = pages.back();
  index_->Append(k, count, stride);
  positions_.insert(positions_.end(), positions, positions + count);
  selected_ = false;
  return {};
}

void ColdHead::Select(const float* q, int group, float scale) {
  const int blocks = (length() + kBlockEntries - 1) / kBlockEntries;
  std::unique_ptr<ColdScratch> scratch = shared_->scratch.Take();
  scratch->best.resize(
      std::max(scratch->best.size(), static_cast<size_t>(group) * blocks));
  if (blocks > 0) {
    index_->Score(q, group, &scratch->index, scratch->best.data());
  }
  ChooseBlocks({scratch->best.data(), group, blocks, scale}, full_blocks(),
               {shared_->options.alpha, shared_->options.fetch}, &chosen_);
  shared_->scratch.Return(std::move(scratch));
  std::vector<int32_t> missing;
  residents_.Use(chosen_, &missing);
  selected_ = true;
  ++stats_.steps;
  stats_.candidate_blocks += full_blocks();
  stats_.selected_blocks += static_cast<int64_t>(chosen_.size());
}

Status ColdHead::Fetch(ColdView* view) {
  view->pages.clear();
  view->length = 0;
  if (!selected_) return {};
  for (const int32_t b : chosen_) view->pages.push_back(residents_.page(b));
  view->length = static_cast<int>(chosen_.size()) * kBlockEntries;
  if (tail_entries() > 0) {
    view->pages.push_back(tail_);
    view->length += tail_entries();
  }
  return {};
}

Status ColdHead::Decode(float* k, float* v) const {
  const int d = shared_->options.format.head_dim;
  for (int i = 0; i < length(); ++i) {
    const int b = i / kBlockEntries;
    LoadEntry(shared_->options.format,
              b < full_blocks() ? residents_.page(b) : tail_, i % kBlockEntries,
              k == nullptr ? nullptr : k + static_cast<size_t>(i) * d,
              v == nullptr ? nullptr : v + static_cast<size_t>(i) * d);
  }
  return {};
}

int64_t ColdHead::bytes() const {
  return static_cast<int64_t>(sizeof(*this) +
                              positions_.capacity() * sizeof(int32_t) +
                              chosen_.capacity() * sizeof(int32_t)) +
         residents_.bytes();
}

void ColdHead::AddStats(ColdTierStats* stats) const {
  stats->steps += stats_.steps;
  stats->selected_blocks += stats_.selected_blocks;
  stats->candidate_blocks += stats_.candidate_blocks;
  stats->read_blocks += stats_.read_blocks;
  stats->read_bytes += stats_.read_bytes;
  stats->written_bytes += stats_.written_bytes;
}

}  // namespace pyramidkv
