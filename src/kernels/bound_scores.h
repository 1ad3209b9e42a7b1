// Upper bounds of q.k over a block of entries from the least and the largest
// value of each of its channels: sum_d max(q_d min_d, q_d max_d).
//
// Blocks lie in the lanes, in groups of 16: f16 [head_dim][2][16], the least
// values and the largest.
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_BOUND_SCORES_H_
#define PYRAMIDKV_KERNELS_BOUND_SCORES_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

inline constexpr int kBoundGroup = 16;

constexpr size_t BoundGroupBytes(int head_dim) {
  return size_t(kBoundGroup) * head_dim * 2 * sizeof(uint16_t);
}

// Widens the bounds of block `block` of a group to k [head_dim], rounded
// outwards; `first`: sets them to it. Values beyond f16 are cut off there.
void WidenBounds(const float* k, int head_dim, int block, bool first,
                 std::byte* group);

struct BoundScoresArgs {
  int head_dim = 0;
  const std::byte* groups = nullptr;
  int blocks = 0;
  const float* q = nullptr;  // [queries, head_dim]
  int queries = 0;
};

// best [queries, blocks].
void BoundScores(const BoundScoresArgs& args, float* best);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_BOUND_SCORES_H_
