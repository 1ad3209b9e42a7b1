// Quantised caches of contexts that begin with a few tokens: as near to the
// exact cache as those that begin with many.

#include "runtime/fit_rounding.h"

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

// Keys with biases as large as Qwen2's.
TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.architecture = "qwen2";
  options.layers = 2;
  options.context_length = 1024;
  options.key_bias = 5;
  return options;
}

// Turns of a context: so many tokens are read, or forced (below 0).
using Turns = std::vector<int>;

class FitRoundingTest : public testing::Test {
 protected:
  // Goes through the turns; then logits of forced tokens.
  std::vector<float> Answers(const std::string& kv, const Turns& turns) {
    auto session = MakeSession(engine_.get(), kv);
    for (int turn : turns) Take(turn, session.get());
    return *session->Force(RandomTokens(40, 320, 99));
  }

  // The next tokens of a row that is the same however it is cut.
  static void Take(int turn, Session* session) {
    const std::vector<int> all = RandomTokens(1000, 320, 1);
    const std::span<const int> next =
        std::span(all).subspan(session->position(), std::abs(turn));
    EXPECT_TRUE(turn > 0 ? session->Read(next, {}).ok()
                         : session->Force(next).ok());
  }

  double Error(const std::string& type, const Turns& turns) {
    const auto want = Answers("full,type=f32", turns);
    const auto got = Answers("full," + type, turns);
    double sum = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      sum += std::pow(double{got[i]} - want[i], 2);
    }
    return std::sqrt(sum / double(want.size()));
  }

  std::unique_ptr<Engine> engine_ = TinyEngine(Options(), 2, Compute::kF32);
};

TEST_F(FitRoundingTest, FewFirstTokensDoNoHarm) {
  for (const char* type :
       {"type=int8", "type_k=int8", "type=int4", "type_k=int4,recent_type=int8",
        "type=int8,scale=tensor", "type=int8,scale=tensor,recent_type=int8"}) {
    const double long_turn = Error(type, {300});
    // One scale for all is that of the largest, whichever it is rounded by.
    const double times =
        std::string_view(type).find("tensor") != std::string_view::npos ? 3
                                                                        : 1.5;
    for (const Turns& turns : std::vector<Turns>{{12, 288},
                                                 {1, 299},
                                                 {12, -40, 248},
                                                 {12, -288},
                                                 {1, -31, 268},
                                                 {5, 9, 11, 20, 10, 245}}) {
      EXPECT_LT(Error(type, turns), times * long_turn)
          << type << ", " << turns[0] << " and " << turns[1];
    }
  }
}

// How many rows are decoded at once, forks and files do not show.
TEST_F(FitRoundingTest, WhatComesBetweenDoesNotShow) {
  for (const std::string kv :
       {"full,type=int8", "full,type=int4", "full,type=int8,scale=tensor",
        "snapkv,keep=0.5,top_type=int8,type=int4"}) {
    auto whole = MakeSession(engine_.get(), kv);
    Take(12, whole.get());
    Take(-50, whole.get());
    auto cut = MakeSession(engine_.get(), kv);
    Take(12, cut.get());
    for (int i = 0; i < 15; ++i) Take(-1, cut.get());
    cut = ForkOf(cut.get());
    Take(-9, cut.get());
    const std::string path =
        (std::filesystem::temp_directory_path() /
         ("pyramidkv_fit_" + std::to_string(getpid()) + ".pkv"))
            .string();
    ASSERT_TRUE(cut->Save(path).ok());
    auto loaded = engine_->LoadSession(path, {});
    std::filesystem::remove(path);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    Take(-26, loaded->get());
    EXPECT_EQ(Logits(**loaded), Logits(*whole)) << kv;
    for (Session* s : {whole.get(), loaded->get()}) Take(100, s);
    EXPECT_EQ(Logits(**loaded), Logits(*whole)) << kv;
  }
}

// A fork that fits anew leaves the codes of the other side alone.
TEST_F(FitRoundingTest, ForksGoTheirOwnWays) {
  auto session = MakeSession(engine_.get(), "full,type=int8,scale=tensor");
  Take(20, session.get());
  auto fork = ForkOf(session.get());
  Take(300, fork.get());
  const auto alone = Answers("full,type=int8,scale=tensor", {20});
  EXPECT_EQ(*session->Force(RandomTokens(40, 320, 99)), alone);
}

}  // namespace
}  // namespace pyramidkv
