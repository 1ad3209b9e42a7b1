// One context: its cache, how it is compressed, and how far it has read.

#ifndef PYRAMIDKV_RUNTIME_SEQUENCE_H_
#define PYRAMIDKV_RUNTIME_SEQUENCE_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "cache/cold_tier.h"
#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/layer_plan.h"
#include "policy/spec.h"
#include "runtime/compressor.h"

namespace pyramidkv {

class ModelSkew;

// A cold tier needs this beside the spec.
struct ColdPlace {
  std::string directory;      // ColdTierOptions::directory
  ModelSkew* skew = nullptr;  // for index=skew; never null then
};

struct Sequence {
  // context_size: no position is rotated for this or more (renumber), or
  // reached (original).
  Sequence(PagePool* pool, const Model& model, const CacheSpec& spec,
           int context_size, int reserve_tokens);

  // Opens what the spec names: a profile, a cold tier. Before anything else.
  // With index=skew it may measure the model, as long as a prompt takes.
  // Errors: kUsage where the spec does not suit the model; kRuntime.
  Status Open(const ColdPlace& place);

  bool renumbers() const {
    return compressor.spec().storage.positions == Positions::kRenumber;
  }
  // The next token is rotated for this.
  int rope_position() const { return position - cache.rope_shift(); }

  // Rows that can be decoded in one call; at least 1. Steps between
  // rows (eviction, renumbering) must not depend on how many come at once.
  int RowsAtOnce() const;

  // Makes room for `rows` more positions: with positions=renumber, entries
  // move to the start of the context once its end is reached.
  // Errors: kDoesNotFit if even then there is no room.
  Status MakeRoom(int rows, ThreadPool* pool);

  // As new.
  void Reset();

  // Makes `to` go on as this one does, with all pages shared (KvCache::Fork,
  // ColdTier::Fork). REQUIRES: `to` is new, not opened, and of the same
  // constructor's arguments. Errors: kRuntime.
  Status ForkInto(Sequence* to);

  // After generated rows: evicts what is over the budget.
  Status AfterRows(ThreadPool* pool);

  // Waits for what a cold tier has yet to write, after a prompt or an eviction.
  Status Settle() { return cold != nullptr ? cold->Settle() : Status(); }

  // Memory of the cache, a cold tier's included.
  int64_t bytes() const {
    return cache.bytes() + (cold != nullptr ? cold->bytes() : 0);
  }

  const Model* model;
  int context_size;
  KvCache cache;
  std::unique_ptr<ColdTier> cold;  // remainder=offload; else null
  LayerPlan plan;
  Compressor compressor;
  int position = 0;  // of the next token; never derived from a length
  std::optional<double> prefill_mass;  // prefill=sparse: estimated, covered

 private:
  bool FitsStill() const;
  void SetCold(std::unique_ptr<ColdTier> tier);
  // From any thread: heads are compacted in parallel.
  Status Offload(const EvictedEntries& e);
  Status Renumber(int longest, ThreadPool* pool);

  std::mutex cold_mutex_;  // guards Append of `cold`
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SEQUENCE_H_
