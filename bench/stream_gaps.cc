// How long a running stream waits for its next token while a long prompt is
// read beside it: build/release/bin/stream_gaps MODEL [TOKENS] [SPEC...]
//
// One row for each cache of the prompt: the gap between tokens when nothing
// else runs (median), and the median, 95th percentile and largest gap while
// the prompt of TOKENS is read; all in milliseconds. The goal: the 95th
// percentile is at most the larger of 3 quiet gaps and 100 ms.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pyramidkv/batch.h"
#include "pyramidkv/engine.h"

namespace pyramidkv {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStreamPrompt = 200;
constexpr int kQuietTokens = 60;

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share *
                                    static_cast<double>(values.size() - 1))];
}

std::vector<int> RandomTokens(int count, int vocabulary) {
  std::mt19937 random(1);
  std::vector<int> tokens(count);
  for (int& t : tokens) t = 100 + static_cast<int>(random() % (vocabulary / 2));
  return tokens;
}

struct Gaps {
  std::vector<double> quiet, busy;
  double prompt_ms = 0;
  Status status;
};

// A stream that never ends by itself; `last` is when its last token came.
BatchRequest Stream(const Engine& engine, std::vector<double>** gaps,
                    Clock::time_point* last) {
  BatchRequest request;
  request.tokens = RandomTokens(kStreamPrompt, engine.info().vocabulary);
  request.generate.ignore_eos = true;
  request.generate.on_token = [gaps, last](const GeneratedToken&) {
    const Clock::time_point now = Clock::now();
    if (*gaps != nullptr) {
      (*gaps)->push_back(
          std::chrono::duration<double, std::milli>(now - *last).count());
    }
    *last = now;
  };
  return request;
}

Gaps Measure(Engine* engine, const std::string& spec, int tokens) {
  Gaps gaps;
  std::vector<double>* to = nullptr;
  Clock::time_point last;
  auto batch = engine->NewBatch({});
  const auto stream = (*batch)->Submit(Stream(*engine, &to, &last));
  gaps.status = stream.status();
  if (!stream.ok()) return gaps;
  while ((*batch)->load().answers == 0) (*batch)->Step();
  to = &gaps.quiet;
  for (int i = 0; i < kQuietTokens; ++i) (*batch)->Step();

  BatchRequest prompt;
  prompt.session.kv = spec;
  prompt.tokens = RandomTokens(tokens, engine->info().vocabulary);
  prompt.generate.max_tokens = 1;
  bool done = false;
  prompt.on_done = [&](BatchResult result) {
    gaps.prompt_ms = result.prompt_ms;
    gaps.status = std::move(result.status);
    done = true;
  };
  const auto reading = (*batch)->Submit(std::move(prompt));
  if (!reading.ok()) gaps.status = reading.status();
  to = &gaps.busy;
  while (reading.ok() && !done) (*batch)->Step();
  to = nullptr;
  return gaps;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: stream_gaps MODEL [TOKENS] [SPEC...]\n");
    return 2;
  }
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 8000;
  std::vector<std::string> specs(argv + std::min(argc, 3), argv + argc);
  if (specs.empty()) specs = {"full", "snapkv-wide,keep=0.3", "kvzip,keep=0.3"};
  EngineOptions options;
  options.model_path = argv[1];
  const auto engine = Engine::Load(options);
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", engine.status().message().c_str());
    return static_cast<int>(engine.status().code());
  }
  std::printf("%d threads; gaps of a stream beside a prompt of %d, in ms\n",
              (*engine)->threads(), tokens);
  std::printf("%-32s %8s %8s %8s %8s %10s %s\n", "spec", "quiet", "median",
              "p95", "largest", "prompt", "goal");
  for (const std::string& spec : specs) {
    const Gaps gaps = Measure(engine->get(), spec, tokens);
    if (!gaps.status.ok()) {
      std::fprintf(stderr, "%s: %s\n", spec.c_str(),
                   gaps.status.message().c_str());
      return static_cast<int>(gaps.status.code());
    }
    const double quiet = Quantile(gaps.quiet, 0.5);
    const double p95 = Quantile(gaps.busy, 0.95);
    std::printf("%-32s %8.1f %8.1f %8.1f %8.1f %10.0f %s\n", spec.c_str(),
                quiet, Quantile(gaps.busy, 0.5), p95, Quantile(gaps.busy, 1.0),
                gaps.prompt_ms,
                p95 <= std::max(3 * quiet, 100.0) ? "met" : "missed");
  }
  return 0;
}

}  // namespace
}  // namespace pyramidkv

int main(int argc, char** argv) { return pyramidkv::Main(argc, argv); }
