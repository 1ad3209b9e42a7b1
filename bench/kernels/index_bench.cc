// Costs of a generated token to score the index of cold entries: 84
// heads (28 layers of SmolLM2-135M) of 4,096 entries, three queries each.

#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <vector>

#include "cache/key_index.h"

namespace pyramidkv {
namespace {

constexpr int kHeadDim = 64;
constexpr int kGroup = 3;
constexpr int kHeads = 84;
constexpr int kEntries = 4096;

void IndexScores(benchmark::State& state, IndexKind kind) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> k(size_t(kEntries) * kHeadDim), q(kGroup * kHeadDim),
      skew(kHeadDim * kHeadDim);
  for (auto* values : {&k, &q, &skew}) {
    for (float& v : *values) v = normal(random);
  }
  KeyIndexOptions options;
  options.kind = kind;
  options.head_dim = kHeadDim;
  options.partial = 0.25;
  options.skew = skew.data();
  std::vector<std::unique_ptr<KeyIndex>> heads;
  for (int h = 0; h < kHeads; ++h) {
    heads.push_back(MakeKeyIndex(options));
    heads.back()->Append(k.data(), kEntries, kHeadDim);
  }
  std::vector<float> scratch;
  std::vector<float> best(size_t(kGroup) * heads[0]->blocks());
  for (auto _ : state) {
    for (const auto& head : heads) {
      head->Score(q.data(), kGroup, &scratch, best.data());
    }
  }
  state.counters["bytes"] = double(heads[0]->bytes()) / kEntries;
}
BENCHMARK_CAPTURE(IndexScores, sign, IndexKind::kSign)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(IndexScores, skew, IndexKind::kSkew)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(IndexScores, quest, IndexKind::kQuest)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(IndexScores, cluster, IndexKind::kCluster)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pyramidkv
