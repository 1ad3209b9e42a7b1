// The KV cache of one sequence: for every layer and KV head, the entries that
// were kept (cache/kv_head.h). Lengths differ between layers and between heads;
// nothing is repeated per query head.
//
// Invariants
//   1. Entries leave only through Compact, CompactAndMerge, DropBefore and
//      Clear.
//   2. `bytes` counts pages and side arrays; both are given back to the system
//      when entries leave.
//
// Two lengths are kept apart: the logical position (of the next token, never
// decreases) belongs to the sequence, the physical length to each head.
//
// Thread safety: different (layer, head) pairs may be changed in parallel;
// everything else from one thread.

#ifndef PYRAMIDKV_CACHE_KV_CACHE_H_
#define PYRAMIDKV_CACHE_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "cache/head_format.h"
#include "cache/kv_head.h"
#include "cache/page_pool.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct KvShape {
  int layers = 0;
  int kv_heads = 0;
  HeadFormat format;
};

// Entries of one head that leave: k and v [count, head_dim] row-major.
struct EvictedEntries {
  int layer = 0;
  int head = 0;
  int count = 0;
  const float* k = nullptr;
  const float* v = nullptr;
  const int32_t* positions = nullptr;  // [count]
};

class KvCache {
 public:
  // The pool outlives the cache.
  KvCache(PagePool* pool, const KvShape& shape);
  KvCache(KvCache&& other) noexcept;
  KvCache& operator=(KvCache&& other) noexcept;

  const KvShape& shape() const { return shape_; }
  KvHead& head(int layer, int h);
  const KvHead& head(int layer, int h) const;

  // Receives what Compact and AppendKept do not keep, before it leaves; after
  // an error of it everything stays. Called for different heads in parallel.
  // Belongs to this object: does not move with its entries.
  using EvictedSink = std::function<Status(const EvictedEntries&)>;
  void set_evicted_sink(EvictedSink sink) { evicted_sink_ = std::move(sink); }
  // Entries appended from now on are rotated for position - shift.
  void set_rope_shift(int shift) { rope_shift_ = shift; }
  int rope_shift() const { return rope_shift_; }

  // Appends `count` entries at the consecutive positions from `position`.
  // k, v: rows of head_dim values, `stride` values apart.
  // REQUIRES: position is past every one that the head has seen.
  // Errors: kRuntime if there is no memory (the head is unchanged).
  Status Append(int layer, int h, int position, int count, const float* k,
                const float* v, size_t stride);

  // The same for the rows listed in `rows` (ascending): row r of k and v is
  // appended at position `position + r`. The gather of exact prefill: only
  // what is kept ever reaches a page. `seen`: rows that there were to choose
  // from; 0 means none after the last one listed.
  Status AppendKept(int layer, int h, int position, std::span<const int> rows,
                    const float* k, const float* v, size_t stride,
                    int seen = 0);

  HeadView View(int layer, int h) const { return head(layer, h).View(); }
  int length(int layer, int h) const { return head(layer, h).length(); }
  void Decode(int layer, int h, float* k, float* v) const {
    head(layer, h).Decode(k, v);
  }

  // Keeps only the entries `kept` (ascending indices into the head, no
  // duplicates) and gives the rest back. Kept bits are unchanged, but for keys
  // by channel.
  Status Compact(int layer, int h, std::span<const int> kept);
  // The same, and puts `merged` (ascending, at positions that are not kept)
  // between them.
  Status CompactAndMerge(int layer, int h, std::span<const int> kept,
                         std::span<const MergedEntry> merged);

  // As the methods of KvHead.
  Status SetTop(int layer, int h, std::span<const int> top, const float* k,
                const float* v) {
    return head(layer, h).SetTop(top, k, v);
  }
  void SetScores(int layer, int h, std::span<const float> scores) {
    head(layer, h).SetScores(scores);
  }
  Status SetKeyRounding(int layer, int h, std::vector<float> rounding) {
    return head(layer, h).SetKeyRounding(std::move(rounding));
  }
  // Source: StreamingLLM (arXiv 2309.17453), section 3.2: positions within the
  // cache. Departure: done now and then, not for every token.
  Status Renumber(int layer, int h, int first, const Rotation& rope) {
    return head(layer, h).Renumber(first, rope);
  }
  void DropBefore(int layer, int h, int position) {
    head(layer, h).DropBefore(position);
  }

  // Shares all pages; either side copies a page before it writes into it.
  KvCache Fork() const;
  void Clear();

  int64_t bytes() const;
  int64_t layer_bytes(int layer) const;
  int64_t entries() const;

 private:
  PagePool* pool_;
  KvShape shape_;
  int rope_shift_ = 0;
  std::vector<KvHead> heads_;  // [layers, kv_heads]
  EvictedSink evicted_sink_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KV_CACHE_H_
