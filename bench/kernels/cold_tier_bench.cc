// A cold tier's two steps: build/release/bin/cold_tier_bench
//   Select  of one head, all in memory: index, choice and bookkeeping
//   Step    Select and Fetch of many heads; the argument: share in memory in
//           percent (100: no file), then reader threads
// The file lies where temporary files do.

#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "cache/cold_store.h"

namespace pyramidkv {
namespace {

constexpr int kHeadDim = 64;
constexpr int kGroup = 3;
constexpr int kLayers = 10;
constexpr int kKvHeads = 3;

std::vector<float> Normal(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = normal(random);
  return values;
}

struct Size {
  int heads;
  int entries;
  Codec codec = Codec::kF16;
};

std::unique_ptr<ColdTier> Filled(double resident, int readers,
                                 const Size& size) {
  const auto [heads, entries, codec] = size;
  ColdTierOptions options;
  options.layers = heads;
  options.kv_heads = 1;
  options.format.head_dim = kHeadDim;
  options.format.entries = kBlockEntries;
  options.format.k = codec;
  options.format.v = codec;
  options.resident = resident;
  options.fetch = 0.1;
  options.alpha = 1e9;  // always a tenth
  ColdStoreParts parts;
  parts.index = [](int, int) {
    KeyIndexOptions index;
    index.head_dim = kHeadDim;
    return MakeKeyIndex(index);
  };
  parts.readers = readers;
  auto tier = MakeColdStore(options, std::move(parts));
  if (!tier.ok()) return nullptr;
  const std::vector<float> rows = Normal(size_t(entries) * kHeadDim, 1);
  const std::vector<int32_t> positions(entries);
  for (int h = 0; h < heads; ++h) {
    if (!(*tier)
             ->Append(h, 0, entries, rows.data(), rows.data(), kHeadDim,
                      positions.data())
             .ok()) {
      return nullptr;
    }
  }
  if (!(*tier)->Settle().ok()) return nullptr;
  return std::move(*tier);
}

void Select(benchmark::State& state) {
  const int entries = static_cast<int>(state.range(0));
  const auto tier = Filled(1, 0, {1, entries});
  const std::vector<float> q = Normal(kGroup * kHeadDim, 2);
  for (auto _ : state) tier->Select(0, 0, q.data(), kGroup, 0.125F);
  state.counters["entries/s"] = benchmark::Counter(
      entries, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(Select)->Arg(4096)->Arg(32768)->Unit(benchmark::kMicrosecond);

// Queries that move slowly, as those of consecutive tokens do.
void Step(benchmark::State& state, Codec codec) {
  constexpr int kHeads = kLayers * kKvHeads;
  const auto tier =
      Filled(state.range(0) / 100.0, static_cast<int>(state.range(1)),
             {kHeads, 16384, codec});
  if (tier == nullptr) return state.SkipWithError("no tier");
  std::vector<float> q = Normal(kGroup * kHeadDim, 3);
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 0.3F);
  ColdView view;
  const ColdTierStats before = tier->stats();
  for (auto _ : state) {
    for (float& x : q) x = 0.95F * x + normal(random);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int h = 0; h < kKvHeads; ++h) {
        tier->Select(layer * kKvHeads + h, 0, q.data(), kGroup, 0.125F);
      }
      for (int h = 0; h < kKvHeads; ++h) {
        if (!tier->Fetch(layer * kKvHeads + h, 0, &view).ok()) {
          return state.SkipWithError("a read failed");
        }
      }
    }
  }
  const ColdTierStats after = tier->stats();
  const double reads =
      static_cast<double>(after.read_blocks - before.read_blocks);
  state.counters["us/block"] =
      (after.read_seconds - before.read_seconds) / reads * 1e6;
  state.counters["read"] = reads / static_cast<double>(after.selected_blocks -
                                                       before.selected_blocks);
}
BENCHMARK_CAPTURE(Step, int8, Codec::kInt8)
    ->Args({10, 4})
    ->Iterations(20)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Step, f16, Codec::kF16)
    ->ArgsProduct({{10}, {0, 1, 2, 4, 8}})
    ->Args({30, 4})
    ->Args({100, 0})
    ->Iterations(20)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// A prompt in pieces, as a prefill brings it; "settle" is the wait at the end.
void Append(benchmark::State& state) {
  constexpr int kHeads = 30, kPiece = 512, kPieces = 32;
  const std::vector<float> rows = Normal(size_t{kPiece} * kHeadDim, 1);
  const std::vector<int32_t> positions(kPiece);
  double settle = 0;
  for (auto _ : state) {
    const auto tier = Filled(0.1, 1, {kHeads, 0});
    for (int piece = 0; piece < kPieces; ++piece) {
      for (int h = 0; h < kHeads; ++h) {
        if (!tier->Append(h, 0, kPiece, rows.data(), rows.data(), kHeadDim,
                          positions.data())
                 .ok()) {
          return state.SkipWithError("an Append failed");
        }
      }
    }
    const auto begin = std::chrono::steady_clock::now();
    if (!tier->Settle().ok()) return state.SkipWithError("no Settle");
    settle +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
            .count();
  }
  state.counters["settle"] =
      benchmark::Counter(settle, benchmark::Counter::kAvgIterations);
  state.SetBytesProcessed(state.iterations() * kHeads * kPiece * kPieces *
                          kHeadDim * 4);
}
BENCHMARK(Append)->Iterations(3)->UseRealTime()->Unit(benchmark::kMillisecond);

// A head as a whole, past its resident blocks.
void Decode(benchmark::State& state) {
  constexpr int kEntries = 1 << 17;
  const auto tier = Filled(0.01, 1, {1, kEntries});
  if (tier == nullptr) return state.SkipWithError("no tier");
  std::vector<float> k(size_t{kEntries} * kHeadDim), v(k.size());
  for (auto _ : state) {
    if (!tier->Decode(0, 0, k.data(), v.data()).ok()) {
      return state.SkipWithError("a read failed");
    }
  }
  state.SetBytesProcessed(state.iterations() * kEntries * kHeadDim * 4);
}
BENCHMARK(Decode)->Iterations(5)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pyramidkv
