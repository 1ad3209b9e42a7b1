// The flags that commands share, each defined once. Names follow llama.cpp's
// where the meaning is the same.

#ifndef PYRAMIDKV_CLI_OPTIONS_H_
#define PYRAMIDKV_CLI_OPTIONS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"
#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

struct ModelFlags {
  std::string path;      // see ResolveModelPath
  int context_size = 0;  // 0: the model's
  int threads = 0;       // 0: not given
  std::string compute = "auto";
  std::string offload_directory;  // empty: the system's
  bool lock_memory = false;
};

struct CacheFlags {
  std::vector<std::string> specs;
  std::string type, type_k, type_v;  // empty: not given
};

constexpr int kPredict = 512;  // where -n is not given

struct GenerationFlags {
  std::optional<int> predict;
  int64_t seed = 0;  // -1: a random one
  bool ignore_eos = false;
  std::vector<std::string> stop;
  SamplingOptions sampling;
};

struct TemplateFlags {
  std::string system_prompt;
  std::string name, file, kwargs;
  bool parse_special = false;

  bool given() const {
    return parse_special || !(system_prompt.empty() && name.empty() &&
                              file.empty() && kwargs.empty());
  }
};

// A validator: number within [low, high]; NaN is outside.
CLI::Validator InRange(double low, double high);
// A validator: one of the words of "a|b|c".
CLI::Validator OneOf(const std::string& words);

// A flag without a value. Its environment variable may say enabled or
// disabled.
CLI::Option* AddSwitch(CLI::App* app, const char* names, bool* value,
                       const char* help);

CLI::Option* AddModelPath(CLI::App* app, std::string* path);
CLI::Option* AddContextSize(CLI::App* app, int* tokens);
void AddThreads(CLI::App* app, int* threads);
void AddCompute(CLI::App* app, std::string* compute);
void AddOffloadDirectory(CLI::App* app, std::string* directory);
// All of ModelFlags.
void AddModelFlags(CLI::App* app, ModelFlags* flags);
// --kv (several times if `repeatable`), -ctk and -ctv.
void AddCacheFlags(CLI::App* app, CacheFlags* flags, bool repeatable);
void AddGenerationFlags(CLI::App* app, GenerationFlags* flags);
void AddTemplateFlags(CLI::App* app, TemplateFlags* flags);
CLI::Option* AddJson(CLI::App* app, bool* json);

// `spec` with the cache type `value` for `key` (type, type_k or type_v).
// Errors: kUsage for a type that is not built, or one that `spec` contradicts.
Result<std::string> MergeCacheType(const std::string& spec,
                                   std::string_view key,
                                   std::string_view value);
// The specs with the types merged in; {"full"} where none was given.
Result<std::vector<std::string>> ResolveSpecs(const CacheFlags& flags);

// For a spec whose budget is a share of what was seen (`keep`): a context of
// fewer than kCompressFrom tokens stays whole, since it loses more than it
// saves (docs/policies.md). Half of a context (0: the model's) that is not
// much longer. A spec that says `from` itself stays as it is.
constexpr int kCompressFrom = 512;
std::string KeepShortContexts(const std::string& spec, int context_size);

// With the default of $OMP_NUM_THREADS.
int ResolveThreads(int flag);
Result<EngineOptions> ResolveEngine(const ModelFlags& flags);
// The model, with its memory locked if that is asked for and the system allows
// it; a warning says if it does not.
Result<std::unique_ptr<Engine>> LoadModel(const ModelFlags& flags);
// Reads the template's file. Errors: kUsage, also where a name is given, too.
Result<ChatOptions> ResolveTemplate(const TemplateFlags& flags);
// `cancel` is the process's stop flag.
GenerateOptions ResolveGeneration(const GenerationFlags& flags);

// Lets every long flag of `app` be given as $PYRAMIDKV_ARG_<FLAG>.
void BindEnvironment(CLI::App* app);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_OPTIONS_H_
