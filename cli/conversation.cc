#include "cli/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/json_output.h"
#include "pyramidkv/cache_spec.h"

namespace pyramidkv::cli {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view TrimRight(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

std::string_view TrimLeft(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kSpace), text.size()));
}

// Stand for what a stored session was told.
constexpr char kToldQuestion[] = "question", kToldAnswer[] = "answer";
// No template writes this.
constexpr char kAnswerMark[] = "the-answer-3f9c51";

bool IsEndless(const Session& session) {
  return CacheSpecValue(session.Report().spec, "positions") == "renumber";
}

}  // namespace

std::optional<size_t> NewTextOffset(std::string_view prompt,
                                    std::string_view answer,
                                    std::string_view rendered) {
  const std::string_view trimmed = TrimLeft(TrimRight(answer));
  if (rendered.starts_with(prompt)) {
    for (const std::string_view form : {answer, TrimRight(answer), trimmed}) {
      if (!rendered.substr(prompt.size()).starts_with(form)) continue;
      return prompt.size() + form.size();
    }
  }
  prompt = TrimRight(prompt);
  if (!rendered.starts_with(prompt)) return std::nullopt;
  std::string_view rest = TrimLeft(rendered.substr(prompt.size()));
  if (!rest.starts_with(trimmed)) return std::nullopt;
  rest.remove_prefix(trimmed.size());
  // White space at its end was generated, too.
  std::string_view tail = answer.substr(TrimRight(answer).size());
  while (!tail.empty() && rest.starts_with(tail.front())) {
    rest.remove_prefix(1);
    tail.remove_prefix(1);
  }
  return rendered.size() - rest.size();
}

std::string WithDocuments(std::span<const std::string> documents,
                          std::string_view question) {
  std::string text;
  for (const std::string& document : documents) {
    if (!text.empty()) text += "\n\n";
    text += document;
  }
  if (!text.empty() && !question.empty()) text += "\n\n";
  return text += question;
}

bool TurnEnded(const Engine& engine, std::span<const int> tokens) {
  const auto last = tokens.last(std::min<size_t>(tokens.size(), 2));
  return std::any_of(last.begin(), last.end(),
                     [&](int id) { return engine.IsEndOfGeneration(id); });
}

// The tokens of a turn, and the conversation up to its answer.
struct Conversation::Story {
  std::unique_ptr<Session> session;  // to begin anew; null: the one there is
  std::vector<int> tokens;
  std::string rendered;
};

void Conversation::Reset(std::string system) {
  system_ = std::move(system);
  documents_.clear();
  messages_.clear();
  session_.reset();
  before_answer_.reset();
  loaded_ = false;
}

bool Conversation::endless() const {
  return session_ != nullptr && IsEndless(*session_);
}

Status Conversation::CheckFits(const Session& session, int64_t tokens) const {
  const int64_t needed = session.position() + tokens;
  if (needed <= session.context_size() || IsEndless(session)) return {};
  return Status::DoesNotFit(
      fmt::format("the context is full: with this turn it would hold {} tokens "
                  "of {}",
                  needed, session.context_size()));
}

Status Conversation::AddDocument(std::string text) {
  PKV_ASSIGN_OR_RETURN(
      const std::vector<int> tokens,
      engine_->Tokenize(text, {.add_special = false, .parse_special = false}));
  std::unique_ptr<Session> first;
  if (session_ == nullptr) {
    PKV_ASSIGN_OR_RETURN(first, engine_->NewSession(options_));
  }
  PKV_RETURN_IF_ERROR(CheckFits(first == nullptr ? *session_ : *first,
                                static_cast<int64_t>(tokens.size())));
  documents_.push_back(std::move(text));
  return {};
}

std::vector<ChatMessage> Conversation::MessagesWith(
    const std::string& text) const {
  std::vector<ChatMessage> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  all.push_back({"user", WithDocuments(documents_, text)});
  return all;
}

Result<ChatText> Conversation::Render(std::span<const ChatMessage> messages,
                                      bool add_assistant) const {
  ChatOptions chat = chat_;
  chat.add_assistant = add_assistant;
  return engine_->RenderChat(messages, chat);
}

// The turns before cannot be read again: the new one is all that stands behind
// the last answer, whatever the template makes of that.
Result<size_t> Conversation::OffsetAfterLoad(std::vector<ChatMessage> messages,
                                             ChatText* rendered) const {
  messages[messages.size() - 2].content = kAnswerMark;
  PKV_ASSIGN_OR_RETURN(*rendered, Render(messages, true));
  const size_t at = rendered->text.rfind(kAnswerMark);
  if (at != std::string::npos) return at + std::string_view(kAnswerMark).size();
  return Status::Usage(
      "the chat template does not keep turns apart: take another one with "
      "--chat-template");
}

// `messages` go on in the session there is, or in a new one where they tell
// another story.
Result<Conversation::Story> Conversation::NextStory(
    const std::vector<ChatMessage>& messages) {
  PKV_ASSIGN_OR_RETURN(ChatText rendered, Render(messages, true));
  Story story;
  story.rendered = rendered.text;
  std::optional<size_t> offset;
  if (session_ != nullptr) {
    offset = NewTextOffset(prompt_, answer_, rendered.text);
    if (!offset && loaded_) {
      PKV_ASSIGN_OR_RETURN(offset, OffsetAfterLoad(messages, &rendered));
    }
  }
  if (!offset) {
    PKV_ASSIGN_OR_RETURN(story.tokens, engine_->TokenizeChat(rendered, true));
    PKV_ASSIGN_OR_RETURN(story.session, engine_->NewSession(options_));
    return story;
  }
  PKV_ASSIGN_OR_RETURN(story.tokens,
                       engine_->TokenizeChat(rendered.From(*offset), false));
  if (!story.tokens.empty() && story.tokens.front() == decoded_end_) {
    story.tokens.erase(story.tokens.begin());
  }
  story.tokens.insert(story.tokens.begin(), pending_.begin(), pending_.end());
  return story;
}

Result<Turn> Conversation::Say(const std::string& text,
                               const GenerateOptions& options,
                               const Progress& progress) {
  PKV_RETURN_IF_ERROR(engine_->Tokenize(text, {}).status());  // not UTF-8
  const std::vector<ChatMessage> all = MessagesWith(text);
  PKV_ASSIGN_OR_RETURN(Story story, NextStory(all));
  PKV_RETURN_IF_ERROR(CheckFits(story.session ? *story.session : *session_,
                                std::ssize(story.tokens)));
  // The session itself goes on, so that forks of forks do not pile up.
  std::unique_ptr<Session> old;
  if (story.session != nullptr) {
    old = std::exchange(session_, std::move(story.session));
  } else {
    PKV_ASSIGN_OR_RETURN(old, session_->Fork());
  }
  Result<Turn> turn = ReadAndAnswer(story.tokens, options, progress);
  if (!turn.ok()) {
    session_ = std::move(old);
    return turn;
  }
  prompt_ = std::move(story.rendered);
  documents_.clear();
  messages_.push_back(all.back());
  messages_.push_back({"assistant", answer_});
  return turn;
}

Result<Turn> Conversation::ReadAndAnswer(std::span<const int> tokens,
                                         const GenerateOptions& options,
                                         const Progress& progress) {
  const Stopwatch watch;
  PKV_RETURN_IF_ERROR(session_->Read(tokens, progress));
  const double read_ms = watch.Milliseconds();
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Session> before, session_->Fork());
  PKV_ASSIGN_OR_RETURN(Turn turn, Answer(session_.get(), options));
  turn.read_tokens = static_cast<int>(tokens.size());
  turn.read_ms = read_ms;
  before_answer_ = std::move(before);
  return turn;
}

Result<Turn> Conversation::Regenerate(const GenerateOptions& options) {
  if (!CanRegenerate()) return Status::Usage("no answer to generate again");
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                       before_answer_->Fork());
  PKV_ASSIGN_OR_RETURN(Turn turn, Answer(session.get(), options));
  session_ = std::move(session);
  messages_.back().content = answer_;
  return turn;
}

Result<Turn> Conversation::Answer(Session* session,
                                  const GenerateOptions& options) {
  const int position = session->position();
  Turn turn;
  PKV_ASSIGN_OR_RETURN(turn.generation, session->Generate(options));
  if (turn.generation.finish_reason == "cancelled" &&
      turn.generation.tokens.empty()) {
    return Status::Cancelled();
  }
  Remember(turn.generation, session->position() - position);
  return turn;
}

// `decoded`: how many of the generated tokens the cache holds. The last one
// that was sampled is not there yet.
void Conversation::Remember(const Generation& generation, int decoded) {
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

Status Conversation::Save(const std::string& path) {
  if (session_ == nullptr) return Status::Usage("no turn yet to save");
  if (pending_.empty()) return session_->Save(path);
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Session> whole, session_->Fork());
  if (CheckFits(*whole, static_cast<int64_t>(pending_.size())).ok()) {
    PKV_RETURN_IF_ERROR(whole->Force(pending_).status());
  }
  return whole->Save(path);
}

Status Conversation::Load(const std::string& path) {
  LoadOptions options{.context_size = options_.context_size};
  if (options_.max_new_tokens >= 0) {
    options.max_new_tokens = options_.max_new_tokens;
  }
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                       engine_->LoadSession(path, options));
  const std::vector<ChatMessage> told = {{"user", kToldQuestion},
                                         {"assistant", kToldAnswer}};
  const bool ended = TurnEnded(*engine_, session->tokens());
  PKV_ASSIGN_OR_RETURN(
      ChatText prompt,
      Render(std::span(told).first(ended ? 2 : 1), /*add_assistant=*/!ended));
  Reset(system_);
  session_ = std::move(session);
  messages_ = told;
  prompt_ = std::move(prompt.text);
  answer_ = ended ? "" : kToldAnswer;
  pending_.clear();
  decoded_end_ = -1;
  loaded_ = true;
  return {};
}

}  // namespace pyramidkv::cli
