#include "cli/run_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/json_output.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/session_prompt.h"
#include "cli/signals.h"
#include "cli/text_format.h"
#include "pyramidkv/stored_session.h"

namespace pyramidkv::cli {
namespace {

// The request, read from its files: nothing of it needs the model.
struct RunInput {
  std::string text;
  std::vector<int> ids;  // instead of the text
  std::vector<int> forced;
  std::string spec;
  GenerateOptions generation;
};

struct RunOutputs {
  std::optional<OutputFile> trace;
  std::optional<OutputFile> logits;
  Status stdout_status;
};

struct RunResult {
  std::string model;
  int prompt_tokens = 0;
  Generation generation;
  Timings timings;
  KvReport kv;
  int restored_tokens = 0;
  std::optional<double> restore_ms;
  std::optional<StoredSession> saved;
};

Result<std::string> PromptText(const RunFlags& flags) {
  if (flags.prompt) return *flags.prompt;
  if (!flags.prompt_file.empty()) {
    PKV_ASSIGN_OR_RETURN(std::string text, ReadFile(flags.prompt_file));
    return DropTrailingNewline(std::move(text));
  }
  if (isatty(STDIN_FILENO) == 1) {
    if (!flags.load_file.empty()) return std::string();
    return Status::Usage("no prompt: give -p TEXT or -f FILE, or pipe it in");
  }
  PKV_ASSIGN_OR_RETURN(std::string text, ReadStdin());
  return DropTrailingNewline(std::move(text));
}

// Fails now, not only once all work is done.
Status CheckSaveFile(const std::string& path) {
  if (path.empty()) return {};
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  if (access(directory.c_str(), W_OK) == 0) return {};
  return Status::Runtime(fmt::format("cannot save the session: {}: {}",
                                     directory, strerror(errno)));
}

Status CheckSessionFlags(const RunFlags& flags) {
  PKV_RETURN_IF_ERROR(CheckSaveFile(flags.save_file));
  if (flags.load_file.empty()) return {};
  const CacheFlags& cache = flags.cache;
  if (!cache.specs.empty() || !cache.type_k.empty() || !cache.type_v.empty()) {
    return Status::Usage(
        "a stored session has its own cache spec: leave out --kv, "
        "--cache-type-k and --cache-type-v");
  }
  if (!flags.chat_template.system_prompt.empty()) {
    return Status::Usage(
        "--system-prompt stands at the start of a context, which a stored "
        "session is past");
  }
  return {};
}

Status CheckFlags(const RunFlags& flags) {
  const int prompts = (flags.prompt ? 1 : 0) +
                      (flags.prompt_file.empty() ? 0 : 1) +
                      (flags.prompt_tokens_file.empty() ? 0 : 1);
  if (prompts > 1) {
    return Status::Usage(
        "more than one prompt: give one of --prompt, --file and "
        "--prompt-tokens");
  }
  if (flags.chat && !flags.prompt_tokens_file.empty()) {
    return Status::Usage("--chat needs a prompt of text, not --prompt-tokens");
  }
  const TemplateFlags& t = flags.chat_template;
  if (!flags.chat && t.given()) {
    return Status::Usage(
        "--system-prompt, --chat-template, --chat-template-file, "
        "--chat-template-kwargs and --parse-special need --chat");
  }
  if (flags.logprobs >= 0 && !flags.json) {
    return Status::Usage("--logprobs needs --json");
  }
  return CheckSessionFlags(flags);
}

Result<RunInput> ReadInput(const RunFlags& flags) {
  PKV_RETURN_IF_ERROR(CheckFlags(flags));
  RunInput input;
  PKV_ASSIGN_OR_RETURN(const std::vector<std::string> specs,
                       ResolveSpecs(flags.cache));
  input.spec = specs.front();
  if (!flags.prompt_tokens_file.empty()) {
    PKV_ASSIGN_OR_RETURN(input.ids, ReadIdFile(flags.prompt_tokens_file));
  } else {
    PKV_ASSIGN_OR_RETURN(input.text, PromptText(flags));
  }
  // Behind a stored session the answer may start at once.
  if (input.text.empty() && input.ids.empty() && flags.load_file.empty()) {
    return Status::Usage("the prompt is empty");
  }
  input.generation = ResolveGeneration(flags.generation);
  input.generation.logprobs = flags.logprobs;
  if (!flags.force_tokens_file.empty()) {
    PKV_ASSIGN_OR_RETURN(input.forced, ReadIdFile(flags.force_tokens_file));
    if (flags.generation.predict < 0) {
      input.generation.max_tokens = static_cast<int>(input.forced.size());
    }
    input.generation.forced = input.forced;
  }
  return input;
}

Status OpenOutputs(const RunFlags& flags, RunOutputs* outputs) {
  if (!flags.trace_file.empty()) {
    PKV_ASSIGN_OR_RETURN(outputs->trace, OutputFile::Open(flags.trace_file));
  }
  if (!flags.logits_file.empty()) {
    PKV_ASSIGN_OR_RETURN(outputs->logits, OutputFile::Open(flags.logits_file));
  }
  return {};
}

// The first error of any output, once everything was written.
Status CloseOutputs(RunOutputs* outputs) {
  Status first = outputs->stdout_status;
  for (std::optional<OutputFile>* file : {&outputs->trace, &outputs->logits}) {
    if (!*file) continue;
    Status closed = (*file)->Close();
    if (first.ok()) first = std::move(closed);
  }
  return first;
}

Result<std::vector<int>> PromptIds(const RunFlags& flags, const RunInput& input,
                                   const Engine& engine,
                                   std::span<const int> before) {
  const int vocabulary = engine.info().vocabulary;
  PKV_RETURN_IF_ERROR(
      CheckIds(input.forced, vocabulary, flags.force_tokens_file));
  if (!input.ids.empty()) {
    PKV_RETURN_IF_ERROR(
        CheckIds(input.ids, vocabulary, flags.prompt_tokens_file));
    return input.ids;
  }
  const bool first = flags.load_file.empty();
  if (!flags.chat) return engine.Tokenize(input.text, {.add_special = first});
  // A byte that is not UTF-8 is counted in the prompt, not in the template.
  PKV_RETURN_IF_ERROR(engine.Tokenize(input.text, {}).status());
  const TemplateFlags& t = flags.chat_template;
  PKV_ASSIGN_OR_RETURN(ChatOptions chat, ResolveTemplate(t));
  if (!first) return NextTurn(engine, before, input.text, chat);
  std::vector<ChatMessage> messages;
  if (!t.system_prompt.empty()) {
    messages.push_back({"system", t.system_prompt});
  }
  messages.push_back({"user", input.text});
  // A context that is only stored waits for its questions.
  chat.add_assistant =
      flags.save_file.empty() || input.generation.max_tokens != 0;
  PKV_ASSIGN_OR_RETURN(const ChatText text, engine.RenderChat(messages, chat));
  return engine.TokenizeChat(text, /*add_special=*/true);
}

// Connects the answer's callbacks with the outputs. A write that fails stops
// the generation.
void Attach(bool stream, RunOutputs* outputs, GenerateOptions* options) {
  if (stream) {
    options->on_text = [outputs](std::string_view piece) {
      if (!outputs->stdout_status.ok()) return;
      outputs->stdout_status = WriteStdout(piece);
      if (!outputs->stdout_status.ok()) RequestStop();
    };
  }
  if (outputs->logits) {
    options->on_logits = [outputs](std::span<const float> logits) {
      return outputs->logits->WriteFloats(logits);
    };
  }
}

Result<Generation> Answer(Session* session, const GenerateOptions& options,
                          RunOutputs* outputs) {
  if (options.max_tokens != 0) return session->Generate(options);
  if (outputs->logits) outputs->logits->WriteFloats(session->logits());
  Generation none;
  none.finish_reason = "length";
  return none;
}

struct Loaded {
  std::unique_ptr<Engine> engine;
  double ms = 0;
  std::unique_ptr<Session> context;  // of many questions; forked for each
};

Result<std::unique_ptr<Session>> LoadContext(const RunFlags& flags,
                                             const RunInput& input,
                                             Loaded* loaded) {
  const LoadOptions options{.context_size = flags.model.context_size,
                            .max_new_tokens = input.generation.max_tokens};
  if (!flags.many) return loaded->engine->LoadSession(flags.load_file, options);
  if (loaded->context == nullptr) {
    PKV_ASSIGN_OR_RETURN(loaded->context,
                         loaded->engine->LoadSession(flags.load_file, options));
  }
  return loaded->context->Fork();
}

// Opens the session that is asked for.
Result<std::unique_ptr<Session>> OpenSession(const RunFlags& flags,
                                             const RunInput& input,
                                             Loaded* loaded,
                                             RunResult* result) {
  if (flags.load_file.empty()) {
    return loaded->engine->NewSession(
        {.kv = input.spec,
         .context_size = flags.model.context_size,
         .max_new_tokens = input.generation.max_tokens});
  }
  const Stopwatch restore;
  PKV_ASSIGN_OR_RETURN(auto session, LoadContext(flags, input, loaded));
  result->restore_ms = restore.Milliseconds();
  result->restored_tokens = session->position();
  return session;
}

// With the last token of the answer, which waits for its successor.
Status SaveSession(const RunFlags& flags, Session* session, RunResult* result) {
  const auto& tokens = result->generation.tokens;
  const int pending = result->restored_tokens + result->prompt_tokens +
                      static_cast<int>(tokens.size()) - session->position();
  if (pending == 1 && session->position() < session->context_size()) {
    PKV_RETURN_IF_ERROR(session->Force({{tokens.back().id}}).status());
  }
  PKV_RETURN_IF_ERROR(session->Save(flags.save_file));
  PKV_ASSIGN_OR_RETURN(result->saved, ReadStoredSession(flags.save_file));
  return {};
}

Result<Loaded> LoadEngine(const RunFlags& flags) {
  const Stopwatch load;
  PKV_ASSIGN_OR_RETURN(const EngineOptions options, ResolveEngine(flags.model));
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Load(options));
  for (const std::string& warning : engine->warnings()) {
    LogLine("warning: " + warning);
  }
  return Loaded{std::move(engine), load.Milliseconds(), nullptr};
}

Result<RunResult> Measure(const RunFlags& flags, const RunInput& input,
                          Loaded* loaded, RunOutputs* outputs) {
  RunResult result;
  Engine* const engine = loaded->engine.get();
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                       OpenSession(flags, input, loaded, &result));
  PKV_ASSIGN_OR_RETURN(const std::vector<int> prompt,
                       PromptIds(flags, input, *engine, session->tokens()));
  if (outputs->trace) {
    session->SetTrace([outputs](std::string_view line) {
      outputs->trace->Write(std::string(line) + "\n");
    });
  }
  const InterruptScope scope;
  double prefill_ms = 0;
  if (!prompt.empty() || flags.load_file.empty()) {
    ProgressBar bar("reading");
    const Stopwatch prefill;
    PKV_RETURN_IF_ERROR(session->Read(prompt, bar.Callback()));
    prefill_ms = prefill.Milliseconds();
    bar.Clear();
  }

  GenerateOptions options = input.generation;
  Attach(!flags.json, outputs, &options);
  PKV_ASSIGN_OR_RETURN(result.generation,
                       Answer(session.get(), options, outputs));
  result.model = engine->info().name;
  result.prompt_tokens = static_cast<int>(prompt.size());
  result.timings = MakeTimings(loaded->ms, prefill_ms, result.prompt_tokens,
                               result.generation);
  result.kv = session->Report();
  if (!flags.save_file.empty()) {
    PKV_RETURN_IF_ERROR(SaveSession(flags, session.get(), &result));
  }
  return result;
}

Json RunJson(const RunFlags& flags, const RunResult& result) {
  Json json = {{"model", result.model},
               {"prompt_tokens", result.prompt_tokens},
               {"text", result.generation.text},
               {"tokens", TokenIdsJson(result.generation.tokens)}};
  if (flags.logprobs >= 0) {
    json["logprobs"] = LogprobsJson(result.generation.tokens);
  }
  json["finish_reason"] = result.generation.finish_reason;
  json["timings"] = TimingsJson(result.timings);
  json["kv"] = KvJson(result.kv);
  if (result.restore_ms) {
    json["restored"] = {{"tokens", result.restored_tokens},
                        {"ms", *result.restore_ms}};
  }
  if (result.saved) json["saved"] = StoredSessionJson(*result.saved);
  json["peak_rss_bytes"] = PeakRssBytes();
  return json;
}

void LogSummary(const RunResult& result) {
  for (const std::string& warning : result.kv.warnings) {
    LogLine("warning: " + warning);
  }
  const Timings& t = result.timings;
  std::string text;
  if (result.restore_ms) {
    text = fmt::format("restored {} tokens in {:.0f} ms, ",
                       result.restored_tokens, *result.restore_ms);
  }
  text += fmt::format("read {} tokens, wrote {}", result.prompt_tokens,
                      result.generation.tokens.size());
  if (t.ttft_ms) text += fmt::format("; first after {:.0f} ms", *t.ttft_ms);
  if (t.tpot_ms) text += fmt::format(", then {:.2f} ms each", *t.tpot_ms);
  text += fmt::format("; {}; peak RSS {}", KvSummary(result.kv),
                      MiB(PeakRssBytes()));
  if (result.saved) {
    text += fmt::format("; session saved, {}", MiB(result.saved->file_bytes));
  }
  LogLine(text);
}

// The text on standard output after the answer's pieces.
std::string TextEnd(const RunFlags& flags, const RunInput& input,
                    const RunResult& result) {
  if (flags.json) {
    Json json = RunJson(flags, result);
    if (flags.many) json["question"] = input.text;
    return Dump(json);
  }
  // A command that only saves has no answer.
  return result.saved && result.generation.tokens.empty() ? "" : "\n";
}

}  // namespace

namespace {

// All that needs no model was checked before.
Status RunInputWith(const RunFlags& flags, const RunInput& input,
                    Loaded* loaded, RunOutputs* outputs) {
  const Result<RunResult> result = Measure(flags, input, loaded, outputs);
  if (result.ok() && outputs->stdout_status.ok()) {
    outputs->stdout_status = WriteStdout(TextEnd(flags, input, *result));
  }
  // A failed write is the cause of what else went wrong.
  PKV_RETURN_IF_ERROR(CloseOutputs(outputs));
  PKV_RETURN_IF_ERROR(result.status());
  if (!flags.json) LogSummary(*result);
  if (result->generation.finish_reason == "cancelled") {
    return Status::Cancelled();
  }
  return {};
}

}  // namespace

Status RunPrompt(const RunFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const RunInput input, ReadInput(flags));
  RunOutputs outputs;
  PKV_RETURN_IF_ERROR(OpenOutputs(flags, &outputs));
  PKV_ASSIGN_OR_RETURN(Loaded loaded, LoadEngine(flags));
  return RunInputWith(flags, input, &loaded, &outputs);
}

Status RunQuestions(RunFlags flags, std::span<const std::string> questions) {
  Loaded loaded;
  for (const std::string& question : questions) {
    flags.prompt = question;
    flags.many = true;
    PKV_ASSIGN_OR_RETURN(const RunInput input, ReadInput(flags));
    if (loaded.engine == nullptr) {
      PKV_ASSIGN_OR_RETURN(loaded, LoadEngine(flags));
    }
    RunOutputs outputs;
    if (!flags.json) {
      PKV_RETURN_IF_ERROR(WriteStdout(fmt::format("> {}\n", question)));
    }
    PKV_RETURN_IF_ERROR(RunInputWith(flags, input, &loaded, &outputs));
  }
  return {};
}

namespace {

void AddPromptFlags(CLI::App* app, RunFlags* flags) {
  app->add_option("-p,--prompt", flags->prompt, "The prompt, verbatim")
      ->type_name("TEXT");
  app->add_option("-f,--file", flags->prompt_file,
                  "File with the prompt [standard input]")
      ->type_name("FILE");
  app->add_option("--prompt-tokens", flags->prompt_tokens_file,
                  "File with the prompt's token ids: numbers or a JSON list")
      ->type_name("FILE");
  AddSwitch(app, "--chat", &flags->chat, "Put the prompt in the chat template");
}

void AddOutputFlags(CLI::App* app, RunFlags* flags) {
  AddJson(app, &flags->json);
  app->add_option("--logprobs", flags->logprobs,
                  "With --json: log-probabilities of the N likeliest tokens")
      ->check(InRange(0, 1000))
      ->type_name("N");
  app->add_option("--logits", flags->logits_file,
                  "Write the logits of every step, rows of f32")
      ->type_name("FILE");
  app->add_option("--kv-trace", flags->trace_file,
                  "Write a JSON line for every compaction of a KV head")
      ->type_name("FILE");
  app->add_option("--force-tokens", flags->force_tokens_file,
                  "File with token ids to decode instead of sampling")
      ->type_name("FILE");
}

}  // namespace

void AddRunFlags(CLI::App* app, RunFlags* flags) {
  AddPromptFlags(app, flags);
  AddTemplateFlags(app, &flags->chat_template);
  AddModelFlags(app, &flags->model);
  AddCacheFlags(app, &flags->cache, false);
  AddGenerationFlags(app, &flags->generation);
  AddOutputFlags(app, flags);
}

void AddSaveSession(CLI::App* app, std::string* path) {
  app->add_option("--save-session", *path,
                  "Store the context and the answer for later")
      ->type_name("FILE");
}

Command AddRunCommand(CLI::App& root) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* app = root.add_subcommand("run", "One prompt to a completion");
  AddRunFlags(app, flags.get());
  AddSaveSession(app, &flags->save_file);
  app->add_option("--load-session", flags->load_file,
                  "Go on after a stored session; no prompt: at once")
      ->type_name("FILE");
  return {app, [flags] { return RunPrompt(*flags); }};
}

}  // namespace pyramidkv::cli
