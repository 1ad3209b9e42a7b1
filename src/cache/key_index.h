// An index in memory of keys that lie in a cold tier: enough to estimate
// which of them a query will attend to, without reading them.
//
// Keys come and are scored in blocks of kBlockEntries, the unit that a cold
// tier reads: a block is worth what its best entry is.
//
// Thread safety: const functions from any thread; the others from one.

#ifndef PYRAMIDKV_CACHE_KEY_INDEX_H_
#define PYRAMIDKV_CACHE_KEY_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/key_index_state.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

inline constexpr int kBlockEntries = 16;

// Entries as a cold tier holds what leaves pages of this format: each for
// itself.
inline PageFormat BlockFormat(PageFormat pages) {
  pages.entries = kBlockEntries;
  pages.channel = false;
  return pages;
}

enum class IndexKind {
  kSign,     // one bit per channel of the rotated, mean-removed key
  kSkew,     // some columns of the skewed key (InfiniGen)
  kQuest,    // per block and channel least and largest value (Quest)
  kCluster,  // the nearest of a head's centroids
};

struct KeyIndexOptions {
  IndexKind kind = IndexKind::kSign;
  int head_dim = 0;
  double partial = 0.3;  // kSkew: share of the columns that are kept
  // kSkew: [head_dim, head_dim] orthogonal, row-major; rows are applied to q
  // and k. Its first rows matter most. Outlives the index.
  const float* skew = nullptr;
};

// Indexes one KV head.
class KeyIndex {
 public:
  virtual ~KeyIndex() = default;

  // Appends keys [count, head_dim] (after RoPE), rows `stride` values apart.
  virtual void Append(const float* k, int count, size_t stride) = 0;

  // best[g * blocks() + b] = the largest estimate of q_g.k (without a scale,
  // up to a constant per query) over the entries of block b, for the queries
  // q [group, head_dim]. scratch: grown as needed, reused from call to call.
  virtual void Score(const float* q, int group, std::vector<float>* scratch,
                     float* best) const = 0;

  virtual int length() const = 0;  // keys appended
  int blocks() const { return (length() + kBlockEntries - 1) / kBlockEntries; }
  virtual int64_t bytes() const = 0;  // memory held

  // To be stored, and back into an index with the same options that holds
  // nothing: it then scores and appends as the one that was stored. False, and
  // nothing has changed: no such index can be like this.
  virtual KeyIndexState Export() const = 0;
  virtual bool Import(KeyIndexState state) = 0;
};

std::unique_ptr<KeyIndex> MakeKeyIndex(const KeyIndexOptions& options);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KEY_INDEX_H_
