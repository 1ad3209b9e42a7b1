// Times of single kernels in the shapes of SmolLM2-135M, next to what bounds
// them: FLOP/s where arithmetic does, bytes/s where memory does. Random data;
// one thread unless an argument says otherwise.

#include <benchmark/benchmark.h>
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <random>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/cpu.h"
#include "base/huge_buffer.h"
#include "base/thread_pool.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "kernels/attention_decode.h"
#include "kernels/attention_prefill.h"
#include "kernels/column_attention.h"
#include "kernels/elementwise.h"
#include "kernels/int16_rows.h"
#include "kernels/matmul_prompt.h"
#include "kernels/matmul_rows.h"
#include "kernels/window_scores.h"

namespace pyramidkv {
namespace {

constexpr int kHeadDim = 64;
constexpr int kKvHeads = 3;
constexpr int kGroup = 3;  // query heads of a KV head
constexpr int kEmbedding = 576;
constexpr int kFeedForward = 1536;
constexpr int kVocabulary = 49152;
constexpr float kScale = 0.125f;

std::vector<float> RandomFloats(size_t n) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(n);
  std::generate(values.begin(), values.end(), [&] { return uniform(random); });
  return values;
}

void SetFlops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void SetBytes(benchmark::State& state, double bytes) {
  state.counters["bytes/s"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

// The last rows of a prompt of `entries` tokens.
PrefillTile LastTile(int entries, int rows, const float* q, float* out) {
  PrefillTile tile;
  tile.rows = rows;
  tile.group = kGroup;
  tile.head_dim = kHeadDim;
  tile.scale = kScale;
  tile.q = q;
  tile.out = out;
  tile.q_stride = tile.out_stride = kGroup * kHeadDim;
  for (int i = 0; i < rows; ++i) tile.end[i] = entries - rows + i + 1;
  return tile;
}

double PrefillFlops(int entries, int rows) {
  return 4.0 * kHeadDim * kGroup * rows * entries;
}

// Arguments: entries, rows.
void PrefillAttentionF32(benchmark::State& state) {
  const int entries = static_cast<int>(state.range(0));
  const int rows = static_cast<int>(state.range(1));
  const auto k = RandomFloats(size_t(entries) * kHeadDim);
  const auto q = RandomFloats(size_t(rows) * kGroup * kHeadDim);
  std::vector<float> out(q.size());
  const PrefillTile tile = LastTile(entries, rows, q.data(), out.data());
  PrefillScratch scratch;
  scratch.Resize(kGroup, kHeadDim);
  for (auto _ : state) AttendPrefill(tile, k.data(), k.data(), &scratch);
  SetFlops(state, PrefillFlops(entries, rows));
}
BENCHMARK(PrefillAttentionF32)
    ->ArgsProduct({{512, 2048, 8192}, {kQueryTile, kMaxQueryRows}})
    ->Unit(benchmark::kMicrosecond);

// Arguments: entries, rows.
void PrefillAttentionBf16(benchmark::State& state) {
  if (!Cpu().avx512_bf16) return state.SkipWithError("no AVX-512 BF16");
  const int entries = static_cast<int>(state.range(0));
  const int rows = static_cast<int>(state.range(1));
  const auto values = RandomFloats(size_t(entries) * kHeadDim);
  std::vector<uint16_t> k(values.size());
  ToBf16(values.data(), values.size(), k.data());
  const auto q = RandomFloats(size_t(rows) * kGroup * kHeadDim);
  std::vector<float> out(q.size());
  const PrefillTile tile = LastTile(entries, rows, q.data(), out.data());
  PrefillScratch scratch;
  scratch.Resize(kGroup, kHeadDim);
  for (auto _ : state) AttendPrefillBf16(tile, k.data(), k.data(), &scratch);
  SetFlops(state, PrefillFlops(entries, rows));
}
BENCHMARK(PrefillAttentionBf16)
    ->ArgsProduct({{512, 2048, 8192}, {kQueryTile, kMaxQueryRows}})
    ->Unit(benchmark::kMicrosecond);

// Runs `work` and returns its seconds.
template <class F>
double Seconds(const F& work) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int kPeakSteps = 1 << 16;

// Multiplications of pairs of 16-bit integers and additions of what they give,
// from registers: what bounds the int16 form.
__attribute__((target("avx2"))) void MultiplyPairs() {
  constexpr int kSums = 12;
  __m256i sums[kSums], a = _mm256_set1_epi16(3);
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) sums[i] = a;
  for (int step = 0; step < kPeakSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) {
      asm volatile("" : "+x"(a));  // not the same product again
      sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(a, a));
      asm volatile("" : "+x"(sums[i]));
    }
  }
}

double PairsPeak() {
  constexpr double kFlops = 12.0 * 32 * kPeakSteps;
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < 10; ++i) best = std::min(best, Seconds(MultiplyPairs));
  return kFlops / best;
}

// Arguments: entries, rows. `of_peak`: the share of PairsPeak, best against
// best.
void PrefillAttentionInt16(benchmark::State& state) {
  if (!Cpu().avx2) return state.SkipWithError("no AVX2");
  const int entries = static_cast<int>(state.range(0));
  const int rows = static_cast<int>(state.range(1));
  const auto values = RandomFloats(size_t(entries) * kHeadDim);
  std::vector<int16_t> k(values.size()), v(values.size());
  std::vector<float> k_scale(entries), v_scale(entries);
  for (int e = 0; e < entries; ++e) {
    const size_t at = size_t(e) * kHeadDim;
    k_scale[e] = ToInt16Row(&values[at], kHeadDim, &k[at]);
    v_scale[e] = StoreInt16Values(&values[at], kHeadDim, e, v.data());
  }
  const auto q = RandomFloats(size_t(rows) * kGroup * kHeadDim);
  std::vector<float> out(q.size());
  const PrefillTile tile = LastTile(entries, rows, q.data(), out.data());
  PrefillScratch scratch;
  scratch.Resize(kGroup, kHeadDim);
  double best = std::numeric_limits<double>::max();
  for (auto _ : state) {
    const double seconds = Seconds([&] {
      AttendPrefillInt16(
          tile, {k.data(), k_scale.data(), v.data(), v_scale.data()}, &scratch);
    });
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double flops = PrefillFlops(entries, rows);
  SetFlops(state, flops);
  state.counters["of_peak"] = flops / best / PairsPeak();
}
BENCHMARK(PrefillAttentionInt16)
    ->ArgsProduct({{512, 2048, 8192}, {kQueryTile, kMaxQueryRows}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

// A whole prompt on one KV head.
struct Prompt {
  explicit Prompt(int rows)
      : rows(rows),
        q(RandomFloats(size_t(rows) * kGroup * kHeadDim)),
        k(RandomFloats(size_t(rows) * kHeadDim)),
        k16(k.size()),
        out(q.size()),
        lse(size_t(rows) * kGroup) {
    ToBf16(k.data(), k.size(), k16.data());
    scratch.Resize(kGroup, kHeadDim);
  }

  void Attend(bool bf16) {
    for (int end = kQueryTile; end <= rows; end += kQueryTile) {
      const size_t row = end - kQueryTile;
      PrefillTile tile = LastTile(end, kQueryTile, &q[row * kGroup * kHeadDim],
                                  &out[row * kGroup * kHeadDim]);
      tile.lse = &lse[row * kGroup];
      tile.lse_stride = kGroup;
      if (bf16) {
        AttendPrefillBf16(tile, k16.data(), k16.data(), &scratch);
      } else {
        AttendPrefill(tile, k.data(), k.data(), &scratch);
      }
    }
  }

  int rows;
  std::vector<float> q, k;
  std::vector<uint16_t> k16;
  std::vector<float> out, lse;
  PrefillScratch scratch;
};

// Column sums of a prompt in calls of so many rows (the second argument),
// next to the attention that they follow: `of_attention` is the share of its
// time, least of all against least of all.
void ColumnSums(benchmark::State& state, bool bf16) {
  if (bf16 && !Cpu().avx512_bf16) return state.SkipWithError("no AVX-512 BF16");
  Prompt prompt(static_cast<int>(state.range(0)));
  const int slice = static_cast<int>(state.range(1));
  std::vector<float> received(size_t(kGroup) * prompt.rows, 0.0f);
  ColumnAttentionArgs args;
  args.group = kGroup;
  args.head_dim = kHeadDim;
  args.scale = kScale;
  args.q_stride = kGroup * kHeadDim;
  args.lse_stride = kGroup;
  args.k = prompt.k.data();
  args.form = bf16 ? AttentionForm::kBf16 : AttentionForm::kF32;
  args.received = received.data();
  args.received_stride = prompt.rows;
  ColumnScratch scratch;
  double attention = std::numeric_limits<double>::max(), columns = attention;
  for (auto _ : state) {
    attention = std::min(attention, Seconds([&] { prompt.Attend(bf16); }));
    const double seconds = Seconds([&] {
      for (int row = 0; row < prompt.rows; row += slice) {
        args.rows = std::min(slice, prompt.rows - row);
        args.q = &prompt.q[row * args.q_stride];
        args.lse = &prompt.lse[row * args.lse_stride];
        args.first_end = row + 1;
        args.to = row + args.rows;
        ColumnAttention(args, &scratch);
      }
    });
    state.SetIterationTime(seconds);
    columns = std::min(columns, seconds);
  }
  SetFlops(state, 1.0 * kHeadDim * kGroup * prompt.rows * prompt.rows);
  state.counters["of_attention"] = columns / attention;
}
BENCHMARK_CAPTURE(ColumnSums, f32, false)
    ->Args({4096, 4096})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ColumnSums, bf16, true)
    ->ArgsProduct({{1024, 4096}, {128, 1024, 4096}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// One KV head in pages that all hold the same entries.
struct PagedHead {
  PagedHead(const PageFormat& format, int entries)
      : memory(format.page_bytes() * (entries / kPageEntries)) {
    const auto k = RandomFloats(kHeadDim);
    for (int i = 0; i < entries; ++i) {
      std::byte* page =
          memory.data() + format.page_bytes() * (i / kPageEntries);
      if (i % kPageEntries == 0) pages.push_back(page);
      StoreEntry(format, page, i % kPageEntries, k.data(), k.data());
    }
  }
  HugeBuffer memory;
  std::vector<const std::byte*> pages;
};

// received: what each entry receives from the row, too.
void DecodeAttention(benchmark::State& state, Codec codec, bool received) {
  const int entries = static_cast<int>(state.range(0));
  const PageFormat format = {kHeadDim, codec, codec};
  const PagedHead stored(format, entries);
  const auto q = RandomFloats(kGroup * kHeadDim);
  Segment segment;
  segment.format = format;
  segment.pages = stored.pages.data();
  segment.end = entries;
  const DecodeQuery query = {kGroup, kScale, q.data()};
  const size_t part_floats = DecodePartFloats(kGroup, kHeadDim);
  std::vector<float> results(part_floats * segment.parts());
  std::vector<float> out(q.size()), sums(entries, 0.0f);
  const size_t weights_size = size_t{kGroup} * kPartSlots;
  std::vector<float> weights(weights_size * segment.parts());
  AlignedBuffer<float> scratch;
  for (auto _ : state) {
    for (int part = 0; part < segment.parts(); ++part) {
      AttendDecodePart(segment, query, part, &scratch,
                       &results[part * part_floats],
                       received ? &weights[part * weights_size] : nullptr);
    }
    MergeDecodeParts(results.data(), segment.parts(), kGroup, kHeadDim,
                     out.data());
    if (received) {
      AddReceived(segment, kGroup, {results.data(), segment.parts()},
                  weights.data(), &scratch, sums.data());
    }
  }
  SetBytes(state, double(stored.memory.bytes()));
}
// In the second-level cache, and in memory.
BENCHMARK_CAPTURE(DecodeAttention, f32, Codec::kF32, false)
    ->Arg(2048)
    ->Arg(1 << 18);
BENCHMARK_CAPTURE(DecodeAttention, f16, Codec::kF16, false)
    ->Arg(2048)
    ->Arg(1 << 18);
BENCHMARK_CAPTURE(DecodeAttention, bf16, Codec::kBf16, false)
    ->Arg(2048)
    ->Arg(1 << 18);
BENCHMARK_CAPTURE(DecodeAttention, int8, Codec::kInt8, false)
    ->Arg(2048)
    ->Arg(1 << 18);
BENCHMARK_CAPTURE(DecodeAttention, int4, Codec::kInt4, false)
    ->Arg(2048)
    ->Arg(1 << 18);
BENCHMARK_CAPTURE(DecodeAttention, f16_received, Codec::kF16, true)
    ->Arg(2048)
    ->Arg(1 << 18);

void WindowScoring(benchmark::State& state) {
  const int entries = static_cast<int>(state.range(0));
  const int rows = 32;
  const auto keys = RandomFloats(size_t(entries) * kHeadDim);
  const auto q = RandomFloats(size_t(rows) * kKvHeads * kGroup * kHeadDim);
  std::vector<float> score(size_t(kKvHeads) * entries);
  std::vector<float> mass(score.size());
  const int n[kKvHeads] = {entries, entries, entries};
  const float* k[kKvHeads] = {keys.data(), keys.data(), keys.data()};
  float* scores[kKvHeads];
  float* masses[kKvHeads];
  for (int h = 0; h < kKvHeads; ++h) {
    scores[h] = &score[size_t(h) * entries];
    masses[h] = &mass[size_t(h) * entries];
  }
  WindowScoresArgs args;
  args.kv_heads = kKvHeads;
  args.group = kGroup;
  args.head_dim = kHeadDim;
  args.n = n;
  args.rows = rows;
  args.scale = kScale;
  args.q = q.data();
  args.k = k;
  ThreadPool pool(1);
  for (auto _ : state) WindowScores(args, &pool, scores, masses);
  SetFlops(state, 2.0 * kHeadDim * kGroup * kKvHeads * rows * entries);
}
BENCHMARK(WindowScoring)->Arg(2048)->Arg(8192)->Unit(benchmark::kMicrosecond);

// A Q4_1 matrix with random contents.
struct Weights {
  Weights(int rows, int cols) {
    ggml_cpu_init();
    const size_t row_bytes = ggml_row_size(GGML_TYPE_Q4_1, cols);
    data.resize(row_bytes * rows);
    const auto values = RandomFloats(size_t(rows) * cols);
    ggml_quantize_chunk(GGML_TYPE_Q4_1, values.data(), data.data(), 0, rows,
                        cols, nullptr);
    matrix = {data.data(), GGML_TYPE_Q4_1, rows, cols, row_bytes};
    if (!HasInt8Products()) return;
    const size_t bytes = TileFormatOf(GGML_TYPE_Q4_1).group_bytes(cols);
    tiles = HugeBuffer(bytes * GroupsOf(rows));
    for (int g = 0; g < GroupsOf(rows); ++g) {
      PackTiles(matrix, g, tiles.data() + g * bytes);
    }
    matrix.tiles = tiles.data();
  }
  std::vector<std::byte> data;
  HugeBuffer tiles;
  WeightMatrix matrix;
};

void PromptProduct(benchmark::State& state, PromptCompute compute) {
  omp_set_num_threads(1);
  const Weights weights(kFeedForward, kEmbedding);
  PromptMatMul matmul(1, compute);
  PackedMatrix packed;
  matmul.Prepare(weights.matrix, &packed);
  for (int panel = 0; panel < packed.panel_count(); ++panel) {
    matmul.Pack(weights.matrix, panel, 0, &packed);
  }
  const auto x = RandomFloats(kPromptTile * kEmbedding);
  std::vector<float> y(kPromptTile * kFeedForward);
  for (auto _ : state) {
    matmul.SetInput(x.data(), {}, kEmbedding, 0);
    matmul.Multiply(packed, y.data(), 0);
  }
  SetFlops(state, 2.0 * kPromptTile * kEmbedding * kFeedForward);
}
BENCHMARK_CAPTURE(PromptProduct, f32, PromptCompute::kF32)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(PromptProduct, bf16, PromptCompute::kBf16)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(PromptProduct, int8, PromptCompute::kInt8)
    ->Unit(benchmark::kMicrosecond);

// Arguments: rows of the batch, threads. Bytes are the weights', read once.
void RowProduct(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  const Weights weights(kVocabulary, kEmbedding);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto x = RandomFloats(size_t(rows) * kEmbedding);
  RowsInput input;
  std::vector<float> y(size_t(rows) * kVocabulary);
  const RowsProduct product = {&weights.matrix, &input, nullptr, y.data(),
                               size_t{kVocabulary}};
  for (auto _ : state) {
    input.Set(x.data(), rows, kEmbedding, false);
    input.PrepareFor(weights.matrix, &pool);
    MultiplyRows({&product, 1}, &pool);
  }
  SetBytes(state, double(weights.data.size()));
  SetFlops(state, 2.0 * rows * kEmbedding * kVocabulary);
}
BENCHMARK(RowProduct)
    ->ArgsProduct({{1, 4, 16}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace pyramidkv
