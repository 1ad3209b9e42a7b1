#include "runtime/scheduler.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "policy/registry.h"
#include "runtime/testing/batch_requests.h"

namespace pyramidkv {
namespace {

using testing::HasSubstr;

constexpr int kVocabulary = 320;
constexpr int64_t kMiB = int64_t{1} << 20;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = 3;
  options.context_length = 2048;
  return options;
}

Wish MakeWish(const std::string& kv, int prompt, int answer, uint32_t seed) {
  Wish wish;
  wish.kv = kv;
  wish.prompt = RandomTokens(prompt, kVocabulary, seed);
  wish.generate.max_tokens = answer;
  wish.generate.ignore_eos = true;
  wish.generate.logprobs = 2;
  return wish;
}

class SchedulerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    engine_ = TinyEngine(Options(), 1, Compute::kAuto).release();
  }
  static void TearDownTestSuite() { delete engine_; }

  // Submits a wish whose result goes to results_[name].
  Batch::RequestId Submit(Batch* batch, const std::string& name,
                          const Wish& wish) {
    return Submit(batch, name, RequestOf(wish));
  }
  Batch::RequestId Submit(Batch* batch, const std::string& name,
                          BatchRequest request) {
    request.on_done = [this, name](BatchResult result) {
      EXPECT_FALSE(results_.contains(name)) << name << " is done twice";
      order_.push_back(name);
      results_[name] = std::move(result);
    };
    auto id = batch->Submit(std::move(request));
    EXPECT_TRUE(id.ok()) << name << ": " << id.status().message();
    return id.ok() ? *id : 0;
  }
  static void Run(Batch* batch) {
    while (batch->Step()) {
    }
  }

  static Engine* engine_;
  std::map<std::string, BatchResult> results_;
  std::vector<std::string> order_;  // in which they were done
};
Engine* SchedulerTest::engine_ = nullptr;

TEST_F(SchedulerTest, EachIsAsIfAlone) {
  std::map<std::string, Wish> wishes = {
      {"a", MakeWish("full", 300, 20, 1)},
      {"b", MakeWish("snapkv,keep=0.3", 120, 33, 2)},
      {"c", MakeWish("kvzip,keep=0.3", 200, 10, 3)},
      {"d", MakeWish("h2o,tokens=96", 250, 25, 4)},
      {"e", MakeWish("infinigen,tokens=64,resident=0.3", 200, 12, 5)},
      {"f", MakeWish("streaming-llm,tokens=64,prefill=streaming", 1300, 9, 6)},
      {"g", MakeWish("full,type=int8", 5, 0, 7)}};
  wishes["b"].generate.sampling = {.temp = 0.9f, .seed = 5};
  wishes["c"].generate.forced = RandomTokens(4, kVocabulary, 9);
  auto batch = MakeBatch(engine_);
  for (const auto& [name, wish] : wishes) Submit(batch.get(), name, wish);
  Run(batch.get());
  ASSERT_EQ(results_.size(), wishes.size());
  for (const auto& [name, wish] : wishes) {
    const BatchResult& result = results_[name];
    EXPECT_TRUE(result.status.ok()) << result.status.message();
    ExpectSame(result.generation, Alone(engine_, wish), name);
    EXPECT_EQ(result.prompt_tokens, std::ssize(wish.prompt));
    EXPECT_EQ(result.kv.requested, wish.kv);
    ASSERT_NE(result.session, nullptr);
  }
  EXPECT_EQ(batch->load().bytes, 0);
  EXPECT_FALSE(batch->Step());
}

// Short work does not wait until long work ends.
TEST_F(SchedulerTest, PromptsAndAnswersTakeTurns) {
  auto batch = MakeBatch(engine_);
  int64_t long_done = 0, long_total = 1;
  BatchRequest reading = RequestOf(MakeWish("full", 1900, 1, 1));
  reading.on_prompt = [&](int64_t done, int64_t total) {
    EXPECT_GE(done, long_done);
    EXPECT_LE(done, total);
    long_done = done;
    long_total = total;
  };
  int64_t at_end = -1;
  std::vector<int64_t> at_token;
  BatchRequest answering = RequestOf(MakeWish("full", 40, 5, 2));
  answering.generate.on_token = [&](const GeneratedToken&) {
    at_token.push_back(long_done);
  };
  answering.on_prompt = [&](int64_t done, int64_t total) {
    if (done == total) at_end = long_done;
  };
  Submit(batch.get(), "long", std::move(reading));
  Submit(batch.get(), "short", std::move(answering));
  Run(batch.get());
  EXPECT_EQ(order_.front(), "short");
  EXPECT_EQ(long_done, long_total);
  EXPECT_LT(at_end, long_total);
  ASSERT_EQ(at_token.size(), 5u);
  for (size_t i = 1; i < at_token.size(); ++i) {
    EXPECT_GE(at_token[i], at_token[i - 1]);
  }
  EXPECT_GT(at_token.back(), at_token.front());
  EXPECT_LT(at_token.back(), long_total);
}

TEST_F(SchedulerTest, AdmitsByBytesInOrder) {
  const Wish wish = MakeWish("full", 400, 8, 1);
  // Room for one, and for one and a half.
  auto probe = MakeBatch(engine_);
  Submit(probe.get(), "probe", wish);
  probe->Step();
  const int64_t one = probe->load().most_bytes;
  ASSERT_GT(one, 0);
  Run(probe.get());

  auto batch = MakeBatch(engine_, {.memory_bytes = one * 3 / 2});
  std::vector<std::string> admitted;
  const auto submit = [&](const std::string& name, const Wish& of) {
    BatchRequest request = RequestOf(of);
    request.on_prompt = [&admitted, name](int64_t, int64_t) {
      if (std::ranges::count(admitted, name) == 0) admitted.push_back(name);
    };
    Submit(batch.get(), name, std::move(request));
  };
  for (const char* name : {"a", "b", "c"}) submit(name, wish);
  // It would fit at once, and waits for those before it.
  submit("small", MakeWish("full", 10, 1, 2));
  batch->Step();
  EXPECT_EQ(batch->load().waiting, 3);
  Run(batch.get());
  EXPECT_THAT(admitted, testing::ElementsAre("a", "b", "c", "small"));
  EXPECT_LE(batch->load().most_bytes, one * 3 / 2);

  auto tight = MakeBatch(engine_, {.memory_bytes = one - 1});
  BatchRequest never = RequestOf(wish);
  const auto refused = tight->Submit(std::move(never));
  EXPECT_EQ(refused.status().code(), StatusCode::kDoesNotFit);
  EXPECT_THAT(refused.status().message(), HasSubstr("smaller budget"));
  EXPECT_EQ(tight->load().waiting, 0);
}

TEST_F(SchedulerTest, AdmitsNoMoreThanAskedFor) {
  auto batch = MakeBatch(engine_, {.max_sequences = 2});
  for (const char* name : {"a", "b", "c", "d"}) {
    Submit(batch.get(), name, MakeWish("full", 30, 6, 1));
  }
  int most = 0;
  while (batch->Step()) {
    most = std::max(most, batch->load().prompts + batch->load().answers);
  }
  EXPECT_EQ(most, 2);
  EXPECT_EQ(results_.size(), 4u);
}

// A cache at its peak never takes more than was planned.
TEST_F(SchedulerTest, PlansABound) {
  std::vector<std::string> specs = ExampleSpecs("unused");
  std::erase_if(specs, [](const std::string& kv) {
    return kv.find("profile") != kv.npos;
  });
  for (const char* more :
       {"full,type=int4", "infinigen,tokens=64,resident=0.2",
        "streaming-llm,tokens=64,positions=renumber,prefill=streaming",
        "kvzip,keep=0.1,type=int8", "mistral,keep=0.3,sliding_window=300"}) {
    specs.emplace_back(more);
  }
  uint32_t seed = 1;
  for (const std::string& kv : specs) {
    const int prompt = 100 + int(seed * 211 % 900);
    const Wish wish = MakeWish(kv, prompt, int(seed * 37 % 200), seed);
    ++seed;
    auto batch = MakeBatch(engine_);
    Submit(batch.get(), kv, wish);
    batch->Step();
    const int64_t planned = batch->load().most_bytes;
    Run(batch.get());
    ASSERT_TRUE(results_[kv].status.ok())
        << kv << ": " << results_[kv].status.message();
    EXPECT_LE(results_[kv].kv.peak_bytes, planned) << kv;
  }
}

TEST_F(SchedulerTest, CancelsAtOnceWhereverARequestIs) {
  auto batch = MakeBatch(engine_, {.max_sequences = 2});
  const auto answering =
      Submit(batch.get(), "answering", MakeWish("full", 20, 500, 1));
  const auto reading =
      Submit(batch.get(), "reading", MakeWish("snapkv,keep=0.3", 1900, 5, 2));
  const auto waiting =
      Submit(batch.get(), "waiting", MakeWish("full", 20, 5, 3));
  Submit(batch.get(), "last", MakeWish("full", 20, 5, 4));
  while (batch->load().answers == 0) ASSERT_TRUE(batch->Step());
  for (int i = 0; i < 6; ++i) batch->Step();
  for (const auto id : {waiting, reading, answering}) batch->Cancel(id);
  batch->Step();
  EXPECT_EQ(results_.size(), 3u);
  EXPECT_EQ(results_["waiting"].status.code(), StatusCode::kCancelled);
  EXPECT_EQ(results_["waiting"].generation.finish_reason, "cancelled");
  EXPECT_EQ(results_["reading"].status.code(), StatusCode::kCancelled);
  // Its session is as new.
  EXPECT_EQ(results_["reading"].session->position(), 0);
  EXPECT_TRUE(results_["answering"].status.ok());
  EXPECT_EQ(results_["answering"].generation.finish_reason, "cancelled");
  EXPECT_FALSE(results_["answering"].generation.tokens.empty());
  batch->Cancel(reading);  // done
  batch->Cancel(12345);    // never was
  Run(batch.get());
  EXPECT_TRUE(results_["last"].status.ok());
  EXPECT_EQ(results_.size(), 4u);
}

// One whose room ends while others decode in the same pass.
TEST_F(SchedulerTest, FailsAlone) {
  const auto wish = [&](uint32_t seed) {
    return MakeWish("full", 40, 60, seed);
  };
  auto batch = MakeBatch(engine_);
  BatchRequest failing = RequestOf(wish(1));
  // Its budget is larger than its context: nothing leaves.
  failing.session.kv = "streaming-llm,tokens=200,positions=renumber";
  failing.session.context_size = 64;
  Submit(batch.get(), "before", wish(2));
  Submit(batch.get(), "failing", std::move(failing));
  Submit(batch.get(), "after", wish(3));
  Run(batch.get());
  EXPECT_EQ(results_["failing"].status.code(), StatusCode::kDoesNotFit);
  EXPECT_EQ(results_["failing"].generation.tokens.size(), 25u);
  EXPECT_EQ(results_["failing"].generation.finish_reason, "");
  EXPECT_EQ(results_["failing"].session, nullptr);
  for (const auto& [name, seed] : {std::pair{"before", 2}, {"after", 3}}) {
    EXPECT_TRUE(results_[name].status.ok());
    ExpectSame(results_[name].generation, Alone(engine_, wish(seed)), name);
  }
}

// In a prompt, or while it answers.
TEST_F(SchedulerTest, LogitsThatAreNotNumbersFailAlone) {
  TinyGgufOptions options = Options();
  options.tied_output = false;
  options.nan_token = 7;
  const auto engine = TinyEngine(options, 2, Compute::kF32);
  ASSERT_NE(engine, nullptr);
  const auto wish = [](uint32_t seed) {
    Wish w = MakeWish("full", 40, 12, seed);
    std::ranges::replace(w.prompt, 7, 8);
    w.generate.forced = {5, 9, 11, 5, 6};
    return w;
  };
  auto batch = MakeBatch(engine.get());
  Wish answering = wish(1), reading = wish(4);
  answering.generate.forced[3] = 7;
  reading.prompt[20] = 7;
  Submit(batch.get(), "before", wish(2));
  Submit(batch.get(), "answering", answering);
  Submit(batch.get(), "reading", reading);
  Submit(batch.get(), "after", wish(3));
  Run(batch.get());
  for (const char* name : {"answering", "reading"}) {
    EXPECT_EQ(results_[name].status.code(), StatusCode::kRuntime) << name;
    EXPECT_THAT(results_[name].status.message(),
                HasSubstr("logits that are not numbers"));
  }
  EXPECT_EQ(results_["answering"].session, nullptr);
  EXPECT_EQ(results_["answering"].generation.tokens.size(), 4u);
  for (const auto& [name, seed] : {std::pair{"before", 2}, {"after", 3}}) {
    EXPECT_TRUE(results_[name].status.ok()) << results_[name].status.message();
    ExpectSame(results_[name].generation, Alone(engine.get(), wish(seed)),
               name);
  }
  results_.clear();  // its sessions are of this engine
}

TEST_F(SchedulerTest, GoesOnFromSessionsAndForks) {
  auto base = MakeSession(engine_, "snapkv,keep=0.5");
  ASSERT_TRUE(base->Read(RandomTokens(200, kVocabulary, 1), {}).ok());
  GenerateOptions options;
  options.max_tokens = 12;
  options.ignore_eos = true;
  auto batch = MakeBatch(engine_);
  for (int i = 0; i < 3; ++i) {
    BatchRequest request;
    request.context = ForkOf(base.get());
    if (i > 0) request.tokens = RandomTokens(30, kVocabulary, 10 + i);
    request.generate = options;
    Submit(batch.get(), std::to_string(i), std::move(request));
  }
  Run(batch.get());
  for (int i = 0; i < 3; ++i) {
    auto alone = ForkOf(base.get());
    if (i > 0) {
      ASSERT_TRUE(alone->Read(RandomTokens(30, kVocabulary, 10 + i), {}).ok());
    }
    const BatchResult& result = results_[std::to_string(i)];
    ExpectSame(result.generation, *alone->Generate(options), std::to_string(i));
    EXPECT_EQ(result.session->position(), alone->position());
    EXPECT_TRUE(std::ranges::equal(result.session->logits(), alone->logits()));
  }
}

TEST_F(SchedulerTest, TakesTextAndMessages) {
  auto batch = MakeBatch(engine_);
  BatchRequest text;
  text.text = "hello there";
  text.generate.max_tokens = 2;
  Submit(batch.get(), "text", std::move(text));
  BatchRequest chat;
  chat.messages = {{"user", "hello"}};
  chat.chat.name = "chatml";
  chat.generate.max_tokens = 2;
  Submit(batch.get(), "chat", std::move(chat));
  Run(batch.get());
  EXPECT_EQ(results_["text"].prompt_tokens,
            std::ssize(*engine_->Tokenize("hello there", {})));
  const std::vector<ChatMessage> messages = {{"user", "hello"}};
  EXPECT_EQ(results_["chat"].prompt_tokens,
            std::ssize(*engine_->TokenizeChat(
                *engine_->RenderChat(messages, {.name = "chatml"}), true)));
}

TEST_F(SchedulerTest, RefusesWhatIsWrongBeforeItIsQueued) {
  auto batch = MakeBatch(engine_);
  const auto code = [&](BatchRequest request) {
    request.on_done = [](BatchResult) { ADD_FAILURE() << "was not taken"; };
    return batch->Submit(std::move(request)).status().code();
  };
  BatchRequest spec = RequestOf(MakeWish("snapkv,kep=1", 9, 1, 1));
  EXPECT_EQ(code(std::move(spec)), StatusCode::kUsage);
  EXPECT_EQ(code(RequestOf(Wish{})), StatusCode::kUsage);
  Wish outside;
  outside.prompt = {5, kVocabulary};
  EXPECT_EQ(code(RequestOf(outside)), StatusCode::kUsage);
  EXPECT_EQ(code(RequestOf(MakeWish("full", 2049, 1, 1))),
            StatusCode::kDoesNotFit);
  BatchRequest sampling = RequestOf(MakeWish("full", 9, 1, 1));
  sampling.generate.sampling.top_p = 2;
  EXPECT_EQ(code(std::move(sampling)), StatusCode::kUsage);
  BatchRequest turn;
  turn.context = MakeSession(engine_, "full");
  turn.messages = {{"user", "hello"}};
  EXPECT_EQ(code(std::move(turn)), StatusCode::kUsage);
  EXPECT_FALSE(batch->Step());
  EXPECT_EQ(engine_->NewBatch({.max_sequences = 0}).status().code(),
            StatusCode::kUsage);
  EXPECT_EQ(engine_->NewBatch({.memory_bytes = -kMiB}).status().code(),
            StatusCode::kUsage);
}

TEST_F(SchedulerTest, ErrorsOfAdmissionAreResults) {
  auto batch = MakeBatch(engine_);
  Submit(batch.get(), "profile",
         MakeWish("duo-attention,keep=0.5,profile=/nowhere", 20, 2, 1));
  Submit(batch.get(), "fine", MakeWish("full", 20, 2, 1));
  Run(batch.get());
  EXPECT_EQ(results_["profile"].status.code(), StatusCode::kUsage);
  EXPECT_TRUE(results_["fine"].status.ok());
}

TEST_F(SchedulerTest, EndsWhatIsLeft) {
  auto batch = MakeBatch(engine_, {.max_sequences = 2});
  Submit(batch.get(), "a", MakeWish("full", 20, 50, 1));
  Submit(batch.get(), "b", MakeWish("full", 900, 50, 2));
  Submit(batch.get(), "c", MakeWish("full", 20, 50, 3));
  for (int i = 0; i < 9; ++i) batch->Step();
  Submit(batch.get(), "d", MakeWish("full", 20, 50, 3));
  batch.reset();
  EXPECT_EQ(results_.size(), 4u);
  for (const auto& [name, result] : results_) {
    EXPECT_EQ(result.generation.finish_reason, "cancelled") << name;
  }
}

}  // namespace
}  // namespace pyramidkv
