// A cold tier's head, to be stored and back.

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/check.h"
#include "cache/cold_head.h"

namespace pyramidkv {
namespace {

// Blocks that are read before they are written at once.
constexpr int kImportBlocks = 64;

Status Bad(const char* what) {
  return Status::Model(std::string("damaged: ") + what);
}

}  // namespace

ColdHeadState ColdHead::Export() const {
  return {positions_, index_->Export()};
}

Status ColdHead::ShowBlocks(const ShowPage& show) const {
  const size_t page_bytes = shared_->options.format.page_bytes();
  return VisitBlocks([&](int /*block*/, const std::byte* page) {
    return show({page, page_bytes});
  });
}

// The newest blocks are in memory, as after an Append.
Status ColdHead::ImportBlocks(int full, const ReadPage& read_page) {
  const int kept = Capacity(full);
  std::vector<std::byte*> pages;
  PKV_RETURN_IF_ERROR(Resize(kept, &pages));
  for (int i = 0; i < kept; ++i) residents_.Add(full - kept + i, pages[i]);
  BlockFile* const file = shared_->own_file();
  if (file != nullptr) {
    PKV_RETURN_IF_ERROR(extents_.Reserve(full, shared_->own_number(), file));
  }
  const size_t block_bytes = shared_->block_bytes;
  const size_t page_bytes = shared_->options.format.page_bytes();
  const int most = std::min(kImportBlocks, full);
  AlignedBuffer<std::byte> buffer(most * block_bytes);
  std::memset(buffer.data(), 0, most * block_bytes);
  for (int b = 0; b < full; b += most) {
    const int n = std::min(most, full - b);
    for (int i = 0; i < n; ++i) {
      std::byte* const block = buffer.data() + i * block_bytes;
      PKV_RETURN_IF_ERROR(read_page({block, page_bytes}));
      std::byte* const page = residents_.page(b + i);
      if (page != nullptr) std::memcpy(page, block, block_bytes);
    }
    if (file != nullptr) PKV_RETURN_IF_ERROR(Write(b, n, buffer.data()));
  }
  return {};
}

Status ColdHead::Import(int position, ColdHeadState state,
                        const ReadPage& read_page) {
  DCHECK(length() == 0);
  const size_t length = state.positions.size();
  if (length > size_t(position)) {
    return Bad("a cold head holds more entries than there were tokens");
  }
  if (std::any_of(state.positions.begin(), state.positions.end(),
                  [&](int32_t p) { return p < 0 || p >= position; })) {
    return Bad("an entry of the cold tier lies past the last token");
  }
  if (size_t(state.index.length) != length ||
      !index_->Import(std::move(state.index))) {
    return Bad("the index of a cold head does not fit its entries");
  }
  if (length == 0) return {};
  tail_ = shared_->pages->Allocate(shared_->block_bytes);
  if (tail_ == nullptr) {
    return Status::Runtime("no memory for blocks of the cold tier");
  }
  const int full = static_cast<int>(length) / kBlockEntries;
  if (full > 0) PKV_RETURN_IF_ERROR(ImportBlocks(full, read_page));
  if (length % kBlockEntries != 0) {
    PKV_RETURN_IF_ERROR(
        read_page({tail_, shared_->options.format.page_bytes()}));
  }
  positions_ = std::move(state.positions);
  return {};
}

}  // namespace pyramidkv
