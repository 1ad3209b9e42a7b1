// The engine on every CPU that this one can stand in for, from x86-64-v2 up.

#include <cmath>

#include "base/cpu.h"
#include "ggml.h"
#include "kernels/testing/all_targets.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.weight_type = GGML_TYPE_Q8_0;
  return options;
}

// A prompt, a second turn and generated tokens.
std::vector<float> LogitsOf(Engine* engine, const std::string& kv) {
  auto session = MakeSession(engine, kv);
  EXPECT_TRUE(session->Read(RandomTokens(90, 320, 1), {}).ok());
  EXPECT_TRUE(session->Read(RandomTokens(20, 320, 2), {}).ok());
  EXPECT_TRUE(session->Force(RandomTokens(10, 320, 3)).ok());
  return Logits(*session);
}

// Root mean square of the errors, relative to that of the values.
double RelativeError(const std::vector<float>& got,
                     const std::vector<float>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - want[i], 2);
    size += std::pow(double{want[i]}, 2);
  }
  return std::sqrt(error / size);
}

// Rounding differs from level to level; the computation does not.
TEST(CpuLevels, EveryCpuComputesAboutTheSame) {
  const struct {
    const char* kv;
    double tolerance;  // types of few bits move the hidden states more
  } kCases[] = {{"full", 0.03},
                {"full,type=int8", 0.03},
                {"full,type_k=int4,type_v=int2", 0.2}};
  for (const auto& [kv, tolerance] : kCases) {
    SCOPED_TRACE(kv);
    auto exact = TinyEngine(Options(), 1, Compute::kF32);
    const auto want = LogitsOf(exact.get(), kv);
    for (Compute compute : {Compute::kAuto, Compute::kBf16, Compute::kF32}) {
      ForAllCpus([&] {
        auto engine = TinyEngine(Options(), 2, compute);
        const auto got = LogitsOf(engine.get(), kv);
        EXPECT_LT(RelativeError(got, want), tolerance) << ComputeName(compute);
        EXPECT_EQ(LogitsOf(engine.get(), kv), got);
      });
    }
  }
}

TEST(CpuLevels, ProductsOfBytesWantAvx2) {
  const ScopedCpu least({});
  EngineOptions options;
  options.compute = Compute::kInt8;
  const auto engine = Engine::Load(options);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.status().code(), StatusCode::kUsage);
  EXPECT_NE(engine.status().message().find("AVX2"), std::string::npos);
  auto any = TinyEngine(Options(), 1, Compute::kAuto);
  EXPECT_EQ(any->compute(), Compute::kBf16);
}

// Hidden states that outgrow floats: no form makes numbers of them, and the
// run is refused.
TEST(CpuLevels, LogitsThatAreNotNumbersAreRefused) {
  TinyGgufOptions options = Options();
  options.ffn_norm = 1e30f;
  ForAllCpus([&] {
    for (Compute compute : {Compute::kAuto, Compute::kBf16, Compute::kF32}) {
      auto engine = TinyEngine(options, 1, compute);
      auto session = MakeSession(engine.get(), "full,type=int8");
      const Status status = session->Read(RandomTokens(40, 320, 1), {});
      EXPECT_EQ(status.code(), StatusCode::kRuntime) << ComputeName(compute);
      EXPECT_NE(status.message().find("logits that are not numbers"),
                std::string::npos)
          << status.message();
    }
  });
}

}  // namespace
}  // namespace pyramidkv
