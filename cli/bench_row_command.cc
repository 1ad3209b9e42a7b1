// `pyramidkv bench-row`, the hidden command behind `bench`: loads the model,
// reads a prompt of generated text, answers, and prints what that took.

#include <fmt/format.h>

#include <array>
#include <memory>
#include <random>

#include "cli/bench_row.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/subprocess.h"

namespace pyramidkv::cli {
namespace {

constexpr int kWordsPerSentence = 12;

Json RowJson(const BenchRowRequest& request, const Engine& engine,
             const Timings& timings, const KvReport& kv) {
  return {{"model", engine.info().name},
          {"spec", kv.spec},
          {"compute", ComputeName(engine.compute())},
          {"threads", engine.threads()},
          {"timings", TimingsJson(timings)},
          {"kv_bytes", kv.bytes},
          {"kv_bytes_full", kv.bytes_full},
          {"peak_rss_bytes", PeakRssBytes()}};
}

Status MeasureRow(const BenchRowRequest& request) {
  const Stopwatch load;
  PKV_ASSIGN_OR_RETURN(const EngineOptions options,
                       ResolveEngine(request.model));
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       Engine::Load(options));
  const double load_ms = load.Milliseconds();
  // A word is at least a token.
  PKV_ASSIGN_OR_RETURN(std::vector<int> prompt,
                       engine->Tokenize(PseudoText(request.prompt_tokens), {}));
  prompt.resize(request.prompt_tokens);
  PKV_ASSIGN_OR_RETURN(
      const std::unique_ptr<Session> session,
      engine->NewSession({.kv = request.spec,
                          .context_size = request.model.context_size,
                          .max_new_tokens = request.n_gen}));
  const InterruptScope scope;
  const Stopwatch prefill;
  PKV_RETURN_IF_ERROR(
      session->Read(prompt, [](int64_t, int64_t) { return !StopRequested(); }));
  const double prefill_ms = prefill.Milliseconds();
  Generation generation;
  if (request.n_gen > 0) {
    GenerateOptions answer;
    answer.max_tokens = request.n_gen;
    answer.ignore_eos = true;
    answer.cancel = StopFlag();
    PKV_ASSIGN_OR_RETURN(generation, session->Generate(answer));
  }
  if (StopRequested()) return Status::Cancelled();
  const Timings timings =
      MakeTimings(load_ms, prefill_ms, request.prompt_tokens, generation);
  return WriteStdout(
      Dump(RowJson(request, *engine, timings, session->Report())));
}

}  // namespace

std::string PseudoText(int words) {
  static constexpr std::array kWords = {
      "river",  "stone",   "carries", "evening", "the",     "of",    "a",
      "market", "slowly",  "bright",  "garden",  "letter",  "under", "and",
      "quiet",  "harbour", "seven",   "winter",  "teacher", "finds", "old",
      "paper",  "window",  "music",   "without", "engine",  "blue",  "road"};
  std::mt19937 random(1);  // its sequence is the same everywhere
  std::string text;
  for (int i = 0; i < words; ++i) {
    if (i > 0) text += i % kWordsPerSentence == 0 ? ". " : " ";
    text += kWords[random() % kWords.size()];
  }
  return text;
}

Result<Json> RunBenchRow(const BenchRowRequest& request) {
  const ModelFlags& model = request.model;
  std::vector<std::string> args = {
      kBenchRowCommand,
      "--model=" + model.path,
      "--kv=" + request.spec,
      "--compute=" + model.compute,
      fmt::format("--ctx-size={}", model.context_size),
      fmt::format("--n-prompt={}", request.prompt_tokens),
      fmt::format("--n-gen={}", request.n_gen)};
  if (model.threads > 0)
    args.push_back(fmt::format("--threads={}", model.threads));
  PKV_ASSIGN_OR_RETURN(const std::string text, RunSelf(args));
  Json row = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) {
    return Status::Runtime("a measurement printed no result");
  }
  return row;
}

Command AddBenchRowCommand(CLI::App& root) {
  auto request = std::make_shared<BenchRowRequest>();
  CLI::App* app = root.add_subcommand(kBenchRowCommand, "")->group("");
  AddModelFlags(app, &request->model);
  app->add_option("--kv", request->spec);
  app->add_option("--n-prompt", request->prompt_tokens);
  app->add_option("--n-gen", request->n_gen);
  return {app, [request] { return MeasureRow(*request); }};
}

}  // namespace pyramidkv::cli
