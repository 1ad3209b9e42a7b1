// The most this machine can do: reads of memory, which bound decoding, and
// oneDNN's matrix products, which bound prompts. The argument is the number of
// threads. bench/compare.py measures shares of these.

#include <benchmark/benchmark.h>
#include <omp.h>

#include <cstdint>
#include <cstring>
#include <unordered_map>

#include "base/aligned_buffer.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace pyramidkv {
namespace {

constexpr size_t kReadBytes = size_t{512} << 20;  // far above any cache
constexpr int kStreams = 8;  // at once in each thread: 15 % above one
constexpr int kSide = 2048;  // of the square matrices
constexpr int kByte = 0x3c;  // twice, a bf16 number that is not denormal

// A cache line.
using Line = uint64_t __attribute__((vector_size(64)));

// 64-byte reads of [data, data + bytes). REQUIRES: aligned to 64; bytes is a
// multiple of kStreams lines.
__attribute__((target_clones("avx512f", "avx2", "default"))) uint64_t ReadAll(
    const std::byte* data, size_t bytes) {
  const size_t lines = bytes / sizeof(Line) / kStreams;  // of a stream
  const auto* line = reinterpret_cast<const Line*>(data);
  Line sums[kStreams] = {};
  for (size_t i = 0; i < lines; ++i) {
    for (int s = 0; s < kStreams; ++s) sums[s] ^= line[s * lines + i];
  }
  for (int s = 1; s < kStreams; ++s) sums[0] ^= sums[s];
  uint64_t folded = 0;
  for (int i = 0; i < 8; ++i) folded ^= sums[0][i];
  return folded;
}

void MemoryRead(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  AlignedBuffer<std::byte> memory(kReadBytes);
  std::memset(memory.data(), 1, kReadBytes);  // pages of its own
  const size_t part = kReadBytes / pool.threads() / 4096 * 4096;
  for (auto _ : state) {
    pool.ParallelFor(pool.threads(), [&](int i, int) {
      benchmark::DoNotOptimize(ReadAll(memory.data() + i * part, part));
    });
  }
  state.counters["bytes/s"] =
      benchmark::Counter(double(part) * pool.threads(),
                         benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(MemoryRead)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// A matrix whose layout oneDNN has chosen.
dnnl::memory Matrix(const dnnl::memory::desc& layout,
                    const dnnl::engine& engine) {
  dnnl::memory memory(layout, engine);
  std::memset(memory.get_data_handle(), kByte, layout.get_size());
  return memory;
}

void GemmPeak(benchmark::State& state, dnnl::memory::data_type a,
              dnnl::memory::data_type b, dnnl::memory::data_type c) {
  if (a == dnnl::memory::data_type::bf16 && !Cpu().avx512_bf16) {
    return state.SkipWithError("no AVX-512 BF16");
  }
  omp_set_num_threads(static_cast<int>(state.range(0)));
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto layout = [](dnnl::memory::data_type type) {
    return dnnl::memory::desc({kSide, kSide}, type,
                              dnnl::memory::format_tag::any);
  };
  const dnnl::matmul::primitive_desc product(
      dnnl::matmul::desc(layout(a), layout(b), layout(c)), engine);
  const dnnl::matmul matmul(product);
  const std::unordered_map<int, dnnl::memory> args = {
      {DNNL_ARG_SRC, Matrix(product.src_desc(), engine)},
      {DNNL_ARG_WEIGHTS, Matrix(product.weights_desc(), engine)},
      {DNNL_ARG_DST, Matrix(product.dst_desc(), engine)}};
  for (auto _ : state) {
    matmul.execute(stream, args);
    stream.wait();
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * kSide * kSide * kSide,
                         benchmark::Counter::kIsIterationInvariantRate);
}
using Type = dnnl::memory::data_type;
BENCHMARK_CAPTURE(GemmPeak, f32, Type::f32, Type::f32, Type::f32)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(GemmPeak, bf16, Type::bf16, Type::bf16, Type::f32)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(GemmPeak, u8s8, Type::u8, Type::s8, Type::s32)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pyramidkv
