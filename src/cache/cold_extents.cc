#include "cache/cold_extents.h"

#include <algorithm>

#include "base/check.h"

namespace pyramidkv {

int ColdExtents::blocks() const {
  return extents_.empty() ? 0 : extents_.back().first + extents_.back().count;
}

Status ColdExtents::Reserve(int blocks, int number, BlockFile* file) {
  const int first = this->blocks();
  if (blocks <= first) return {};
  const int count = std::max(blocks - first, kLeastBlocks);
  PKV_ASSIGN_OR_RETURN(const int64_t offset, file->Extend(count));
  const int64_t block_bytes = static_cast<int64_t>(file->block_bytes());
  if (!extents_.empty() && extents_.back().file == uint64_t(number) &&
      int64_t(extents_.back().offset) + extents_.back().count * block_bytes ==
          offset) {
    extents_.back().count += count;
  } else {
    extents_.push_back({uint64_t(offset), uint64_t(number), first, count});
  }
  return {};
}

ColdExtents ColdExtents::First(int blocks) const {
  ColdExtents some = *this;
  while (!some.extents_.empty()) {
    Extent& last = some.extents_.back();
    last.count = std::min(last.count, blocks - last.first);
    if (last.count > 0) break;
    some.extents_.pop_back();
  }
  return some;
}

const ColdExtents::Extent& ColdExtents::Find(int block) const {
  DCHECK(block >= 0 && block < blocks());
  const auto after = std::upper_bound(
      extents_.begin(), extents_.end(), block,
      [](int b, const Extent& extent) { return b < extent.first; });
  return *(after - 1);
}

int64_t ColdExtents::Offset(int block, size_t block_bytes) const {
  const Extent& extent = Find(block);
  return int64_t(extent.offset) + static_cast<int64_t>(block - extent.first) *
                                      static_cast<int64_t>(block_bytes);
}

int ColdExtents::Adjacent(int block, int most) const {
  const Extent& extent = Find(block);
  return std::min(most, extent.first + extent.count - block);
}

}  // namespace pyramidkv
