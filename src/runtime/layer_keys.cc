#include "runtime/layer_keys.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/elementwise.h"
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
  for (auto* buffers : {&k_, &v_}) buffers->resize(options.kv_heads);
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
  if (!options_.bf16) return;
  Grow(entries, most, d, &k16_[head]);
  Grow((entries + 1) / 2, (most + 1) / 2, 2 * d, &v16_[head]);
}

Status LayerKeys::Begin(const KvCache& cache, const ColdTier* cold, int layer,
                        int fresh, int64_t most, ThreadPool* pool) {
  items_.clear();
  std::vector<HeadView> views;
  for (int h = 0; h < options_.kv_heads; ++h) {
    views.push_back(cache.View(layer, h));
    past_[h] = views[h].length;
    DCHECK(views[h].first_slot == 0);
    cold_[h] = cold != nullptr ? cold->length(layer, h) : 0;
    Reserve(h, fresh, most);
    for (int page = 0; page * kPageEntries < past_[h]; ++page) {
      items_.push_back({h, page});
    }
  }
  // By pages: there may be fewer heads than threads.
  pool->ParallelFor(static_cast<int>(items_.size()), [&](int i, int) {
    LoadItem(items_[i], views[items_[i].head], cache.shape().format);
  });
  for (int h = 0; h < options_.kv_heads; ++h) {
    LoadFine(cache, layer, h);
    if (cold_[h] > 0) PKV_RETURN_IF_ERROR(LoadCold(*cold, layer, h));
  }
  return {};
}

Status LayerKeys::LoadCold(const ColdTier& cold, int layer, int head) {
  DCHECK(options_.f32_values);
  float* const k = k_[head].data();
  float* const v = v_[head].data();
  PKV_RETURN_IF_ERROR(cold.Decode(layer, head, k, v));
  if (!options_.bf16) return {};
  const size_t d = options_.head_dim;
  ToBf16(k, cold_[head] * d, k16_[head].data());
  for (int i = 0; i < cold_[head]; ++i) {
    StoreValueRow(v + i * d, options_.head_dim, i, v16_[head].data());
  }
  return {};
}

void LayerKeys::LoadItem(const Item& item, const HeadView& view,
                         const PageFormat& format) {
  const int first = item.page * kPageEntries;
  const size_t at = size_t(cold_[item.head] + first) * options_.head_dim;
  PageRows to;
  if (options_.past_keys || !options_.bf16) to.k = k_[item.head].data() + at;
  if (options_.f32_values) to.v = v_[item.head].data() + at;
  if (options_.bf16) {
    to.k16 = k16_[item.head].data() + at;
    to.v16 = v16_[item.head].data() + at;
  }
  const int entries = std::min(kPageEntries, view.length - first);
  // Pages begin with a pair of entries; behind an odd number of cold ones they
  // do not.
  const bool pairs = to.v16 != nullptr && cold_[item.head] % 2 == 0;
  if (!pairs) to.v16 = nullptr;
  LoadPage(format, view.pages[item.page], entries, to);
  if (pairs || !options_.bf16) return;
  for (int i = 0; i < entries; ++i) {
    StoreValueRow(to.v + size_t(i) * options_.head_dim, options_.head_dim,
                  cold_[item.head] + first + i, v16_[item.head].data());
  }
}

// In place of what the pages say.
void LayerKeys::LoadFine(const KvCache& cache, int layer, int head) {
  if (!HasFinePages(cache.shape().format)) return;
  const int d = options_.head_dim;
  std::vector<float> k(d), v(d);
  const int recent_begin = cache.View(layer, head).recent_begin;
  for (int i = 0; i < past_[head]; ++i) {
    if (!cache.LoadFine(layer, head, i, k.data(), v.data())) {
      i = std::max(i, recent_begin - 1);  // none in between
      continue;
    }
    const int entry = cold_[head] + i;
    const size_t at = size_t(entry) * d;
    if (options_.past_keys || !options_.bf16) {
      std::copy(k.begin(), k.end(), k_[head].data() + at);
    }
    if (options_.f32_values)
      std::copy(v.begin(), v.end(), v_[head].data() + at);
    if (!options_.bf16) continue;
    ToBf16(k.data(), d, k16_[head].data() + at);
    StoreValueRow(v.data(), d, entry, v16_[head].data());
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
    if (!options_.bf16) continue;
    ToBf16(k, d, k16_[h].data() + at * d);
    StoreValueRow(v, d, at, v16_[h].data());
  }
}

void LayerKeys::Close(int rows) {
  if (!options_.bf16) return;
  const size_t d = options_.head_dim;
  for (int h = 0; h < options_.kv_heads; ++h) {
    const size_t end = size_t(before(h)) + rows;
    if (end % 2 == 0) continue;
    uint16_t* const half = v16_[h].data() + end / 2 * 2 * d + 1;
    for (size_t x = 0; x < d; ++x) half[2 * x] = 0;
  }
}

}  // namespace pyramidkv
