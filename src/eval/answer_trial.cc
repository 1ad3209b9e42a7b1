#include <algorithm>
#include <utility>

#include "eval/placement.h"
#include "eval/trial.h"
#include "eval/trial_sessions.h"

namespace pyramidkv {
namespace {

// One session's greedy answer in the making.
class GreedyAnswer {
 public:
  // Ends once there are `length` bytes of text.
  GreedyAnswer(const Engine& engine, Session* session, size_t length)
      : engine_(engine), session_(session), length_(length) {}

  // Chooses one token more.
  void Choose() {
    const std::span<const float> logits = session_->logits();
    const auto top = std::max_element(logits.begin(), logits.end());
    const int id = static_cast<int>(top - logits.begin());
    ended_ = engine_.IsEndOfGeneration(id);
    if (ended_) return;
    tokens_.push_back(id);
    text_ = engine_.Detokenize(tokens_);
    text_.erase(0, text_.find_first_not_of(' '));
    // A token that shows no text counts as a byte.
    ended_ = text_.size() >= length_ || tokens_.size() >= length_;
  }

  bool ended() const { return ended_; }
  Session* session() const { return session_; }
  const std::vector<int>& tokens() const { return tokens_; }
  const std::string& text() const { return text_; }

 private:
  const Engine& engine_;
  Session* session_;
  size_t length_;
  bool ended_ = false;
  std::vector<int> tokens_;
  std::string text_;
};

// Lets all answers grow in one batch until each has ended.
Status DecodeAnswers(Engine* engine, const TrialSessions& sessions,
                     std::vector<GreedyAnswer>* answers) {
  for (;;) {
    std::vector<Session*> batch;
    std::vector<int> last;
    for (GreedyAnswer& answer : *answers) {
      if (answer.ended()) continue;
      answer.Choose();
      if (answer.ended()) continue;
      batch.push_back(answer.session());
      last.push_back(answer.tokens().back());
    }
    if (batch.empty()) return {};
    PKV_RETURN_IF_ERROR(sessions.CheckCancelled());
    PKV_RETURN_IF_ERROR(engine->DecodeBatch(batch, last));
  }
}

}  // namespace

Result<std::vector<EvalTrial>> RunAnswerTrial(
    const TrialContext& context, const Prompt& prompt,
    std::span<const std::string> specs) {
  PKV_ASSIGN_OR_RETURN(
      const PlacedPrompt placed,
      PlacePrompt(*context.engine, prompt, context.options->placement));
  const size_t length = prompt.expected.size();
  PKV_ASSIGN_OR_RETURN(
      TrialSessions sessions,
      TrialSessions::Read(context, specs, placed.read,
                          static_cast<int>(placed.forced.size() + length)));
  std::vector<EvalTrial> results = sessions.Results();
  PKV_RETURN_IF_ERROR(sessions.Force(placed.forced));
  std::vector<GreedyAnswer> answers;
  for (Session* session : sessions.sessions()) {
    answers.emplace_back(*context.engine, session, length);
  }
  PKV_RETURN_IF_ERROR(DecodeAnswers(context.engine, sessions, &answers));
  for (size_t i = 0; i < results.size(); ++i) {
    results[i].scored_tokens = static_cast<int>(answers[i].tokens().size());
    results[i].depth = prompt.depth;
    results[i].expected = prompt.expected;
    results[i].answer = answers[i].text();
    results[i].right = results[i].answer.starts_with(prompt.expected);
  }
  return results;
}

}  // namespace pyramidkv
