#include "cli/options.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <random>

#include "cli/inputs.h"
#include "cli/models.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "pyramidkv/cache_spec.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

constexpr char kKeyTypes[] = "f32|f16|bf16|int8|int4|q8_0|q4_0";
constexpr char kValueTypes[] = "f32|f16|bf16|int8|int4|int2|q8_0|q4_0";
constexpr int kMaxThreads = 1024;
constexpr double kMaxInt = std::numeric_limits<int>::max();

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    parts.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::string Listed(const std::string& words) {
  return fmt::format("{}", fmt::join(Split(words, '|'), ", "));
}

bool Contains(const std::string& words, std::string_view word) {
  const std::vector<std::string> all = Split(words, '|');
  return std::find(all.begin(), all.end(), word) != all.end();
}

// The flag that sets `key`, for messages.
std::string FlagOf(std::string_view key) {
  if (key == "type_k") return "--cache-type-k";
  if (key == "type_v") return "--cache-type-v";
  return "--type";
}

Status CheckCacheType(std::string_view key, std::string_view value) {
  const char* const allowed = key == "type_v" ? kValueTypes : kKeyTypes;
  if (Contains(allowed, value)) return {};
  return Status::Usage(fmt::format("{} {}: no such cache type; allowed: {}",
                                   FlagOf(key), value, Listed(allowed)));
}

// As a cache spec may say it: capitals, and llama.cpp's names for entries of
// as many bits.
std::string OurName(std::string_view type) {
  const std::string spec = TidyCacheSpec(fmt::format("full,type={}", type));
  return CacheSpecValue(spec, "type").value_or("");
}

template <typename T>
CLI::Option* AddNumber(CLI::App* app, const char* names, T* value,
                       const char* help, double low, double high) {
  return app->add_option(names, *value, help)
      ->check(InRange(low, high))
      ->type_name("N")
      ->capture_default_str();
}

std::string EnvironmentName(std::string flag) {
  for (char& c : flag) {
    c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  }
  return "PYRAMIDKV_ARG_" + flag;
}

}  // namespace

CLI::Validator InRange(double low, double high) {
  return CLI::Validator(
      [low, high](std::string& word) {
        double value = 0;
        if (CLI::detail::lexical_cast(word, value) && value >= low &&
            value <= high) {
          return std::string();
        }
        if (high >= kMaxInt) {
          return fmt::format("{} is not a number of at least {}", word, low);
        }
        return fmt::format("{} is not a number from {} to {}", word, low, high);
      },
      "");
}

CLI::Validator OneOf(const std::string& words) {
  return CLI::Validator(
      [words](std::string& word) {
        if (Contains(words, word)) return std::string();
        return fmt::format("\"{}\" is none of {}", word, Listed(words));
      },
      "");
}

CLI::Option* AddSwitch(CLI::App* app, const char* names, bool* value,
                       const char* help) {
  CLI::Validator words(
      [](std::string& word) {
        if (word == "enabled") word = "true";
        if (word == "disabled") word = "false";
        return std::string();
      },
      "");
  return app->add_flag(names, *value, help)->transform(words);
}

CLI::Option* AddModelPath(CLI::App* app, std::string* path) {
  return app
      ->add_option(
          "-m,--model", *path,
          "GGUF file, or its name in `pyramidkv models` [$PYRAMIDKV_MODEL, "
          "then default.gguf]")
      ->type_name("FILE");
}

CLI::Option* AddContextSize(CLI::App* app, int* tokens) {
  return AddNumber(app, "-c,--ctx-size,--ctx", tokens,
                   "Tokens of context; 0: the model's", 0, kMaxInt);
}

void AddThreads(CLI::App* app, int* threads) {
  app->add_option("-t,--threads", *threads,
                  "Threads [$OMP_NUM_THREADS or the usable processors]")
      ->check(InRange(1, kMaxThreads))
      ->type_name("N");
}

void AddCompute(CLI::App* app, std::string* compute) {
  constexpr char kWords[] = "auto|f32|bf16|int8";
  app->add_option("--compute", *compute, "Arithmetic of the matrix products")
      ->check(OneOf(kWords))
      ->type_name(kWords)
      ->capture_default_str();
}

void AddOffloadDirectory(CLI::App* app, std::string* directory) {
  CLI::Validator exists = CLI::ExistingDirectory;
  exists.description("");  // else the help says DIR twice
  app->add_option("--kv-offload-dir", *directory,
                  "Where remainder=offload puts its file (default: the "
                  "system's directory for temporary files)")
      ->check(exists)
      ->type_name("DIR");
}

void AddModelFlags(CLI::App* app, ModelFlags* flags) {
  AddModelPath(app, &flags->path);
  AddContextSize(app, &flags->context_size);
  AddThreads(app, &flags->threads);
  AddCompute(app, &flags->compute);
  AddOffloadDirectory(app, &flags->offload_directory);
  AddSwitch(app, "--mlock", &flags->lock_memory,
            "Keep the weights in memory, whatever else runs");
}

void AddCacheFlags(CLI::App* app, CacheFlags* flags, bool repeatable) {
  CLI::Option* kv =
      app->add_option(
             "--kv", flags->specs,
             fmt::format("Cache: POLICY[,key=value]... (docs/cache-spec.md){}; "
                         "policies: {} [full]",
                         repeatable ? ", may be given several times" : "",
                         fmt::join(PresetNames(), ", ")))
          ->allow_extra_args(false)
          ->type_name("SPEC");
  if (!repeatable) kv->expected(1);
  app->add_option("--cache-type-k", flags->type_k,
                  "Type of stored keys, also -ctk [f16]")
      ->type_name(kKeyTypes);
  app->add_option("--cache-type-v", flags->type_v,
                  "Type of stored values, also -ctv [f16]")
      ->type_name(kValueTypes);
}

void AddGenerationFlags(CLI::App* app, GenerationFlags* flags) {
  SamplingOptions& s = flags->sampling;
  AddNumber(app, "-n,--predict,--n-predict", &flags->predict,
            "Most tokens to generate [512]; -1: to the end of the answer or "
            "the context",
            -1, kMaxInt);
  AddNumber(app, "--temp,--temperature", &s.temp,
            "Temperature; 0, the default here (llama.cpp's is 0.8), always "
            "takes the likeliest token",
            0, 1e6);
  AddNumber(app, "--top-k", &s.top_k, "Sample from the k likeliest; 0: all", 0,
            kMaxInt);
  AddNumber(app, "--top-p", &s.top_p,
            "Sample from the likeliest that together reach p; 1: all", 0, 1);
  AddNumber(app, "--min-p", &s.min_p,
            "Least probability relative to the likeliest; 0: off", 0, 1);
  AddNumber(app, "--repeat-penalty", &s.repeat_penalty,
            "Divides the logits of repeated tokens; 1: off", 1e-3, 1e3);
  AddNumber(app, "--repeat-last-n", &s.repeat_last_n,
            "Tokens that the penalties look back; 0: off, -1: the context", -1,
            kMaxInt);
  AddNumber(app, "--presence-penalty", &s.presence_penalty,
            "Taken off the logits of tokens that occurred; 0: off", -1e3, 1e3);
  AddNumber(app, "--frequency-penalty", &s.frequency_penalty,
            "The same times the number of occurrences; 0: off", -1e3, 1e3);
  AddNumber(app, "-s,--seed", &flags->seed, "Seed of sampling; -1: random", -1,
            std::numeric_limits<uint32_t>::max());
  AddSwitch(app, "--ignore-eos", &flags->ignore_eos,
            "Do not stop at the end of the answer");
  app->add_option("-r,--reverse-prompt,--stop", flags->stop,
                  "Text that ends the answer; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
}

void AddTemplateFlags(CLI::App* app, TemplateFlags* flags) {
  app->add_option("--system-prompt", flags->system_prompt,
                  "System message, also -sys")
      ->type_name("TEXT");
  app->add_option("--chat-template", flags->name,
                  "Built-in template to use instead of the model's own")
      ->type_name("NAME");
  app->add_option("--chat-template-file", flags->file,
                  "File with a Jinja template to use instead of it")
      ->type_name("FILE");
  app->add_option("--chat-template-kwargs", flags->kwargs,
                  "JSON object of variables for the template")
      ->type_name("JSON");
  AddSwitch(app, "--parse-special", &flags->parse_special,
            "Take control tokens in messages as such");
}

CLI::Option* AddJson(CLI::App* app, bool* json) {
  return AddSwitch(app, "--json", json, "One JSON document (docs/json.md)");
}

Result<std::string> MergeCacheType(const std::string& spec,
                                   std::string_view key,
                                   std::string_view given_value) {
  const std::string value = OurName(given_value);
  if (!CheckCacheType(key, value).ok()) {
    return CheckCacheType(key, given_value);
  }
  // The keys that say it already, the more particular one first.
  std::vector<std::string> keys = {std::string(key), "type"};
  if (key == "type") keys = {"type", "type_k", "type_v"};
  bool given = false;
  for (const std::string& other : keys) {
    const std::optional<std::string> found = CacheSpecValue(spec, other);
    if (!found) continue;
    if (*found != value) {
      return Status::Usage(fmt::format(
          "{} {} contradicts {}={} in the cache spec \"{}\"; give one of them",
          FlagOf(key), value, other, *found, spec));
    }
    given = given || key != "type" || other == "type";
    if (key != "type") break;
  }
  return given ? spec : SetCacheSpecValue(spec, key, value);
}

std::string KeepShortContexts(const std::string& spec, int context_size) {
  const std::optional<std::string> keep = CacheSpecValue(spec, "keep");
  if (!keep || *keep == "1") return spec;
  for (const char* key : {"from", "tokens", "memory"}) {
    if (CacheSpecValue(spec, key)) return spec;
  }
  const int from = context_size > 0 ? std::min(kCompressFrom, context_size / 2)
                                    : kCompressFrom;
  return SetCacheSpecValue(spec, "from", fmt::format("{}", from));
}

Result<std::vector<std::string>> ResolveSpecs(const CacheFlags& flags) {
  std::vector<std::string> specs = flags.specs;
  if (specs.empty()) specs = {"full"};
  const std::pair<const char*, const std::string*> types[] = {
      {"type", &flags.type},
      {"type_k", &flags.type_k},
      {"type_v", &flags.type_v}};
  for (std::string& spec : specs) {
    spec = TidyCacheSpec(spec);
    for (const auto& [key, value] : types) {
      if (value->empty()) continue;
      PKV_ASSIGN_OR_RETURN(spec, MergeCacheType(spec, key, *value));
    }
  }
  return specs;
}

int ResolveThreads(int flag) {
  if (flag > 0) return flag;
  const char* text = std::getenv("OMP_NUM_THREADS");
  const int threads = text == nullptr ? 0 : std::atoi(text);
  return std::clamp(threads, 0, kMaxThreads);
}

std::string UserCacheDirectory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/')
    return std::string(cache) + "/pyramidkv";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') {
    return std::string(home) + "/.cache/pyramidkv";
  }
  return "";
}

Result<EngineOptions> ResolveEngine(const ModelFlags& flags) {
  EngineOptions options;
  PKV_ASSIGN_OR_RETURN(options.model_path, ResolveModelPath(flags.path));
  options.threads = ResolveThreads(flags.threads);
  options.offload_directory = flags.offload_directory;
  options.cache_directory = UserCacheDirectory();
  for (Compute compute : {Compute::kF32, Compute::kBf16, Compute::kInt8}) {
    if (flags.compute == ComputeName(compute)) options.compute = compute;
  }
  return options;
}

Result<std::unique_ptr<Engine>> LoadModel(const ModelFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const EngineOptions options, ResolveEngine(flags));
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Load(options));
  for (const std::string& warning : engine->warnings()) {
    LogLine("warning: " + warning);
  }
  // In memory by now: the weights, and no cache. Pages of the file that
  // were given back stay where they are.
  if (flags.lock_memory && mlockall(MCL_CURRENT | MCL_ONFAULT) != 0) {
    LogLine(
        fmt::format("warning: --mlock: the memory cannot be locked: {}; "
                    "ulimit -l says how much may be",
                    strerror(errno)));
  }
  return engine;
}

Result<ChatOptions> ResolveTemplate(const TemplateFlags& flags) {
  ChatOptions options;
  options.name = flags.name;
  options.kwargs = flags.kwargs;
  options.parse_special = flags.parse_special;
  if (flags.file.empty()) return options;
  if (!flags.name.empty()) {
    return Status::Usage(
        "--chat-template and --chat-template-file: give one of them");
  }
  PKV_ASSIGN_OR_RETURN(options.source, ReadFile(flags.file));
  if (!options.source.empty()) return options;
  return Status::Usage(
      fmt::format("--chat-template-file {}: the file is empty", flags.file));
}

GenerateOptions ResolveGeneration(const GenerationFlags& flags) {
  GenerateOptions options;
  options.max_tokens = flags.predict.value_or(kPredict);
  options.ignore_eos = flags.ignore_eos;
  options.stop = flags.stop;
  options.sampling = flags.sampling;
  options.sampling.seed = flags.seed < 0 ? std::random_device()()
                                         : static_cast<uint32_t>(flags.seed);
  options.cancel = StopFlag();
  return options;
}

void BindEnvironment(CLI::App* app) {
  for (CLI::Option* option : app->get_options()) {
    for (const std::string& flag : option->get_lnames()) {
      // ResolveModelPath looks up the model itself, so that a command can see
      // whether it was given as a flag.
      if (flag == "help" || flag == "model") continue;
      const std::string name = EnvironmentName(flag);
      const char* value = std::getenv(name.c_str());
      if (value == nullptr || *value == '\0') continue;
      option->envname(name);
      break;
    }
  }
}

}  // namespace pyramidkv::cli
