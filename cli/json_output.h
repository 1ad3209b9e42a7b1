// The JSON documents of docs/json.md and what goes into them.

#ifndef PYRAMIDKV_CLI_JSON_OUTPUT_H_
#define PYRAMIDKV_CLI_JSON_OUTPUT_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "pyramidkv/engine.h"
#include "pyramidkv/kv_report.h"
#include "pyramidkv/plan.h"
#include "pyramidkv/stored_session.h"

namespace pyramidkv::cli {

using Json = nlohmann::ordered_json;  // keys in the order of the docs

class Stopwatch {
 public:
  double Milliseconds() const {
    return std::chrono::duration<double, std::milli>(
               std::chrono::steady_clock::now() - start_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
};

struct Timings {
  double load_ms = 0;
  double prefill_ms = 0;
  std::optional<double> ttft_ms;  // none: no token was generated
  std::optional<double> tpot_ms;  // none: fewer than two tokens
  std::optional<double> prefill_tokens_per_s;
  std::optional<double> decode_tokens_per_s;
};

Timings MakeTimings(double load_ms, double prefill_ms, int prompt_tokens,
                    const Generation& generation);

Json KvJson(const KvReport& report);
Json TimingsJson(const Timings& timings);
Json LogprobsJson(const std::vector<GeneratedToken>& tokens);
Json TokenIdsJson(const std::vector<GeneratedToken>& tokens);
Json PlanJson(const PlanDims& dims, const std::vector<CachePlan>& plans);
Json StoredSessionJson(const StoredSession& stored);
Json MachineJson();

// One line with a newline at its end. Bytes that are not UTF-8 become U+FFFD.
std::string Dump(const Json& json);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_JSON_OUTPUT_H_
