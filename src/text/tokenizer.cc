#include <fmt/format.h>

#include <climits>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <variant>

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
  int bos = -1;  // that stands at the start of a text; -1: none
  ChatModel chat;

  bool Contains(int token) const { return token >= 0 && token < size; }
  void FindSpecial();
  void FindChat();
  Result<std::vector<int>> Tokens(std::string_view text,
                                  bool parse_special) const;
  void AddBos(std::vector<int>* tokens) const {
    if (bos < 0 || (!tokens->empty() && tokens->front() == bos)) return;
    tokens->insert(tokens->begin(), bos);
  }
};

// As libllama's own cache of them.
void Tokenizer::Impl::FindSpecial() {
  std::vector<SpecialToken> tokens;
  for (int id = 0; id < size; ++id) {
    const unsigned attributes = llama_vocab_get_attr(vocab, id);
    const unsigned control =
        attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN);
    const std::string text = llama_vocab_get_text(vocab, id);
    if (text.empty()) continue;
    if (control != 0 || (attributes & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0) {
      tokens.push_back({text, id, control != 0,
                        (attributes & LLAMA_TOKEN_ATTR_LSTRIP) != 0,
                        (attributes & LLAMA_TOKEN_ATTR_RSTRIP) != 0});
    }
  }
  chat.special = SpecialTokens(std::move(tokens));
  bos = llama_vocab_get_add_bos(vocab) ? llama_vocab_bos(vocab) : -1;
}

void Tokenizer::Impl::FindChat() {
  const char* own = llama_model_chat_template(model.get(), nullptr);
  if (own != nullptr) chat.source = own;
  const std::pair<const char*, int> named[] = {
      {"bos_token", llama_vocab_bos(vocab)},
      {"eos_token", llama_vocab_eos(vocab)},
      {"pad_token", llama_vocab_pad(vocab)}};
  for (const auto& [name, id] : named) {
    if (Contains(id)) chat.tokens[name] = llama_vocab_get_text(vocab, id);
  }
}

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
  impl->FindSpecial();
  impl->FindChat();
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

int Tokenizer::vocabulary() const { return impl_->size; }

Result<std::vector<int>> Tokenizer::Tokenize(
    std::string_view text, const TokenizeOptions& options) const {
  PKV_ASSIGN_OR_RETURN(std::vector<int> tokens,
                       impl_->Tokens(text, options.parse_special));
  if (options.add_special) impl_->AddBos(&tokens);
  return tokens;
}

Result<std::vector<int>> Tokenizer::TokenizeChat(const ChatText& chat,
                                                 bool add_special) const {
  std::vector<int> tokens;
  for (const TextPart& part : impl_->chat.special.Split(chat)) {
    if (const int* id = std::get_if<int>(&part)) {
      tokens.push_back(*id);
      continue;
    }
    PKV_ASSIGN_OR_RETURN(
        const std::vector<int> more,
        impl_->Tokens(std::get<std::string_view>(part), false));
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  if (add_special) impl_->AddBos(&tokens);
  return tokens;
}

// Without BOS and EOS.
Result<std::vector<int>> Tokenizer::Impl::Tokens(std::string_view text,
                                                 bool parse_special) const {
  const size_t invalid = FirstInvalidUtf8(text);
  if (invalid != std::string_view::npos) {
    return Status::Usage(
        fmt::format("the text is not valid UTF-8 at byte offset {}", invalid));
  }
  constexpr size_t kMore = 8;
  if (text.size() > INT_MAX - kMore) {
    return Status::Usage("the text is longer than 2 GiB");
  }
  // A token covers at least one byte, except for normalisation, which may
  // lengthen the text: hence the second try.
  std::vector<int> tokens(text.size() + kMore);
  try {
    for (;;) {
      const int32_t count =
          llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()),
                         tokens.data(), static_cast<int32_t>(tokens.size()),
                         /*add_special=*/false, parse_special);
      if (count == INT32_MIN) {
        return Status::Usage("the text has more than 2^31 tokens");
      }
      tokens.resize(static_cast<size_t>(count < 0 ? -count : count));
      if (count >= 0) return tokens;
    }
  } catch (const std::out_of_range&) {
    return Status::Model(
        "the model's vocabulary has no tokens for a character of the text, nor "
        "for its bytes");
  } catch (const std::exception& error) {
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

const std::string& Tokenizer::chat_template() const {
  return impl_->chat.source;
}

Result<ChatText> Tokenizer::RenderChat(std::span<const ChatMessage> messages,
                                       const ChatOptions& options) const {
  return pyramidkv::RenderChat(impl_->chat, messages, options);
}

}  // namespace pyramidkv
