// The parts of a row's attention taken together: its output, and the share of
// it that each entry received.

#include <algorithm>
#include <cmath>

#include "kernels/attention_decode.h"

namespace pyramidkv {

void MergeDecodeParts(const float* results, int parts, int group, int head_dim,
                      float* out) {
  const size_t size = DecodePartFloats(group, head_dim);
  for (int g = 0; g < group; ++g) {
    float max = results[g];
    for (int p = 1; p < parts; ++p) max = std::max(max, results[p * size + g]);
    float sum = 0;
    float* o = out + size_t(g) * head_dim;
    std::fill(o, o + head_dim, 0.0f);
    for (int p = 0; p < parts; ++p) {
      const float* r = results + p * size;
      const float weight = std::exp(r[g] - max);
      sum += r[group + g] * weight;
      const float* v = r + 2 * group + size_t(g) * head_dim;
      for (int i = 0; i < head_dim; ++i) o[i] += v[i] * weight;
    }
    const float inverse = 1.0f / sum;
    for (int i = 0; i < head_dim; ++i) o[i] *= inverse;
  }
}

void AddReceived(const Segment& segment, int group, const PartResults& all,
                 const float* weights, AlignedBuffer<float>* scratch,
                 float* received) {
  const int parts = segment.parts();
  const size_t size = DecodePartFloats(group, segment.format.head_dim);
  const float* const own = all.results + all.first * size;
  const bool listed = segment.entries != nullptr;
  float* sums = received;  // of slot j at j + shift
  int shift = segment.first_entry;
  if (listed) {
    scratch->Resize(std::max(segment.end - segment.begin, 0));
    sums = scratch->data();
    shift = -segment.begin;
    std::fill_n(sums, scratch->size(), 0.0f);
  }
  for (int g = 0; g < group; ++g) {
    float max = all.results[g];
    for (int p = 1; p < all.parts; ++p) {
      max = std::max(max, all.results[p * size + g]);
    }
    float sum = 0;
    for (int p = 0; p < all.parts; ++p) {
      const float* r = all.results + p * size;
      sum += r[group + g] * std::exp(r[g] - max);
    }
    for (int p = 0; p < parts; ++p) {
      const int from = segment.part_begin(p), to = segment.part_end(p);
      // A part's weights begin with its first page.
      const float* w = weights + (size_t(p) * group + g) * kPartSlots +
                       from % segment.format.entries;
      const float share =
          std::exp(own[p * size + g] - max) / (sum * float(group));
      float* const to_sums = sums + (from + shift);
      for (int j = 0; j < to - from; ++j) to_sums[j] += w[j] * share;
    }
  }
  for (int j = segment.begin; listed && j < segment.end; ++j) {
    received[segment.entries[j]] += sums[j - segment.begin];
  }
}

}  // namespace pyramidkv
