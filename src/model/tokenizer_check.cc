#include "model/tokenizer_check.h"

#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pyramidkv {
namespace {

constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr int32_t kByteToken = 6;  // of tokenizer.ggml.token_type

std::string ByteTokenText(int byte) { return fmt::format("<0x{:02X}>", byte); }

class TokenizerChecker {
 public:
  TokenizerChecker(const GgufFile& file, std::vector<std::string>* warnings)
      : file_(file), warnings_(*warnings) {}

  Status Check() {
    PKV_RETURN_IF_ERROR(CheckModel());
    PKV_RETURN_IF_ERROR(CheckTokens());
    PKV_RETURN_IF_ERROR(CheckTypesAndScores());
    if (model_ == "llama") {
      CheckByteTokens();
    } else {
      PKV_RETURN_IF_ERROR(file_.Strings("tokenizer.ggml.merges").status());
    }
    PKV_RETURN_IF_ERROR(CheckIds());
    return CheckSettings();
  }

 private:
  Status CheckModel() {
    const std::string key = "tokenizer.ggml.model";
    PKV_ASSIGN_OR_RETURN(model_, file_.String(key));
    if (model_ == "llama" || model_ == "gpt2") return {};
    return file_.Error(fmt::format(
        "{} '{}' is not supported; supported: llama, gpt2", key, model_));
  }

  // libllama replaces empty tokens by "[EMPTY_id]" and then wants every text
  // once.
  Status CheckTokens() {
    PKV_ASSIGN_OR_RETURN(tokens_, file_.Strings(kTokens));
    if (tokens_.empty()) {
      return file_.Error(fmt::format("key {} is empty", kTokens));
    }
    ids_.reserve(tokens_.size());
    for (size_t i = 0; i < tokens_.size(); ++i) {
      std::string text = tokens_[i];
      if (text.empty()) text = fmt::format("[EMPTY_{}]", i);
      const auto [entry, is_new] = ids_.try_emplace(std::move(text), i);
      if (!is_new) {
        return file_.Error(
            fmt::format("key {} has the token '{}' twice, as {} and {}",
                        kTokens, entry->first, entry->second, i));
      }
    }
    return {};
  }

  Status CheckLength(const std::string& key, size_t length) const {
    if (length == tokens_.size()) return {};
    return file_.Error(fmt::format("key {} has {} values for {} tokens", key,
                                   length, tokens_.size()));
  }

  Status CheckTypesAndScores() {
    const std::string types_key = "tokenizer.ggml.token_type";
    if (file_.Has(types_key)) {
      PKV_ASSIGN_OR_RETURN(const auto types, file_.Ints(types_key));
      PKV_RETURN_IF_ERROR(CheckLength(types_key, types.size()));
      PKV_RETURN_IF_ERROR(CheckByteTypes(types));
    }
    const std::string scores_key = "tokenizer.ggml.scores";
    if (!file_.Has(scores_key)) return {};
    PKV_ASSIGN_OR_RETURN(const auto scores, file_.Floats(scores_key));
    return CheckLength(scores_key, scores.size());
  }

  // libllama reads the byte out of the text, without looking.
  Status CheckByteTypes(std::span<const int32_t> types) const {
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] != kByteToken) continue;
      const std::string_view text = tokens_[i];
      const bool well_formed = text.size() == 6 && text.starts_with("<0x") &&
                               text.ends_with('>') && IsHex(text[3]) &&
                               IsHex(text[4]);
      if (!well_formed) {
        return file_.Error(fmt::format(
            "token {} ('{}') is of type byte, but not of the form <0x0A>", i,
            text));
      }
    }
    return {};
  }

  static bool IsHex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') ||
           (c >= 'a' && c <= 'f');
  }

  // Text falls back to these; a text that needs one that is missing is refused
  // when it comes.
  void CheckByteTokens() {
    int missing = 0;
    std::string first;
    for (int byte = 0; byte < 256; ++byte) {
      const std::string text = ByteTokenText(byte);
      const std::string raw(1, static_cast<char>(byte));
      if (ids_.contains(text) || ids_.contains(raw)) continue;
      if (missing++ == 0) first = text;
    }
    if (missing == 0) return;
    Warn(fmt::format("key {} has no token {}{}: text that needs one is refused",
                     kTokens, first,
                     missing == 1 ? ""
                                  : fmt::format(" nor those of {} more bytes",
                                                missing - 1)));
  }

  void Warn(const std::string& text) {
    warnings_.push_back(file_.Error(text).message());
  }

  // libllama takes its own id in place of one outside of the vocabulary.
  // "seperator" is how the key is spelt in files.
  Status CheckIds() {
    constexpr std::string_view kNames[] = {
        "bos",     "eos",       "eot",       "eom",     "unknown",
        "padding", "seperator", "separator", "mask",    "cls",
        "fim_pre", "fim_suf",   "fim_mid",   "fim_pad", "fim_rep",
        "fim_sep", "prefix",    "suffix",    "middle"};
    const auto tokens = static_cast<int64_t>(tokens_.size());
    for (std::string_view name : kNames) {
      const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
      if (!file_.Has(key)) continue;
      PKV_ASSIGN_OR_RETURN(
          const int64_t id,
          file_.Int(key, 0, std::numeric_limits<uint32_t>::max()));
      if (id < tokens) continue;
      Warn(
          fmt::format("key {} is {}, outside the vocabulary of {} tokens: it "
                      "is ignored",
                      key, id, tokens));
    }
    return {};
  }

  Status CheckSettings() const {
    for (std::string_view name :
         {"add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix",
          "remove_extra_whitespaces"}) {
      const std::string key = fmt::format("tokenizer.ggml.{}", name);
      if (file_.Has(key)) PKV_RETURN_IF_ERROR(file_.Bool(key).status());
    }
    for (const char* key : {"tokenizer.ggml.pre", "tokenizer.chat_template"}) {
      if (file_.Has(key)) PKV_RETURN_IF_ERROR(file_.String(key).status());
    }
    return {};
  }

  const GgufFile& file_;
  std::vector<std::string>& warnings_;
  std::string model_;
  std::vector<const char*> tokens_;
  std::unordered_map<std::string, size_t> ids_;
};

}  // namespace

Status ValidateTokenizer(const GgufFile& file,
                         std::vector<std::string>* warnings) {
  return TokenizerChecker(file, warnings).Check();
}

}  // namespace pyramidkv
