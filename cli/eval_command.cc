// `pyramidkv eval`: what compression costs in answers and in likelihood,
// against the full cache on the same prompts.

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/eval_flags.h"
#include "cli/eval_output.h"
#include "cli/inputs.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "pyramidkv/eval.h"

namespace pyramidkv::cli {
namespace {

struct Outputs {
  std::optional<OutputFile> trials;
  std::optional<OutputFile> trace;
};

// Opens the file of trials; those that it holds already go to `done`.
Status OpenTrials(const EvalFlags& flags, const Engine& engine,
                  const EvalOptions& options, Outputs* outputs,
                  std::vector<EvalTrial>* done) {
  const std::string& path = flags.resume_file;
  if (path.empty()) {
    if (flags.out_file.empty()) return {};
    PKV_ASSIGN_OR_RETURN(outputs->trials, OutputFile::Open(flags.out_file));
    return {};
  }
  std::string lines;
  if (std::filesystem::exists(path)) {
    PKV_ASSIGN_OR_RETURN(lines, ReadFile(path));
  }
  Result<std::vector<EvalTrial>> parsed =
      ParseEvalTrials(engine, options, lines);
  if (!parsed.ok()) {
    return Status::Usage(
        fmt::format("{}: {}", path, parsed.status().message()));
  }
  *done = std::move(*parsed);
  // A last line without its newline was torn: it is written over.
  const size_t whole = lines.rfind('\n') + 1;  // 0 if there is none
  PKV_ASSIGN_OR_RETURN(outputs->trials, OutputFile::Continue(path, whole));
  return {};
}

// The first error of any output, once everything was written.
Status CloseOutputs(Outputs* outputs) {
  Status first;
  for (std::optional<OutputFile>* file : {&outputs->trials, &outputs->trace}) {
    if (!*file) continue;
    Status closed = (*file)->Close();
    if (first.ok()) first = std::move(closed);
  }
  return first;
}

// measured: gets every trial, for an evaluation that is interrupted.
EvalCallbacks MakeCallbacks(const Engine& engine, const EvalOptions& options,
                            Outputs* outputs, ProgressBar* bar,
                            std::vector<EvalTrial>* measured) {
  EvalCallbacks callbacks;
  callbacks.progress = bar->Callback();
  callbacks.on_trial = [&engine, &options, outputs,
                        measured](const EvalTrial& trial) -> Status {
    measured->push_back(trial);
    if (!outputs->trials) return {};
    const std::string line = FormatEvalTrial(engine, options, trial);
    if (outputs->trials->Write(line + "\n")) outputs->trials->Flush();
    return outputs->trials->status();
  };
  if (outputs->trace) {
    // The session's line, with the cache it is about in front.
    callbacks.trace = [outputs](std::string_view spec, std::string_view line) {
      outputs->trace->Write(
          fmt::format("{{\"spec\":{},{}\n", Json(spec).dump(), line.substr(1)));
    };
  }
  return callbacks;
}

// kThreshold with the caches that missed what was asked for.
Status CheckThresholds(const EvalFlags& flags,
                       const std::vector<EvalRow>& rows) {
  std::vector<std::string> missed;
  for (const EvalRow& row : rows) {
    if (flags.at_least && row.right < *flags.at_least) {
      missed.push_back(fmt::format("{} has {} right", row.spec, row.right));
    }
    if (flags.max_kl && row.divergence->mean_kl > *flags.max_kl) {
      missed.push_back(fmt::format("{} has a mean KL of {:.5f}", row.spec,
                                   row.divergence->mean_kl));
    }
  }
  if (missed.empty()) return {};
  const std::string asked =
      flags.at_least ? fmt::format("at least {} right", *flags.at_least)
                     : fmt::format("a mean KL of at most {}", *flags.max_kl);
  return {StatusCode::kThreshold,
          fmt::format("asked for {}: {}", asked, fmt::join(missed, ", "))};
}

void LogWarnings(const EvalOptions& options, const std::vector<EvalRow>& rows) {
  for (const EvalRow& row : rows) {
    for (const std::string& warning : row.warnings) {
      LogLine(fmt::format("warning: {}: {}", row.spec, warning));
    }
  }
  if (StopRequested()) {
    LogLine(fmt::format("interrupted after {} of {} trials", rows[0].trials,
                        options.trials));
  } else if (rows[0].trials < options.trials) {
    LogLine(fmt::format("warning: the text is long enough for {} of {} trials",
                        rows[0].trials, options.trials));
  }
}

// status: kCancelled where the trials are not all that were asked for.
Status PrintResults(const EvalFlags& flags, const Engine& engine,
                    const EvalOptions& options,
                    std::span<const EvalTrial> trials, const Status& status) {
  const std::vector<EvalRow> rows = SummarizeEval(trials);
  LogWarnings(options, rows);
  PKV_RETURN_IF_ERROR(WriteStdout(flags.json
                                      ? Dump(EvalJson(engine, options, rows))
                                      : EvalTable(engine, options, rows)));
  return status.ok() ? CheckThresholds(flags, rows) : status;
}

Status Eval(const EvalFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const EvalOptions options, ResolveEval(flags));
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       LoadModel(flags.model));
  Outputs outputs;
  std::vector<EvalTrial> done;
  PKV_RETURN_IF_ERROR(OpenTrials(flags, *engine, options, &outputs, &done));
  if (!flags.trace_file.empty()) {
    PKV_ASSIGN_OR_RETURN(outputs.trace, OutputFile::Open(flags.trace_file));
  }
  const InterruptScope scope;
  ProgressBar bar(flags.task, options.trials, "trials");
  std::vector<EvalTrial> measured = done;
  Result<std::vector<EvalTrial>> trials =
      RunEval(engine.get(), options, done,
              MakeCallbacks(*engine, options, &outputs, &bar, &measured));
  bar.Clear();
  // A failed write is the cause of what else went wrong.
  PKV_RETURN_IF_ERROR(CloseOutputs(&outputs));
  Status status = trials.status();
  if (status.code() == StatusCode::kCancelled) {
    trials = WholeTrials(std::move(measured));
    if (trials->empty()) return status;
  }
  PKV_RETURN_IF_ERROR(trials.status());
  return PrintResults(flags, *engine, options, *trials, status);
}

}  // namespace

Command AddEvalCommand(CLI::App& root) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* app = root.add_subcommand(
      "eval", "Answers and likelihoods out of compressed caches");
  AddEvalFlags(app, flags.get());
  return {app, [flags] { return Eval(*flags); }};
}

}  // namespace pyramidkv::cli
