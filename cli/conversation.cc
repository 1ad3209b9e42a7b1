#include "cli/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/json_output.h"

namespace pyramidkv::cli {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view TrimRight(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

std::string_view Trim(std::string_view text) {
  text = TrimRight(text);
  return text.substr(std::min(text.find_first_not_of(kSpace), text.size()));
}

}  // namespace

std::optional<std::string> NewText(std::string_view prompt,
                                   std::string_view answer,
                                   std::string_view rendered) {
  if (!rendered.starts_with(prompt)) return std::nullopt;
  rendered.remove_prefix(prompt.size());
  for (const std::string_view form :
       {answer, TrimRight(answer), Trim(answer)}) {
    if (rendered.starts_with(form)) {
      return std::string(rendered.substr(form.size()));
    }
  }
  return std::nullopt;
}

void Conversation::Reset(std::string system) {
  system_ = std::move(system);
  messages_.clear();
  session_.reset();
}

// Opens a session if there is none (or none that `rendered` continues).
Result<std::vector<int>> Conversation::NewTokens(const std::string& rendered) {
  std::optional<std::string> text;
  if (session_ != nullptr) text = NewText(prompt_, answer_, rendered);
  if (!text) {
    PKV_ASSIGN_OR_RETURN(session_, engine_->NewSession(options_));
    pending_.clear();
    decoded_end_ = -1;
    return engine_->Tokenize(rendered, {.add_special = true});
  }
  PKV_ASSIGN_OR_RETURN(std::vector<int> added,
                       engine_->Tokenize(*text, {.add_special = false}));
  if (!added.empty() && added.front() == decoded_end_) {
    added.erase(added.begin());
  }
  added.insert(added.begin(), pending_.begin(), pending_.end());
  return added;
}

Status Conversation::CheckFits(int64_t tokens) const {
  const int64_t needed = session_->position() + tokens;
  if (needed <= session_->context_size()) return {};
  return Status::DoesNotFit(
      fmt::format("the context is full: with this turn it would hold {} tokens "
                  "of {}",
                  needed, session_->context_size()));
}

Result<Turn> Conversation::Say(const std::string& text,
                               const GenerateOptions& options,
                               const Progress& progress) {
  PKV_RETURN_IF_ERROR(engine_->Tokenize(text, {}).status());  // not UTF-8
  std::vector<ChatMessage> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  all.push_back({"user", text});
  PKV_ASSIGN_OR_RETURN(const std::string rendered,
                       engine_->ApplyChatTemplate(all, chat_template_, true));
  PKV_ASSIGN_OR_RETURN(const std::vector<int> tokens, NewTokens(rendered));

  Turn turn;
  turn.read_tokens = static_cast<int>(tokens.size());
  PKV_RETURN_IF_ERROR(CheckFits(turn.read_tokens));
  const Stopwatch watch;
  if (Status read = session_->Read(tokens, progress); !read.ok()) {
    session_.reset();  // it is of no further use
    return read;
  }
  turn.read_ms = watch.Milliseconds();
  const int position = session_->position();
  Result<Generation> generation = session_->Generate(options);
  if (!generation.ok()) {
    session_.reset();
    return generation.status();
  }
  turn.generation = std::move(*generation);
  messages_.push_back(all.back());
  Remember(rendered, turn.generation, session_->position() - position);
  return turn;
}

// `decoded`: how many of the generated tokens the cache holds. The last one
// that was sampled is not there yet.
void Conversation::Remember(const std::string& rendered,
                            const Generation& generation, int decoded) {
  messages_.push_back({"assistant", generation.text});
  prompt_ = rendered;
  answer_ = generation.text;
  pending_.clear();
  decoded_end_ = -1;
  for (int i = 0; i < std::ssize(generation.tokens); ++i) {
    const int id = generation.tokens[i].id;
    const bool end = engine_->IsEndOfGeneration(id);
    if (i < decoded) {
      decoded_end_ = end ? id : -1;
    } else if (!end) {
      pending_.push_back(id);
    }
  }
}

}  // namespace pyramidkv::cli
