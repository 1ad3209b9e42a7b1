#include "kernels/rope.h"

#include <cmath>

namespace pyramidkv {

void RopeTable(const float* inv_freq, int pairs, int position, float magnitude,
               float* table) {
  for (int i = 0; i < pairs; ++i) {
    const double angle = double{inv_freq[i]} * position;
    table[i] = static_cast<float>(std::cos(angle) * magnitude);
    table[pairs + i] = static_cast<float>(std::sin(angle) * magnitude);
  }
}

void ApplyRope(const float* table, int pairs, bool neox, int heads,
               int head_dim, float* x) {
  const float* cosine = table;
  const float* sine = table + pairs;
  const int step = neox ? 1 : 2;
  const int partner = neox ? pairs : 1;
  for (int h = 0; h < heads; ++h, x += head_dim) {
    for (int i = 0; i < pairs; ++i) {
      float* a = x + i * step;
      float* b = a + partner;
      const float a0 = *a, b0 = *b;
      *a = a0 * cosine[i] - b0 * sine[i];
      *b = a0 * sine[i] + b0 * cosine[i];
    }
  }
}

}  // namespace pyramidkv
