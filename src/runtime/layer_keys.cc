#include "runtime/layer_keys.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/elementwise.h"
#include "kernels/int16_rows.h"
#include "kernels/key_rounding.h"
#include "kernels/page_rows.h"

namespace pyramidkv {
namespace {

// Room beyond what is needed now. Memory that nobody touches costs nothing,
// but buffers that grew with each chunk of a prompt would be touched for the
// first time again.
constexpr int64_t kAhead = 4;

template <typename T>
void Grow(int64_t needed, int64_t most, size_t width, AlignedBuffer<T>* to) {
  if (to->size() >= needed * width) return;
  to->Resize(std::max(needed, std::min(most, kAhead * needed)) * width);
}

}  // namespace

void LayerKeys::Configure(const Options& options) {
  options_ = options;
  cold_.assign(options.kv_heads, 0);
  past_.assign(options.kv_heads, 0);
  for (auto* buffers : {&k_, &v_, &k_scale_, &v_scale_}) {
    buffers->resize(options.kv_heads);
  }
  for (auto* buffers : {&k16_, &v16_, &half_v_}) {
    buffers->resize(options.kv_heads);
  }
}

void LayerKeys::Reserve(int head, int fresh, int64_t most) {
  const int64_t entries = int64_t{before(head)} + fresh;
  const size_t d = options_.head_dim;
  Grow(entries, most, d, &k_[head]);
  if (options_.f32_values) {
    Grow(entries, most, d, &v_[head]);
  } else {
    Grow(fresh, fresh, d, &half_v_[head]);
  }
  if (is_f32()) return;
  Grow(entries, most, d, &k16_[head]);
  Grow((entries + 1) / 2, (most + 1) / 2, 2 * d, &v16_[head]);
  if (!is_int16()) return;
  Grow(entries, most, 1, &k_scale_[head]);
  Grow(entries, most, 1, &v_scale_[head]);
}

Status LayerKeys::Begin(const KvCache& cache, const ColdTier* cold, int layer,
                        int fresh, int64_t most, ThreadPool* pool) {
  items_.clear();
  std::vector<HeadView> views;
  for (int h = 0; h < options_.kv_heads; ++h) {
    views.push_back(cache.View(layer, h));
    past_[h] = views[h].length;
    cold_[h] = cold != nullptr ? cold->length(layer, h) : 0;
    Reserve(h, fresh, most);
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
  for (int h = 0; h < options_.kv_heads; ++h) {
    LoadFiner(cache.head(layer, h), h);
    if (cold_[h] > 0) PKV_RETURN_IF_ERROR(LoadCold(*cold, layer, h));
  }
  return {};
}

Status LayerKeys::LoadCold(const ColdTier& cold, int layer, int head) {
  DCHECK(options_.f32_values);
  float* const k = k_[head].data();
  float* const v = v_[head].data();
  PKV_RETURN_IF_ERROR(cold.Decode(layer, head, k, v));
  if (!is_f32()) StoreRows(head, 0, cold_[head], k, v);
  return {};
}

void LayerKeys::StoreRows(int head, size_t first, int count, const float* k,
                          const float* v) {
  const int d = options_.head_dim;
  uint16_t* const k16 = k16_[head].data() + first * d;
  uint16_t* const v16 = v16_[head].data();
  if (is_bf16()) ToBf16(k, size_t(count) * d, k16);
  for (int i = 0; i < count; ++i) {
    const size_t row = size_t(i) * d, entry = first + i;
    if (is_bf16()) {
      StoreValueRow(v + row, d, entry, v16);
    } else {
      k_scale_[head][entry] =
          ToInt16Row(k + row, d, reinterpret_cast<int16_t*>(k16 + row));
      v_scale_[head][entry] =
          StoreInt16Values(v + row, d, entry, reinterpret_cast<int16_t*>(v16));
    }
  }
}

// page: [2, kPageEntries, head_dim], memory of the worker.
void LayerKeys::LoadItem(const Item& item, const HeadView& view,
                         const PageFormat& format, AlignedBuffer<float>* page) {
  const int first = item.page * kPageEntries;
  const size_t entry = size_t(cold_[item.head]) + first;
  const size_t at = entry * options_.head_dim;
  const int entries = std::min(kPageEntries, view.length - first);
  PageRows to;
  if (options_.past_keys || is_f32()) to.k = k_[item.head].data() + at;
  if (options_.f32_values) to.v = v_[item.head].data() + at;
  // Pages begin with a pair of entries; behind an odd number of cold ones they
  // do not.
  const bool pairs = entry % 2 == 0;
  const float* const rounding = view.key_rounding;
  if (is_bf16() && pairs && rounding == nullptr) {
    to.k16 = k16_[item.head].data() + at;
    to.v16 = v16_[item.head].data() + at;
  } else if (!is_f32()) {
    const size_t size = size_t{kPageEntries} * options_.head_dim;
    page->Resize(2 * size);
    if (to.k == nullptr) to.k = page->data();
    if (to.v == nullptr) to.v = page->data() + size;
  }
  LoadPage(format, view.pages[item.page], entries, to);
  if (rounding != nullptr && to.k != nullptr) {
    AddKeyMean(rounding, options_.head_dim, entries, to.k);
  }
  if (is_f32() || to.k16 != nullptr) return;
  StoreRows(item.head, entry, entries, to.k, to.v);
}

// In place of what the pages of all entries say.
void LayerKeys::LoadFiner(const KvHead& from, int head) {
  const int d = options_.head_dim;
  std::vector<float> k(d), v(d);
  const HeadSegments segments = from.Segments();
  for (size_t i = 0; i < segments.all.size(); ++i) {
    if (i == HeadSegments::kBase) continue;
    const Segment& segment = segments.all[i];
    for (int slot = segment.begin; slot < segment.end; ++slot) {
      segment.Load(slot, k.data(), v.data());
      const int entry = cold_[head] + segment.entry(slot);
      const size_t at = size_t(entry) * d;
      if (options_.past_keys || is_f32()) {
        std::copy(k.begin(), k.end(), k_[head].data() + at);
      }
      if (options_.f32_values) {
        std::copy(v.begin(), v.end(), v_[head].data() + at);
      }
      if (!is_f32()) StoreRows(head, entry, 1, k.data(), v.data());
    }
  }
}

void LayerKeys::Add(int row, const float* k, const float* v) {
  const int d = options_.head_dim;
  for (int h = 0; h < options_.kv_heads; ++h, k += d, v += d) {
    const size_t at = size_t(before(h)) + row;
    std::copy(k, k + d, k_[h].data() + at * d);
    if (options_.f32_values) {
      std::copy(v, v + d, v_[h].data() + at * d);
    } else {
      ToF16(v, d, half_v_[h].data() + size_t(row) * d);
    }
    if (!is_f32()) StoreRows(h, at, 1, k, v);
  }
}

void LayerKeys::Close(int rows) {
  if (is_f32()) return;
  const size_t d = options_.head_dim;
  for (int h = 0; h < options_.kv_heads; ++h) {
    const size_t end = size_t(before(h)) + rows;
    if (end % 2 == 0) continue;
    uint16_t* const half = v16_[h].data() + end / 2 * 2 * d + 1;
    for (size_t x = 0; x < d; ++x) half[2 * x] = 0;
  }
}

}  // namespace pyramidkv
