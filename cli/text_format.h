// Numbers, bars and tables as people read them. Pure functions.

#ifndef PYRAMIDKV_CLI_TEXT_FORMAT_H_
#define PYRAMIDKV_CLI_TEXT_FORMAT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/kv_report.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {

// `width` characters, the share in [0, 1] of them '#', the rest '.'.
std::string Bar(double share, int width);
std::string MiB(int64_t bytes);          // "12.3 MiB"
std::string Percent(double share);       // "30.0 %"
double Share(int64_t part, int64_t of);  // 0 if `of` is 0

// Columns padded to their widest cell, two spaces between; the first row is
// the header. All cells are aligned to the right but those of `left` columns.
std::string AlignedTable(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<bool>& left);
std::string MarkdownTable(const std::vector<std::vector<std::string>>& rows);
// RFC 4180, with '\n' at the end of lines.
std::string CsvTable(const std::vector<std::vector<std::string>>& rows);

// Budgets per layer, one column for each cache, then the totals. Layers in a
// row with the same budgets share a line.
std::string PlanTable(const PlanDims& dims,
                      const std::vector<CachePlan>& plans);

// The cache of a session: kept entries and bytes per layer, then the totals.
std::string KvTable(const KvReport& report);
// "KV cache 13.2 of 44.0 MiB (30.0 %), retained mass 0.973"
std::string KvSummary(const KvReport& report);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_TEXT_FORMAT_H_
