#include "cli/text_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pyramidkv::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

constexpr int kBarWidth = 20;
constexpr double kBytesPerMiB = 1024.0 * 1024.0;

std::string BudgetCell(const PlanDims& dims, const PlanLayer& layer) {
  if (!layer.budget) {
    return fmt::format("window {}", std::min(dims.tokens, dims.sliding_window));
  }
  return fmt::format("{:>7} {}", *layer.budget,
                     Bar(Share(*layer.budget, dims.tokens), kBarWidth));
}

bool SameBudgets(const std::vector<CachePlan>& plans, size_t a, size_t b) {
  return std::all_of(plans.begin(), plans.end(), [&](const CachePlan& plan) {
    return plan.layers[a].budget == plan.layers[b].budget;
  });
}

std::string CsvCell(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell)
    quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// One row of totals: the title, then a cell for each plan.
template <typename F>
std::vector<std::string> TotalRow(std::string title,
                                  const std::vector<CachePlan>& plans, F cell) {
  std::vector<std::string> row = {std::move(title)};
  for (const CachePlan& plan : plans) row.push_back(cell(plan));
  return row;
}

void AddTierRows(const std::vector<CachePlan>& plans, Rows* rows) {
  const auto add = [&](const char* title, int64_t PlanTier::*bytes) {
    if (std::none_of(plans.begin(), plans.end(), [&](const CachePlan& plan) {
          return plan.tier && (*plan.tier).*bytes > 0;
        })) {
      return;
    }
    rows->push_back(TotalRow(title, plans, [&](const CachePlan& plan) {
      return plan.tier ? MiB((*plan.tier).*bytes) : "-";
    }));
  };
  add("of which cold", &PlanTier::bytes);
  add("its index", &PlanTier::index_bytes);
  add("on disk", &PlanTier::file_bytes);
}

}  // namespace

std::string Bar(double share, int width) {
  const double clamped = std::isnan(share) ? 0 : std::clamp(share, 0.0, 1.0);
  const int filled = static_cast<int>(std::lround(clamped * width));
  return std::string(filled, '#') + std::string(width - filled, '.');
}

std::string MiB(int64_t bytes) {
  const double mib = static_cast<double>(bytes) / kBytesPerMiB;
  return fmt::format("{:.{}f} MiB", mib, mib < 10 ? 2 : 1);
}

std::string Percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

double Share(int64_t part, int64_t of) {
  return of == 0 ? 0 : static_cast<double>(part) / static_cast<double>(of);
}

std::string AlignedTable(const Rows& rows, const std::vector<bool>& left) {
  std::vector<size_t> width(left.size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      width[i] = std::max(width[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      line += left[i] ? fmt::format("{:<{}}", row[i], width[i])
                      : fmt::format("{:>{}}", row[i], width[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string MarkdownTable(const Rows& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    text += fmt::format("| {} |\n", fmt::join(rows[i], " | "));
    if (i > 0) continue;
    text += "|---|";
    for (size_t c = 1; c < rows[i].size(); ++c) text += "--:|";
    text += "\n";
  }
  return text;
}

std::string CsvTable(const Rows& rows) {
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += ',';
      text += CsvCell(row[i]);
    }
    text += "\n";
  }
  return text;
}

std::string PlanTable(const PlanDims& dims,
                      const std::vector<CachePlan>& plans) {
  Rows rows = {TotalRow("layer", plans, [](const auto& p) { return p.spec; })};
  const size_t layers = plans.empty() ? 0 : plans[0].layers.size();
  for (size_t first = 0, last = 0; first < layers; first = last + 1) {
    last = first;
    while (last + 1 < layers && SameBudgets(plans, first, last + 1)) ++last;
    std::string title = first == last ? fmt::format("{}", first)
                                      : fmt::format("{}-{}", first, last);
    rows.push_back(TotalRow(std::move(title), plans, [&](const auto& plan) {
      return BudgetCell(dims, plan.layers[first]);
    }));
  }
  rows.push_back(
      TotalRow("bytes", plans, [](const auto& p) { return MiB(p.bytes); }));
  AddTierRows(plans, &rows);
  rows.push_back(
      TotalRow("full", plans, [](const auto& p) { return MiB(p.bytes_full); }));
  rows.push_back(
      TotalRow("saved", plans, [](const auto& p) { return Percent(p.saved); }));
  std::vector<bool> left(plans.size() + 1, true);
  left[0] = false;
  return fmt::format("{} layers, {} KV heads of {}, {} tokens, {} sequence{}\n",
                     dims.layers, dims.kv_heads, dims.head_dim, dims.tokens,
                     dims.sequences, dims.sequences == 1 ? "" : "s") +
         AlignedTable(rows, left);
}

std::string KvTable(const KvReport& report) {
  Rows rows = {{"layer", "kept", "", "bytes", "mass"}};
  for (const KvLayerReport& layer : report.layers) {
    const int64_t kept =
        std::accumulate(layer.kept.begin(), layer.kept.end(), int64_t{0});
    const auto heads = std::max<int64_t>(1, std::ssize(layer.kept));
    rows.push_back(
        {fmt::format("{}", layer.layer), fmt::format("{}", kept / heads),
         Bar(Share(kept, heads * report.tokens_seen), kBarWidth),
         MiB(layer.bytes),
         layer.retained_mass ? fmt::format("{:.3f}", *layer.retained_mass)
                             : "-"});
  }
  return AlignedTable(rows, {false, false, true, false, false}) +
         fmt::format("{}: {} tokens seen, {:.0f} kept; {}\n", report.spec,
                     report.tokens_seen, report.tokens_kept_mean,
                     KvSummary(report));
}

std::string TierSummary(const KvTierReport& tier) {
  std::string text = fmt::format("; cold tier {} entries, {} in memory",
                                 tier.entries, MiB(tier.bytes));
  if (tier.file_bytes > 0) {
    text += fmt::format(", {} on disk", MiB(tier.file_bytes));
  }
  if (tier.fetch_share) {
    text += fmt::format(", {} fetched", Percent(*tier.fetch_share));
  }
  if (tier.file_bytes > 0 && tier.hit_rate && tier.overlap) {
    text += fmt::format(" ({} of it from memory, {} of reading hidden)",
                        Percent(*tier.hit_rate), Percent(*tier.overlap));
  }
  return text;
}

// Pages are taken whole, so that a short context may take more than its
// entries would.
std::string Saving(const KvReport& report) {
  const double share = Share(report.bytes, report.bytes_full);
  if (report.spec == "full") return "full cache";
  if (share >= 1) return "nothing saved: the context is short";
  return fmt::format("{} of the full cache's {}", Percent(share),
                     MiB(report.bytes_full));
}

std::string KvSummary(const KvReport& report) {
  std::string text =
      fmt::format("KV cache {} ({})", MiB(report.bytes), Saving(report));
  if (report.retained_mass) {
    text += fmt::format(", retained mass {:.3f}", *report.retained_mass);
  }
  if (report.tier) text += TierSummary(*report.tier);
  return text;
}

}  // namespace pyramidkv::cli
