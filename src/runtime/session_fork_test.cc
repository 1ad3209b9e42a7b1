// Session::Fork: each side goes on as if it had read everything itself.

#include <algorithm>
#include <cctype>
#include <memory>
#include <string>
#include <vector>

#include "policy/registry.h"
#include "runtime/testing/head_profile_file.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kVocabulary = 320;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = 3;
  options.context_length = 2048;
  return options;
}

// All presets and combinations, and tiers with a file.
std::vector<std::string> Specs() {
  std::vector<std::string> specs = ExampleSpecs(HeadProfileFile(3));
  for (const char* more :
       {"infinigen,tokens=64,resident=0.2", "infinigen,tokens=64,index=quest",
        "infinigen,keep=0.2,type=int8,resident=0.5,index=cluster",
        "snapkv-wide,keep=0.3,evict=both,remainder=offload,resident=0.3",
        "streaming-llm,tokens=64,positions=renumber",
        "snapkv,keep=0.3,prefill=streaming", "full,type=int4"}) {
    specs.emplace_back(more);
  }
  return specs;
}

// A step of a session's life.
struct Event {
  bool reads = false;  // a prompt, or else generated tokens
  int count = 0;
  uint32_t seed = 0;
};
using History = std::vector<Event>;

void Live(Session* session, const Event& event) {
  const std::vector<int> tokens =
      RandomTokens(event.count, kVocabulary, event.seed);
  const Status status =
      event.reads ? session->Read(tokens, {}) : session->Force(tokens).status();
  ASSERT_TRUE(status.ok()) << status.message();
}

// A session and all that it and those it was forked from have been through.
struct Life {
  std::unique_ptr<Session> session;
  History history;

  void Add(const Event& event) {
    Live(session.get(), event);
    history.push_back(event);
  }
  Life Fork() const { return {ForkOf(session.get()), history}; }
};

class Fork : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    engine_ = TinyEngine(Options(), 2, Compute::kAuto).release();
  }
  static void TearDownTestSuite() { delete engine_; }

  static Life NewLife() { return {MakeSession(engine_, GetParam()), {}}; }

  // As the one that never was forked.
  static void ExpectAlone(const Life& life) {
    Life alone = NewLife();
    for (const Event& event : life.history) alone.Add(event);
    EXPECT_EQ(Logits(*life.session), Logits(*alone.session));
    EXPECT_TRUE(
        std::ranges::equal(life.session->tokens(), alone.session->tokens()));
    const KvReport a = life.session->Report(), b = alone.session->Report();
    EXPECT_EQ(a.entries_kept, b.entries_kept);
    EXPECT_EQ(a.retained_mass, b.retained_mass);
    EXPECT_EQ(a.spec, b.spec);
    EXPECT_EQ(a.requested, b.requested);
    EXPECT_EQ(a.warnings, b.warnings);
    for (size_t l = 0; l < a.layers.size(); ++l) {
      EXPECT_EQ(a.layers[l].kept, b.layers[l].kept);
      EXPECT_EQ(a.layers[l].budget, b.layers[l].budget);
    }
  }

  static Engine* engine_;
};
Engine* Fork::engine_ = nullptr;

TEST_P(Fork, BothSidesGoOnAlone) {
  Life first = NewLife();
  first.Add({true, 300, 1});
  first.Add({false, 30, 2});
  Life second = first.Fork();
  EXPECT_EQ(Logits(*first.session), Logits(*second.session));
  // Writes on both sides, in turns.
  first.Add({false, 100, 3});
  second.Add({false, 90, 4});
  Life third = second.Fork();
  first.Add({true, 60, 5});
  second.Add({true, 70, 6});
  third.Add({false, 20, 7});
  ExpectAlone(third);
  // The one that all came from ends first.
  ExpectAlone(first);
  first.session.reset();
  second.Add({false, 40, 8});
  ExpectAlone(second);
  second.session.reset();
  third.Add({true, 50, 9});
  third.Add({false, 80, 10});
  ExpectAlone(third);
}

TEST_P(Fork, ForksMayEndFirst) {
  Life first = NewLife();
  first.Add({true, 200, 1});
  for (int i = 0; i < 3; ++i) {
    Life fork = first.Fork();
    fork.Add({false, 75, uint32_t(20 + i)});
  }
  first.Add({false, 100, 2});
  Life late = first.Fork();
  ExpectAlone(first);
  ExpectAlone(late);
}

// A fork can be stored, under a name of its own, and goes on from there.
TEST_P(Fork, IsStoredLikeAnyOther) {
  Life first = NewLife();
  first.Add({true, 150, 1});
  Life fork = first.Fork();
  fork.Add({false, 40, 2});
  const std::string path = (std::filesystem::temp_directory_path() /
                            ("pyramidkv_fork_" + std::to_string(getpid())))
                               .string();
  const Status saved = fork.session->Save(path);
  ASSERT_TRUE(saved.ok()) << saved.message();
  auto loaded = engine_->LoadSession(path, {});
  std::filesystem::remove(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Life stored = {std::move(*loaded), fork.history};
  Life again = stored.Fork();
  stored.Add({false, 30, 3});
  again.Add({true, 30, 4});
  ExpectAlone(stored);
  ExpectAlone(again);
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::to_string(info.index) + "_";
  for (const char c : info.param.substr(0, 40)) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(Specs, Fork, testing::ValuesIn(Specs()), NameOf);

TEST(SessionFork, SharesPages) {
  auto engine = TinyEngine(Options(), 1, Compute::kAuto);
  auto session = MakeSession(engine.get(), "full");
  ASSERT_TRUE(session->Read(RandomTokens(600, kVocabulary, 1), {}).ok());
  auto fork = ForkOf(session.get());
  EXPECT_EQ(fork->Report().bytes, session->Report().bytes);
  EXPECT_EQ(fork->Report().peak_bytes, session->Report().peak_bytes);
  EXPECT_EQ(fork->context_size(), session->context_size());
}

TEST(SessionFork, OfNothingAndOfAFailure) {
  auto engine = TinyEngine(Options(), 1, Compute::kAuto);
  auto session = MakeSession(engine.get(), "snapkv,keep=0.3");
  auto fork = ForkOf(session.get());
  ASSERT_TRUE(fork->Read(RandomTokens(100, kVocabulary, 1), {}).ok());
  ASSERT_TRUE(session->Read(RandomTokens(100, kVocabulary, 1), {}).ok());
  EXPECT_EQ(Logits(*fork), Logits(*session));
  const auto stop = [](int64_t, int64_t) { return false; };
  EXPECT_EQ(session->Read(RandomTokens(9, kVocabulary, 2), stop).code(),
            StatusCode::kCancelled);
  EXPECT_EQ(session->Fork().status().code(), StatusCode::kRuntime);
}

}  // namespace
}  // namespace pyramidkv
