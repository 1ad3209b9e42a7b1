#include "runtime/session.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "fmt/format.h"
#include "runtime/model_skew.h"

namespace pyramidkv {
namespace {

// Tokens of a streamed prompt that are read at once: enough that compressing
// after each chunk costs little, and whole tiles for many numbers of threads.
constexpr int kStreamingChunk = 24 * kPromptTile;

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float v) { return std::isfinite(v); });
}

}  // namespace

SessionImpl::SessionImpl(const EngineParts& parts, PagePool* pages,
                         const CacheSpec& spec, std::string requested,
                         const SessionOptions& options)
    : parts_(parts),
      requested_(std::move(requested)),
      context_size_(options.context_size > 0
                        ? options.context_size
                        : parts.context.model->params().context_length),
      max_new_tokens_(options.max_new_tokens),
      sequence_(pages, *parts.context.model, spec, context_size_,
                options.max_new_tokens) {}

Status SessionImpl::CheckTokens(std::span<const int> tokens) const {
  if (failed_) {
    return Status::Runtime("this session stopped half-way; start a new one");
  }
  const int vocabulary = parts_.context.model->params().vocabulary;
  for (int t : tokens) {
    if (t < 0 || t >= vocabulary) {
      return Status::Usage(fmt::format(
          "token id {} is outside the vocabulary [0, {})", t, vocabulary));
    }
  }
  const int64_t length = int64_t{position()} + int64_t(tokens.size());
  if (length > context_size_ && !sequence_.renumbers()) {
    return Status::DoesNotFit(fmt::format(
        "{} tokens do not fit into a context of {}: shorten the prompt or "
        "ask for more with -c",
        length, context_size_));
  }
  return {};
}

std::vector<int> SessionImpl::WindowsWithin(size_t tokens) const {
  std::vector<int> windows(sequence_.plan.windows().begin(),
                           sequence_.plan.windows().end());
  for (int& w : windows) {
    if (w >= static_cast<int>(tokens)) w = 0;
  }
  return windows;
}

Status SessionImpl::Read(std::span<const int> tokens,
                         const Progress& progress) {
  PKV_RETURN_IF_ERROR(CheckTokens(tokens));
  if (tokens.empty()) return Status::Usage("the prompt is empty");
  SessionImpl* const self = this;
  return ReadAll(parts_, {&self, 1}, tokens, progress);
}

// Of a prompt of `total` tokens, which ends at position `end`.
struct SessionImpl::Part {
  std::span<const int> tokens;
  std::span<const int> repeat;
  size_t done = 0;  // tokens before this part
  size_t total = 0;
  int end = 0;
};

Result<std::vector<int>> SessionImpl::RepeatTokens(const EngineParts& parts) {
  return parts.tokenizer->Tokenize(
      "\n\nRepeat the previous context exactly.\n\n",
      {.add_special = false, .parse_special = false});
}

Status SessionImpl::RunPass(const EngineParts& parts,
                            std::span<SessionImpl* const> sessions,
                            const Part& part, PromptWorkspace* work,
                            const Progress& progress) {
  std::vector<Sequence*> sequences;
  for (SessionImpl* s : sessions) sequences.push_back(s->sequence());
  PromptPass pass(parts.context, part.tokens, sequences, part.repeat, work);
  PKV_RETURN_IF_ERROR(pass.Begin(part.end));
  // Parts of a prompt count by their tokens.
  const int64_t scale = pass.total() / part.tokens.size();
  for (;;) {
    if (progress &&
        !progress(part.done * scale + pass.done(), part.total * scale)) {
      return Status::Cancelled();
    }
    PKV_ASSIGN_OR_RETURN(const bool complete, pass.Step());
    for (SessionImpl* s : sessions) s->NotePeak();
    if (complete) break;
  }
  std::vector<float> logits(parts.context.model->params().vocabulary);
  parts.decode->Output(pass.last_hidden(), 1, logits.data());
  if (!AllFinite(logits)) {
    return Status::Runtime(
        "the model gave logits that are not numbers after the prompt");
  }
  for (SessionImpl* s : sessions) s->logits_ = logits;
  return {};
}

// prefill=streaming: a prompt in chunks, each compressed before the next is
// read, so that memory is bounded by the budget and one chunk.
Status SessionImpl::RunPasses(const EngineParts& parts,
                              std::span<SessionImpl* const> sessions,
                              std::span<const int> tokens,
                              const Progress& progress) {
  const CacheSpec& spec = sessions[0]->sequence_.compressor.spec();
  size_t chunk = tokens.size();
  if (spec.prefill == PrefillKind::kStreaming) {
    chunk = std::min<size_t>(chunk, kStreamingChunk);
  }
  std::vector<int> repeat;
  for (const SessionImpl* s : sessions) {
    if (!s->sequence_.compressor.needs().repetition || !repeat.empty()) {
      continue;
    }
    PKV_ASSIGN_OR_RETURN(repeat, RepeatTokens(parts));
  }
  Part part;
  part.repeat = repeat;
  part.total = tokens.size();
  part.end = sessions[0]->position() + static_cast<int>(tokens.size());
  PromptWorkspace work;
  for (; part.done < tokens.size(); part.done += chunk) {
    part.tokens =
        tokens.subspan(part.done, std::min(chunk, tokens.size() - part.done));
    PKV_RETURN_IF_ERROR(RunPass(parts, sessions, part, &work, progress));
  }
  return {};
}

Status SessionImpl::ReadAll(const EngineParts& parts,
                            std::span<SessionImpl* const> sessions,
                            std::span<const int> tokens,
                            const Progress& progress) {
  const int before = sessions[0]->position();
  Status status = RunPasses(parts, sessions, tokens, progress);
  for (SessionImpl* s : sessions) {
    if (status.ok()) {
      s->tokens_.insert(s->tokens_.end(), tokens.begin(), tokens.end());
    } else if (before == 0) {
      s->sequence_.Reset();
    } else {
      s->failed_ = true;
    }
  }
  return status;
}

Status SessionImpl::DecodeRows(const EngineParts& parts,
                               std::span<SessionImpl* const> row_sessions,
                               std::span<const int> tokens,
                               std::vector<float>* logits) {
  const size_t vocabulary = parts.context.model->params().vocabulary;
  logits->resize(tokens.size() * vocabulary);
  std::array<DecodeRow, kMaxRows> rows;  // a token allocates nothing
  Status status;
  for (size_t i = 0; i < tokens.size(); ++i) {
    rows[i] = {row_sessions[i]->sequence(), tokens[i]};
    if (!status.ok()) continue;
    status = rows[i].sequence->MakeRoom(1, parts.context.pool);
  }
  if (status.ok()) {
    status = parts.decode->Run({rows.data(), tokens.size()}, logits->data());
  }
  if (status.ok() && !AllFinite(*logits)) {
    status = Status::Runtime("the model gave logits that are not numbers");
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    SessionImpl* s = row_sessions[i];
    if (!status.ok()) {
      s->failed_ = true;
      continue;
    }
    const auto row = logits->begin() + i * vocabulary;
    s->logits_.assign(row, row + vocabulary);
    s->tokens_.push_back(tokens[i]);
    ++s->decoded_;
    s->NotePeak();
  }
  return status;
}

Result<std::vector<float>> SessionImpl::Force(std::span<const int> tokens) {
  PKV_RETURN_IF_ERROR(CheckTokens(tokens));
  std::vector<float> all, chunk;
  all.reserve(tokens.size() * parts_.context.model->params().vocabulary);
  std::array<SessionImpl*, kMaxRows> sessions;
  sessions.fill(this);
  while (!tokens.empty()) {
    const auto part = tokens.subspan(0, std::min(RowsAtOnce(), tokens.size()));
    tokens = tokens.subspan(part.size());
    PKV_RETURN_IF_ERROR(
        DecodeRows(parts_, {sessions.data(), part.size()}, part, &chunk));
    all.insert(all.end(), chunk.begin(), chunk.end());
  }
  return all;
}

void SessionImpl::NotePeak() {
  peak_bytes_ = std::max(peak_bytes_, sequence_.bytes());
}

std::optional<KvTierReport> SessionImpl::TierReport() const {
  const ColdTier* const cold = sequence_.cold.get();
  if (cold == nullptr) return std::nullopt;
  const ColdTierStats stats = cold->stats();
  KvTierReport tier;
  tier.index = IndexName(sequence_.compressor.spec().tier.index);
  tier.entries = cold->entries();
  tier.bytes = cold->bytes();
  tier.index_bytes = cold->index_bytes();
  tier.file_bytes = cold->file_bytes();
  if (stats.selected_blocks > 0) {
    const auto selected = static_cast<double>(stats.selected_blocks);
    tier.fetch_share = selected / double(stats.candidate_blocks);
    tier.hit_rate = 1 - double(stats.read_blocks) / selected;
    tier.bytes_per_token =
        double(stats.read_bytes) / double(std::max(decoded_, 1));
  }
  tier.read_ms = stats.read_seconds * 1e3;
  tier.stall_ms = stats.stall_seconds * 1e3;
  if (stats.read_seconds > 0) {
    tier.overlap = 1 - stats.stall_seconds / stats.read_seconds;
  }
  return tier;
}

KvReport SessionImpl::Report() const {
  const KvCache& cache = sequence_.cache;
  const KvShape& shape = cache.shape();
  const Compressor& compressor = sequence_.compressor;
  KvReport report;
  if (compressor.spec().prefill == PrefillKind::kStreaming) {
    report.prefill = "streaming";
  } else if (compressor.spec().prefill == PrefillKind::kSparse) {
    report.prefill = "sparse";
    report.prefill_mass = sequence_.prefill_mass;
  }
  report.requested = requested_;
  report.spec = FormatCacheSpec(compressor.spec());
  report.policy = compressor.spec().policy;
  report.tokens_seen = position();
  report.entries_kept = cache.entries();
  const int64_t heads = int64_t{shape.layers} * shape.kv_heads;
  report.tokens_kept_mean = double(report.entries_kept) / double(heads);
  for (int window : sequence_.plan.windows()) {
    report.entries_full +=
        int64_t{shape.kv_heads} *
        (window > 0 ? std::min(position(), window) : position());
  }
  report.bytes = sequence_.bytes();
  report.tier = TierReport();
  constexpr int kF16Bytes = 2;
  report.bytes_full =
      report.entries_full * 2 * shape.format.head_dim * kF16Bytes;
  report.peak_bytes = peak_bytes_;
  report.warnings = compressor.warnings();
  if (compressor.spec().offloads() &&
      compressor.spec().tier.index == IndexKind::kSkew &&
      !parts_.cold.skew->warning().empty()) {
    report.warnings.push_back(parts_.cold.skew->warning());
  }
  double mass = 0;
  bool known = position() > 0;
  for (int l = 0; l < shape.layers; ++l) {
    KvLayerReport layer;
    layer.layer = l;
    layer.budget = compressor.budget(l);
    for (int h = 0; h < shape.kv_heads; ++h) {
      layer.kept.push_back(cache.length(l, h));
    }
    layer.bytes = cache.layer_bytes(l);
    layer.retained_mass = compressor.retained_mass(l);
    known = known && layer.retained_mass.has_value();
    mass += layer.retained_mass.value_or(0);
    report.layers.push_back(std::move(layer));
  }
  if (known) report.retained_mass = mass / shape.layers;
  return report;
}

}  // namespace pyramidkv
