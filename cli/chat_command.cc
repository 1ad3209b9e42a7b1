// `pyramidkv chat`: a conversation whose turns extend the compressed cache.

#include <fmt/format.h>
#include <signal.h>

#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/inputs.h"
#include "cli/json_output.h"
#include "cli/line_reader.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/text_format.h"

namespace pyramidkv::cli {
namespace {

constexpr char kHelp[] =
    "/stats        tokens and times of the last turn\n"
    "/kv           what each layer of the cache keeps\n"
    "/system TEXT  start anew with another system message\n"
    "/reset        start anew\n"
    "/exit         leave (so does Ctrl-D)\n"
    "Ctrl-C stops an answer.\n";

struct ChatFlags {
  ModelFlags model;
  CacheFlags cache;
  GenerationFlags generation;
  TemplateFlags chat_template;
};

class Chat {
 public:
  Chat(Engine* engine, const ChatFlags& flags, SessionOptions options,
       ChatOptions chat)
      : conversation_(engine, std::move(options), std::move(chat)),
        generation_(ResolveGeneration(flags.generation)),
        reader_(MakeLineReader("> ")) {
    conversation_.Reset(flags.chat_template.system_prompt);
  }

  Status Loop();

 private:
  Status Handle(const std::string& line);
  Status Command(const std::string& line);
  Status Say(const std::string& line);
  Status Stats() const;
  Status Kv() const;

  Conversation conversation_;
  const GenerateOptions generation_;
  const std::unique_ptr<LineReader> reader_;
  std::optional<Turn> last_;
  bool done_ = false;
};

// Errors that end a turn but not the program.
bool OnlyTheTurn(StatusCode code) {
  return code == StatusCode::kUsage || code == StatusCode::kDoesNotFit ||
         (code == StatusCode::kCancelled && LastSignal() != SIGTERM);
}

Status Chat::Loop() {
  if (reader_->interactive()) {
    PKV_RETURN_IF_ERROR(WriteStdout("/help lists the commands.\n"));
  }
  while (!done_) {
    std::string line;
    const LineEvent event = reader_->Next(&line);
    if (event == LineEvent::kEnd) break;
    if (event == LineEvent::kLine) {
      Status status = Handle(line);
      if (!status.ok() && !OnlyTheTurn(status.code())) return status;
      if (!status.ok()) LogLine(status.message());
    }
    ForgetInterrupt();
    if (StopRequested()) return Status::Cancelled();  // SIGTERM
  }
  return {};
}

Status Chat::Handle(const std::string& line) {
  if (line.find_first_not_of(" \t\r") == line.npos) return {};
  return line.front() == '/' ? Command(line) : Say(line);
}

Status Chat::Command(const std::string& line) {
  const size_t space = std::min(line.find(' '), line.size());
  const std::string name = line.substr(0, space);
  const std::string rest = line.substr(std::min(space + 1, line.size()));
  if (name == "/help") return WriteStdout(kHelp);
  if (name == "/stats") return Stats();
  if (name == "/kv") return Kv();
  if (name == "/reset" || name == "/system") {
    conversation_.Reset(name == "/system" ? rest : conversation_.system());
    last_.reset();
    return {};
  }
  if (name == "/exit" || name == "/quit") {
    done_ = true;
    return {};
  }
  return Status::Usage(
      fmt::format("no command {}; /help lists the commands", name));
}

Status Chat::Say(const std::string& line) {
  const InterruptScope scope;
  ProgressBar bar("reading");
  Status written;
  GenerateOptions options = generation_;
  options.on_text = [&](std::string_view piece) {
    bar.Clear();
    if (!written.ok()) return;
    written = WriteStdout(piece);
    if (!written.ok()) RequestStop();
  };
  Result<Turn> turn = conversation_.Say(line, options, bar.Callback());
  bar.Clear();
  PKV_RETURN_IF_ERROR(written);
  PKV_RETURN_IF_ERROR(turn.status());
  last_ = std::move(*turn);
  PKV_RETURN_IF_ERROR(WriteStdout("\n"));
  const Session* session = conversation_.session();
  if (last_->generation.finish_reason == "length" &&
      session->position() + 1 >= session->context_size()) {
    LogLine(fmt::format("the context of {} tokens is full; /reset starts anew",
                        session->context_size()));
  }
  return {};
}

Status Chat::Stats() const {
  if (!last_) return Status::Usage("no turn yet");
  const Timings t =
      MakeTimings(0, last_->read_ms, last_->read_tokens, last_->generation);
  const Session* session = conversation_.session();
  std::string text =
      fmt::format("read {} tokens in {:.0f} ms, wrote {}", last_->read_tokens,
                  t.prefill_ms, last_->generation.tokens.size());
  if (t.ttft_ms) text += fmt::format("; first after {:.0f} ms", *t.ttft_ms);
  if (t.tpot_ms) text += fmt::format(", then {:.2f} ms each", *t.tpot_ms);
  if (session != nullptr) {
    text += fmt::format("\ncontext {} of {} tokens; {}", session->position(),
                        session->context_size(), KvSummary(session->Report()));
  }
  return WriteStdout(text +
                     fmt::format("; peak RSS {}\n", MiB(PeakRssBytes())));
}

Status Chat::Kv() const {
  if (conversation_.session() == nullptr) return Status::Usage("no turn yet");
  return WriteStdout(KvTable(conversation_.session()->Report()));
}

Status RunChat(const ChatFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const std::vector<std::string> specs,
                       ResolveSpecs(flags.cache));
  PKV_ASSIGN_OR_RETURN(ChatOptions chat, ResolveTemplate(flags.chat_template));
  PKV_ASSIGN_OR_RETURN(const EngineOptions options, ResolveEngine(flags.model));
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       Engine::Load(options));
  for (const std::string& warning : engine->warnings()) {
    LogLine("warning: " + warning);
  }
  SessionOptions session = {.kv = specs.front(),
                            .context_size = flags.model.context_size,
                            .max_new_tokens = flags.generation.predict};
  // A spec that is wrong is an error now, not after the first line.
  PKV_RETURN_IF_ERROR(engine->NewSession(session).status());
  return Chat(engine.get(), flags, std::move(session), std::move(chat)).Loop();
}

}  // namespace

Command AddChatCommand(CLI::App& root) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* app = root.add_subcommand("chat", "A conversation");
  AddTemplateFlags(app, &flags->chat_template);
  AddModelFlags(app, &flags->model);
  AddCacheFlags(app, &flags->cache, false);
  AddGenerationFlags(app, &flags->generation);
  return {app, [flags] { return RunChat(*flags); }};
}

}  // namespace pyramidkv::cli
