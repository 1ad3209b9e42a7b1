// Sessions to files and back: Session::Save, Engine::LoadSession, and what can
// be said about a file without a model.

#include <algorithm>
#include <random>

#include "cache/key_index.h"
#include "fmt/format.h"
#include "pyramidkv/stored_session.h"
#include "runtime/session.h"
#include "runtime/session_cold.h"
#include "runtime/session_state.h"

namespace pyramidkv {
namespace {

// Only tells one session from another: nothing is computed from it.
std::array<uint64_t, 2> NewSessionName() {
  std::random_device random;
  std::array<uint64_t, 2> name;
  for (uint64_t& part : name) part = (uint64_t{random()} << 32) | random();
  return name;
}

// Differences of two fingerprints, for people; empty: none.
std::string Differences(const ModelFingerprint& a, const ModelFingerprint& b) {
  std::vector<std::string_view> parts;
  if (a.tensors != b.tensors) parts.push_back("tensors (names, types, shapes)");
  if (a.rope != b.rope) parts.push_back("RoPE or attention parameters");
  if (a.tokenizer != b.tokenizer) parts.push_back("tokenizer");
  if (a.weights != b.weights) parts.push_back("weights");
  return fmt::format("{}", fmt::join(parts, ", "));
}

// [layers, kv_heads] of a KvCache or a ColdTier.
template <class Store>
std::vector<int32_t> EntriesOf(const Store& store, const KvShape& shape) {
  std::vector<int32_t> entries;
  for (int l = 0; l < shape.layers; ++l) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      entries.push_back(store.length(l, h));
    }
  }
  return entries;
}

int64_t ColdBlockBytes(std::span<const int32_t> entries, PageFormat format) {
  format.entries = kBlockEntries;
  int64_t blocks = 0;
  for (int32_t n : entries) blocks += (n + kBlockEntries - 1) / kBlockEntries;
  return blocks * static_cast<int64_t>(format.page_bytes());
}

void FillSizes(const SessionHead& head, const CacheSpec& spec,
               StoredSession* s) {
  const int heads = head.kv_heads;
  for (int l = 0; l < head.layers; ++l) {
    const auto first = std::ptrdiff_t{l} * heads;
    StoredLayer layer;
    layer.bytes = head.layer_bytes[l];
    const auto rows_of = [&](const std::vector<int32_t>& counts) {
      return std::vector<int>(counts.begin() + first,
                              counts.begin() + first + heads);
    };
    layer.kept = rows_of(head.kept);
    if (!head.cold.empty()) layer.cold = rows_of(head.cold);
    s->hot_bytes += layer.bytes;
    s->layers.push_back(std::move(layer));
  }
  if (head.cold.empty()) return;
  s->tier = StoredTier{std::string(IndexName(spec.tier.index)), 0,
                       head.cold_bytes, head.index_bytes};
  for (int32_t n : head.cold) s->tier->entries += n;
}

Result<StoredSession> ReadStored(const std::string& path, bool all) {
  PKV_ASSIGN_OR_RETURN(auto file, SessionFileReader::Open(path));
  StateReader in(file.get());
  PKV_ASSIGN_OR_RETURN(const SessionHead head, ReadHead(&in));
  const auto spec = ParseCacheSpec(head.spec);
  if (!spec.ok()) return file->Damaged(spec.status().message());
  if (all) PKV_RETURN_IF_ERROR(file->Finish());
  StoredSession s;
  s.format_version = static_cast<int>(kSessionFileVersion);
  s.session = fmt::format("{:016x}{:016x}", file->id().session[0],
                          file->id().session[1]);
  s.generation = file->id().generation;
  s.model = head.model;
  s.architecture = head.architecture;
  s.compute = static_cast<Compute>(head.compute);
  s.requested = head.requested;
  s.spec = head.spec;
  s.policy = spec->policy;
  s.question_aware = IsQuestionAware(*spec);
  s.tokens = head.position();
  s.context_size = head.context_size;
  s.entries = head.entries;
  s.entries_full = head.entries_full;
  FillSizes(head, *spec, &s);
  s.bytes = head.bytes;
  s.bytes_full = head.bytes_full;
  s.file_bytes = static_cast<int64_t>(file->file_bytes());
  return s;
}

}  // namespace

Result<StoredSession> ReadStoredSession(const std::string& path) {
  return ReadStored(path, /*all=*/false);
}

Result<StoredSession> VerifyStoredSession(const std::string& path) {
  return ReadStored(path, /*all=*/true);
}

SessionHead SessionImpl::Head() const {
  const Model& model = *parts_.context.model;
  const KvShape& shape = sequence_.cache.shape();
  const KvReport report = Report();
  SessionHead head;
  head.model = parts_.model_name;
  head.architecture = model.params().architecture;
  head.fingerprint = model.fingerprint();
  head.compute = static_cast<int32_t>(parts_.compute);
  head.layers = shape.layers;
  head.kv_heads = shape.kv_heads;
  head.head_dim = shape.format.head_dim;
  head.page_entries = kPageEntries;
  head.page_bytes = shape.format.stored_page_bytes();
  head.spec = report.spec;
  head.requested = requested_;
  head.context_size = context_size_;
  head.max_new_tokens = std::min(max_new_tokens_, kMostStoredTokens);
  head.rope_shift = sequence_.cache.rope_shift();
  head.entries = report.entries_kept;
  head.entries_full = report.entries_full;
  head.bytes = report.bytes;
  head.bytes_full = report.bytes_full;
  head.peak_bytes = peak_bytes_;
  for (const KvLayerReport& layer : report.layers) {
    head.layer_bytes.push_back(layer.bytes);
  }
  head.kept = EntriesOf(sequence_.cache, shape);
  if (sequence_.cold != nullptr) {
    head.cold = EntriesOf(*sequence_.cold, shape);
    head.cold_bytes = ColdBlockBytes(head.cold, shape.format);
    head.index_bytes = sequence_.cold->index_bytes();
  }
  head.tokens.assign(tokens_.begin(), tokens_.end());
  head.logits = logits_;
  return head;
}

Status SessionImpl::Save(const std::string& path) {
  PKV_RETURN_IF_ERROR(CheckTokens({}));
  if (logits_.empty()) return Status::Usage("nothing was read to save");
  SessionFileId id = file_id_;
  if (id.generation == 0) id.session = NewSessionName();
  ++id.generation;
  PKV_ASSIGN_OR_RETURN(auto file, SessionFileWriter::Create(path, id));
  StateWriter out(file.get());
  WriteHead(Head(), &out);
  WriteSequence(sequence_, &out);
  PKV_RETURN_IF_ERROR(out.status());
  PKV_RETURN_IF_ERROR(WriteCold(sequence_, &out));
  PKV_RETURN_IF_ERROR(file->Commit());
  file_id_ = id;
  return {};
}

Result<std::unique_ptr<SessionImpl>> SessionImpl::Load(
    const EngineParts& parts, PagePool* pages, const std::string& path,
    const LoadOptions& options) {
  RemoveSessionLitter(path);
  PKV_ASSIGN_OR_RETURN(auto file, SessionFileReader::Open(path));
  StateReader in(file.get());
  PKV_ASSIGN_OR_RETURN(SessionHead head, ReadHead(&in));
  const Model& model = *parts.context.model;
  const std::string differences =
      Differences(head.fingerprint, model.fingerprint());
  if (!differences.empty()) {
    return file->Damaged(fmt::format(
        "belongs to another model ({}) than {} ({}); they differ in: {}",
        head.model, model.path(), parts.model_name, differences));
  }
  const auto spec = ParseCacheSpec(head.spec);
  if (!spec.ok()) return file->Damaged(spec.status().message());
  SessionOptions session_options;
  session_options.kv = head.requested;
  session_options.context_size =
      options.context_size > 0 ? options.context_size : head.context_size;
  session_options.max_new_tokens =
      options.max_new_tokens.value_or(head.max_new_tokens);
  auto session = std::make_unique<SessionImpl>(parts, pages, *spec,
                                               head.requested, session_options);
  PKV_RETURN_IF_ERROR(session->Restore(std::move(head), file.get(), &in));
  return session;
}

Status SessionImpl::Restore(SessionHead head, SessionFileReader* file,
                            StateReader* in) {
  const KvShape& shape = sequence_.cache.shape();
  const HyperParams& params = parts_.context.model->params();
  if (head.layers != shape.layers || head.kv_heads != shape.kv_heads ||
      head.head_dim != shape.format.head_dim ||
      head.logits.size() != size_t(params.vocabulary)) {
    return file->Damaged("damaged: its dimensions are not its model's");
  }
  if (head.page_entries != kPageEntries ||
      head.page_bytes != shape.format.stored_page_bytes()) {
    return file->Damaged(
        "was saved by a version that stores entries in another form");
  }
  if (head.rope_shift != 0 && !sequence_.renumbers()) {
    return file->Damaged("damaged: its positions do not fit its cache spec");
  }
  if (head.position() - head.rope_shift > context_size_) {
    return Status::DoesNotFit(fmt::format(
        "{} holds {} tokens, which do not fit into a context of {}: ask for "
        "more with -c",
        file->path(), head.position(), context_size_));
  }
  sequence_.position = head.position();
  sequence_.cache.set_rope_shift(head.rope_shift);
  PKV_RETURN_IF_ERROR(ReadSequence(in, &sequence_));
  PKV_RETURN_IF_ERROR(Open());
  PKV_RETURN_IF_ERROR(ReadCold(in, &sequence_));
  if (head.kept != EntriesOf(sequence_.cache, shape) ||
      head.cold != (sequence_.cold == nullptr
                        ? std::vector<int32_t>()
                        : EntriesOf(*sequence_.cold, shape))) {
    return file->Damaged("damaged: its entries are not those that it counts");
  }
  if (in->remaining() != 0) {
    return file->Damaged("damaged: it holds more than a session");
  }
  PKV_RETURN_IF_ERROR(file->Finish());
  tokens_.assign(head.tokens.begin(), head.tokens.end());
  logits_ = std::move(head.logits);
  peak_bytes_ = head.peak_bytes;
  file_id_ = file->id();
  return {};
}

}  // namespace pyramidkv
