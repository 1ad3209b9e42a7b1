// heads=global: one total, spent over all layers and KV heads by score.
//
// Layer-major prefill does not know the later layers' scores yet. But an
// entry that already has `total` better ones before it can never be among the
// best `total` in the end. So the best `total` of the layers seen so far,
// plus what each head is sure of, are kept: the result is exactly the global
// split, and no more than total + one layer is ever held.
//
// Source: AdaKV's split (arXiv 2407.11550), over all layers instead of the
// heads of one; protected entries and a floor per head first.

#ifndef PYRAMIDKV_POLICY_GLOBAL_SPLIT_H_
#define PYRAMIDKV_POLICY_GLOBAL_SPLIT_H_

#include <cstdint>
#include <span>
#include <vector>

#include "policy/spec.h"

namespace pyramidkv {

// Every head's floor: `spec.floor` of the mean budget, at least 1.
int GlobalFloorEntries(const CacheSpec& spec, int64_t total, int layers,
                       int kv_heads);

class GlobalSplit {
 public:
  // total: entries over all layers and heads. floor_entries: how many of its
  // best entries (protected ones included) every head keeps for sure.
  // REQUIRES: total >= layers * kv_heads * max(floor_entries, protected).
  GlobalSplit(const CacheSpec& spec, int layers, int kv_heads, int64_t total,
              int floor_entries);

  // Adds a head's entries with pooled scores [length]. `mass` [length] rides
  // along for retained mass (may be empty).
  void AddHead(int layer, int head, std::span<const float> scores,
               std::span<const float> mass);

  // Drops what can no longer win. Returns for every head that changed its
  // surviving indices, relative to what the head held before this call
  // (ascending); the caller compacts its cache with them. `last` = true after
  // the last layer: then exactly `total` entries are left.
  struct Change {
    int layer = 0;
    int head = 0;
    std::vector<int> kept;
  };
  std::vector<Change> Trim(bool last);

  int64_t held() const;  // entries now held
  // Share of a head's mass that its held entries keep; < 0 if none was given.
  double HeldMass(int layer, int head) const;

 private:
  struct Head {
    std::vector<float> scores;  // of the entries held; +inf if sure to stay
    std::vector<float> mass;
    double mass_total = 0;  // of all entries added; < 0: none was given
    bool added = false;
  };
  CacheSpec spec_;
  int layers_;
  int kv_heads_;
  int64_t total_;
  int floor_entries_;
  int64_t held_ = 0;
  std::vector<Head> heads_;  // [layers, kv_heads]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_GLOBAL_SPLIT_H_
