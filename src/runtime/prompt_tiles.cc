#include "runtime/prompt_tiles.h"

#include <algorithm>

#include "kernels/matmul_int8.h"

namespace pyramidkv {
namespace {

// Work of one Step: enough for every thread, tens of milliseconds.
constexpr double kWaveFlops = 2e10;
constexpr double kAttentionCost = 2;  // of its products, by those of weights
constexpr int kMaxWaveRows = 16 * kPromptTile;

// A row of one layer that sees `entries`.
double RowFlops(const HyperParams& p, int entries) {
  const double weights = double{1.0} * p.embedding *
                         (2.0 * p.heads * p.head_dim +
                          2.0 * p.kv_heads * p.head_dim + 3.0 * p.feed_forward);
  return 2 * weights +
         kAttentionCost * 4 * p.heads * p.head_dim * double(entries);
}

}  // namespace

int TileRows(const ForwardContext& context, int rows) {
  if (!context.any_tile_rows) return kPromptTile;
  const auto longest = [&](int tile) {  // rows that the busiest thread gets
    const int tiles = (rows + tile - 1) / tile;
    const int threads = context.pool->threads();
    return (tiles + threads - 1) / threads * tile;
  };
  int best = kPromptTile;
  for (int tile = kPromptTile / 2; tile >= kInt8RowGroup; tile /= 2) {
    // Smaller tiles leave lanes of attention empty.
    if (longest(tile) * 1.05 < longest(best)) best = tile;
  }
  return best;
}

int MostWaveTiles(const ForwardContext& context, int tile_rows) {
  const HyperParams& p = context.model->params();
  const int tiles = static_cast<int>(kWaveFlops / (RowFlops(p, 0) * tile_rows));
  return std::max(std::clamp(tiles, 1, kMaxWaveRows / tile_rows),
                  context.pool->threads());
}

int AffordableTiles(const ForwardContext& context, int tile_rows, int entries) {
  const double flops = tile_rows * RowFlops(context.model->params(), entries);
  return std::max(static_cast<int>(kWaveFlops / flops),
                  context.pool->threads());
}

}  // namespace pyramidkv
