// A report of what a session's cache holds and what it cost: the `kv` object of
// every JSON document (docs/json.md), as a plain struct.

#ifndef PYRAMIDKV_KV_REPORT_H_
#define PYRAMIDKV_KV_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pyramidkv {

struct KvLayerReport {
  int layer = 0;
  // Entries per KV head that the schedule gave this layer; none for
  // sliding-window layers and for layers that were never compressed.
  std::optional<int> budget;
  std::vector<int> kept;  // [kv_heads] entries now stored
  int64_t bytes = 0;      // pages and side arrays of this layer
  std::optional<double> retained_mass;
};

// remainder=offload: what left the cache and can be fetched again.
struct KvTierReport {
  std::string index;        // sign, skew, quest or cluster
  int64_t entries = 0;      // sum over layers and KV heads
  int64_t bytes = 0;        // memory: resident blocks, index and the rest
  int64_t index_bytes = 0;  // of which the index
  int64_t file_bytes = 0;   // on disk; 0: all blocks are in memory
  // Of what decoded tokens did so far; none before one did.
  std::optional<double> fetch_share;  // of blocks: those that were attended to
  std::optional<double> hit_rate;     // of these: were in memory
  std::optional<double> bytes_per_token;  // read from disk
  double read_ms = 0;                     // during which reads were under way
  double stall_ms = 0;                    // of which attention waited
  std::optional<double> overlap;          // 1 - stall / read
};

struct KvReport {
  std::string requested;  // the spec as it was given
  std::string spec;       // the same in canonical form
  std::string policy;
  std::string prefill = "exact";
  // prefill=sparse: estimated share of the prompt's attention in the blocks
  // that were computed; none otherwise, and before a prompt.
  std::optional<double> prefill_mass;
  int tokens_seen = 0;          // logical length
  double tokens_kept_mean = 0;  // mean over layers and KV heads
  int64_t entries_kept = 0;     // sum over layers and KV heads
  int64_t entries_full = 0;     // what the full cache would hold
  int64_t bytes = 0;       // pages and side arrays of this sequence, and what a
                           // cold tier holds in memory
  int64_t bytes_full = 0;  // the same tokens, uncompressed f16
  int64_t peak_bytes = 0;  // highest `bytes` so far
  // Share of the observation window's attention that the kept entries hold,
  // mean over layers; 1 for full, none where unknown.
  std::optional<double> retained_mass;
  std::vector<std::string> warnings;
  std::vector<KvLayerReport> layers;
  std::optional<KvTierReport> tier;  // none without a cold tier
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KV_REPORT_H_
