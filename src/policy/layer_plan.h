// The layers of a model under a spec: how far each one sees, which of them
// are compressed and which are rings, and the bytes that all this takes. A
// plan and a run ask the same object, so that they agree.
//
// A layer is compressed if it sees as far as any: then some entries are worth
// more than others. One with a narrower window is a ring of its newest entries;
// one of the first BudgetSpec::full_layers keeps everything.

#ifndef PYRAMIDKV_POLICY_LAYER_PLAN_H_
#define PYRAMIDKV_POLICY_LAYER_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "policy/schedule.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct LayerDims {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  std::vector<int> windows;  // [layers] of the model; 0: sees everything
};

// Bytes of an entry beside its page and its position: a gathered score, the
// bias of merged entries, where a key is rotated for, and on average what is
// held of the best ones.
int64_t SideBytesPerEntry(const CacheSpec& spec, int head_dim);

class LayerPlan {
 public:
  LayerPlan(const CacheSpec& spec, const LayerDims& dims);

  // Errors: kUsage where the windows leave the spec nothing to work with.
  Status Check() const;

  int layers() const { return dims_.layers; }
  int kv_heads() const { return dims_.kv_heads; }

  // Tokens that a layer sees, by the model and the spec; 0: all.
  int window(int layer) const { return windows_[layer]; }
  std::span<const int> windows() const { return windows_; }  // [layers]
  int widest() const { return widest_; }  // of the compressed layers; 0: all

  // First position that a query at `query_position` still sees in a layer.
  int FirstVisible(int layer, int query_position) const {
    const int window = windows_[layer];
    return window > 0 && query_position >= window ? query_position - window + 1
                                                  : 0;
  }

  // Whether nothing leaves a context of so many tokens yet.
  bool waits(int tokens) const { return tokens < spec_.budget.from; }

  // Compressed layers, in order. rank: a layer's place among them, or -1.
  int compressed() const { return static_cast<int>(compressed_.size()); }
  int rank(int layer) const { return ranks_[layer]; }
  int layer_of(int rank) const { return compressed_[rank]; }

  // [kv_heads] of what was resolved for the compressed layers; empty for the
  // others.
  std::span<const int> BudgetsOf(const Budgets& budgets, int layer) const;

  // Budgets are resolved for this. tokens: of the context. seen: tokens that
  // the other layers have had. reserve: entries that a head has to have room
  // for; decoding asks for the slack of its evictions instead.
  BudgetRequest Request(int tokens, int seen, int reserve) const;

  // Bytes of a layer right after a prompt of `tokens`, with these budgets
  // [kv_heads] (any where it is not compressed), as the cache allocates them.
  // Exact where every entry is stored once; else (quantised types, merged
  // entries) never less.
  int64_t LayerBytes(int layer, int tokens, std::span<const int> budgets) const;

  // Bytes of all layers, whatever scores say of the heads: heads=adaptive,
  // global and profile share `budgets.total` out by them. As LayerBytes where
  // they have no say.
  int64_t MostBytes(int tokens, const Budgets& budgets) const;

 private:
  int64_t HeadBytes(int layer, int entries, bool chosen, bool lost) const;
  int64_t RingBytes(int seen, int reserve) const;

  CacheSpec spec_;
  LayerDims dims_;
  int64_t page_bytes_;
  int64_t head_bytes_;        // that do not grow with a head's entries
  std::vector<int> windows_;  // [layers]
  int widest_ = 0;
  std::vector<int> ranks_;       // [layers]
  std::vector<int> compressed_;  // [compressed layers]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_LAYER_PLAN_H_
