// Engines over tiny random models, for tests.

#ifndef PYRAMIDKV_RUNTIME_TESTING_TINY_ENGINE_H_
#define PYRAMIDKV_RUNTIME_TESTING_TINY_ENGINE_H_

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "model/testing/tiny_gguf.h"
#include "pyramidkv/engine.h"

namespace pyramidkv {

inline std::unique_ptr<Engine> TinyEngine(const TinyGgufOptions& options,
                                          int threads, Compute compute) {
  const std::string path =
      (std::filesystem::temp_directory_path() /
       ("pyramidkv_tiny_" + std::to_string(getpid()) + ".gguf"))
          .string();
  EXPECT_TRUE(WriteTinyGguf(options, path));
  EngineOptions engine_options;
  engine_options.model_path = path;
  engine_options.threads = threads;
  engine_options.compute = compute;
  auto engine = Engine::Load(engine_options);
  std::filesystem::remove(path);  // stays mapped
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(*engine) : nullptr;
}

// No windows; one of `window` tokens in every layer; one in five of six layers.
inline std::vector<TinyGgufOptions> WindowModels(int context, int window) {
  TinyGgufOptions plain;
  plain.layers = 3;
  plain.context_length = context;
  TinyGgufOptions windowed = plain;
  windowed.sliding_window = window;
  TinyGgufOptions mixed = windowed;
  mixed.architecture = "gemma3";
  mixed.layers = 7;
  return {plain, windowed, mixed};
}

inline std::vector<int> RandomTokens(int count, int vocabulary, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int> tokens(count);
  for (int& t : tokens) t = 3 + random() % (vocabulary - 3);
  return tokens;
}

inline std::unique_ptr<Session> MakeSession(Engine* engine,
                                            const std::string& kv,
                                            int max_new_tokens = 64) {
  auto session = engine->NewSession({kv, 0, max_new_tokens});
  EXPECT_TRUE(session.ok()) << kv << ": " << session.status().message();
  return session.ok() ? std::move(*session) : nullptr;
}

inline std::unique_ptr<Session> ForkOf(Session* session) {
  auto fork = session->Fork();
  EXPECT_TRUE(fork.ok()) << fork.status().message();
  return fork.ok() ? std::move(*fork) : nullptr;
}

inline std::vector<float> Logits(const Session& session) {
  const auto logits = session.logits();
  return {logits.begin(), logits.end()};
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_TESTING_TINY_ENGINE_H_
