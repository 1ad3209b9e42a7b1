#include "cache/cold_size.h"

#include <algorithm>

#include "cache/block_file.h"
#include "cache/cold_extents.h"
#include "cache/cold_head.h"
#include "cache/skew_index.h"
#include "kernels/bound_scores.h"
#include "kernels/code_scores.h"

namespace pyramidkv {
namespace {

int64_t RoundUp(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

int64_t IndexBytes(const ColdTierOptions& options, int64_t entries) {
  const int d = options.format.head_dim;
  const int64_t groups = RoundUp(entries, kCodeGroup) / kCodeGroup;
  switch (options.index) {
    case IndexKind::kSign:
    case IndexKind::kCluster:  // as many clusters as make it equal
      return groups * int64_t(CodeGroupBytes(d / kChannelsOfSigns));
    case IndexKind::kSkew:
      return groups * int64_t(CodeGroupBytes(SkewColumns(options.partial, d)));
    case IndexKind::kQuest:
      return RoundUp(entries, kBlockEntries * kBoundGroup) / kBlockEntries /
             kBoundGroup * int64_t(BoundGroupBytes(d));
  }
  return 0;
}

}  // namespace

ColdTierSize SizeOfColdTier(const ColdTierOptions& options,
                            std::span<const int> entries) {
  const int64_t block_bytes = ColdBlockBytes(options.format);
  ColdTierSize size;
  for (const int n : entries) {
    if (n <= 0) continue;
    const int full = n / kBlockEntries;
    const int resident = ResidentBlocks(options.resident, full);
    const int64_t index = IndexBytes(options, n);
    size.entries += n;
    size.index_bytes += index;
    // The last block has a page of its own.
    size.bytes += index + (resident + 1) * block_bytes +
                  int64_t{n} * int64_t(sizeof(int32_t));
    if (options.resident < 1 && full > 0) {
      size.file_bytes +=
          std::max(full, ColdExtents::kLeastBlocks) * block_bytes;
    }
  }
  size.file_bytes = RoundUp(size.file_bytes, BlockFile::kGrowBytes);
  return size;
}

}  // namespace pyramidkv
