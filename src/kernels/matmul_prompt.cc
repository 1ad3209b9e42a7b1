#include "kernels/matmul_prompt.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/cpu.h"
#include "base/one_omp_thread.h"
#include "dnnl.hpp"
#include "kernels/elementwise.h"
#include "kernels/matmul_int8.h"

namespace pyramidkv {
namespace {

using dnnl::memory;

// Two primitives for each (inputs, outputs of the panel, y_stride). Workers
// share them and bring scratchpads of their own: making one inside a worker
// would search the library's cache of primitives from several threads.
struct Product {
  dnnl::matmul primitive;
  memory::desc x, weights, y, scratchpad;
  dnnl::reorder pack;  // rows of the file -> weights
  memory::desc rows, pack_scratchpad;
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
    AlignedBuffer<float> expanded;  // Pack: one panel of f32 weights
    const float* x = nullptr;
    int rows = 0, fine_rows = 0, inputs = 0;
    Int8Rows x_int8;  // x rounded, once a product asks for it
    AlignedBuffer<uint16_t> x_bf16;
    bool has_int8 = false, has_bf16 = false;
    AlignedBuffer<std::byte> scratchpad;

    // The worker's scratchpad, as a primitive asked for it.
    memory Scratchpad(const memory::desc& desc, const dnnl::engine& on) {
      scratchpad.Resize(desc.get_size() + 1);
      return memory(desc, on, scratchpad.data());
    }
  };

  Impl(int count, PromptCompute compute)
      : engine(dnnl::engine::kind::cpu, 0),
        int8(compute == PromptCompute::kInt8),
        bf16(compute != PromptCompute::kF32 && Cpu().avx512_bf16),
        type(bf16 ? memory::data_type::bf16 : memory::data_type::f32),
        workers(count) {
    for (Worker& worker : workers) worker.stream = dnnl::stream(engine);
  }

  // The worker's input as oneDNN wants it.
  void* DenseInput(Worker* own) const {
    if (!bf16) return const_cast<float*>(own->x);
    if (!own->has_bf16) {
      const size_t count = size_t(kPromptTile) * own->inputs;
      own->x_bf16.Resize(count);
      ToBf16(own->x, count, own->x_bf16.data());
      own->has_bf16 = true;
    }
    return own->x_bf16.data();
  }

  void MultiplyInt8(const WeightMatrix& w, float* y, Worker* own) const {
    if (!own->has_int8) {
      own->x_int8.Set(own->x, own->rows, own->inputs, own->fine_rows);
      own->has_int8 = true;
    }
    MultiplyTiles(TileFormatOf(w.type), w.tiles, w.rows, own->x_int8, 0,
                  GroupsOf(w.rows), y, w.rows);
  }

  // Made before the workers start (Prepare), so that they only read the map.
  const Product& Get(int inputs, int outputs, int y_stride) {
    const Key key{inputs, outputs, y_stride};
    const auto it = products.find(key);
    if (it != products.end()) return it->second;
    // A primitive made here runs in our workers: with one thread.
    const OneOmpThread one_thread;
    const auto x = Plain(kPromptTile, inputs, type, inputs, 1);
    const auto y =
        Plain(kPromptTile, outputs, memory::data_type::f32, y_stride, 1);
    const memory::desc any({inputs, outputs}, type, memory::format_tag::any);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(x, any, y), attr,
                                            engine);
    // The file's [outputs, inputs] is the product's [inputs, outputs]
    // transposed.
    const auto rows = Plain(inputs, outputs, memory::data_type::f32, 1, inputs);
    const dnnl::reorder::primitive_desc pack(engine, rows, engine,
                                             desc.weights_desc(), attr);
    return products
        .emplace(key, Product{dnnl::matmul(desc), x, desc.weights_desc(), y,
                              desc.scratchpad_desc(), dnnl::reorder(pack), rows,
                              pack.scratchpad_desc()})
        .first->second;
  }

  dnnl::engine engine;
  bool int8, bf16;
  memory::data_type type;  // of oneDNN's products
  std::vector<Worker> workers;
  std::map<Key, Product> products;
};

PromptMatMul::PromptMatMul(int workers, PromptCompute compute)
    : impl_(std::make_unique<Impl>(workers, compute)) {}

PromptMatMul::~PromptMatMul() = default;

void PromptMatMul::Prepare(const WeightMatrix& w, PackedMatrix* packed) {
  packed->outputs = w.rows;
  packed->inputs = w.cols;
  packed->tiled = impl_->int8 && w.tiles != nullptr ? &w : nullptr;
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
  const OneOmpThread one_thread;
  own.expanded.Resize(size_t(outputs) * w.cols);
  DequantizeRows(w, first, outputs, own.expanded.data());
  const Product& product = impl_->Get(w.cols, outputs, w.rows);
  memory from(product.rows, impl_->engine, own.expanded.data());
  memory to(product.weights, impl_->engine, packed->panels[panel].data());
  product.pack.execute(
      own.stream, {{DNNL_ARG_FROM, from},
                   {DNNL_ARG_TO, to},
                   {DNNL_ARG_SCRATCHPAD,
                    own.Scratchpad(product.pack_scratchpad, impl_->engine)}});
  own.stream.wait();
}

void PromptMatMul::SetInput(const float* x, PromptRows rows, int inputs,
                            int worker) {
  Impl::Worker& own = impl_->workers[worker];
  own.x = x;
  own.rows = rows.count;
  own.fine_rows = rows.fine;
  own.inputs = inputs;
  own.has_int8 = own.has_bf16 = false;
}

void PromptMatMul::Multiply(const PackedMatrix& packed, float* y, int worker) {
  Impl::Worker& own = impl_->workers[worker];
  if (packed.tiled != nullptr) {
    return impl_->MultiplyInt8(*packed.tiled, y, &own);
  }
  const OneOmpThread one_thread;
  void* input = impl_->DenseInput(&own);
  for (int p = 0; p < packed.panel_count(); ++p) {
    const int first = p * kPanelRows;
    const int outputs = std::min(kPanelRows, packed.outputs - first);
    const Product& product = impl_->Get(packed.inputs, outputs, packed.outputs);
    memory x(product.x, impl_->engine, input);
    memory weights(product.weights, impl_->engine,
                   const_cast<std::byte*>(packed.panels[p].data()));
    memory result(product.y, impl_->engine, y + first);
    product.primitive.execute(
        own.stream, {{DNNL_ARG_SRC, x},
                     {DNNL_ARG_WEIGHTS, weights},
                     {DNNL_ARG_DST, result},
                     {DNNL_ARG_SCRATCHPAD,
                      own.Scratchpad(product.scratchpad, impl_->engine)}});
  }
  own.stream.wait();
}

}  // namespace pyramidkv
