#include "runtime/append_fresh.h"

#include <algorithm>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/page_rows.h"

namespace pyramidkv {
namespace {

// Rows whose f16 values are widened at a time.
constexpr int kStretch = 256;

bool HeldAsF16(const LayerEntries& e, int head) {
  return e.fresh_v16 != nullptr && e.fresh_v16[head] != nullptr;
}

// Appends the kept rows `rows` of the fresh rows [from, to).
Status AppendStretch(const LayerEntries& e, int head, int from, int to,
                     std::span<const int> rows, AlignedBuffer<float>* wide,
                     KvCache* cache) {
  const size_t d = cache->shape().format.head_dim;
  wide->Resize(size_t(to - from) * d);
  std::vector<int> kept;
  kept.reserve(rows.size());
  for (int row : rows) {
    kept.push_back(row - from);
    FromF16(e.fresh_v16[head] + row * d, d,
            wide->data() + size_t(row - from) * d);
  }
  return cache->AppendKept(e.layer, head, e.fresh_position + from, kept,
                           e.k[head] + size_t(e.past[head] + from) * d,
                           wide->data(), d, to - from);
}

}  // namespace

Status AppendFresh(const LayerEntries& e, int head, std::span<const int> rows,
                   KvCache* cache) {
  const size_t d = cache->shape().format.head_dim;
  if (!HeldAsF16(e, head)) {
    const size_t offset = e.past[head] * d;
    return cache->AppendKept(e.layer, head, e.fresh_position, rows,
                             e.k[head] + offset, e.v[head] + offset, d,
                             e.fresh);
  }
  // The stretch with the last row that is not kept reaches to the end: a head
  // with one scale for all entries has it of all these rows.
  int gap = e.fresh - 1;
  for (size_t i = rows.size(); i > 0 && rows[i - 1] == gap; --i) --gap;
  AlignedBuffer<float> wide;
  auto next = rows.begin();
  for (int from = 0; from < e.fresh;) {
    int to = std::min(from + kStretch, e.fresh);
    if (from <= gap && gap < to) to = e.fresh;
    const auto end = std::lower_bound(next, rows.end(), to);
    PKV_RETURN_IF_ERROR(
        AppendStretch(e, head, from, to, {next, end}, &wide, cache));
    next = end;
    from = to;
  }
  return {};
}

Status AppendAllFresh(const LayerEntries& e, int head, int first,
                      KvCache* cache) {
  const size_t d = cache->shape().format.head_dim;
  const size_t past = e.past[head];
  if (!HeldAsF16(e, head)) {
    return cache->Append(e.layer, head, e.fresh_position + first,
                         e.fresh - first, e.k[head] + (past + first) * d,
                         e.v[head] + (past + first) * d, d);
  }
  AlignedBuffer<float> wide(kStretch * d);
  for (int from = first; from < e.fresh; from += kStretch) {
    const int count = std::min(kStretch, e.fresh - from);
    FromF16(e.fresh_v16[head] + from * d, count * d, wide.data());
    PKV_RETURN_IF_ERROR(cache->Append(e.layer, head, e.fresh_position + from,
                                      count, e.k[head] + (past + from) * d,
                                      wide.data(), d));
  }
  return {};
}

}  // namespace pyramidkv
