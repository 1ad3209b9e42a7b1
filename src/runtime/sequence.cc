#include "runtime/sequence.h"

#include <algorithm>
#include <utility>

#include "cache/key_order.h"
#include "fmt/format.h"
#include "kernels/matmul_rows.h"
#include "kernels/rope.h"
#include "runtime/first_error.h"
#include "runtime/model_skew.h"

namespace pyramidkv {
namespace {

LayerDims DimsOf(const HyperParams& p) {
  LayerDims dims = {p.layers, p.kv_heads, p.head_dim, {}};
  for (int l = 0; l < p.layers; ++l) dims.windows.push_back(p.window(l));
  return dims;
}

}  // namespace

Sequence::Sequence(PagePool* pool, const Model& m, const CacheSpec& spec,
                   int context, int reserve_tokens)
    : model(&m),
      context_size(context),
      cache(pool, {m.params().layers, m.params().kv_heads,
                   spec.storage.head_format(m.params().head_dim)}),
      plan(spec, DimsOf(m.params())),
      compressor(spec, &plan, model, context, reserve_tokens) {}

Status Sequence::Open(const ColdPlace& place) {
  PKV_RETURN_IF_ERROR(compressor.Open());
  const CacheSpec& spec = compressor.spec();
  if (!spec.offloads()) return {};
  const HyperParams& p = model->params();
  ColdTierOptions options;
  if (spec.tier.index == IndexKind::kSkew) {
    PKV_ASSIGN_OR_RETURN(options.skew, place.skew->Get());
  }
  options.layers = p.layers;
  options.kv_heads = p.kv_heads;
  options.format = BlockFormat(cache.shape().format);
  options.index = spec.tier.index;
  options.partial = spec.tier.partial;
  options.alpha = spec.tier.alpha;
  options.fetch = spec.tier.fetch;
  options.resident = spec.tier.resident;
  options.victim = spec.tier.victim;
  options.directory = place.directory;
  PKV_ASSIGN_OR_RETURN(auto tier, ColdTier::Create(options));
  SetCold(std::move(tier));
  return {};
}

void Sequence::SetCold(std::unique_ptr<ColdTier> tier) {
  cold = std::move(tier);
  cache.set_evicted_sink(
      [this](const EvictedEntries& e) { return Offload(e); });
}

Status Sequence::ForkInto(Sequence* to) {
  PKV_RETURN_IF_ERROR(to->compressor.Import(compressor.Export()));
  if (cold != nullptr) {
    PKV_ASSIGN_OR_RETURN(auto tier, cold->Fork());
    to->SetCold(std::move(tier));
  }
  to->cache = cache.Fork();
  to->position = position;
  to->prefill_mass = prefill_mass;
  return {};
}

// Entries that are alike go into the same blocks.
Status Sequence::Offload(const EvictedEntries& e) {
  const size_t d = cache.shape().format.head_dim;
  const std::vector<int> order =
      OrderByLikeness(e.k, e.count, static_cast<int>(d));
  std::vector<float> k(e.count * d), v(e.count * d);
  std::vector<int32_t> positions(e.count);
  for (int i = 0; i < e.count; ++i) {
    std::copy_n(e.k + order[i] * d, d, k.data() + i * d);
    std::copy_n(e.v + order[i] * d, d, v.data() + i * d);
    positions[i] = e.positions[order[i]];
  }
  const std::lock_guard lock(cold_mutex_);
  return cold->Append(e.layer, e.head, e.count, k.data(), v.data(), d,
                      positions.data());
}

void Sequence::Reset() {
  cache.Clear();
  if (cold != nullptr) cold->Clear();
  compressor.Reset();
  position = 0;
  prefill_mass.reset();
}

Status Sequence::AfterRows(ThreadPool* pool) {
  const bool evicts = compressor.RowsBeforeEviction(position, cache) <= 0;
  PKV_RETURN_IF_ERROR(compressor.OnDecoded(position, &cache, pool));
  return evicts ? Settle() : Status();
}

// Each row may give the entries before it new codes.
bool Sequence::FitsStill() const {
  const StorageSpec& storage = compressor.spec().storage;
  if (!storage.fits()) return false;
  if (position < kFitTokens) return true;
  const KvShape& shape = cache.shape();
  for (int l = 0; shape.format.tensor_scales && l < shape.layers; ++l) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      if (cache.head(l, h).scales_grow()) return true;
    }
  }
  return false;
}

int Sequence::RowsAtOnce() const {
  if (cold != nullptr) return 1;  // each row fetches what it needs
  if (FitsStill()) return 1;
  int rows =
      std::clamp(compressor.RowsBeforeEviction(position, cache), 1, kMaxRows);
  if (renumbers() && rope_position() < context_size) {
    rows = std::min(rows, context_size - rope_position());
  }
  return rows;
}

Status Sequence::MakeRoom(int rows, ThreadPool* pool) {
  if (!renumbers() || rope_position() + rows <= context_size) return {};
  int longest = 0;
  for (int l = 0; l < cache.shape().layers; ++l) {
    for (int h = 0; h < cache.shape().kv_heads; ++h) {
      longest = std::max(longest, cache.length(l, h));
    }
  }
  if (longest + rows > context_size) {
    return Status::DoesNotFit(fmt::format(
        "{} entries kept and {} new ones do not fit into a context of {}: "
        "take a smaller budget, or a larger context with -c",
        longest, rows, context_size));
  }
  return Renumber(longest, pool);
}

// All heads end at the same place, so that distances to the next token stay
// what they were among the newest entries; shorter ones begin later.
Status Sequence::Renumber(int longest, ThreadPool* pool) {
  const HyperParams& params = model->params();
  const int heads = cache.shape().kv_heads;
  std::vector<Status> status(size_t(cache.shape().layers) * heads);
  pool->ParallelFor(static_cast<int>(status.size()), [&](int i, int) {
    const int layer = i / heads, head = i % heads;
    status[i] = cache.Renumber(layer, head, longest - cache.length(layer, head),
                               params.rope_of(layer).rotation());
  });
  PKV_RETURN_IF_ERROR(FirstError(status));
  const int moved = longest - rope_position();
  for (int l = 0; l < params.layers; ++l) {
    compressor.observer()->queries()->Rotate(
        l, moved, params.rope_of(l).rotation(), params.head_dim);
  }
  cache.set_rope_shift(position - longest);
  return {};
}

}  // namespace pyramidkv
