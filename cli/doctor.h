// The state of machine and model, and the conclusions from it.

#ifndef PYRAMIDKV_CLI_DOCTOR_H_
#define PYRAMIDKV_CLI_DOCTOR_H_

#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/machine.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

struct Health {
  MachineInfo machine;
  int threads = 0;  // that will run
  double load = 0;  // processors that others use, in a minute's mean
  double read_bytes_per_s = 0;  // of memory
  bool debug_build = false;
  Result<ModelInfo> model = Status::Model("no model");
  int64_t full_cache_bytes = 0;  // f16, of the model's whole context
};

// Looks, and measures memory. threads: 0 for as many as may run.
Health Examine(const Result<std::string>& model_path, int threads);

struct Finding {
  std::string word;  // "slow", "memory" or "model"
  std::string text;  // the cause, and what helps
};
std::vector<Finding> FindingsOf(const Health& health);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_DOCTOR_H_
