#include "runtime/model_skew.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "cache/page_pool.h"
#include "fmt/format.h"
#include "policy/spec.h"
#include "runtime/prompt_pass.h"
#include "runtime/sequence.h"

namespace pyramidkv {
namespace {

// Raised when the same model would get other directions.
constexpr int kMethod = 1;
// InfiniGen, section 4.2, reads 2,000 tokens.
constexpr int kSampleTokens = 2048;
constexpr int kSampleQueries = 256;

// A cache that watches queries and never evicts.
Result<CacheSpec> WatchingSpec() {
  return ParseCacheSpec(fmt::format("snapkv,tokens={},window={},evict=decode",
                                    1 << 20, kSampleQueries));
}

Status ReadPrompt(const ForwardContext& context, std::span<const int> tokens,
                  Sequence* sequence) {
  PromptWorkspace work;
  PromptPass pass(context, tokens, {&sequence, 1}, {}, &work);
  PKV_RETURN_IF_ERROR(pass.Begin(static_cast<int>(tokens.size())));
  for (bool complete = false; !complete;) {
    PKV_ASSIGN_OR_RETURN(complete, pass.Step());
  }
  return {};
}

// One KV head's queries [rows, group, head_dim] of a ring's rows.
std::vector<float> QueriesOf(const QueryRing& ring, int layer, int head,
                             size_t width) {
  std::vector<float> q(ring.count(layer) * width);
  for (int r = 0; r < ring.count(layer); ++r) {
    std::copy_n(ring.rows(layer) + r * ring.width() + head * width, width,
                q.data() + r * width);
  }
  return q;
}

void MeasureHead(const HyperParams& p, const Sequence& sequence,
                 const QueryRing& ring, int layer, int head, int span,
                 float* skew) {
  const int d = p.head_dim;
  const int keys = sequence.cache.length(layer, head);
  const int rows = ring.count(layer);
  std::vector<float> k(size_t(keys) * d);
  sequence.cache.Decode(layer, head, k.data(), nullptr);
  std::vector<float> q =
      QueriesOf(ring, layer, head, size_t(p.group()) * p.head_dim);
  const Rotation rope = p.rope_of(layer).rotation();
  SpreadPositions(rope, keys, 1, d, 0, span, k.data());
  SpreadPositions(rope, rows, p.group(), d, keys - rows, span, q.data());
  ComputeSkew(q.data(), rows * p.group(), k.data(), keys, d, skew);
}

}  // namespace

std::vector<int> SkewSample(const Tokenizer& tokenizer, int count) {
  std::vector<int> ordinary;
  for (int id = 0; id < tokenizer.vocabulary(); ++id) {
    if (!tokenizer.Piece(id, /*special=*/false).empty()) ordinary.push_back(id);
  }
  if (ordinary.empty()) ordinary.push_back(0);
  // Not std::uniform_int_distribution: it differs between libraries.
  std::mt19937_64 random(1);
  std::vector<int> tokens;
  for (int i = 0; i < (count + 1) / 2; ++i) {
    tokens.push_back(ordinary[random() % ordinary.size()]);
  }
  tokens.insert(tokens.end(), tokens.begin(), tokens.begin() + count / 2);
  return tokens;
}

Result<SkewTable> MeasureSkew(const ForwardContext& context,
                              std::span<const int> tokens, int span) {
  const HyperParams& p = context.model->params();
  PKV_ASSIGN_OR_RETURN(const CacheSpec spec, WatchingSpec());
  PagePool pages;
  Sequence sequence(&pages, *context.model, spec,
                    static_cast<int>(tokens.size()), 0);
  PKV_RETURN_IF_ERROR(ReadPrompt(context, tokens, &sequence));
  SkewTable table{p.layers, p.kv_heads, p.head_dim, {}};
  const size_t square = size_t(p.head_dim) * p.head_dim;
  const int heads = p.layers * p.kv_heads;
  table.skew.resize(heads * square);
  const QueryRing& ring = *sequence.compressor.observer()->queries();
  context.pool->ParallelFor(heads, [&](int i, int) {
    const int layer = i / p.kv_heads;
    if (p.window(layer) > 0) return;
    MeasureHead(p, sequence, ring, layer, i % p.kv_heads, span,
                table.skew.data() + i * square);
  });
  return table;
}

ModelSkew::ModelSkew(const ForwardContext& context, const Tokenizer& tokenizer,
                     std::string cache_directory)
    : context_(context),
      tokenizer_(&tokenizer),
      cache_directory_(std::move(cache_directory)) {}

std::string ModelSkew::ModelKey() const {
  const ModelFingerprint& f = context_.model->fingerprint();
  return fmt::format("{:016x}{:016x}{:016x}{:016x}-{}-{}", f.tensors, f.weights,
                     f.tokenizer, f.rope,
                     context_.model->params().context_length, kMethod);
}

std::vector<std::string> ModelSkew::Paths() const {
  std::vector<std::string> paths = {context_.model->path() + ".skew"};
  if (!cache_directory_.empty()) {
    paths.push_back(
        (std::filesystem::path(cache_directory_) / (ModelKey() + ".skew"))
            .string());
  }
  return paths;
}

void ModelSkew::Save(const std::vector<std::string>& paths) {
  Status first;
  for (const std::string& path : paths) {
    if (&path != &paths.front()) {  // a cache's directory may be new
      std::error_code error;        // SaveSkew says what is wrong
      std::filesystem::create_directories(cache_directory_, error);
    }
    const Status saved = SaveSkew(path, ModelKey(), table_);
    if (saved.ok()) return;
    if (first.ok()) first = saved;
  }
  warning_ = fmt::format(
      "index=skew: {}, so the model's directions are measured again by the "
      "next "
      "process",
      first.message());
}

Result<const float*> ModelSkew::Get() {
  if (!table_.skew.empty()) return std::as_const(table_.skew).data();
  const HyperParams& p = context_.model->params();
  const SkewTable expected{p.layers, p.kv_heads, p.head_dim, {}};
  const std::vector<std::string> paths = Paths();
  for (const std::string& path : paths) {
    Result<SkewTable> loaded = LoadSkew(path, ModelKey(), expected);
    if (!loaded.ok()) continue;
    table_ = std::move(*loaded);
    return std::as_const(table_.skew).data();
  }
  const std::vector<int> tokens =
      SkewSample(*tokenizer_, std::min(kSampleTokens, p.context_length));
  PKV_ASSIGN_OR_RETURN(table_, MeasureSkew(context_, tokens, p.context_length));
  Save(paths);
  return std::as_const(table_.skew).data();
}

}  // namespace pyramidkv
