// Many requests from several threads, with random arrivals, lengths, specs
// and cancellations: each equals its own sequential run.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/testing/batch_requests.h"

namespace pyramidkv {
namespace {

constexpr int kSequences = 64;
constexpr int kClients = 4;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.context_length = 1024;
  return options;
}

Wish RandomWish(std::mt19937* random) {
  static constexpr std::array kSpecs = {
      "full",
      "full,type=int8",
      "snapkv,keep=0.3",
      "pyramidkv,keep=0.3,evict=both",
      "snapkv-wide,keep=0.2",
      "kvzip,keep=0.3",
      "h2o,tokens=96,slack=8",
      "tova,tokens=64,slack=1",
      "streaming-llm,tokens=64,positions=renumber",
      "infinigen,tokens=64,resident=0.3",
      "snapkv-wide,keep=0.2,heads=equal,remainder=cluster,merge=mean",
      "keydiff,keep=0.3,evict=both,type_k=int4,type_v=int2"};
  Wish wish;
  wish.kv = kSpecs[(*random)() % kSpecs.size()];
  wish.prompt = RandomTokens(1 + int((*random)() % 300), 320, (*random)());
  wish.generate.max_tokens = int((*random)() % 40);
  wish.generate.ignore_eos = (*random)() % 2 == 0;
  wish.generate.logprobs = 3;
  if ((*random)() % 2 == 0) {
    wish.generate.sampling = {.temp = 1.0f, .seed = uint32_t((*random)())};
  }
  return wish;
}

// One client's thread: submits its share, and cancels some of it, sooner or
// later.
class Client {
 public:
  Client(Batch* batch, uint32_t seed, int count)
      : batch_(batch), random_(seed), wishes_(count), results_(count) {
    for (Wish& wish : wishes_) wish = RandomWish(&random_);
  }

  void Run() {
    for (size_t i = 0; i < wishes_.size(); ++i) {
      Rest();
      BatchRequest request = RequestOf(wishes_[i]);
      request.on_done = [this, i](BatchResult result) {
        results_[i] = std::move(result);
        ++done_;
      };
      const auto id = batch_->Submit(std::move(request));
      ASSERT_TRUE(id.ok()) << id.status().message();
      if (random_() % 4 == 0) {
        Rest();
        batch_->Cancel(*id);
      }
    }
  }
  bool done() const { return done_ == wishes_.size(); }

  // Returns how many were cancelled.
  int Check(Engine* engine) const {
    int cancelled = 0;
    for (size_t i = 0; i < wishes_.size(); ++i) {
      const BatchResult& result = results_[i];
      const bool ended_early = result.generation.finish_reason == "cancelled";
      cancelled += ended_early ? 1 : 0;
      EXPECT_TRUE(result.status.ok() || ended_early) << result.status.message();
      ExpectSame(result.generation, Alone(engine, wishes_[i]), wishes_[i].kv);
    }
    return cancelled;
  }

 private:
  void Rest() {
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 4000));
  }

  Batch* const batch_;
  std::mt19937 random_;
  std::vector<Wish> wishes_;
  std::vector<BatchResult> results_;  // written in the engine's thread
  std::atomic<size_t> done_{0};
};

void RunMany(int threads, int64_t memory_bytes) {
  auto engine = TinyEngine(Options(), threads, Compute::kAuto);
  int cancelled = 0;
  {
    auto batch = MakeBatch(engine.get(), {.memory_bytes = memory_bytes});
    std::vector<std::unique_ptr<Client>> clients;
    for (int c = 0; c < kClients; ++c) {
      clients.push_back(std::make_unique<Client>(batch.get(), 100 + c,
                                                 kSequences / kClients));
    }
    std::vector<std::thread> running;
    for (const auto& client : clients) {
      running.emplace_back([&client] { client->Run(); });
    }
    const auto all_done = [&] {
      return std::all_of(clients.begin(), clients.end(),
                         [](const auto& client) { return client->done(); });
    };
    while (!all_done()) {
      if (!batch->Step()) batch->Wait(std::chrono::milliseconds(20));
    }
    for (std::thread& thread : running) thread.join();
    const BatchLoad load = batch->load();
    EXPECT_EQ(load.waiting + load.prompts + load.answers, 0);
    if (memory_bytes > 0) {
      EXPECT_LE(load.most_bytes, memory_bytes);
    }
    for (const auto& client : clients) cancelled += client->Check(engine.get());
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_LT(cancelled, kSequences / 2);
}

TEST(BatchThreaded, EqualsSequentialRunsOnOneThread) { RunMany(1, 0); }

TEST(BatchThreaded, EqualsSequentialRunsOnTwoThreads) { RunMany(2, 0); }

// Most requests have to wait for memory.
TEST(BatchThreaded, EqualsSequentialRunsWithLittleMemory) {
  RunMany(2, int64_t{16} << 20);
}

TEST(BatchThreaded, WaitEndsWithWork) {
  auto engine = TinyEngine(Options(), 1, Compute::kAuto);
  auto batch = MakeBatch(engine.get());
  EXPECT_FALSE(batch->Wait(std::chrono::milliseconds(1)));
  std::thread client([&] {
    Wish wish;
    wish.prompt = {5, 6, 7};
    wish.generate.max_tokens = 3;
    EXPECT_TRUE(batch->Submit(RequestOf(wish)).ok());
  });
  EXPECT_TRUE(batch->Wait(std::chrono::minutes(1)));
  client.join();
  while (batch->Step()) {
  }
  EXPECT_FALSE(batch->Wait(std::chrono::milliseconds(1)));
}

}  // namespace
}  // namespace pyramidkv
