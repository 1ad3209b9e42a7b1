#include "cli/doctor.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

Health Good() {
  Health h;
  h.machine.cpu_features = {{"AVX2", true}, {"AVX-512 VNNI", true}};
  h.machine.fast_path = true;
  h.machine.processors = h.machine.usable_processors = h.machine.threads = 4;
  h.machine.available_bytes = int64_t{8} << 30;
  h.threads = 4;
  ModelInfo model;
  model.file_bytes = int64_t{1} << 30;
  model.context_length = 8192;
  h.model = model;
  h.full_cache_bytes = int64_t{1} << 30;
  return h;
}

std::string Found(const Health& h) {
  const std::vector<Finding> findings = FindingsOf(h);
  EXPECT_EQ(findings.size(), 1u);
  return findings.empty() ? "" : findings[0].word + ": " + findings[0].text;
}

TEST(DoctorTest, AGoodMachineHasNoFindings) {
  EXPECT_THAT(FindingsOf(Good()), IsEmpty());
}

TEST(DoctorTest, LesserCpusAndBuilds) {
  Health h = Good();
  h.machine.cpu_features = {{"AVX2", true}, {"AVX-512 VNNI", false}};
  EXPECT_THAT(Found(h), HasSubstr("no AVX-512 VNNI"));
  h.machine.fast_path = false;
  EXPECT_THAT(Found(h), HasSubstr("no AVX2"));
  h = Good();
  h.debug_build = true;
  EXPECT_THAT(Found(h), HasSubstr("debug build"));
}

TEST(DoctorTest, ThreadsAndTheirReasons) {
  Health h = Good();
  h.threads = 9;
  EXPECT_THAT(Found(h), HasSubstr("9 threads share 4 processors: give -t 4"));
  h.threads = 1;
  EXPECT_THAT(Found(h), HasSubstr("1 of 4 threads"));
  h = Good();
  h.machine.processors = 16;
  EXPECT_THAT(Found(h), HasSubstr("affinity mask (taskset) allows 4 of 16"));
  h.machine.quota_processors = 4;
  EXPECT_THAT(Found(h), HasSubstr("quota of the control group allows 4 of 16"));
  h = Good();
  h.load = 1.5;
  EXPECT_THAT(Found(h), HasSubstr("1.5 of 4 processors busy"));
}

TEST(DoctorTest, ModelsThatDoNotFit) {
  Health h = Good();
  h.full_cache_bytes = int64_t{20} << 30;
  EXPECT_THAT(Found(h), HasSubstr("memory: a full cache of all 8192 tokens"));
  h.machine.available_bytes = 1 << 20;
  EXPECT_THAT(Found(h), HasSubstr("read from disk again"));
  h = Good();
  h.model = Status::Model("x.gguf: not a GGUF file");
  EXPECT_THAT(Found(h), HasSubstr("model: x.gguf: not a GGUF file"));
}

}  // namespace
}  // namespace pyramidkv::cli
