// Growing a cold tier's head, and reading it back as a whole.

#include "cache/cold_head.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/check.h"

namespace pyramidkv {
namespace {

// Blocks that are encoded before they are written at once.
constexpr int kWriteBlocks = 64;

template <typename T>
void GrowByAnEighth(size_t size, std::vector<T>* values) {
  if (size <= values->capacity()) return;
  values->reserve(std::max(size, values->capacity() / 8 * 9));
}

Status NoMemory() {
  return Status::Runtime("no memory for blocks of the cold tier");
}

}  // namespace

size_t ColdBlockBytes(const PageFormat& format) {
  constexpr size_t kLine = 64;
  return (format.page_bytes() + kLine - 1) / kLine * kLine;
}

int ResidentBlocks(double resident, int full) {
  if (resident >= 1) return full;
  // 0.1 * 30 must be 3.
  const double share = resident * full * (1 - 1e-12);
  return static_cast<int>(std::clamp<double>(std::ceil(share), 0, full));
}

ColdHead::ColdHead(ColdShared* shared, std::unique_ptr<KeyIndex> index)
    : shared_(shared),
      index_(std::move(index)),
      residents_(shared->options.victim) {}

ColdHead::~ColdHead() {
  FinishReads(/*cancel=*/true);
  std::vector<std::byte*> pages;
  residents_.Clear(&pages);
  if (tail_ != nullptr) pages.push_back(tail_);
  Release(&pages);
}

int ColdHead::Capacity(int full_blocks) const {
  return ResidentBlocks(shared_->options.resident, full_blocks);
}

void ColdHead::Release(std::vector<std::byte*>* pages) {
  for (std::byte* page : *pages) shared_->pages->Release(page);
  pages->clear();
}

Status ColdHead::Resize(int count, std::vector<std::byte*>* pages) {
  if (shared_->is_forked()) {
    const auto others = std::partition(
        pages->begin(), pages->end(),
        [this](const std::byte* page) { return shared_->pages->Unique(page); });
    std::vector<std::byte*> read(others, pages->end());
    pages->erase(others, pages->end());
    Release(&read);
  }
  while (static_cast<int>(pages->size()) > count) {
    shared_->pages->Release(pages->back());
    pages->pop_back();
  }
  while (static_cast<int>(pages->size()) < count) {
    std::byte* const page = shared_->pages->Allocate(shared_->block_bytes);
    if (page == nullptr) {
      Release(pages);
      return NoMemory();
    }
    pages->push_back(page);
  }
  return {};
}

void ColdHead::Encode(const Rows& rows, int begin, int end, int block,
                      std::byte* blocks) const {
  for (int i = begin; i < end; ++i) {
    const size_t row = static_cast<size_t>(i - rows.first) * rows.stride;
    StoreEntry(shared_->options.format,
               blocks + (i / kBlockEntries - block) * shared_->block_bytes,
               i % kBlockEntries, rows.k + row, rows.v + row);
  }
}

Status ColdHead::Write(int block, int count, const std::byte* data) {
  const size_t block_bytes = shared_->block_bytes;
  for (int done = 0; done < count;) {
    const int n = extents_.Adjacent(block + done, count - done);
    PKV_RETURN_IF_ERROR(
        shared_->own_file()->Write(extents_.Offset(block + done, block_bytes),
                                   data + done * block_bytes, n * block_bytes));
    done += n;
  }
  return {};
}

Status ColdHead::Store(const Rows& rows, int after,
                       const std::vector<std::byte*>& pages) {
  const int before = full_blocks();
  if (after == before) return {};
  BlockFile* const file = shared_->own_file();
  if (file != nullptr) {
    PKV_RETURN_IF_ERROR(extents_.Reserve(after, shared_->own_number(), file));
  }
  const size_t block_bytes = shared_->block_bytes;
  const int most = std::min(kWriteBlocks, after - before);
  AlignedBuffer<std::byte> buffer(most * block_bytes);
  std::byte* const staged = buffer.data();
  const int first_kept = after - static_cast<int>(pages.size());
  Status status;
  for (int b = before; b < after && status.ok(); b += most) {
    const int n = std::min(most, after - b);
    if (b == before) std::memcpy(staged, tail_, block_bytes);
    Encode(rows, std::max(b * kBlockEntries, rows.first),
           (b + n) * kBlockEntries, b, staged);
    if (file != nullptr) status = Write(b, n, staged);
    for (int i = std::max(b, first_kept); i < b + n; ++i) {
      std::memcpy(pages[i - first_kept], staged + (i - b) * block_bytes,
                  block_bytes);
    }
  }
  return status;
}

// Nothing of the head changes before all that can fail has succeeded, but for
// which of its blocks are in memory.
Status ColdHead::Append(int count, const float* k, const float* v,
                        size_t stride, const int32_t* positions) {
  if (count <= 0) return {};
  FinishReads();
  selected_ = false;
  const Rows rows = {k, v, stride, length()};
  const int end = length() + count;
  const int after = end / kBlockEntries;
  if (tail_ == nullptr) {
    tail_ = shared_->pages->Allocate(shared_->block_bytes);
    if (tail_ == nullptr) return NoMemory();
  }
  // New blocks take the places of victims.
  const int capacity = Capacity(after);
  const int kept = std::min(after - full_blocks(), capacity);
  std::vector<std::byte*> pages;
  residents_.Evict(residents_.size() + kept - capacity, /*spared=*/0, &pages);
  PKV_RETURN_IF_ERROR(Resize(kept, &pages));
  Status stored = Store(rows, after, pages);
  if (!stored.ok()) {
    Release(&pages);
    return stored;
  }
  for (int i = 0; i < kept; ++i) residents_.Add(after - kept + i, pages[i]);
  if (after > full_blocks()) std::memset(tail_, 0, shared_->block_bytes);
  Encode(rows, std::max(after * kBlockEntries, rows.first), end, after, tail_);
  index_->Append(k, count, stride);
  GrowByAnEighth(positions_.size() + count, &positions_);
  positions_.insert(positions_.end(), positions, positions + count);
  return {};
}

Status ColdHead::ForkInto(ColdHead* to) {
  DCHECK(to->length() == 0);
  FinishReads();
  if (tail_ != nullptr) {
    to->tail_ = to->shared_->pages->Allocate(shared_->block_bytes);
    if (to->tail_ == nullptr) return NoMemory();
    std::memcpy(to->tail_, tail_, shared_->block_bytes);
  }
  const bool fits = to->index_->Import(index_->Export());
  DCHECK(fits);
  to->positions_ = positions_;
  to->extents_ = extents_.First(full_blocks());
  to->residents_ = residents_;
  for (std::byte* page : residents_.pages()) {
    shared_->pages->AddReference(page);
  }
  return {};
}

int64_t ColdHead::bytes() const {
  const size_t ints =
      positions_.capacity() + chosen_.capacity() + loading_.capacity();
  return static_cast<int64_t>(sizeof(*this) + ints * sizeof(int32_t) +
                              job_.pieces.capacity() * sizeof(iovec) +
                              job_.runs.capacity() * sizeof(ReadJob::Run)) +
         extents_.bytes() + residents_.bytes();
}

void ColdHead::AddStats(ColdTierStats* stats) const {
  stats->steps += stats_.steps;
  stats->selected_blocks += stats_.selected_blocks;
  stats->read_blocks += stats_.read_blocks;
  stats->candidate_blocks += stats_.candidate_blocks;
  stats->read_bytes += stats_.read_bytes;
}

}  // namespace pyramidkv
