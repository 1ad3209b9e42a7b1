// Selecting blocks of a cold tier's head, reading them, visiting all.

#include <sys/uio.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "cache/cold_head.h"

namespace pyramidkv {
namespace {

// Bytes that a visit reads at once.
constexpr size_t kVisitBytes = size_t{1} << 20;

}  // namespace

void ColdHead::Choose(const float* q, int group, float scale) {
  const int blocks = index_->blocks();
  if (blocks == 0) return chosen_.clear();
  std::unique_ptr<ColdScratch> scratch = shared_->scratch.Take();
  scratch->best.resize(
      std::max(scratch->best.size(), static_cast<size_t>(group) * blocks));
  index_->Score(q, group, &scratch->index, scratch->best.data());
  ChooseBlocks({scratch->best.data(), group, blocks, scale}, full_blocks(),
               {shared_->options.alpha, shared_->options.fetch}, &chosen_);
  shared_->scratch.Return(std::move(scratch));
}

void ColdHead::Select(const float* q, int group, float scale) {
  FinishReads();
  failed_ = {};
  Choose(q, group, scale);
  selected_ = true;
  ++stats_.steps;
  stats_.candidate_blocks += full_blocks();
  stats_.selected_blocks += static_cast<int64_t>(chosen_.size());
  begin_ = 0;
  first_step_ = residents_.next_step();
  StartRound(/*spared=*/1);
}

int ColdHead::Room() const {
  const int chosen = static_cast<int>(chosen_.size());
  return std::max(Capacity(full_blocks()), std::min(chosen, kColdPartBlocks));
}

// All, or whole parts: at most half of what memory may hold, so that the next
// ones can be read meanwhile, and at most a quarter that has to be read, so
// that what only passes through leaves the rest in memory.
int ColdHead::RoundEnd(int begin) const {
  const int all = static_cast<int>(chosen_.size());
  const int room = Room();
  if (all <= room) return all;
  const int most = std::max(kColdPartBlocks, room / 2);
  const int most_missing = std::max(kColdPartBlocks, room / 4);
  int end = begin, missing = 0;
  for (int i = begin; i < std::min(all, begin + most); ++i) {
    missing += residents_.page(chosen_[i]) == nullptr ? 1 : 0;
    if (missing > most_missing) break;
    if ((i + 1) % kColdPartBlocks == 0 || i + 1 == all) end = i + 1;
  }
  return end;
}

void ColdHead::StartRound(int spared) {
  end_ = RoundEnd(begin_);
  started_ = true;
  std::vector<int32_t> missing;
  residents_.Use(std::span(chosen_).subspan(begin_, end_ - begin_), &missing);
  StartReads(std::move(missing), spared);
}

void ColdHead::StartReads(std::vector<int32_t> missing, int spared) {
  const int n = static_cast<int>(missing.size());
  std::vector<std::byte*> pages;
  residents_.EvictPassed(residents_.size() + n - Room(), first_step_, spared,
                         &pages);
  residents_.Evict(residents_.size() + n - Room(), spared, &pages);
  failed_ = Resize(n, &pages);
  if (n == 0 || !failed_.ok()) return;

  const size_t block_bytes = shared_->block_bytes;
  loading_ = std::move(missing);
  job_.pieces.clear();
  job_.runs.clear();
  for (int i = 0; i < n; ++i) {
    const BlockFile* const file = &FileOf(loading_[i]);
    const int64_t offset = extents_.Offset(loading_[i], block_bytes);
    job_.pieces.push_back({pages[i], block_bytes});
    ReadJob::Run* const last = job_.runs.empty() ? nullptr : &job_.runs.back();
    if (last != nullptr && last->count < BlockFile::kMostPieces &&
        last->file == file &&
        last->offset + static_cast<int64_t>(last->count * block_bytes) ==
            offset) {
      ++last->count;
    } else {
      job_.runs.push_back({file, offset, static_cast<uint32_t>(i), 1, 0});
    }
  }
  stats_.read_blocks += n;
  stats_.read_bytes += static_cast<int64_t>(n * block_bytes);
  shared_->queue->Start(&job_);
}

void ColdHead::FinishReads(bool cancel) {
  if (loading_.empty()) return;
  if (cancel) {
    shared_->queue->Cancel(&job_);
  } else {
    shared_->queue->Wait(&job_);
  }
  for (const ReadJob::Run& run : job_.runs) {
    for (size_t i = run.first; i < run.first + run.count; ++i) {
      auto* const page = static_cast<std::byte*>(job_.pieces[i].iov_base);
      if (run.error == 0) {
        residents_.AddUsed(loading_[i], page);
      } else {
        shared_->pages->Release(page);
      }
    }
    if (run.error != 0 && failed_.ok()) {
      failed_ = run.file->ReadError(run.error);
    }
  }
  loading_.clear();
}

Status ColdHead::Fetch(ColdView* view) {
  view->pages.clear();
  view->first = view->length = view->selected = 0;
  if (!selected_) return {};
  if (!started_) StartRound(/*spared=*/1);
  FinishReads();
  PKV_RETURN_IF_ERROR(failed_);
  const int all = static_cast<int>(chosen_.size());
  for (int i = begin_; i < end_; ++i) {
    view->pages.push_back(residents_.page(chosen_[i]));
    DCHECK(view->pages.back() != nullptr);
  }
  view->first = begin_ * kBlockEntries;
  view->length = (end_ - begin_) * kBlockEntries;
  view->selected = all * kBlockEntries + tail_entries();
  const bool last = end_ == all;
  if (last && tail_entries() > 0) {
    view->pages.push_back(tail_);
    view->length += tail_entries();
  }
  begin_ = last ? 0 : end_;
  started_ = false;
  // Two rounds at once if they fit.
  if (!last && Room() >= 2 * kColdPartBlocks) StartRound(/*spared=*/2);
  return {};
}

// Blocks [first, first + count), adjacent in the file. Those in memory are
// taken from there, unless they lie between blocks that must be read.
Status ColdHead::VisitAdjacent(int first, int count, std::byte* buffer,
                               const VisitBlock& visit) const {
  int begin = first;
  int end = first + count;
  while (begin < end && residents_.page(begin) != nullptr) ++begin;
  while (begin < end && residents_.page(end - 1) != nullptr) --end;
  const size_t block_bytes = shared_->block_bytes;
  if (begin < end) {
    const iovec piece = {buffer, (end - begin) * block_bytes};
    const BlockFile& file = FileOf(begin);
    const int error =
        file.Read(extents_.Offset(begin, block_bytes), std::span(&piece, 1));
    if (error != 0) return file.ReadError(error);
  }
  for (int b = first; b < first + count; ++b) {
    PKV_RETURN_IF_ERROR(visit(b, begin <= b && b < end
                                     ? buffer + (b - begin) * block_bytes
                                     : residents_.page(b)));
  }
  return {};
}

Status ColdHead::VisitBlocks(const VisitBlock& visit) const {
  const size_t block_bytes = shared_->block_bytes;
  const bool reads = shared_->own_file() != nullptr && full_blocks() > 0;
  const int most =
      std::max<int>(1, static_cast<int>(kVisitBytes / block_bytes));
  std::byte* const buffer =
      reads ? shared_->pages->Allocate(most * block_bytes) : nullptr;
  if (reads && buffer == nullptr) {
    return Status::Runtime("no memory to read the cold tier");
  }
  Status status;
  for (int b = 0; b < full_blocks() && status.ok();) {
    int n = std::min(most, full_blocks() - b);
    if (reads) n = extents_.Adjacent(b, n);
    status = VisitAdjacent(b, n, buffer, visit);
    b += n;
  }
  if (buffer != nullptr) shared_->pages->Release(buffer);
  PKV_RETURN_IF_ERROR(status);
  return tail_entries() > 0 ? visit(full_blocks(), tail_) : Status();
}

Status ColdHead::Decode(float* k, float* v) const {
  const PageFormat& format = shared_->options.format;
  return VisitBlocks([&](int block, const std::byte* page) {
    const int first = block * kBlockEntries;
    const int entries = std::min(kBlockEntries, length() - first);
    for (int slot = 0; slot < entries; ++slot) {
      const size_t row = size_t(first + slot) * format.head_dim;
      LoadEntry(format, page, slot, k == nullptr ? nullptr : k + row,
                v == nullptr ? nullptr : v + row);
    }
    return Status();
  });
}

}  // namespace pyramidkv
