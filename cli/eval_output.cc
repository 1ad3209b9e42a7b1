#include "cli/eval_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "cli/text_format.h"

namespace pyramidkv::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string_view VariantName(const EvalOptions& options) {
  return kEvalVariantNames[static_cast<size_t>(options.variant)];
}

std::string_view PlacementName(const EvalOptions& options) {
  return kEvalPlacementNames[static_cast<size_t>(options.placement)];
}

Json IntervalJson(const EvalInterval& interval) {
  return Json::array({interval.low, interval.high});
}

void AddAnswers(const EvalRow& row, Json* json) {
  (*json)["right"] = row.right;
  (*json)["right_interval"] = IntervalJson(row.right_share);
  (*json)["difference"] = row.difference;
  (*json)["difference_interval"] = IntervalJson(row.difference_interval);
}

void AddDivergence(const EvalRow& row, Json* json) {
  const EvalDivergence& d = *row.divergence;
  (*json)["mean_kl"] = d.mean_kl;
  (*json)["kl_interval"] =
      row.kl_interval ? IntervalJson(*row.kl_interval) : Json(nullptr);
  (*json)["max_kl"] = d.max_kl;
  (*json)["top1_agreement"] = d.top1_agreement;
  (*json)["perplexity"] = std::exp(d.nll);
  (*json)["perplexity_full"] = std::exp(d.nll_full);
}

Json RowJson(const EvalRow& row) {
  Json json = {{"spec", row.spec}, {"trials", row.trials}};
  if (row.divergence) {
    AddDivergence(row, &json);
  } else {
    AddAnswers(row, &json);
  }
  json["kv_bytes"] = row.kv_bytes;
  json["kv_bytes_full"] = row.kv_bytes_full;
  json["retained_mass"] =
      row.retained_mass ? Json(*row.retained_mass) : Json(nullptr);
  json["context_tokens"] = row.context_tokens;
  json["scored_tokens"] = row.scored_tokens;
  json["warnings"] = row.warnings;
  return json;
}

// "84 to 100 %"
std::string PercentRange(const EvalInterval& interval) {
  return fmt::format("{:.0f} to {:.0f} %", 100 * interval.low,
                     100 * interval.high);
}

// Percentage points with their sign, which a zero has not.
std::string Points(double share) {
  const double points = std::round(100 * share);
  return points == 0 ? "0" : fmt::format("{:+.0f}", points);
}

// "-15 (-36 to +4)"; none for the reference itself.
std::string DifferenceCell(const EvalRow& row, bool reference) {
  if (reference) return "-";
  return fmt::format("{} ({} to {})", Points(row.difference),
                     Points(row.difference_interval.low),
                     Points(row.difference_interval.high));
}

std::vector<std::string> CacheCells(const EvalRow& row) {
  return {Percent(row.kv_bytes / row.kv_bytes_full),
          row.retained_mass ? fmt::format("{:.3f}", *row.retained_mass) : "-"};
}

Rows AnswerRows(std::span<const EvalRow> rows) {
  Rows table = {
      {"kv", "right", "95 %", "points from full", "KV bytes", "mass"}};
  for (const EvalRow& row : rows) {
    table.push_back({row.spec, fmt::format("{} of {}", row.right, row.trials),
                     PercentRange(row.right_share),
                     DifferenceCell(row, &row == rows.data())});
    for (std::string& cell : CacheCells(row)) {
      table.back().push_back(std::move(cell));
    }
  }
  return table;
}

Rows DivergenceRows(std::span<const EvalRow> rows) {
  Rows table = {{"kv", "mean KL", "95 %", "max KL", "same top token",
                 "perplexity", "of full", "KV bytes", "mass"}};
  for (const EvalRow& row : rows) {
    const EvalDivergence& d = *row.divergence;
    table.push_back(
        {row.spec, fmt::format("{:.5f}", d.mean_kl),
         row.kl_interval ? fmt::format("{:.5f} to {:.5f}", row.kl_interval->low,
                                       row.kl_interval->high)
                         : "-",
         fmt::format("{:.3f}", d.max_kl), Percent(d.top1_agreement),
         fmt::format("{:.3f}", std::exp(d.nll)),
         fmt::format("{:+.2f} %", 100 * (std::exp(d.nll - d.nll_full) - 1))});
    for (std::string& cell : CacheCells(row)) {
      table.back().push_back(std::move(cell));
    }
  }
  return table;
}

}  // namespace

std::string_view TaskName(const EvalOptions& options) {
  return kEvalTaskNames[static_cast<size_t>(options.task)];
}

std::vector<EvalTrial> WholeTrials(std::vector<EvalTrial> trials) {
  std::map<int, size_t> caches;  // by trial
  size_t all = 0;
  for (const EvalTrial& trial : trials) {
    all = std::max(all, ++caches[trial.trial]);
  }
  std::erase_if(trials, [&](const EvalTrial& trial) {
    return caches[trial.trial] < all;
  });
  std::stable_sort(
      trials.begin(), trials.end(),
      [](const EvalTrial& a, const EvalTrial& b) { return a.trial < b.trial; });
  return trials;
}

Json EvalJson(const Engine& engine, const EvalOptions& options,
              std::span<const EvalRow> rows) {
  const bool answers = options.task != EvalTask::kKl;
  Json json = {{"task", TaskName(options)},
               {"variant", nullptr},
               {"placement", nullptr},
               {"model", engine.info().name},
               {"compute", ComputeName(engine.compute())},
               {"tokens", options.tokens},
               {"score_tokens", nullptr},
               {"trials", rows[0].trials},
               {"seed", options.seed}};
  if (options.task == EvalTask::kPasskey) {
    json["variant"] = VariantName(options);
  }
  if (answers) {
    json["placement"] = PlacementName(options);
  } else {
    json["score_tokens"] = options.score_tokens;
  }
  Json all = Json::array();
  for (const EvalRow& row : rows) all.push_back(RowJson(row));
  json["rows"] = std::move(all);
  return json;
}

std::string EvalTable(const Engine& engine, const EvalOptions& options,
                      std::span<const EvalRow> rows) {
  std::string what(TaskName(options));
  if (options.task == EvalTask::kPasskey) {
    what += fmt::format(" {}", VariantName(options));
  }
  if (options.task == EvalTask::kKl) {
    what += fmt::format(", {} tokens forced after {}", options.score_tokens,
                        options.tokens);
  } else {
    what += fmt::format(", {} placement, contexts of {} tokens",
                        PlacementName(options), options.tokens);
  }
  return fmt::format(
      "{}, {}; {}; {} trials, seed {}\n\n{}", engine.info().name,
      ComputeName(engine.compute()), what, rows[0].trials, options.seed,
      MarkdownTable(options.task == EvalTask::kKl ? DivergenceRows(rows)
                                                  : AnswerRows(rows)));
}

}  // namespace pyramidkv::cli
