#include "runtime/block_rows.h"

#include <array>

#include "base/check.h"
#include "kernels/elementwise.h"

namespace pyramidkv {
namespace {

constexpr int kMaxProducts = 3;

const float* BiasOf(const BlockProduct& product) {
  return product.bias == nullptr || product.bias->empty()
             ? nullptr
             : product.bias->data();
}

}  // namespace

void GeneratedRows::Set(int count) {
  count_ = count;
  list_ = nullptr;
}

void GeneratedRows::Set(std::span<const int> numbers) {
  count_ = static_cast<int>(numbers.size());
  list_ = numbers.data();
}

void GeneratedRows::Multiply(const float* x,
                             std::span<const BlockProduct> products) {
  DCHECK(products.size() <= kMaxProducts);
  std::array<RowsProduct, kMaxProducts> all;
  input_.Set(x, count_, products[0].w->cols, exact_);
  for (size_t i = 0; i < products.size(); ++i) {
    const BlockProduct& p = products[i];
    input_.PrepareFor(*p.w, pool_);
    all[i] = {p.w, &input_, BiasOf(p), p.y, size_t(p.w->rows)};
  }
  MultiplyRows(std::span(all).first(products.size()), pool_);
}

void PromptTileRows::Multiply(const float* x,
                              std::span<const BlockProduct> products) {
  matmul_.SetInput(x, rows_, products[0].w->cols, worker_);
  for (const BlockProduct& p : products) {
    matmul_.Multiply(*p.packed, p.y, worker_);
  }
  for (const BlockProduct& p : products) {
    const float* const bias = BiasOf(p);
    if (bias == nullptr) continue;
    const size_t width = p.w->rows;
    for (int r = 0; r < count_; ++r) AddTo(bias, width, p.y + r * width);
  }
}

}  // namespace pyramidkv
