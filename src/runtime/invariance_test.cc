// The law of batch invariance: a row's result is bit-identical whatever else
// is in the batch, however the prompt is cut, for any number of threads.

#include <map>

#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = 3;
  options.context_length = 2048;
  options.weight_type = 8;  // Q8_0
  return options;
}

// Logits after the prompt, after 20 forced tokens, and after a second turn.
std::vector<float> Conversation(Engine* engine, const std::string& kv,
                                const std::vector<int>& prompt) {
  auto session = MakeSession(engine, kv);
  EXPECT_TRUE(session->Read(prompt, {}).ok());
  std::vector<float> all = Logits(*session);
  const auto forced = session->Force(RandomTokens(20, 320, 7));
  EXPECT_TRUE(forced.ok());
  all.insert(all.end(), forced->begin(), forced->end());
  EXPECT_TRUE(session->Read(RandomTokens(37, 320, 8), {}).ok());
  const auto last = Logits(*session);
  all.insert(all.end(), last.begin(), last.end());
  return all;
}

TEST(InvarianceThreaded, AnyNumberOfThreads) {
  for (Compute compute : {Compute::kF32, Compute::kAuto}) {
    auto one = TinyEngine(Options(), 1, compute);
    for (int threads : {2, 3}) {
      auto many = TinyEngine(Options(), threads, compute);
      for (const char* kv :
           {"full", "pyramidkv,keep=0.4", "snapkv-wide,keep=0.3",
            "full,type=int8", "snapkv,keep=0.4,type=int4",
            "full,type=int4,scale=channel"}) {
        for (int length : {1, 31, 32, 33, 300, 700}) {
          const auto prompt = RandomTokens(length, 320, length);
          ASSERT_EQ(Conversation(one.get(), kv, prompt),
                    Conversation(many.get(), kv, prompt))
              << kv << " " << length << " tokens, " << threads << " threads";
        }
      }
    }
  }
}

// Exact arithmetic in the cache: reading in pieces is reading at once.
TEST(Invariance, PromptCutAnywhere) {
  for (Compute compute : {Compute::kF32, Compute::kAuto}) {
    auto engine = TinyEngine(Options(), 2, compute);
    const auto prompt = RandomTokens(400, 320, 1);
    auto whole = MakeSession(engine.get(), "full,type=f32");
    ASSERT_TRUE(whole->Read(prompt, {}).ok());
    for (int cut : {1, 16, 31, 32, 100, 128, 129, 399}) {
      auto pieces = MakeSession(engine.get(), "full,type=f32");
      const std::span<const int> tokens(prompt);
      ASSERT_TRUE(pieces->Read(tokens.subspan(0, cut), {}).ok());
      ASSERT_TRUE(pieces->Read(tokens.subspan(cut), {}).ok());
      ASSERT_EQ(Logits(*pieces), Logits(*whole)) << "cut at " << cut;
    }
  }
}

TEST(Invariance, BatchEqualsSingles) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  const std::vector<std::string> specs = {
      "full",
      "pyramidkv,keep=0.5",
      "snapkv,keep=0.3",
      "snapkv-wide,keep=0.2",
      "full,type=int8",
      "snapkv,keep=0.5,type_k=int4,type_v=int2",
      "snapkv,keep=0.5,type=int4,scale=channel",
      "full,type=int8,scale=channel"};
  const int count = static_cast<int>(specs.size());
  std::vector<std::vector<int>> prompts, steps;
  for (int i = 0; i < count; ++i) {
    prompts.push_back(RandomTokens(100 + 150 * i, 320, 10 + i));
    steps.push_back(RandomTokens(12, 320, 20 + i));
  }
  std::vector<std::unique_ptr<Session>> batch;
  std::vector<Session*> sessions;
  for (int i = 0; i < count; ++i) {
    batch.push_back(MakeSession(engine.get(), specs[i]));
    ASSERT_TRUE(batch[i]->Read(prompts[i], {}).ok());
    sessions.push_back(batch[i].get());
  }
  for (int s = 0; s < 12; ++s) {
    std::vector<int> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(steps[i][s]);
    ASSERT_TRUE(engine->DecodeBatch(sessions, tokens).ok());
  }
  for (int i = 0; i < count; ++i) {
    auto single = MakeSession(engine.get(), specs[i]);
    ASSERT_TRUE(single->Read(prompts[i], {}).ok());
    for (int token : steps[i]) {
      ASSERT_TRUE(single->Force(std::vector<int>{token}).ok());
    }
    EXPECT_EQ(Logits(*single), Logits(*batch[i])) << specs[i];
  }
}

TEST(Invariance, ForcedRowsInOneCallOrOneByOne) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  const auto tokens = RandomTokens(40, 320, 5);
  auto together = MakeSession(engine.get(), "snapkv,keep=0.4");
  auto apart = MakeSession(engine.get(), "snapkv,keep=0.4");
  for (auto* s : {&together, &apart}) {
    ASSERT_TRUE((*s)->Read(RandomTokens(200, 320, 6), {}).ok());
  }
  const auto all = together->Force(tokens);
  ASSERT_TRUE(all.ok());
  std::vector<float> rows;
  for (int t : tokens) {
    const auto row = apart->Force(std::vector<int>{t});
    ASSERT_TRUE(row.ok());
    rows.insert(rows.end(), row->begin(), row->end());
  }
  EXPECT_EQ(*all, rows);
}

TEST(Invariance, SharedPrefillEqualsOwnPrefills) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  const auto prompt = RandomTokens(500, 320, 3);
  const std::vector<std::string> specs = {"full",
                                          "pyramidkv,keep=0.5",
                                          "snapkv,keep=0.3,window=16",
                                          "snapkv-wide,keep=0.2",
                                          "llama,type=bf16",
                                          "full,type_k=int4,type_v=int2",
                                          "full,type=int8,scale=tensor",
                                          "snapkv,keep=0.5,type=int4,"
                                          "scale=channel",
                                          "snapkv-wide,keep=0.5,type=int4,"
                                          "top_type=int8"};
  std::vector<std::unique_ptr<Session>> shared;
  std::vector<Session*> sessions;
  for (const auto& kv : specs) {
    shared.push_back(MakeSession(engine.get(), kv));
    sessions.push_back(shared.back().get());
  }
  ASSERT_TRUE(engine->ReadShared(prompt, sessions, {}).ok());
  const auto next = RandomTokens(5, 320, 4);
  for (size_t i = 0; i < specs.size(); ++i) {
    auto own = MakeSession(engine.get(), specs[i]);
    ASSERT_TRUE(own->Read(prompt, {}).ok());
    EXPECT_EQ(*own->Force(next), *shared[i]->Force(next)) << specs[i];
    EXPECT_EQ(own->Report().entries_kept, shared[i]->Report().entries_kept);
  }
}

// Rings of 100 entries beside layers that are compressed; two rotations.
TinyGgufOptions LocalAndGlobal() {
  TinyGgufOptions options = Options();
  options.architecture = "gemma3";
  options.layers = 7;
  options.sliding_window = 100;
  return options;
}

TEST(InvarianceThreaded, LocalAndGlobalLayers) {
  auto one = TinyEngine(LocalAndGlobal(), 1, Compute::kAuto);
  auto three = TinyEngine(LocalAndGlobal(), 3, Compute::kAuto);
  for (const char* kv :
       {"full", "pyramidkv,keep=0.4", "snapkv-wide,keep=0.3"}) {
    for (int length : {31, 300}) {
      const auto prompt = RandomTokens(length, 320, length);
      ASSERT_EQ(Conversation(one.get(), kv, prompt),
                Conversation(three.get(), kv, prompt))
          << kv << " " << length << " tokens";
    }
  }
}

TEST(Invariance, LocalAndGlobalLayersCutAnywhere) {
  auto engine = TinyEngine(LocalAndGlobal(), 1, Compute::kF32);
  const auto prompt = RandomTokens(400, 320, 1);
  const std::span<const int> tokens(prompt);
  const auto next = RandomTokens(80, 320, 2);
  auto whole = MakeSession(engine.get(), "full,type=f32");
  ASSERT_TRUE(whole->Read(prompt, {}).ok());
  const auto together = whole->Force(next);
  for (int cut : {1, 129, 399}) {
    auto pieces = MakeSession(engine.get(), "full,type=f32");
    ASSERT_TRUE(pieces->Read(tokens.subspan(0, cut), {}).ok());
    ASSERT_TRUE(pieces->Read(tokens.subspan(cut), {}).ok());
    for (int t : next) ASSERT_TRUE(pieces->Force(std::vector<int>{t}).ok());
    ASSERT_EQ(Logits(*pieces), Logits(*whole)) << "cut at " << cut;
  }
}

TEST(Invariance, LocalAndGlobalLayersInABatch) {
  auto engine = TinyEngine(LocalAndGlobal(), 2, Compute::kAuto);
  std::vector<std::unique_ptr<Session>> batch, singles;
  std::vector<Session*> sessions;
  for (int i = 0; i < 3; ++i) {
    for (auto* list : {&batch, &singles}) {
      list->push_back(MakeSession(engine.get(), "pyramidkv,keep=0.5"));
      const auto prompt = RandomTokens(90 + 60 * i, 320, 10 + i);
      ASSERT_TRUE(list->back()->Read(prompt, {}).ok());
    }
    sessions.push_back(batch[i].get());
  }
  for (int step = 0; step < 12; ++step) {
    const auto tokens = RandomTokens(3, 320, 20 + step);
    ASSERT_TRUE(engine->DecodeBatch(sessions, tokens).ok());
    for (int i = 0; i < 3; ++i) {
      const std::vector<int> token = {tokens[i]};
      ASSERT_TRUE(singles[i]->Force(token).ok());
      ASSERT_EQ(Logits(*singles[i]), Logits(*batch[i]));
    }
  }
}

TEST(Invariance, SlidingWindowForcedRowsAndCuts) {
  TinyGgufOptions options = Options();
  options.sliding_window = 100;
  auto engine = TinyEngine(options, 2, Compute::kF32);
  const auto prompt = RandomTokens(500, 320, 3);
  const auto next = RandomTokens(300, 320, 4);
  auto whole = MakeSession(engine.get(), "full,type=f32");
  ASSERT_TRUE(whole->Read(prompt, {}).ok());
  auto pieces = MakeSession(engine.get(), "full,type=f32");
  const std::span<const int> tokens(prompt);
  ASSERT_TRUE(pieces->Read(tokens.subspan(0, 210), {}).ok());
  ASSERT_TRUE(pieces->Read(tokens.subspan(210), {}).ok());
  ASSERT_EQ(Logits(*whole), Logits(*pieces));
  const auto together = whole->Force(next);
  for (int t : next) ASSERT_TRUE(pieces->Force(std::vector<int>{t}).ok());
  EXPECT_EQ(Logits(*whole), Logits(*pieces));
  // A ring: whole pages behind the window are given back.
  for (const auto& layer : pieces->Report().layers) {
    for (int kept : layer.kept) EXPECT_LE(kept, 100 + 16 + 64);
  }
}

}  // namespace
}  // namespace pyramidkv
