#include "cli/answer_notes.h"

#include <fmt/format.h>

#include <algorithm>

namespace pyramidkv::cli {
namespace {

// Room for a question's answer.
constexpr int64_t kAnswer = 512;
constexpr char kEndless[] =
    "streaming-llm,tokens=2048,positions=renumber,prefill=streaming";

}  // namespace

std::string EndNote(const Generation& generation, int context_size) {
  const std::string& reason = generation.stop_reason;
  const bool silent =
      generation.text.find_first_not_of(" \t\r\n") == std::string::npos;
  if (reason == "loop") {
    return "the answer began to repeat itself and was ended (--ignore-eos "
           "lets it go on)";
  }
  if (reason == "limit") {
    return fmt::format(
        "the answer is cut after {} tokens: -n N allows more, -n -1 all that "
        "the context holds",
        generation.tokens.size());
  }
  if (reason == "context_full") {
    return fmt::format(
        "the answer is cut: the context of {} tokens is full (-c N makes it "
        "longer, --kv with positions=renumber endless)",
        context_size);
  }
  if (silent && reason == "eos") {
    return "the model wrote nothing: it took the prompt as complete (another "
           "wording, or --chat, may help)";
  }
  if (silent && reason == "stop") {
    return "the model wrote nothing before a stop string";
  }
  return "";
}

std::string TrainedNote(const ModelInfo& model, int context_size,
                        int64_t tokens) {
  if (model.context_length <= 0 || tokens <= model.context_length ||
      context_size <= model.context_length) {
    return "";
  }
  return fmt::format(
      "warning: the context reaches {} tokens, and the model was trained with "
      "{}: what stands beyond, and often the rest, is lost to it; a longer "
      "one needs a model that was made for it",
      tokens, model.context_length);
}

std::string TooLongNote(const LongPrompt& p) {
  std::string text = fmt::format(
      "the prompt has {} tokens, and the context holds {}. This would work:",
      p.tokens, p.context_size);
  if (p.tokens + kAnswer <= p.trained) {
    text += fmt::format("\n  {} -c {}", p.command,
                        std::min<int64_t>(p.trained, p.tokens + kAnswer));
  }
  text += fmt::format(
      "\n  {} --kv {}\n    reads it all and remembers its start and its end",
      p.command, kEndless);
  text +=
      "\n  a part of the document, or a model with a longer context "
      "(pyramidkv models)";
  return text;
}

}  // namespace pyramidkv::cli
