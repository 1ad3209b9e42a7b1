#include <fmt/format.h>

#include <climits>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "llama.h"
#include "text/chat_template.h"
#include "text/text.h"
#include "text/utf8.h"

namespace pyramidkv {
namespace {

struct ModelDeleter {
  void operator()(llama_model* model) const { llama_model_free(model); }
};

// libllama reports only by its process-wide log, so the first error line of a
// load on this thread (later ones are ever more general) is kept here;
// everything else is dropped.
thread_local std::string first_error;

void KeepFirstError(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) first_error = text;
}

void InitLibllamaOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set(KeepFirstError, nullptr);
    llama_backend_init();
  });
}

// "error loading model vocabulary: unknown pre-tokenizer" from the log line.
std::string TakeFirstError() {
  std::string line = std::exchange(first_error, {});
  while (!line.empty() && line.back() == '\n') line.pop_back();
  const size_t function_name_end = line.find(": ");
  if (function_name_end != std::string::npos) {
    line.erase(0, function_name_end + 2);
  }
  return line.empty() ? "libllama gives no reason" : line;
}

}  // namespace

struct Tokenizer::Impl {
  std::unique_ptr<llama_model, ModelDeleter> model;
  const llama_vocab* vocab = nullptr;  // [size], owned by `model`
  int size = 0;

  bool Contains(int token) const { return token >= 0 && token < size; }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::Load(
    const std::string& model_path) {
  InitLibllamaOnce();
  first_error.clear();
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  auto impl = std::make_unique<Impl>();
  impl->model.reset(llama_model_load_from_file(model_path.c_str(), params));
  if (impl->model == nullptr) {
    return Status::Model(fmt::format("{}: its tokenizer cannot be loaded: {}",
                                     model_path, TakeFirstError()));
  }
  impl->vocab = llama_model_get_vocab(impl->model.get());
  impl->size = llama_vocab_n_tokens(impl->vocab);
  if (llama_vocab_type(impl->vocab) == LLAMA_VOCAB_TYPE_NONE ||
      impl->size <= 0) {
    return Status::Model(
        fmt::format("{}: the file has no tokenizer", model_path));
  }
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

int Tokenizer::vocabulary() const { return impl_->size; }

Result<std::vector<int>> Tokenizer::Tokenize(
    std::string_view text, const TokenizeOptions& options) const {
  const size_t invalid = FirstInvalidUtf8(text);
  if (invalid != std::string_view::npos) {
    return Status::Usage(
        fmt::format("the text is not valid UTF-8 at byte offset {}", invalid));
  }
  constexpr size_t kSpecial = 8;  // room for BOS, EOS and the like
  if (text.size() > INT_MAX - kSpecial) {
    return Status::Usage("the text is longer than 2 GiB");
  }
  // A token covers at least one byte, except for what add_special adds and
  // for normalisation, which may lengthen the text: hence the second try.
  std::vector<int> tokens(text.size() + kSpecial);
  try {
    for (;;) {
      const int32_t count = llama_tokenize(
          impl_->vocab, text.data(), static_cast<int32_t>(text.size()),
          tokens.data(), static_cast<int32_t>(tokens.size()),
          options.add_special, options.parse_special);
      if (count == INT32_MIN) {
        return Status::Usage("the text has more than 2^31 tokens");
      }
      tokens.resize(static_cast<size_t>(count < 0 ? -count : count));
      if (count >= 0) return tokens;
    }
  } catch (const std::exception& error) {
    // A vocabulary without the byte tokens that this text falls back to.
    return Status::Model(
        fmt::format("the model's tokenizer failed: {}", error.what()));
  }
}

std::string Tokenizer::Piece(int token, bool special) const {
  if (!impl_->Contains(token)) return {};
  std::string piece(32, '\0');
  for (;;) {
    const int32_t length = llama_token_to_piece(
        impl_->vocab, token, piece.data(), static_cast<int32_t>(piece.size()),
        /*lstrip=*/0, special);
    piece.resize(static_cast<size_t>(length < 0 ? -length : length));
    if (length >= 0) return piece;
  }
}

std::string Tokenizer::Detokenize(std::span<const int> tokens,
                                  bool special) const {
  std::vector<int> known;
  known.reserve(tokens.size());
  for (int token : tokens) {
    if (impl_->Contains(token)) known.push_back(token);
  }
  std::string text(known.size() * 8, '\0');
  for (;;) {
    const int32_t length = llama_detokenize(
        impl_->vocab, known.data(), static_cast<int32_t>(known.size()),
        text.data(), static_cast<int32_t>(text.size()),
        /*remove_special=*/false, special);
    text.resize(static_cast<size_t>(length < 0 ? -length : length));
    if (length >= 0) return text;
  }
}

bool Tokenizer::IsEndOfGeneration(int token) const {
  return impl_->Contains(token) && llama_vocab_is_eog(impl_->vocab, token);
}

Result<std::string> Tokenizer::ApplyChatTemplate(
    std::span<const ChatMessage> messages, std::string_view name,
    bool add_assistant) const {
  const char* own = llama_model_chat_template(impl_->model.get(), nullptr);
  return RenderChat(own == nullptr ? "" : own, messages, name, add_assistant);
}

}  // namespace pyramidkv
