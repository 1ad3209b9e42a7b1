// Requests of batches, and the same one after the other, for tests.

#ifndef PYRAMIDKV_RUNTIME_TESTING_BATCH_REQUESTS_H_
#define PYRAMIDKV_RUNTIME_TESTING_BATCH_REQUESTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "pyramidkv/batch.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {

// One client's request.
struct Wish {
  std::string kv = "full";
  std::vector<int> prompt;
  GenerateOptions generate;
};

inline BatchRequest RequestOf(const Wish& wish) {
  BatchRequest request;
  request.session.kv = wish.kv;
  request.session.max_new_tokens = 64;
  request.tokens = wish.prompt;
  request.generate = wish.generate;
  return request;
}

// From a session alone.
inline Generation Alone(Engine* engine, const Wish& wish) {
  auto session = MakeSession(engine, wish.kv);
  const Status read = session->Read(wish.prompt, {});
  EXPECT_TRUE(read.ok()) << wish.kv << ": " << read.message();
  auto generation = session->Generate(wish.generate);
  EXPECT_TRUE(generation.ok()) << generation.status().message();
  return generation.ok() ? std::move(*generation) : Generation{};
}

// Token by token, bit by bit; of a cancelled one the beginning.
inline void ExpectSame(const Generation& got, const Generation& want,
                       const std::string& name) {
  if (got.finish_reason != "cancelled") {
    EXPECT_EQ(got.finish_reason, want.finish_reason) << name;
    ASSERT_EQ(got.tokens.size(), want.tokens.size()) << name;
    EXPECT_EQ(got.text, want.text) << name;
  }
  ASSERT_LE(got.tokens.size(), want.tokens.size()) << name;
  for (size_t i = 0; i < got.tokens.size(); ++i) {
    const GeneratedToken& a = got.tokens[i];
    const GeneratedToken& b = want.tokens[i];
    ASSERT_EQ(a.id, b.id) << name << " token " << i;
    ASSERT_EQ(a.logprob, b.logprob) << name << " token " << i;
    ASSERT_EQ(a.top.size(), b.top.size());
    for (size_t t = 0; t < a.top.size(); ++t) {
      ASSERT_EQ(a.top[t].id, b.top[t].id);
      ASSERT_EQ(a.top[t].logprob, b.top[t].logprob);
    }
  }
}

inline std::unique_ptr<Batch> MakeBatch(Engine* engine,
                                        const BatchOptions& options = {}) {
  auto batch = engine->NewBatch(options);
  EXPECT_TRUE(batch.ok()) << batch.status().message();
  return std::move(*batch);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_TESTING_BATCH_REQUESTS_H_
