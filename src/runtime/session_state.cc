#include "runtime/session_state.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "cache/head_state.h"
#include "fmt/format.h"
#include "policy/scorer.h"

namespace pyramidkv {
namespace {

// Caps all that a model's dimensions bound; refuses before multiplying.
constexpr uint64_t kMostValues = uint64_t{1} << 32;

void WriteStatistics(const QueryStatistics::State& s, StateWriter* out) {
  out->Put<int64_t>(s.position);
  out->PutArray(s.waiting);
  out->PutCount(s.sums.size());
  for (const QueryStatistics::Sums& sums : s.sums) {
    out->Put<int64_t>(sums.count);
    out->PutArray(sums.mean);
    out->PutArray(sums.squares);
  }
}

QueryStatistics::State ReadStatistics(StateReader* in) {
  QueryStatistics::State s;
  s.position = in->Get<int64_t>();
  s.waiting = in->GetArray<float>(kMostValues);
  const uint64_t heads = in->Count(kMostValues, 3 * sizeof(int64_t));
  for (uint64_t h = 0; h < heads && in->status().ok(); ++h) {
    QueryStatistics::Sums sums;
    sums.count = in->Get<int64_t>();
    sums.mean = in->GetArray<double>(kMostValues);
    sums.squares = in->GetArray<double>(kMostValues);
    s.sums.push_back(std::move(sums));
  }
  return s;
}

void WriteCompressor(const CompressorState& s, StateWriter* out) {
  out->Put<int32_t>(s.prompt_end);
  out->Put<int32_t>(s.tokens);
  out->Put<int32_t>(s.step);
  out->PutCount(s.retained.size());
  for (const std::optional<double>& mass : s.retained) {
    out->Put<uint8_t>(mass.has_value());
    out->Put<double>(mass.value_or(0));
  }
  out->PutCount(s.queries.size());
  for (const std::vector<float>& q : s.queries) out->PutArray(q);
  out->PutCount(s.statistics.size());
  for (const QueryStatistics::State& q : s.statistics) WriteStatistics(q, out);
  out->Put<uint8_t>(s.profile.has_value());
  if (!s.profile) return;
  out->PutText(s.profile->model);
  out->Put<int32_t>(s.profile->layers);
  out->Put<int32_t>(s.profile->kv_heads);
  out->PutArray(s.profile->gate);
}

CompressorState ReadCompressor(StateReader* in) {
  CompressorState s;
  s.prompt_end = in->Get<int32_t>();
  s.tokens = in->Get<int32_t>();
  s.step = in->Get<int32_t>();
  const uint64_t layers = in->Count(kMostValues, 1 + sizeof(double));
  for (uint64_t l = 0; l < layers && in->status().ok(); ++l) {
    const bool known = in->Get<uint8_t>() != 0;
    const double mass = in->Get<double>();
    s.retained.push_back(known ? std::optional<double>(mass) : std::nullopt);
  }
  const uint64_t rings = in->Count(kMostValues, sizeof(uint64_t));
  for (uint64_t l = 0; l < rings && in->status().ok(); ++l) {
    s.queries.push_back(in->GetArray<float>(kMostValues));
  }
  const uint64_t statistics = in->Count(kMostValues, 3 * sizeof(uint64_t));
  for (uint64_t l = 0; l < statistics && in->status().ok(); ++l) {
    s.statistics.push_back(ReadStatistics(in));
  }
  if (in->Get<uint8_t>() == 0) return s;
  HeadProfile profile;
  profile.model = in->GetText();
  profile.layers = in->Get<int32_t>();
  profile.kv_heads = in->Get<int32_t>();
  profile.gate = in->GetArray<double>(kMostValues);
  s.profile = std::move(profile);
  return s;
}

// Two numbers of earlier versions, which nobody reads any more.
constexpr int kUnusedNumbers = 2;

void WriteCacheHead(const KvCache& cache, int layer, int head,
                    StateWriter* out) {
  const KvHead& from = cache.head(layer, head);
  const HeadFormat& format = cache.shape().format;
  const HeadState s = from.Export();
  for (int32_t number : {s.sides.length, s.sides.base, s.seen}) {
    out->Put<int32_t>(number);
  }
  for (int i = 0; i < kUnusedNumbers; ++i) out->Put<int32_t>(0);
  if (format.recent_positions() > 0) {
    out->Put<int32_t>(s.sides.length - s.recent_begin);
  }
  if (format.channel) out->Put<int32_t>(s.coded);
  if (format.top) {
    out->PutArray(s.top);
    out->Put<int32_t>(s.top_origin);
  }
  out->PutArray(s.sides.positions);
  out->PutArray(s.sides.bias);
  out->PutArray(s.sides.scores);
  out->PutArray(s.sides.rope);
  out->PutArray(s.key_rounding);
  for (float scale : s.tensor_scales) out->Put<float>(scale);
  from.ForEachPage(
      [out](std::span<const std::byte> page) { out->PutBytes(page); });
}

HeadState ReadHeadState(StateReader* in, int position,
                        const HeadFormat& format) {
  HeadState s;
  for (int32_t* number : {&s.sides.length, &s.sides.base, &s.seen}) {
    *number = in->Get<int32_t>();
  }
  for (int i = 0; i < kUnusedNumbers; ++i) in->Get<int32_t>();
  const int32_t recent = format.recent_positions() > 0 ? in->Get<int32_t>() : 0;
  if (s.sides.length < 0 || recent < 0 || recent > kMostStoredTokens) {
    in->Fail("damaged: it counts more than it can hold");
  } else {
    s.recent_begin = s.sides.length - recent;
  }
  if (format.channel) s.coded = in->Get<int32_t>();
  if (format.top) {
    s.top = in->GetArray<int32_t>(position);
    s.top_origin = in->Get<int32_t>();
  }
  s.sides.positions = in->GetArray<int32_t>(position);
  s.sides.bias = in->GetArray<float>(position);
  s.sides.scores = in->GetArray<float>(position);
  s.sides.rope = in->GetArray<int32_t>(position);
  s.key_rounding = in->GetArray<float>(2 * format.head_dim);
  for (float& scale : s.tensor_scales) scale = in->Get<float>();
  return s;
}

Status ReadCacheHead(StateReader* in, int position, int layer, int head,
                     KvCache* cache) {
  const HeadFormat& format = cache->shape().format;
  HeadState s = ReadHeadState(in, position, format);
  const uint64_t pages =
      (uint64_t(std::max(s.sides.length, 0)) + kPageEntries - 1) / kPageEntries;
  if (pages > in->remaining() / format.page_bytes()) {
    in->Fail("damaged: it counts more than it can hold");
  }
  PKV_RETURN_IF_ERROR(in->status());
  in->Fail(cache->head(layer, head)
               .Import(position, std::move(s), [in](std::span<std::byte> page) {
                 in->GetBytes(page);
                 return in->status();
               }));
  return in->status();
}

// Checks a head's entry counts, which a load compares with those it finds.
bool CountsEntries(const SessionHead& head) {
  const auto layers = size_t(head.layers), heads = size_t(head.kv_heads);
  int64_t entries = 0;
  for (const std::vector<int32_t>* counts : {&head.kept, &head.cold}) {
    for (int32_t n : *counts) {
      if (n < 0 || n > head.position()) return false;
    }
  }
  for (int32_t n : head.kept) entries += n;
  return entries == head.entries && head.layer_bytes.size() == layers &&
         head.kept.size() == layers * heads &&
         (head.cold.empty() || head.cold.size() == layers * heads);
}

bool Sound(const SessionHead& head) {
  const bool finite = std::all_of(head.logits.begin(), head.logits.end(),
                                  [](float v) { return std::isfinite(v); });
  const auto vocabulary = static_cast<int32_t>(head.logits.size());
  const bool known = std::all_of(
      head.tokens.begin(), head.tokens.end(),
      [vocabulary](int32_t id) { return id >= 0 && id < vocabulary; });
  return finite && known && head.position() > 0 && head.context_size > 0 &&
         head.max_new_tokens <= kMostStoredTokens && head.rope_shift >= 0 &&
         head.rope_shift <= head.position() &&
         head.position() - head.rope_shift <= head.context_size &&
         head.compute >= 0 && head.compute <= 3 && head.layers > 0 &&
         head.kv_heads > 0 && head.head_dim > 0 && CountsEntries(head);
}

}  // namespace

void WriteHead(const SessionHead& head, StateWriter* out) {
  out->PutText(head.model);
  out->PutText(head.architecture);
  const ModelFingerprint& f = head.fingerprint;
  for (uint64_t hash : {f.tensors, f.weights, f.tokenizer, f.rope}) {
    out->Put<uint64_t>(hash);
  }
  for (int32_t number : {head.compute, head.layers, head.kv_heads,
                         head.head_dim, head.page_entries}) {
    out->Put<int32_t>(number);
  }
  out->Put<int64_t>(head.page_bytes);
  out->PutText(head.spec);
  out->PutText(head.requested);
  for (int32_t number :
       {head.context_size, head.max_new_tokens, head.rope_shift}) {
    out->Put<int32_t>(number);
  }
  for (int64_t number :
       {head.entries, head.entries_full, head.bytes, head.bytes_full,
        head.peak_bytes, head.cold_bytes, head.index_bytes}) {
    out->Put<int64_t>(number);
  }
  out->PutArray(head.layer_bytes);
  out->PutArray(head.kept);
  out->PutArray(head.cold);
  out->PutArray(head.tokens);
  out->PutArray(head.logits);
}

Result<SessionHead> ReadHead(StateReader* in) {
  SessionHead head;
  head.model = in->GetText();
  head.architecture = in->GetText();
  ModelFingerprint& f = head.fingerprint;
  for (uint64_t* hash : {&f.tensors, &f.weights, &f.tokenizer, &f.rope}) {
    *hash = in->Get<uint64_t>();
  }
  for (int32_t* number : {&head.compute, &head.layers, &head.kv_heads,
                          &head.head_dim, &head.page_entries}) {
    *number = in->Get<int32_t>();
  }
  head.page_bytes = in->Get<int64_t>();
  head.spec = in->GetText();
  head.requested = in->GetText();
  for (int32_t* number :
       {&head.context_size, &head.max_new_tokens, &head.rope_shift}) {
    *number = in->Get<int32_t>();
  }
  for (int64_t* number :
       {&head.entries, &head.entries_full, &head.bytes, &head.bytes_full,
        &head.peak_bytes, &head.cold_bytes, &head.index_bytes}) {
    *number = in->Get<int64_t>();
  }
  head.layer_bytes = in->GetArray<int64_t>(kMostValues);
  head.kept = in->GetArray<int32_t>(kMostValues);
  head.cold = in->GetArray<int32_t>(kMostValues);
  head.tokens = in->GetArray<int32_t>(kMostStoredTokens);
  head.logits = in->GetArray<float>(kMostStoredTokens);
  if (in->status().ok() && !Sound(head)) {
    in->Fail("damaged: it describes a session that cannot be");
  }
  PKV_RETURN_IF_ERROR(in->status());
  return head;
}

void WriteSequence(const Sequence& sequence, StateWriter* out) {
  WriteCompressor(sequence.compressor.Export(), out);
  const KvShape& shape = sequence.cache.shape();
  for (int l = 0; l < shape.layers; ++l) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      if (!out->status().ok()) return;
      WriteCacheHead(sequence.cache, l, h, out);
    }
  }
}

Status ReadSequence(StateReader* in, Sequence* sequence) {
  CompressorState compressor = ReadCompressor(in);
  PKV_RETURN_IF_ERROR(in->status());
  if (compressor.tokens > sequence->position) {
    in->Fail("damaged: more was compressed than read");
  }
  PKV_RETURN_IF_ERROR(in->status());
  in->Fail(sequence->compressor.Import(std::move(compressor)));
  PKV_RETURN_IF_ERROR(in->status());
  const KvShape& shape = sequence->cache.shape();
  for (int l = 0; l < shape.layers; ++l) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      PKV_RETURN_IF_ERROR(
          ReadCacheHead(in, sequence->position, l, h, &sequence->cache));
    }
  }
  return {};
}

bool IsQuestionAware(const CacheSpec& spec) {
  return !spec.keeps_all() && spec.score.ranking() != nullptr &&
         spec.score.ranking()->traits().question_aware;
}

}  // namespace pyramidkv
