// `pyramidkv chat`: a conversation whose turns extend the compressed cache.

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cli/answer_notes.h"
#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/document.h"
#include "cli/inputs.h"
#include "cli/json_output.h"
#include "cli/line_reader.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/output_check.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/text_format.h"
#include "pyramidkv/machine.h"

namespace pyramidkv::cli {
namespace {

constexpr char kHelp[] =
    "/file PATH    attach a document to the next turn\n"
    "/regen        another answer to the last turn\n"
    "/save FILE    store the conversation; /load FILE goes on after one\n"
    "/stats        tokens and times of the last turn\n"
    "/kv           what each layer of the cache keeps\n"
    "/system TEXT  start anew with another system message\n"
    "/reset        start anew\n"
    "/exit         leave (so does Ctrl-D)\n"
    "A line that ends with \\ goes on in the next one; a paste is one turn.\n"
    "Up and Down bring back earlier lines, Ctrl-A and Ctrl-E go to the ends,\n"
    "Ctrl-W deletes a word, Ctrl-U the line, and Ctrl-C stops an answer.\n";

struct ChatFlags {
  ModelFlags model;
  CacheFlags cache;
  GenerationFlags generation;
  TemplateFlags chat_template;
  std::vector<std::string> files;
  bool verbatim = false;
  std::string load_file;
};

class Chat {
 public:
  Chat(Engine* engine, const ChatFlags& flags, SessionOptions options,
       ChatOptions chat)
      : conversation_(engine, std::move(options), std::move(chat)),
        engine_(engine),
        flags_(flags),
        generation_(ResolveGeneration(flags.generation)),
        reader_(MakeLineReader("> ")) {
    generation_.stop_loops = true;
    conversation_.Reset(flags.chat_template.system_prompt);
  }

  // The flags' documents and session. Errors of either.
  Status Begin();
  Status Loop();

 private:
  // Joins lines that end with a backslash.
  LineEvent NextLines(std::string* text);
  Status Handle(const std::string& line);
  Status Command(const std::string& line);
  Status Attach(const std::string& path);
  Status Regenerate();
  Status Load(const std::string& path);
  Status Say(const std::string& line);
  using TurnFunction =
      std::function<Result<Turn>(const GenerateOptions&, const Progress&)>;
  Status Answer(const TurnFunction& turn);
  void Notes();
  Status Stats() const;
  Status Kv() const;

  Conversation conversation_;
  const Engine* const engine_;
  const ChatFlags& flags_;
  GenerateOptions generation_;
  const std::unique_ptr<LineReader> reader_;
  std::vector<std::string> warned_;  // of the cache, said once
  bool beyond_training_ = false;     // said
  std::optional<Turn> last_;
  uint32_t regenerated_ = 0;
  bool done_ = false;
};

Status CheckSave(const std::string& path) {
  const PlannedOutput output = {"/save", path, OutputKind::kSession};
  return CheckOutputs({&output, 1}, {}, /*force=*/false);
}

// Errors that end a turn but not the program.
bool OnlyTheTurn(StatusCode code) {
  return code == StatusCode::kUsage || code == StatusCode::kDoesNotFit ||
         (code == StatusCode::kCancelled && LastSignal() != SIGTERM);
}

Status Chat::Begin() {
  if (!flags_.load_file.empty()) {
    PKV_RETURN_IF_ERROR(Load(flags_.load_file));
  }
  for (const std::string& file : flags_.files) {
    PKV_RETURN_IF_ERROR(Attach(file));
  }
  return {};
}

LineEvent Chat::NextLines(std::string* text) {
  text->clear();
  for (;;) {
    std::string line;
    const LineEvent event = reader_->Next(&line);
    // An unfinished turn at the end of a pipe is one.
    if (event == LineEvent::kEnd && !text->empty()) return LineEvent::kLine;
    if (event != LineEvent::kLine) return event;
    if (line.ends_with('\r')) line.pop_back();
    const bool goes_on = line.ends_with('\\');
    if (goes_on) line.back() = '\n';
    *text += line;
    if (!goes_on) return LineEvent::kLine;
  }
}

Status Chat::Loop() {
  if (reader_->interactive()) {
    PKV_RETURN_IF_ERROR(WriteStdout("/help lists the commands.\n"));
  }
  while (!done_) {
    std::string text;
    const LineEvent event = NextLines(&text);
    if (event == LineEvent::kEnd) break;
    if (event == LineEvent::kLine) {
      Status status = Handle(text);
      if (!status.ok() && !OnlyTheTurn(status.code())) return status;
      if (!status.ok()) LogLine(status.message());
    }
    ForgetInterrupt();
    if (StopRequested()) return Status::Cancelled();  // SIGTERM
  }
  return {};
}

Status Chat::Handle(const std::string& line) {
  if (line.find_first_not_of(" \t\r\n") == line.npos) return {};
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
  if (name == "/file") return Attach(rest);
  if (name == "/regen") return Regenerate();
  if (name == "/load") return Load(rest);
  if (name == "/save") {
    if (rest.empty()) return Status::Usage("/save needs the name of a file");
    PKV_RETURN_IF_ERROR(CheckSave(rest));
    PKV_RETURN_IF_ERROR(conversation_.Save(rest));
    LogLine("saved as " + rest);
    return {};
  }
  if (name == "/exit" || name == "/quit") {
    done_ = true;
    return {};
  }
  return Status::Usage(
      fmt::format("no command {}; /help lists the commands", name));
}

Status Chat::Attach(const std::string& path) {
  if (path == "-") return Status::Usage("turns come from standard input");
  PKV_ASSIGN_OR_RETURN(std::string text, ReadDocument(path, flags_.verbatim));
  if (text.empty()) return Status::Usage(path + " is empty");
  PKV_RETURN_IF_ERROR(conversation_.AddDocument(std::move(text)));
  LogLine(path + " goes with the next turn");
  return {};
}

Status Chat::Load(const std::string& path) {
  if (path.empty()) return Status::Usage("/load needs the name of a file");
  PKV_RETURN_IF_ERROR(conversation_.Load(path));
  last_.reset();
  LogLine(fmt::format("{}: {} tokens of context", path,
                      conversation_.session()->position()));
  return {};
}

// The likeliest tokens would be the same again.
Status Chat::Regenerate() {
  ++regenerated_;
  return Answer([&](GenerateOptions options, const Progress&) {
    if (options.sampling.temp <= 0) options.sampling.temp = 0.8f;
    options.sampling.seed = regenerated_;
    return conversation_.Regenerate(options);
  });
}

Status Chat::Say(const std::string& line) {
  return Answer([&](const GenerateOptions& options, const Progress& progress) {
    return conversation_.Say(line, options, progress);
  });
}

Status Chat::Answer(const TurnFunction& say) {
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
  Result<Turn> turn = say(options, bar.Callback());
  bar.Clear();
  PKV_RETURN_IF_ERROR(written);
  PKV_RETURN_IF_ERROR(turn.status());
  last_ = std::move(*turn);
  PKV_RETURN_IF_ERROR(WriteStdout("\n"));
  Notes();
  return {};
}

void Chat::Notes() {
  const Session& session = *conversation_.session();
  const std::string trained =
      TrainedNote(engine_->info(), session.context_size(), session.position());
  if (!trained.empty() && !conversation_.endless() && !beyond_training_) {
    LogLine(trained);
    beyond_training_ = true;
  }
  for (const std::string& warning : session.Report().warnings) {
    if (std::find(warned_.begin(), warned_.end(), warning) != warned_.end()) {
      continue;
    }
    LogLine("warning: " + warning);
    warned_.push_back(warning);
  }
  const Generation& g = last_->generation;
  if (g.stop_reason == "context_full") {
    LogLine(fmt::format("the context of {} tokens is full; /reset starts anew",
                        session.context_size()));
  } else if (const std::string note = EndNote(g, session.context_size());
             !note.empty()) {
    LogLine(note);
  }
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
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       LoadModel(flags.model));
  SessionOptions session = {
      .kv = specs.front(),
      .context_size = flags.model.context_size,
      .max_new_tokens = ResolveGeneration(flags.generation).max_tokens};
  // A spec that is wrong is an error now, not after the first line.
  PKV_RETURN_IF_ERROR(engine->NewSession(session).status());
  session.kv = KeepShortContexts(session.kv, flags.model.context_size);
  Chat loop(engine.get(), flags, std::move(session), std::move(chat));
  PKV_RETURN_IF_ERROR(loop.Begin());
  return loop.Loop();
}

}  // namespace

Command AddChatCommand(CLI::App& root) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* app = root.add_subcommand("chat", "A conversation");
  app->add_option("-f,--file", flags->files,
                  "Document for the first turn; may be given several times")
      ->type_name("FILE");
  AddSwitch(app, "--verbatim", &flags->verbatim,
            "Take documents byte for byte, whatever they are");
  app->add_option("--load-session", flags->load_file,
                  "Go on after a stored session")
      ->type_name("FILE");
  AddTemplateFlags(app, &flags->chat_template);
  AddModelFlags(app, &flags->model);
  AddCacheFlags(app, &flags->cache, false);
  AddGenerationFlags(app, &flags->generation);
  return {app, [flags] { return RunChat(*flags); }};
}

}  // namespace pyramidkv::cli
