#include "runtime/sparse_prefill.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace pyramidkv {

BlockChoice ChooseBlocks(std::span<const float> share, int queries) {
  DCHECK(queries > 0 && share.size() % queries == 0);
  const int blocks = static_cast<int>(share.size() / queries);
  BlockChoice choice;
  choice.skip.assign(blocks, 1);
  // A block is worth what its keenest query thinks; all have a say in how
  // much is covered.
  std::vector<float> worth(blocks, 0.0f);
  std::vector<double> mean(blocks, 0.0);
  for (int q = 0; q < queries; ++q) {
    for (int b = 0; b < blocks; ++b) {
      const float s = share[size_t(q) * blocks + b];
      worth[b] = std::max(worth[b], s);
      mean[b] += double{s} / queries;
    }
  }
  double covered = 0;
  const auto take = [&](int b) {
    if (choice.skip[b] != 0) covered += mean[b];
    choice.skip[b] = 0;
  };
  if (blocks > 0) take(0);
  for (int b = std::max(0, blocks - kBandBlocks); b < blocks; ++b) take(b);
  std::vector<int> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return worth[a] > worth[b]; });
  for (int b : order) {
    if (covered >= kBlockCover) break;
    take(b);
  }
  if (blocks > 0) choice.covered = std::min(covered, 1.0);
  return choice;
}

void SparsePrefill::Resize(int kv_heads, int head_dim, int entries,
                           int workers) {
  head_dim_ = head_dim;
  blocks_.resize(kv_heads);
  pooled_.resize(kv_heads);
  for (AlignedBuffer<float>& pooled : pooled_) {
    pooled.Resize(size_t(entries / kKeyBlock) * head_dim * kPoolsOfBlock);
  }
  workers_.clear();
  workers_.resize(workers);
}

void SparsePrefill::BeginLayer() {
  std::fill(blocks_.begin(), blocks_.end(), 0);
}

void SparsePrefill::AddKeys(std::span<const PromptKeys> keys, int entries,
                            ThreadPool* pool) {
  pool->ParallelFor(static_cast<int>(keys.size()), [&](int h, int) {
    for (int& b = blocks_[h]; b < entries / kKeyBlock; ++b) {
      PoolBlock(keys[h].k(), b, head_dim_, pooled_[h].data());
    }
  });
}

void SparsePrefill::Choose(int kv_head, int worker, PrefillTile* tile) {
  const int blocks = (tile->end[0] - 1) / kKeyBlock;  // in front of the rows'
  tile->skip = nullptr;
  if (blocks <= kBandBlocks + 1) return;
  Worker& own = workers_[worker];
  own.queries.clear();
  // One query for each 16 rows and head: their mean.
  for (int first = 0; first < tile->rows; first += kQueryTile) {
    const int count = std::min(kQueryTile, tile->rows - first);
    for (int g = 0; g < tile->group; ++g) {
      for (int i = 0; i < head_dim_; ++i) {
        float sum = 0;
        for (int r = first; r < first + count; ++r) {
          sum += tile->q[r * tile->q_stride + size_t(g) * head_dim_ + i];
        }
        own.queries.push_back(sum / static_cast<float>(count));
      }
    }
  }
  BlockSharesArgs args;
  args.q = own.queries.data();
  args.queries = static_cast<int>(own.queries.size()) / head_dim_;
  args.head_dim = head_dim_;
  args.scale = tile->scale;
  args.pooled = pooled_[kv_head].data();
  args.blocks = blocks;
  own.shares.resize(size_t(args.queries) * blocks);
  args.share = own.shares.data();
  BlockShares(args, &own.logits);
  own.choice = ChooseBlocks(own.shares, args.queries);
  // The rows' own blocks are never left out.
  own.choice.skip.resize((tile->end[tile->rows - 1] - 1) / kKeyBlock + 1, 0);
  tile->skip = own.choice.skip.data();
  own.covered += own.choice.covered;
  ++own.tiles;
}

double SparsePrefill::covered() const {
  double sum = 0;
  int64_t tiles = 0;
  for (const Worker& w : workers_) {
    sum += w.covered;
    tiles += w.tiles;
  }
  return tiles > 0 ? sum / static_cast<double>(tiles) : 1.0;
}

}  // namespace pyramidkv
