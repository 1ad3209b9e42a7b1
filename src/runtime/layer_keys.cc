#include "runtime/layer_keys.h"

#include <algorithm>

#include "base/check.h"

namespace pyramidkv {

void LayerKeys::Configure(const PromptKeys::Options& options, int kv_heads) {
  head_dim_ = options.head_dim;
  cold_.assign(kv_heads, 0);
  past_.assign(kv_heads, 0);
  heads_.resize(kv_heads);
  for (PromptKeys& head : heads_) head.Configure(options);
}

Status LayerKeys::Begin(const KvCache& cache, const ColdTier* cold, int layer,
                        int fresh, int64_t most, ThreadPool* pool) {
  items_.clear();
  std::vector<HeadView> views;
  const int kv_heads = static_cast<int>(heads_.size());
  for (int h = 0; h < kv_heads; ++h) {
    views.push_back(cache.View(layer, h));
    past_[h] = views[h].length;
    cold_[h] = cold != nullptr ? cold->length(layer, h) : 0;
    heads_[h].Begin(before(h), fresh, most);
    for (int page = 0; page * kPageEntries < past_[h]; ++page) {
      items_.push_back({h, page});
    }
  }
  // By pages: there may be fewer heads than threads.
  pages_.resize(pool->threads());
  pool->ParallelFor(static_cast<int>(items_.size()), [&](int i, int worker) {
    LoadItem(items_[i], views[items_[i].head], cache.shape().format,
             &pages_[worker]);
  });
  for (int h = 0; h < kv_heads; ++h) {
    LoadFiner(cache.head(layer, h), h);
    if (cold_[h] > 0) PKV_RETURN_IF_ERROR(LoadCold(*cold, layer, h));
  }
  return {};
}

Status LayerKeys::LoadCold(const ColdTier& cold, int layer, int head) {
  PromptKeys& keys = heads_[head];
  PKV_RETURN_IF_ERROR(cold.Decode(layer, head, keys.k(), keys.v()));
  keys.RoundPast(cold_[head]);
  return {};
}

// page: memory of the worker.
void LayerKeys::LoadItem(const Item& item, const HeadView& view,
                         const PageFormat& format, AlignedBuffer<float>* page) {
  const int first = item.page * kPageEntries;
  heads_[item.head].SetPastPage(
      cold_[item.head] + first, std::min(kPageEntries, view.length - first),
      format, view.pages[item.page], view.key_rounding, page);
}

// In place of what the pages of all entries say.
void LayerKeys::LoadFiner(const KvHead& from, int head) {
  std::vector<float> k(head_dim_), v(head_dim_);
  const HeadSegments segments = from.Segments();
  for (size_t i = 0; i < segments.all.size(); ++i) {
    if (i == HeadSegments::kBase) continue;
    const Segment& segment = segments.all[i];
    for (int slot = segment.begin; slot < segment.end; ++slot) {
      segment.Load(slot, k.data(), v.data());
      heads_[head].SetPast(cold_[head] + segment.entry(slot), 1, k.data(),
                           v.data());
    }
  }
}

void LayerKeys::Add(int row, const float* k, const float* v) {
  for (PromptKeys& head : heads_) {
    head.AddFresh(row, k, v);
    k += head_dim_;
    v += head_dim_;
  }
}

void LayerKeys::Close(int rows) {
  for (PromptKeys& head : heads_) head.Close(rows);
}

}  // namespace pyramidkv
