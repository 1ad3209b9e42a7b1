// `pyramidkv run`: one prompt to a completion.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/json_output.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/text_format.h"

namespace pyramidkv::cli {
namespace {

struct RunFlags {
  ModelFlags model;
  CacheFlags cache;
  GenerationFlags generation;
  TemplateFlags chat_template;
  std::optional<std::string> prompt;
  std::string prompt_file, prompt_tokens_file, force_tokens_file;
  std::string trace_file, logits_file;
  bool chat = false;
  bool json = false;
  int logprobs = -1;
};

// What was asked for, read from its files: nothing of it needs the model.
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
};

Result<std::string> PromptText(const RunFlags& flags) {
  if (flags.prompt) return *flags.prompt;
  if (!flags.prompt_file.empty()) {
    PKV_ASSIGN_OR_RETURN(std::string text, ReadFile(flags.prompt_file));
    return DropTrailingNewline(std::move(text));
  }
  if (isatty(STDIN_FILENO) == 1) {
    return Status::Usage("no prompt: give -p TEXT or -f FILE, or pipe it in");
  }
  PKV_ASSIGN_OR_RETURN(std::string text, ReadStdin());
  return DropTrailingNewline(std::move(text));
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
  if (!flags.chat && !(t.system_prompt.empty() && t.name.empty())) {
    return Status::Usage("--system-prompt and --chat-template need --chat");
  }
  if (flags.logprobs >= 0 && !flags.json) {
    return Status::Usage("--logprobs needs --json");
  }
  return {};
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
  if (input.text.empty() && input.ids.empty()) {
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
                                   const Engine& engine) {
  const int vocabulary = engine.info().vocabulary;
  PKV_RETURN_IF_ERROR(
      CheckIds(input.forced, vocabulary, flags.force_tokens_file));
  if (!input.ids.empty()) {
    PKV_RETURN_IF_ERROR(
        CheckIds(input.ids, vocabulary, flags.prompt_tokens_file));
    return input.ids;
  }
  if (!flags.chat) return engine.Tokenize(input.text, {});
  // A byte that is not UTF-8 is counted in the prompt, not in the template.
  PKV_RETURN_IF_ERROR(engine.Tokenize(input.text, {}).status());
  std::vector<ChatMessage> messages;
  const TemplateFlags& t = flags.chat_template;
  if (!t.system_prompt.empty()) {
    messages.push_back({"system", t.system_prompt});
  }
  messages.push_back({"user", input.text});
  PKV_ASSIGN_OR_RETURN(const std::string text,
                       engine.ApplyChatTemplate(messages, t.name, true));
  return engine.Tokenize(text, {});
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

Result<RunResult> Measure(const RunFlags& flags, const RunInput& input,
                          RunOutputs* outputs) {
  const Stopwatch load;
  PKV_ASSIGN_OR_RETURN(const EngineOptions engine_options,
                       ResolveEngine(flags.model));
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       Engine::Load(engine_options));
  const double load_ms = load.Milliseconds();
  PKV_ASSIGN_OR_RETURN(const std::vector<int> prompt,
                       PromptIds(flags, input, *engine));
  PKV_ASSIGN_OR_RETURN(
      const std::unique_ptr<Session> session,
      engine->NewSession({.kv = input.spec,
                          .context_size = flags.model.context_size,
                          .max_new_tokens = input.generation.max_tokens}));
  if (outputs->trace) {
    session->SetTrace([outputs](std::string_view line) {
      outputs->trace->Write(std::string(line) + "\n");
    });
  }
  const InterruptScope scope;
  ProgressBar bar("reading");
  const Stopwatch prefill;
  PKV_RETURN_IF_ERROR(session->Read(prompt, bar.Callback()));
  const double prefill_ms = prefill.Milliseconds();
  bar.Clear();

  GenerateOptions options = input.generation;
  Attach(!flags.json, outputs, &options);
  RunResult result;
  PKV_ASSIGN_OR_RETURN(result.generation,
                       Answer(session.get(), options, outputs));
  result.model = engine->info().name;
  result.prompt_tokens = static_cast<int>(prompt.size());
  result.timings =
      MakeTimings(load_ms, prefill_ms, result.prompt_tokens, result.generation);
  result.kv = session->Report();
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
  json["peak_rss_bytes"] = PeakRssBytes();
  return json;
}

void LogSummary(const RunResult& result) {
  for (const std::string& warning : result.kv.warnings) {
    LogLine("warning: " + warning);
  }
  const Timings& t = result.timings;
  std::string text =
      fmt::format("read {} tokens, wrote {}", result.prompt_tokens,
                  result.generation.tokens.size());
  if (t.ttft_ms) text += fmt::format("; first after {:.0f} ms", *t.ttft_ms);
  if (t.tpot_ms) text += fmt::format(", then {:.2f} ms each", *t.tpot_ms);
  text += fmt::format("; {}; peak RSS {}", KvSummary(result.kv),
                      MiB(PeakRssBytes()));
  LogLine(text);
}

Status Run(const RunFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const RunInput input, ReadInput(flags));
  RunOutputs outputs;
  PKV_RETURN_IF_ERROR(OpenOutputs(flags, &outputs));
  const Result<RunResult> result = Measure(flags, input, &outputs);
  if (result.ok() && outputs.stdout_status.ok()) {
    outputs.stdout_status =
        WriteStdout(flags.json ? Dump(RunJson(flags, *result)) : "\n");
  }
  // A failed write is the cause of what else went wrong.
  PKV_RETURN_IF_ERROR(CloseOutputs(&outputs));
  PKV_RETURN_IF_ERROR(result.status());
  if (!flags.json) LogSummary(*result);
  if (result->generation.finish_reason == "cancelled") {
    return Status::Cancelled();
  }
  return {};
}

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

Command AddRunCommand(CLI::App& root) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* app = root.add_subcommand("run", "One prompt to a completion");
  AddPromptFlags(app, flags.get());
  AddTemplateFlags(app, &flags->chat_template);
  AddModelFlags(app, &flags->model);
  AddCacheFlags(app, &flags->cache, false);
  AddGenerationFlags(app, &flags->generation);
  AddOutputFlags(app, flags.get());
  return {app, [flags] { return Run(*flags); }};
}

}  // namespace pyramidkv::cli
