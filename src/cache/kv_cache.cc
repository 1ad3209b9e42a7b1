#include "cache/kv_cache.h"

#include <algorithm>

#include "base/check.h"

namespace pyramidkv {
namespace {

bool Ascend(std::span<const int> indices) {
  return std::adjacent_find(indices.begin(), indices.end(),
                            std::greater_equal<>()) == indices.end();
}

// Collects entries of a head for the sink, which gets them in one call: what
// receives them learns from the first one.
class Leaving {
 public:
  Leaving(size_t count, int head_dim) {
    k.reserve(count * head_dim);
    v.reserve(count * head_dim);
    positions.reserve(count);
  }
  Status GiveTo(const KvCache::EvictedSink& sink, int layer, int h) const {
    return sink({layer, h, static_cast<int>(positions.size()), k.data(),
                 v.data(), positions.data()});
  }

  std::vector<float> k, v;
  std::vector<int32_t> positions;
};

// Those of `seen` rows that are not listed.
Leaving UnkeptRows(int position, const EntryRows& rows, int seen,
                   int head_dim) {
  Leaving leaving(seen - rows.count, head_dim);
  for (int row = 0, next = 0; row < seen; ++row) {
    if (next < rows.count && rows[next] == row) {
      ++next;
      continue;
    }
    const float* const k = rows.k + row * rows.stride;
    const float* const v = rows.v + row * rows.stride;
    leaving.k.insert(leaving.k.end(), k, k + head_dim);
    leaving.v.insert(leaving.v.end(), v, v + head_dim);
    leaving.positions.push_back(position + row);
  }
  return leaving;
}

// A head's entries that are not listed.
Leaving Unkept(const KvHead& head, std::span<const int> kept, int head_dim) {
  Leaving leaving(head.length() - kept.size(), head_dim);
  const HeadView view = head.View();
  const HeadSegments segments = head.Segments();
  std::vector<float> k(head_dim), v(head_dim);
  auto next = kept.begin();
  for (int i = 0; i < head.length(); ++i) {
    if (next != kept.end() && *next == i) {
      ++next;
      continue;
    }
    segments.Load(i, k.data(), v.data());
    leaving.k.insert(leaving.k.end(), k.begin(), k.end());
    leaving.v.insert(leaving.v.end(), v.begin(), v.end());
    leaving.positions.push_back(view.position(i));
  }
  return leaving;
}

}  // namespace

KvCache::KvCache(PagePool* pool, const KvShape& shape)
    : pool_(pool),
      shape_(shape),
      heads_(size_t(shape.layers) * shape.kv_heads,
             KvHead(pool, shape.format)) {}

KvCache::KvCache(KvCache&& other) noexcept
    : pool_(other.pool_),
      shape_(other.shape_),
      rope_shift_(other.rope_shift_),
      heads_(std::exchange(other.heads_, {})) {}

KvCache& KvCache::operator=(KvCache&& other) noexcept {
  if (this != &other) {
    pool_ = other.pool_;
    shape_ = other.shape_;
    rope_shift_ = other.rope_shift_;
    heads_ = std::exchange(other.heads_, {});
  }
  return *this;
}

KvHead& KvCache::head(int layer, int h) {
  return const_cast<KvHead&>(std::as_const(*this).head(layer, h));
}

const KvHead& KvCache::head(int layer, int h) const {
  DCHECK(layer >= 0 && layer < shape_.layers);
  DCHECK(h >= 0 && h < shape_.kv_heads);
  return heads_[size_t(layer) * shape_.kv_heads + h];
}

Status KvCache::Append(int layer, int h, int position, int count,
                       const float* k, const float* v, size_t stride) {
  return head(layer, h).Append(position, {nullptr, count, k, v, stride}, count,
                               rope_shift_);
}

Status KvCache::AppendKept(int layer, int h, int position,
                           std::span<const int> rows, const float* k,
                           const float* v, size_t stride, int seen) {
  DCHECK(Ascend(rows));
  DCHECK(rows.empty() || rows.front() >= 0);
  const EntryRows kept = {rows.data(), static_cast<int>(rows.size()), k, v,
                          stride};
  seen = std::max(seen, rows.empty() ? 0 : rows.back() + 1);
  if (evicted_sink_ && kept.count < seen) {
    PKV_RETURN_IF_ERROR(UnkeptRows(position, kept, seen, shape_.format.head_dim)
                            .GiveTo(evicted_sink_, layer, h));
  }
  return head(layer, h).Append(position, kept, seen, rope_shift_);
}

Status KvCache::Compact(int layer, int h, std::span<const int> kept) {
  KvHead& head = this->head(layer, h);
  DCHECK(Ascend(kept));
  DCHECK(kept.empty() || (kept.front() >= 0 && kept.back() < head.length()));
  if (static_cast<int>(kept.size()) == head.length()) return {};
  if (evicted_sink_) {
    PKV_RETURN_IF_ERROR(Unkept(head, kept, shape_.format.head_dim)
                            .GiveTo(evicted_sink_, layer, h));
  }
  return head.Keep(kept);
}

Status KvCache::CompactAndMerge(int layer, int h, std::span<const int> kept,
                                std::span<const MergedEntry> merged) {
  if (merged.empty()) return Compact(layer, h, kept);
  return head(layer, h).Merge(kept, merged);
}

KvCache KvCache::Fork() const {
  KvCache copy(pool_, shape_);
  copy.heads_ = heads_;
  copy.rope_shift_ = rope_shift_;
  return copy;
}

void KvCache::Clear() {
  heads_ = std::vector<KvHead>(heads_.size(), KvHead(pool_, shape_.format));
  rope_shift_ = 0;
}

int64_t KvCache::bytes() const {
  int64_t sum = 0;
  for (int layer = 0; layer < shape_.layers; ++layer) sum += layer_bytes(layer);
  return sum;
}

int64_t KvCache::layer_bytes(int layer) const {
  int64_t sum = 0;
  for (int h = 0; h < shape_.kv_heads; ++h) sum += head(layer, h).bytes();
  return sum;
}

int64_t KvCache::entries() const {
  int64_t sum = 0;
  for (const KvHead& head : heads_) sum += head.length();
  return sum;
}

}  // namespace pyramidkv
