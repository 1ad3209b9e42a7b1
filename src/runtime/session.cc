#include "runtime/session.h"

#include <algorithm>
#include <array>

#include "fmt/format.h"
#include "runtime/model_skew.h"
#include "runtime/prompt_reader.h"

namespace pyramidkv {

SessionImpl::SessionImpl(const EngineParts& parts, PagePool* pages,
                         const CacheSpec& spec, std::string requested,
                         const SessionOptions& options)
    : parts_(parts),
      pages_(pages),
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

Result<std::vector<int>> SessionImpl::RepeatTokens(const EngineParts& parts) {
  return parts.tokenizer->Tokenize(
      "\n\nRepeat the previous context exactly.\n\n",
      {.add_special = false, .parse_special = false});
}

Status SessionImpl::ReadAll(const EngineParts& parts,
                            std::span<SessionImpl* const> sessions,
                            std::span<const int> tokens,
                            const Progress& progress) {
  PromptReader reader(parts, sessions, tokens);
  PKV_RETURN_IF_ERROR(reader.Begin());
  int64_t last = -1;
  for (bool complete = false; !complete;) {
    const int64_t done = reader.done();
    if (progress && done > last && !progress(done, reader.total())) {
      return Status::Cancelled();
    }
    last = done;
    PKV_ASSIGN_OR_RETURN(complete, reader.Step());
  }
  return {};
}

void SessionImpl::TakePrompt(std::span<const int> tokens,
                             std::span<const float> logits) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  logits_.assign(logits.begin(), logits.end());
}

void SessionImpl::DropPrompt(bool first) {
  if (first) {
    sequence_.Reset();
  } else {
    failed_ = true;
  }
}

void SessionImpl::DecodeRows(const EngineParts& parts,
                             std::span<SessionImpl* const> row_sessions,
                             std::span<const int> tokens,
                             std::vector<float>* logits,
                             std::span<Status> status) {
  const size_t vocabulary = parts.context.model->params().vocabulary;
  logits->resize(tokens.size() * vocabulary);
  std::array<DecodeRow, kMaxRows> rows;  // a token allocates nothing
  for (size_t i = 0; i < tokens.size(); ++i) {
    rows[i] = {row_sessions[i]->sequence(), tokens[i]};
  }
  parts.decode->Run({rows.data(), tokens.size()}, logits->data(), status);
  for (size_t i = 0; i < tokens.size(); ++i) {
    SessionImpl* s = row_sessions[i];
    const std::span<const float> row(logits->data() + i * vocabulary,
                                     vocabulary);
    if (status[i].ok() && !AllFinite(row)) {
      status[i] = Status::Runtime("the model gave logits that are not numbers");
    }
    if (s->failed_ || !status[i].ok()) {
      s->failed_ = true;
      continue;
    }
    s->logits_.assign(row.begin(), row.end());
    s->tokens_.push_back(tokens[i]);
    ++s->decoded_;
    s->NotePeak();
  }
}

// Rows that follow each other.
Status SessionImpl::DecodeOwnRows(std::span<const int> tokens,
                                  std::vector<float>* logits) {
  std::array<SessionImpl*, kMaxRows> sessions;
  sessions.fill(this);
  std::array<Status, kMaxRows> status;
  DecodeRows(parts_, {sessions.data(), tokens.size()}, tokens, logits,
             {status.data(), tokens.size()});
  for (Status& s : status) PKV_RETURN_IF_ERROR(std::move(s));
  return {};
}

Result<std::vector<float>> SessionImpl::Force(std::span<const int> tokens) {
  PKV_RETURN_IF_ERROR(CheckTokens(tokens));
  std::vector<float> all, chunk;
  all.reserve(tokens.size() * parts_.context.model->params().vocabulary);
  while (!tokens.empty()) {
    const auto part = tokens.subspan(0, std::min(RowsAtOnce(), tokens.size()));
    tokens = tokens.subspan(part.size());
    PKV_RETURN_IF_ERROR(DecodeOwnRows(part, &chunk));
    all.insert(all.end(), chunk.begin(), chunk.end());
  }
  return all;
}

Result<std::unique_ptr<Session>> SessionImpl::Fork() {
  PKV_RETURN_IF_ERROR(CheckTokens({}));
  SessionOptions options;
  options.context_size = context_size_;
  options.max_new_tokens = max_new_tokens_;
  auto fork = std::make_unique<SessionImpl>(
      parts_, pages_, sequence_.compressor.spec(), requested_, options);
  PKV_RETURN_IF_ERROR(sequence_.ForkInto(&fork->sequence_));
  fork->logits_ = logits_;
  fork->tokens_ = tokens_;
  fork->peak_bytes_ = peak_bytes_;
  return std::unique_ptr<Session>(std::move(fork));
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
