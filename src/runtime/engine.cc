#include "pyramidkv/engine.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "base/processors.h"
#include "fmt/format.h"
#include "kernels/matmul_int8.h"
#include "pyramidkv/batch.h"
#include "runtime/block.h"
#include "runtime/context_size.h"
#include "runtime/first_error.h"
#include "runtime/model_skew.h"
#include "runtime/scheduler.h"
#include "runtime/session.h"

namespace pyramidkv {
namespace {

bool AllTiled(std::span<const LayerWeights> layers) {
  return std::all_of(layers.begin(), layers.end(), [](const LayerWeights& w) {
    return std::all_of(
        std::begin(kLayerMatrices), std::end(kLayerMatrices),
        [&](const LayerMatrix& m) { return (w.*m.weights).tiles != nullptr; });
  });
}

ModelInfo InfoOf(const Model& model) {
  const HyperParams& p = model.params();
  ModelInfo info;
  info.path = model.path();
  info.name = p.name.empty()
                  ? std::filesystem::path(model.path()).stem().string()
                  : p.name;
  info.architecture = p.architecture;
  info.layers = p.layers;
  info.kv_heads = p.kv_heads;
  info.head_dim = p.head_dim;
  info.context_length = p.context_length;
  info.vocabulary = p.vocabulary;
  info.parameters = model.parameters();
  info.file_bytes = model.file_bytes();
  return info;
}

// A model's file, whose weights are not made ready yet.
struct ModelFile {
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
};

Result<ModelFile> OpenModel(const std::string& path) {
  ModelFile file;
  PKV_ASSIGN_OR_RETURN(file.model, Model::Load(path));
  PKV_ASSIGN_OR_RETURN(file.tokenizer, Tokenizer::Load(path));
  if (file.tokenizer->vocabulary() != file.model->params().vocabulary) {
    return Status::Model(fmt::format(
        "{}: the tokenizer has {} tokens, the embedding {}", path,
        file.tokenizer->vocabulary(), file.model->params().vocabulary));
  }
  return file;
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(std::unique_ptr<Model> model, std::unique_ptr<Tokenizer> tokenizer,
             int threads, Compute compute, const EngineOptions& options)
      : offload_directory_(options.offload_directory),
        model_(std::move(model)),
        tokenizer_(std::move(tokenizer)),
        compute_(Resolve(compute)),
        pool_(threads,
              [](int worker) {
                if (worker > 0) BindWorker(worker);
              }),
        prompt_matmul_(threads, PromptArithmetic(compute)) {
    if (compute_ != Compute::kF32 && HasInt8Products()) model_->Repack(&pool_);
    context_.model = model_.get();
    context_.pool = &pool_;
    context_.prompt_matmul = &prompt_matmul_;
    context_.packed = &packed_;
    context_.any_tile_rows =
        compute_ == Compute::kInt8 && AllTiled(model_->layers());
    context_.exact = compute_ == Compute::kF32;
    context_.attention = ChooseAttentionForm(context_.exact);
    decode_ = std::make_unique<DecodePass>(context_);
    skew_ = std::make_unique<ModelSkew>(context_, *tokenizer_,
                                        options.cache_directory);
    info_ = InfoOf(*model_);
  }

  const ModelInfo& info() const override { return info_; }
  Compute compute() const override { return compute_; }
  int threads() const override { return pool_.threads(); }

  Result<std::vector<int>> Tokenize(
      std::string_view text, const TokenizeOptions& options) const override {
    return tokenizer_->Tokenize(text, options);
  }
  std::string Detokenize(std::span<const int> tokens) const override {
    return tokenizer_->Detokenize(tokens, /*special=*/false);
  }
  bool IsEndOfGeneration(int token) const override {
    return tokenizer_->IsEndOfGeneration(token);
  }
  bool has_chat_template() const override {
    return !tokenizer_->chat_template().empty();
  }
  Result<ChatText> RenderChat(std::span<const ChatMessage> messages,
                              const ChatOptions& options) const override {
    return tokenizer_->RenderChat(messages, options);
  }
  Result<std::vector<int>> TokenizeChat(const ChatText& chat,
                                        bool add_special) const override {
    return tokenizer_->TokenizeChat(chat, add_special);
  }
  std::span<const std::string> warnings() const override {
    return model_->warnings();
  }

  Result<std::unique_ptr<Session>> NewSession(
      const SessionOptions& options) override {
    PKV_ASSIGN_OR_RETURN(CacheSpec spec, ParseCacheSpec(options.kv));
    PKV_RETURN_IF_ERROR(CheckAskedContextSize(options.context_size));
    auto session = std::make_unique<SessionImpl>(Parts(), &pages_, spec,
                                                 options.kv, options);
    PKV_RETURN_IF_ERROR(session->Open());
    return std::unique_ptr<Session>(std::move(session));
  }

  Result<std::unique_ptr<Session>> LoadSession(
      const std::string& path, const LoadOptions& options) override {
    PKV_RETURN_IF_ERROR(CheckAskedContextSize(options.context_size));
    PKV_ASSIGN_OR_RETURN(std::unique_ptr<SessionImpl> session,
                         SessionImpl::Load(Parts(), &pages_, path, options));
    return std::unique_ptr<Session>(std::move(session));
  }

  Status ReadShared(std::span<const int> tokens,
                    std::span<Session* const> sessions,
                    const Progress& progress) override;
  Status DecodeBatch(std::span<Session* const> sessions,
                     std::span<const int> tokens) override;
  Result<std::unique_ptr<Batch>> NewBatch(const BatchOptions& options) override;

 private:
  static Compute Resolve(Compute compute) {
    if (compute != Compute::kAuto) return compute;
    return HasInt8Products() ? Compute::kInt8 : Compute::kBf16;
  }
  static PromptCompute PromptArithmetic(Compute compute) {
    switch (compute) {
      case Compute::kF32:
        return PromptCompute::kF32;
      case Compute::kBf16:
        return PromptCompute::kBf16;
      default:
        return PromptCompute::kInt8;
    }
  }
  EngineParts Parts() {
    return {context_, decode_.get(), tokenizer_.get(),
            compute_, info_.name,    {offload_directory_, skew_.get()}};
  }

  std::string offload_directory_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Compute compute_;
  ThreadPool pool_;
  PromptMatMul prompt_matmul_;
  PackedLayer packed_;
  ForwardContext context_;
  std::unique_ptr<DecodePass> decode_;
  std::unique_ptr<ModelSkew> skew_;
  PagePool pages_;
  ModelInfo info_;
};

Status EngineImpl::ReadShared(std::span<const int> tokens,
                              std::span<Session* const> sessions,
                              const Progress& progress) {
  if (tokens.empty()) return Status::Usage("the prompt is empty");
  std::vector<SessionImpl*> exact, sparse, streaming;
  for (Session* s : sessions) {
    auto* session = static_cast<SessionImpl*>(s);
    PKV_RETURN_IF_ERROR(session->CheckTokens(tokens));
    if (session->position() != 0) {
      return Status::Usage(
          "a shared prefill needs sessions that have read nothing yet");
    }
    // The prompt's own attention is shared, so its window must be one.
    const auto* first = static_cast<SessionImpl*>(sessions[0]);
    if (session->WindowsWithin(tokens.size()) !=
        first->WindowsWithin(tokens.size())) {
      return Status::Usage(
          "a shared prefill longer than a sliding window needs the same one "
          "for all caches");
    }
    const CacheSpec& spec = session->sequence()->compressor.spec();
    (spec.prefill == PrefillKind::kStreaming ? streaming
     : spec.prefill == PrefillKind::kSparse  ? sparse
                                             : exact)
        .push_back(session);
  }
  for (const auto& group : {exact, sparse}) {
    if (group.empty()) continue;
    PKV_RETURN_IF_ERROR(SessionImpl::ReadAll(Parts(), group, tokens, progress));
  }
  // Later chunks attend to what one cache kept of earlier ones.
  for (SessionImpl* session : streaming) {
    PKV_RETURN_IF_ERROR(
        SessionImpl::ReadAll(Parts(), {&session, 1}, tokens, progress));
  }
  return {};
}

Status EngineImpl::DecodeBatch(std::span<Session* const> sessions,
                               std::span<const int> tokens) {
  std::vector<SessionImpl*> own;
  for (size_t i = 0; i < sessions.size(); ++i) {
    own.push_back(static_cast<SessionImpl*>(sessions[i]));
    PKV_RETURN_IF_ERROR(own[i]->CheckTokens(tokens.subspan(i, 1)));
    if (own[i]->position() == 0) {
      return Status::Usage("a session must read a prompt before it decodes");
    }
    if (std::find(sessions.begin(), sessions.begin() + i, sessions[i]) !=
        sessions.begin() + i) {
      return Status::Usage("a session appears twice in one decode batch");
    }
  }
  std::vector<float> logits;
  std::vector<Status> status(own.size());
  for (size_t i = 0; i < own.size(); i += kMaxRows) {
    const size_t count = std::min<size_t>(kMaxRows, own.size() - i);
    SessionImpl::DecodeRows(Parts(), std::span(own).subspan(i, count),
                            tokens.subspan(i, count), &logits,
                            std::span(status).subspan(i, count));
  }
  return FirstError(status);
}

Result<std::unique_ptr<Batch>> EngineImpl::NewBatch(
    const BatchOptions& options) {
  return Scheduler::Create(Parts(), &pages_, options);
}

}  // namespace

const char* ComputeName(Compute compute) {
  constexpr const char* kNames[] = {"auto", "f32", "bf16", "int8"};
  return kNames[static_cast<int>(compute)];
}

Result<std::unique_ptr<Engine>> Engine::Load(const EngineOptions& options) {
  if (options.compute == Compute::kInt8 && !HasInt8Products()) {
    return Status::Usage(
        "compute int8 needs a CPU with AVX-512 VNNI or with AVX2, which this "
        "one "
        "is not: take auto, bf16 or f32");
  }
  PKV_ASSIGN_OR_RETURN(ModelFile file, OpenModel(options.model_path));
  const int threads = options.threads > 0 ? options.threads : UsableThreads();
  return std::unique_ptr<Engine>(std::make_unique<EngineImpl>(
      std::move(file.model), std::move(file.tokenizer), threads,
      options.compute, options));
}

Result<ModelInfo> ReadModelInfo(const std::string& model_path) {
  PKV_ASSIGN_OR_RETURN(const ModelFile file, OpenModel(model_path));
  return InfoOf(*file.model);
}

}  // namespace pyramidkv
