// `pyramidkv bench-row`, the hidden command behind `bench`: loads the model,
// reads a prompt of generated text, answers, and prints what that took.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>

#include "cli/bench_row.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/subprocess.h"
#include "pyramidkv/batch.h"
#include "pyramidkv/machine.h"

namespace pyramidkv::cli {
namespace {

constexpr int kWordsPerSentence = 12;

// The sessions of a row, and the form that the engine takes them in.
struct Sessions {
  std::vector<std::unique_ptr<Session>> owned;
  std::vector<Session*> pointers;
};

Result<Sessions> NewSessions(const BenchRowRequest& request, Engine* engine) {
  Sessions sessions;
  for (int i = 0; i < request.sequences; ++i) {
    PKV_ASSIGN_OR_RETURN(
        std::unique_ptr<Session> session,
        engine->NewSession({.kv = request.spec,
                            .context_size = request.model.context_size,
                            .max_new_tokens = request.n_gen}));
    sessions.pointers.push_back(session.get());
    sessions.owned.push_back(std::move(session));
  }
  return sessions;
}

// As `run` does it.
Result<Generation> GenerateAlone(Session* session, int n_gen) {
  GenerateOptions answer;
  answer.max_tokens = n_gen;
  answer.ignore_eos = true;
  answer.cancel = StopFlag();
  return session->Generate(answer);
}

// Greedy, a token of every session at each step. The answer is the first
// session's.
Result<Generation> GenerateTogether(Engine* engine, Sessions* sessions,
                                    int n_gen) {
  std::vector<BatchResult> results(sessions->owned.size());
  BatchOptions options;
  options.max_sequences = static_cast<int>(results.size());
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Batch> batch,
                       engine->NewBatch(options));
  for (size_t i = 0; i < results.size(); ++i) {
    BatchRequest request;
    request.context = std::move(sessions->owned[i]);
    request.generate.max_tokens = n_gen;
    request.generate.ignore_eos = true;
    request.generate.cancel = StopFlag();
    request.on_done = [&results, i](BatchResult result) {
      results[i] = std::move(result);
    };
    PKV_RETURN_IF_ERROR(batch->Submit(std::move(request)).status());
  }
  while (batch->Step()) {
  }
  for (size_t i = 0; i < results.size(); ++i) {
    PKV_RETURN_IF_ERROR(results[i].status);
    sessions->owned[i] = std::move(results[i].session);
  }
  return std::move(results[0].generation);
}

Json RowJson(const BenchRowRequest& request, const Engine& engine,
             Timings timings, const Session& first) {
  const KvReport kv = first.Report();
  if (timings.decode_tokens_per_s) {
    *timings.decode_tokens_per_s *= request.sequences;
  }
  return {{"model", engine.info().name},
          {"spec", kv.spec},
          {"compute", ComputeName(engine.compute())},
          {"threads", engine.threads()},
          {"timings", TimingsJson(timings)},
          {"kv_bytes", kv.bytes * request.sequences},
          {"kv_bytes_full", kv.bytes_full * request.sequences},
          {"peak_rss_bytes", PeakRssBytes()},
          {"tier", KvJson(kv)["tier"]}};
}

Status MeasureRow(const BenchRowRequest& request) {
  const Stopwatch load;
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       LoadModel(request.model));
  const double load_ms = load.Milliseconds();
  // A word is at least a token.
  PKV_ASSIGN_OR_RETURN(std::vector<int> prompt,
                       engine->Tokenize(PseudoText(request.prompt_tokens), {}));
  prompt.resize(request.prompt_tokens);
  PKV_ASSIGN_OR_RETURN(Sessions sessions, NewSessions(request, engine.get()));
  Session* const first = sessions.pointers[0];
  const InterruptScope scope;
  const Stopwatch prefill;
  PKV_RETURN_IF_ERROR(
      engine->ReadShared(prompt, sessions.pointers,
                         [](int64_t, int64_t) { return !StopRequested(); }));
  const double prefill_ms = prefill.Milliseconds();
  Generation generation;
  if (request.n_gen > 0) {
    PKV_ASSIGN_OR_RETURN(
        generation,
        request.sequences == 1
            ? GenerateAlone(first, request.n_gen)
            : GenerateTogether(engine.get(), &sessions, request.n_gen));
  }
  if (StopRequested()) return Status::Cancelled();
  const Timings timings =
      MakeTimings(load_ms, prefill_ms, request.prompt_tokens, generation);
  return WriteStdout(Dump(RowJson(request, *engine, timings, *first)));
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
      fmt::format("--n-gen={}", request.n_gen),
      fmt::format("--parallel={}", request.sequences)};
  if (model.threads > 0)
    args.push_back(fmt::format("--threads={}", model.threads));
  if (!model.offload_directory.empty()) {
    args.push_back("--kv-offload-dir=" + model.offload_directory);
  }
  if (model.lock_memory) args.push_back("--mlock");
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
  app->add_option("--parallel", request->sequences);
  return {app, [request] { return MeasureRow(*request); }};
}

}  // namespace pyramidkv::cli
