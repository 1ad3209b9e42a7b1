#include "kernels/matmul_prompt.h"

#include <omp.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "dnnl.hpp"
#include "kernels/elementwise.h"

namespace pyramidkv {
namespace {

using dnnl::memory;

// One primitive for each (inputs, outputs of the panel, y_stride).
struct Product {
  dnnl::matmul primitive;
  memory::desc x, weights, y, scratchpad;
};

memory::desc Plain(memory::dim rows, memory::dim cols, memory::data_type type,
                   memory::dim row_stride, memory::dim col_stride) {
  return memory::desc({rows, cols}, type, {row_stride, col_stride});
}

}  // namespace

struct PromptMatMul::Impl {
  using Key = std::tuple<int, int, int>;
  struct Worker {
    dnnl::stream stream;
    AlignedBuffer<float> expanded;   // Pack: one panel of f32 weights
    AlignedBuffer<uint16_t> x_bf16;  // SetInput
    const void* x = nullptr;
    AlignedBuffer<std::byte> scratchpad;
  };

  Impl(int count, bool is_bf16)
      : engine(dnnl::engine::kind::cpu, 0),
        type(is_bf16 ? memory::data_type::bf16 : memory::data_type::f32) {
    for (int i = 0; i < count; ++i) {
      workers.push_back({dnnl::stream(engine), {}, {}, nullptr, {}});
    }
  }

  // Made before the workers start (Prepare), so that they only read the map.
  const Product& Get(int inputs, int outputs, int y_stride) {
    const Key key{inputs, outputs, y_stride};
    const auto it = products.find(key);
    if (it != products.end()) return it->second;
    // A primitive made here runs in our workers: with one thread.
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const auto x = Plain(kPromptTile, inputs, type, inputs, 1);
    const auto y =
        Plain(kPromptTile, outputs, memory::data_type::f32, y_stride, 1);
    const memory::desc any({inputs, outputs}, type, memory::format_tag::any);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(x, any, y), attr,
                                            engine);
    omp_set_num_threads(threads);
    return products
        .emplace(key, Product{dnnl::matmul(desc), x, desc.weights_desc(), y,
                              desc.scratchpad_desc()})
        .first->second;
  }

  dnnl::engine engine;
  memory::data_type type;
  std::vector<Worker> workers;
  std::map<Key, Product> products;
};

PromptMatMul::PromptMatMul(int workers, bool bf16)
    : impl_(std::make_unique<Impl>(workers, bf16)), bf16_(bf16) {}

PromptMatMul::~PromptMatMul() = default;

void PromptMatMul::Prepare(const WeightMatrix& w, PackedMatrix* packed) {
  packed->outputs = w.rows;
  packed->inputs = w.cols;
  packed->panels.resize(packed->panel_count());
  for (int p = 0; p < packed->panel_count(); ++p) {
    const int outputs = std::min(kPanelRows, w.rows - p * kPanelRows);
    const Product& product = impl_->Get(w.cols, outputs, w.rows);
    packed->panels[p].Resize(product.weights.get_size());
  }
}

void PromptMatMul::Pack(const WeightMatrix& w, int panel, int worker,
                        PackedMatrix* packed) {
  const int first = panel * kPanelRows;
  const int outputs = std::min(kPanelRows, w.rows - first);
  Impl::Worker& own = impl_->workers[worker];
  own.expanded.Resize(size_t(outputs) * w.cols);
  DequantizeRows(w, first, outputs, own.expanded.data());
  const Product& product = impl_->Get(w.cols, outputs, w.rows);
  // The file's [outputs, inputs] is the product's [inputs, outputs]
  // transposed.
  memory from(Plain(w.cols, outputs, memory::data_type::f32, 1, w.cols),
              impl_->engine, own.expanded.data());
  memory to(product.weights, impl_->engine, packed->panels[panel].data());
  dnnl::reorder(from, to).execute(own.stream, from, to);
  own.stream.wait();
}

void PromptMatMul::SetInput(const float* x, int inputs, int worker) {
  Impl::Worker& own = impl_->workers[worker];
  own.x = x;
  if (!bf16_) return;
  const size_t count = size_t(kPromptTile) * inputs;
  own.x_bf16.Resize(count);
  ToBf16(x, count, own.x_bf16.data());
  own.x = own.x_bf16.data();
}

void PromptMatMul::Multiply(const PackedMatrix& packed, float* y, int worker) {
  Impl::Worker& own = impl_->workers[worker];
  for (int p = 0; p < packed.panel_count(); ++p) {
    const int first = p * kPanelRows;
    const int outputs = std::min(kPanelRows, packed.outputs - first);
    const Product& product = impl_->Get(packed.inputs, outputs, packed.outputs);
    own.scratchpad.Resize(product.scratchpad.get_size() + 1);
    memory x(product.x, impl_->engine, const_cast<void*>(own.x));
    memory weights(product.weights, impl_->engine,
                   const_cast<std::byte*>(packed.panels[p].data()));
    memory result(product.y, impl_->engine, y + first);
    memory scratchpad(product.scratchpad, impl_->engine, own.scratchpad.data());
    product.primitive.execute(own.stream, {{DNNL_ARG_SRC, x},
                                           {DNNL_ARG_WEIGHTS, weights},
                                           {DNNL_ARG_DST, result},
                                           {DNNL_ARG_SCRATCHPAD, scratchpad}});
  }
  own.stream.wait();
}

}  // namespace pyramidkv
