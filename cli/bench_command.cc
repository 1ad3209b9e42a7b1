// `pyramidkv bench`: times and memory per prompt length and cache, side by
// side. Every measurement runs in a process of its own, so that its peak RSS
// is its own; repetitions alternate between the caches, so that a machine
// that slows down does so for all of them.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "cli/bench_row.h"
#include "cli/command.h"
#include "cli/models.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text_format.h"

namespace pyramidkv::cli {
namespace {

constexpr int kMaxRepetitions = 1000;
constexpr int kMaxSequences = 1024;

struct BenchFlags {
  ModelFlags model;
  CacheFlags cache;
  std::vector<int> prompts = {512, 2048};
  int n_gen = 64;
  int sequences = 1;
  int repetitions = 3;
  std::string format = "md";
  bool json = false;
};

struct Row {
  BenchRowRequest request;
  std::vector<Json> runs;
};

// A value of every run, without nulls, in order of size. `timing`: a key of
// the runs' timings.
std::vector<double> Sorted(const Row& row, const char* timing) {
  std::vector<double> values;
  for (const Json& run : row.runs) {
    const Json& value = run["timings"][timing];
    if (value.is_number()) values.push_back(value.get<double>());
  }
  std::sort(values.begin(), values.end());
  return values;
}

Json Median(const Row& row, const char* timing) {
  const std::vector<double> values = Sorted(row, timing);
  if (values.empty()) return nullptr;
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

Json Spread(const Row& row, const char* timing) {
  const std::vector<double> values = Sorted(row, timing);
  return values.empty() ? Json(nullptr) : Json(values.back() - values.front());
}

int64_t HighestRss(const Row& row) {
  int64_t highest = 0;
  for (const Json& run : row.runs) {
    highest = std::max(highest, run.value("peak_rss_bytes", int64_t{0}));
  }
  return highest;
}

Json RowJson(const Row& row) {
  const Json& first = row.runs.front();
  return {{"spec", first["spec"]},
          {"prompt_tokens", row.request.prompt_tokens},
          {"depth", row.request.prompt_tokens},
          {"n_gen", row.request.n_gen},
          {"sequences", row.request.sequences},
          {"ttft_ms", Median(row, "ttft_ms")},
          {"tpot_ms", Median(row, "tpot_ms")},
          {"prefill_tokens_per_s", Median(row, "prefill_tokens_per_s")},
          {"decode_tokens_per_s", Median(row, "decode_tokens_per_s")},
          {"kv_bytes", first["kv_bytes"]},
          {"kv_bytes_full", first["kv_bytes_full"]},
          {"peak_rss_bytes", HighestRss(row)},
          {"tier", first["tier"]},
          {"runs", row.runs.size()},
          {"spread",
           {{"ttft_ms", Spread(row, "ttft_ms")},
            {"tpot_ms", Spread(row, "tpot_ms")}}}};
}

Json BenchJson(const std::vector<Row>& rows) {
  const Json& first = rows.front().runs.front();
  Json machine = MachineJson();
  machine["threads"] = first["threads"];
  machine["compute"] = first["compute"];
  Json all = Json::array();
  for (const Row& row : rows) all.push_back(RowJson(row));
  return {{"machine", std::move(machine)},
          {"model", first["model"]},
          {"rows", std::move(all)}};
}

std::string Number(const Json& value, int digits) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), digits)
                           : "-";
}

// "12.3 +- 0.4": the median and half of the spread.
std::string Spreading(const Json& row, const char* key, int digits) {
  const Json& spread = row["spread"][key];
  if (!spread.is_number()) return Number(row[key], digits);
  return fmt::format("{} +- {:.{}f}", Number(row[key], digits),
                     spread.get<double>() / 2, digits);
}

std::string MarkdownRows(const Json& bench) {
  std::vector<std::vector<std::string>> table = {
      {"kv", "prompt", "n_gen", "TTFT ms", "TPOT ms", "prefill t/s",
       "decode t/s", "KV", "of full", "peak RSS"}};
  for (const Json& row : bench["rows"]) {
    const auto bytes = row["kv_bytes"].get<int64_t>();
    table.push_back({row["spec"], row["prompt_tokens"].dump(),
                     row["n_gen"].dump(), Spreading(row, "ttft_ms", 0),
                     Spreading(row, "tpot_ms", 2),
                     Number(row["prefill_tokens_per_s"], 0),
                     Number(row["decode_tokens_per_s"], 1), MiB(bytes),
                     Percent(Share(bytes, row["kv_bytes_full"])),
                     MiB(row["peak_rss_bytes"])});
  }
  const Json& machine = bench["machine"];
  return fmt::format(
      "{}, {} threads, {}; {}; sequences decoded together: {}; medians of {} "
      "runs\n\n{}",
      machine["cpu"].get<std::string>(), machine["threads"].dump(),
      machine["compute"].get<std::string>(), bench["model"].get<std::string>(),
      bench["rows"][0]["sequences"].dump(), bench["rows"][0]["runs"].dump(),
      MarkdownTable(table));
}

std::string CsvCellText(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// The keys of the JSON rows as columns.
std::string CsvRows(const Json& bench) {
  std::vector<std::vector<std::string>> table(1);
  for (const Json& row : bench["rows"]) {
    const bool header = table[0].empty();
    std::vector<std::string> cells;
    for (const auto& [key, value] : row.items()) {
      if (key == "spread") continue;
      if (header) table[0].push_back(key);
      cells.push_back(CsvCellText(value));
    }
    for (const auto& [key, value] : row["spread"].items()) {
      if (header) table[0].push_back("spread_" + key);
      cells.push_back(CsvCellText(value));
    }
    table.push_back(std::move(cells));
  }
  return CsvTable(table);
}

Result<std::vector<Row>> Rows(const BenchFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const std::vector<std::string> specs,
                       ResolveSpecs(flags.cache));
  BenchRowRequest request;
  request.model = flags.model;
  request.n_gen = flags.n_gen;
  request.sequences = flags.sequences;
  PKV_ASSIGN_OR_RETURN(request.model.path, ResolveModelPath(flags.model.path));
  std::vector<Row> rows;
  for (const int prompt : flags.prompts) {
    for (const std::string& spec : specs) {
      request.prompt_tokens = prompt;
      request.spec = spec;
      rows.push_back({request, {}});
    }
  }
  return rows;
}

// Fills the rows with runs, in rounds.
Status Measure(int repetitions, std::vector<Row>* rows) {
  const int64_t total = std::ssize(*rows) * repetitions;
  ProgressBar bar("measuring", total, "runs");
  int64_t done = 0;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    for (Row& row : *rows) {
      bar.Update(done++, total);
      PKV_ASSIGN_OR_RETURN(Json run, RunBenchRow(row.request));
      row.runs.push_back(std::move(run));
    }
  }
  return {};
}

Status Bench(const BenchFlags& flags) {
  PKV_ASSIGN_OR_RETURN(std::vector<Row> rows, Rows(flags));
  Status status = Measure(flags.repetitions, &rows);
  if (!status.ok() && status.code() != StatusCode::kCancelled) return status;
  // An interrupted measurement shows the rows that it came to.
  std::erase_if(rows, [](const Row& row) { return row.runs.empty(); });
  if (rows.empty()) return status;
  const Json json = BenchJson(rows);
  PKV_RETURN_IF_ERROR(
      WriteStdout(flags.json || flags.format == "json" ? Dump(json)
                  : flags.format == "csv"              ? CsvRows(json)
                                                       : MarkdownRows(json)));
  return status;
}

}  // namespace

Command AddBenchCommand(CLI::App& root) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* app = root.add_subcommand(
      "bench", "Times and memory per prompt length and cache");
  AddModelFlags(app, &flags->model);
  AddCacheFlags(app, &flags->cache, true);
  app->add_option("-p,--n-prompt", flags->prompts, "Lengths of prompts")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(InRange(1, 1 << 24))
      ->type_name("N,...")
      ->default_str("512,2048");
  app->add_option("-n,--n-gen", flags->n_gen, "Tokens to generate")
      ->check(InRange(0, 1 << 24))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--parallel", flags->sequences,
                  "Sequences that read the prompt and are decoded together, "
                  "also -np")
      ->check(InRange(1, kMaxSequences))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("-r,--repetitions", flags->repetitions, "Runs of each row")
      ->check(InRange(1, kMaxRepetitions))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("-o,--output", flags->format, "Format of the result")
      ->check(OneOf("md|json|csv"))
      ->type_name("md|json|csv")
      ->capture_default_str();
  AddJson(app, &flags->json);
  return {app, [flags] { return Bench(*flags); }};
}

}  // namespace pyramidkv::cli
