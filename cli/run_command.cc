#include "cli/run_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "cli/answer_notes.h"
#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/json_output.h"
#include "cli/models.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/output_check.h"
#include "cli/progress.h"
#include "cli/prompt_cache.h"
#include "cli/session_prompt.h"
#include "cli/signals.h"
#include "cli/text_format.h"
#include "pyramidkv/machine.h"
#include "pyramidkv/stored_session.h"

namespace pyramidkv::cli {
namespace {

// The request, read from its files: nothing of it needs the model.
struct RunInput {
  std::string text;
  std::vector<int> ids;  // instead of the text
  std::vector<int> forced;
  std::string typed_spec;
  std::string spec;  // with what `run` adds
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
  int context_size = 0;
  int restored_tokens = 0;
  std::optional<double> restore_ms;
  std::optional<StoredSession> saved;
};

// Fails now, not only once all work is done.
Status CheckRunOutputs(const RunFlags& flags) {
  const PlannedOutput outputs[] = {
      {flags.save_name, flags.save_file, OutputKind::kSession},
      {"--prompt-cache",
       flags.prompt_cache_read_only ? "" : flags.prompt_cache_file,
       OutputKind::kSession},
      {"--logits", flags.logits_file, OutputKind::kLogits},
      {"--kv-trace", flags.trace_file, OutputKind::kLines}};
  std::vector<PlannedInput> inputs = {
      ModelInput(flags.model.path),
      {"--prompt-tokens", flags.prompt_tokens_file},
      {"--force-tokens", flags.force_tokens_file},
      {"--load-session", flags.load_file, /*is_session=*/true}};
  for (const std::string& file : flags.prompt.files) {
    inputs.push_back({"--file", file});
  }
  return CheckOutputs(outputs, inputs, flags.force);
}

Status CheckSessionFlags(const RunFlags& flags) {
  const bool sessions = !flags.load_file.empty() || !flags.save_file.empty();
  if (!flags.prompt_cache_file.empty() && sessions) {
    return Status::Usage(
        "--prompt-cache is loaded and saved by itself: leave out "
        "--load-session and --save-session");
  }
  if (flags.prompt_cache_file.empty() && flags.prompt_cache_read_only) {
    return Status::Usage("--prompt-cache-ro needs --prompt-cache FILE");
  }
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

Status CheckTemplateFlags(const RunFlags& flags) {
  const bool ids = !flags.prompt_tokens_file.empty();
  if (flags.chat && flags.no_chat) {
    return Status::Usage("--chat and --no-chat: give one of them");
  }
  if (flags.chat && ids) {
    return Status::Usage("--chat needs a prompt of text, not --prompt-tokens");
  }
  const bool raw = flags.no_chat || ids || !(flags.chat || flags.for_people);
  if (!raw || !flags.chat_template.given()) return {};
  return Status::Usage(
      "--system-prompt, --chat-template, --chat-template-file, "
      "--chat-template-kwargs and --parse-special need --chat");
}

Status CheckFlags(const RunFlags& flags) {
  const bool text = flags.prompt.question || !flags.prompt.files.empty();
  if (text && !flags.prompt_tokens_file.empty()) {
    return Status::Usage(
        "--prompt-tokens is the whole prompt: leave out --prompt and --file");
  }
  if (flags.logprobs >= 0 && !flags.json) {
    return Status::Usage("--logprobs needs --json");
  }
  PKV_RETURN_IF_ERROR(CheckTemplateFlags(flags));
  return CheckSessionFlags(flags);
}

Status CheckPrompt(const RunFlags& flags, const RunInput& input) {
  // After a stored session the answer may start at once.
  if (!input.text.empty() || !input.ids.empty() || !flags.load_file.empty()) {
    return {};
  }
  const bool given = flags.prompt.question || !flags.prompt.files.empty() ||
                     !flags.prompt_tokens_file.empty() ||
                     isatty(STDIN_FILENO) == 0;
  return Status::Usage(given ? "the prompt is empty"
                             : "no prompt: give -p TEXT or -f FILE, or pipe "
                               "it in");
}

Result<RunInput> ReadInput(const RunFlags& flags) {
  PKV_RETURN_IF_ERROR(CheckFlags(flags));
  PKV_RETURN_IF_ERROR(CheckRunOutputs(flags));
  RunInput input;
  PKV_ASSIGN_OR_RETURN(const std::vector<std::string> specs,
                       ResolveSpecs(flags.cache));
  input.typed_spec = specs.front();
  const bool text = flags.prompt_tokens_file.empty();
  input.spec = flags.for_people && text
                   ? KeepShortContexts(specs.front(), flags.model.context_size)
                   : specs.front();
  if (text) {
    PKV_ASSIGN_OR_RETURN(input.text, PromptText(flags.prompt));
  } else {
    PKV_ASSIGN_OR_RETURN(input.ids, ReadIdFile(flags.prompt_tokens_file));
  }
  PKV_RETURN_IF_ERROR(CheckPrompt(flags, input));
  input.generation = ResolveGeneration(flags.generation);
  input.generation.logprobs = flags.logprobs;
  if (!flags.force_tokens_file.empty()) {
    PKV_ASSIGN_OR_RETURN(input.forced, ReadIdFile(flags.force_tokens_file));
    if (flags.generation.predict.value_or(-1) < 0) {
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

bool EndsTurns(const Engine& engine, std::span<const int> tokens) {
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](int id) { return engine.IsEndOfGeneration(id); });
}

// Whether the template writes the prompt. A stored context goes on as it was
// begun.
bool Templated(const RunFlags& flags, const Engine& engine,
               std::span<const int> before) {
  if (flags.chat || flags.no_chat || !flags.for_people) return flags.chat;
  if (!flags.prompt_tokens_file.empty()) return false;
  if (!flags.load_file.empty()) return EndsTurns(engine, before);
  return engine.has_chat_template() || flags.chat_template.given();
}

Result<std::vector<int>> PromptIds(const RunFlags& flags, const RunInput& input,
                                   const Engine& engine,
                                   std::span<const int> before,
                                   bool templated) {
  const int vocabulary = engine.info().vocabulary;
  PKV_RETURN_IF_ERROR(
      CheckIds(input.forced, vocabulary, flags.force_tokens_file));
  if (!input.ids.empty()) {
    PKV_RETURN_IF_ERROR(
        CheckIds(input.ids, vocabulary, flags.prompt_tokens_file));
    return input.ids;
  }
  const bool first = flags.load_file.empty();
  if (!templated) {
    return engine.Tokenize(input.text, {.add_special = first});
  }
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

SessionOptions NewSessionOptions(const RunFlags& flags, const RunInput& input) {
  return {.kv = input.spec,
          .context_size = flags.model.context_size,
          .max_new_tokens = input.generation.max_tokens};
}

// Opens the session that is asked for.
Result<std::unique_ptr<Session>> OpenSession(const RunFlags& flags,
                                             const RunInput& input,
                                             Loaded* loaded,
                                             RunResult* result) {
  if (flags.load_file.empty()) {
    SessionOptions options = NewSessionOptions(flags, input);
    auto session = loaded->engine->NewSession(options);
    if (session.ok() || input.spec == input.typed_spec) return session;
    options.kv = input.typed_spec;  // an error quotes what was typed
    return loaded->engine->NewSession(options);
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
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, LoadModel(flags.model));
  return Loaded{std::move(engine), load.Milliseconds(), nullptr};
}

// Takes off the prompt what its cache holds.
Status TakePromptCache(const RunFlags& flags, const RunInput& input,
                       Engine* engine, std::unique_ptr<Session>* session,
                       std::vector<int>* prompt, RunResult* result) {
  const Stopwatch restore;
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Session> cached,
                       OpenPromptCache(engine, flags.prompt_cache_file, *prompt,
                                       NewSessionOptions(flags, input)));
  if (cached == nullptr) return {};
  result->restore_ms = restore.Milliseconds();
  result->restored_tokens = cached->position();
  prompt->erase(prompt->begin(), prompt->begin() + cached->position());
  *session = std::move(cached);
  return {};
}

Status FillPromptCache(const RunFlags& flags, Session* session) {
  if (flags.prompt_cache_file.empty() || flags.prompt_cache_read_only) {
    return {};
  }
  return session->Save(flags.prompt_cache_file);
}

// `run` with the flags that name the prompt, for a line that can be typed.
std::string CommandOf(const RunFlags& flags) {
  const auto quoted = [](const std::string& word) {
    const bool plain = word.find_first_of(" '\"\\$`&|;<>()*?!#~") == word.npos;
    return plain ? word : fmt::format("\"{}\"", word);
  };
  std::string command = "pyramidkv run";
  if (!flags.model.path.empty()) command += " -m " + quoted(flags.model.path);
  for (const std::string& file : flags.prompt.files) {
    command += " -f " + quoted(file);
  }
  if (flags.prompt.question) command += " -p QUESTION";
  return command;
}

// Takes its time in ms. Where people asked, they are told what would fit.
Result<double> ReadPrompt(const RunFlags& flags, const ModelInfo& model,
                          std::span<const int> prompt, Session* session) {
  const int64_t end = session->position() + std::ssize(prompt);
  const std::string note = TrainedNote(model, session->context_size(), end);
  if (flags.for_people && !note.empty()) LogLine(note);
  ProgressBar bar("reading", std::ssize(prompt), "tokens");
  const Stopwatch prefill;
  Status read = session->Read(prompt, bar.Callback());
  bar.Clear();
  if (read.code() == StatusCode::kDoesNotFit && flags.for_people &&
      flags.load_file.empty() && end > session->context_size()) {
    return Status::DoesNotFit(
        TooLongNote({.tokens = end,
                     .context_size = session->context_size(),
                     .trained = model.context_length,
                     .command = CommandOf(flags)}));
  }
  PKV_RETURN_IF_ERROR(read);
  return prefill.Milliseconds();
}

Result<RunResult> Measure(const RunFlags& flags, const RunInput& input,
                          Loaded* loaded, RunOutputs* outputs) {
  RunResult result;
  Engine* const engine = loaded->engine.get();
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                       OpenSession(flags, input, loaded, &result));
  const bool templated = Templated(flags, *engine, session->tokens());
  PKV_ASSIGN_OR_RETURN(
      std::vector<int> prompt,
      PromptIds(flags, input, *engine, session->tokens(), templated));
  if (!flags.prompt_cache_file.empty()) {
    PKV_RETURN_IF_ERROR(
        TakePromptCache(flags, input, engine, &session, &prompt, &result));
  }
  if (outputs->trace) {
    session->SetTrace([outputs](std::string_view line) {
      outputs->trace->Write(std::string(line) + "\n");
    });
  }
  const InterruptScope scope;
  double prefill_ms = 0;
  if (!prompt.empty() || !result.restore_ms) {
    PKV_ASSIGN_OR_RETURN(
        prefill_ms, ReadPrompt(flags, engine->info(), prompt, session.get()));
    PKV_RETURN_IF_ERROR(FillPromptCache(flags, session.get()));
  }

  GenerateOptions options = input.generation;
  // Raw prompts are for measuring: what they begin may well repeat itself.
  options.stop_loops = flags.for_people && templated;
  Attach(!flags.json, outputs, &options);
  PKV_ASSIGN_OR_RETURN(result.generation,
                       Answer(session.get(), options, outputs));
  result.model = engine->info().name;
  result.prompt_tokens = static_cast<int>(prompt.size());
  result.timings = MakeTimings(loaded->ms, prefill_ms, result.prompt_tokens,
                               result.generation);
  result.kv = session->Report();
  result.context_size = session->context_size();
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
  json["stop_reason"] = result.generation.stop_reason;
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
  const std::string note = EndNote(result.generation, result.context_size);
  if (!note.empty()) LogLine(note);
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
    flags.prompt.question = question;
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
  app->add_option("-p,--prompt", flags->prompt.question,
                  "The prompt, or a question about the documents")
      ->type_name("TEXT");
  app->add_option("-f,--file", flags->prompt.files,
                  "Document in plain text, or \"-\"; may be given several "
                  "times [standard input]")
      ->type_name("FILE");
  AddSwitch(app, "--verbatim", &flags->prompt.verbatim,
            "Take documents byte for byte, whatever they are");
  app->add_option("--prompt-tokens", flags->prompt_tokens_file,
                  "File with the prompt's token ids: numbers or a JSON list")
      ->type_name("FILE");
  AddSwitch(app, "--chat", &flags->chat, "Put the prompt in the chat template");
  AddSwitch(app, "--no-chat", &flags->no_chat,
            "Let the model go on with the prompt as it is");
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
  AddForce(app, &flags->force);
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
  flags->for_people = true;
  flags->prompt.takes_stdin = true;
  CLI::App* app = root.add_subcommand("run", "One prompt to a completion");
  AddRunFlags(app, flags.get());
  AddSaveSession(app, &flags->save_file);
  app->add_option("--load-session", flags->load_file,
                  "Go on after a stored session; no prompt: at once")
      ->type_name("FILE");
  app->add_option("--prompt-cache", flags->prompt_cache_file,
                  "Session that spares what the last prompt began with")
      ->type_name("FILE");
  AddSwitch(app, "--prompt-cache-ro", &flags->prompt_cache_read_only,
            "Leave that file as it is");
  return {app, [flags] { return RunPrompt(*flags); }};
}

}  // namespace pyramidkv::cli
