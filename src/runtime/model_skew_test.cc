// index=skew: what is measured of a model, and the file that it is kept in.

#include "runtime/model_skew.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

class ModelSkewTest : public testing::Test {
 protected:
  ModelSkewTest()
      : folder_(fs::temp_directory_path() /
                ("pyramidkv_model_skew_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
    options_.layers = 4;
    options_.context_length = 1024;
  }
  ~ModelSkewTest() override { fs::remove_all(folder_); }

  std::string model() const { return (folder_ / "tiny.gguf").string(); }
  std::string file() const { return model() + ".skew"; }
  std::string cache() const { return (folder_ / "cache" / "new").string(); }

  std::unique_ptr<Engine> Load(int threads = 2, bool with_cache = true) {
    EXPECT_TRUE(WriteTinyGguf(options_, model()));
    EngineOptions options;
    options.model_path = model();
    options.threads = threads;
    options.compute = Compute::kF32;
    if (with_cache) options.cache_directory = cache();
    auto engine = Engine::Load(options);
    EXPECT_TRUE(engine.ok());
    return std::move(*engine);
  }

  // Logits of a context with a cold tier, and its warnings.
  std::vector<float> Run(Engine* engine,
                         const std::string& kv = "infinigen,index=skew") {
    auto session = MakeSession(engine, kv);
    EXPECT_TRUE(session->Read(RandomTokens(400, 320, 1), {}).ok());
    const auto logits = session->Force(RandomTokens(8, 320, 2));
    EXPECT_TRUE(logits.ok());
    warnings_ = session->Report().warnings;
    if (session->Report().tier) index_ = session->Report().tier->index;
    return *logits;
  }

  static std::string Bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void Write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  fs::path folder_;
  TinyGgufOptions options_;
  std::vector<std::string> warnings_;
  std::string index_;
};

TEST_F(ModelSkewTest, IsMeasuredOnceAndKeptBesideTheModel) {
  const std::vector<float> logits = Run(Load().get());
  EXPECT_EQ(index_, "skew");
  EXPECT_THAT(warnings_, IsEmpty());
  const std::string bytes = Bytes(file());
  // Four layers of two KV heads.
  EXPECT_GT(bytes.size(), 4U * 2 * 16 * 16 * sizeof(float));
  const auto written = fs::last_write_time(file());
  EXPECT_EQ(Run(Load().get()), logits);
  EXPECT_EQ(fs::last_write_time(file()), written);
  EXPECT_FALSE(fs::exists(cache()));
  // Another number of threads measures the same.
  fs::remove(file());
  EXPECT_EQ(Run(Load(/*threads=*/3).get()), logits);
  EXPECT_EQ(Bytes(file()), bytes);
}

TEST_F(ModelSkewTest, OnlyIndexSkewMeasures) {
  const auto engine = Load();
  Run(engine.get(), "infinigen");
  EXPECT_FALSE(fs::exists(file()));
  Run(engine.get(), "snapkv,keep=0.3,remainder=offload,index=skew");
  EXPECT_TRUE(fs::exists(file()));
}

TEST_F(ModelSkewTest, ADamagedFileIsMadeAgain) {
  const std::vector<float> logits = Run(Load().get());
  const std::string bytes = Bytes(file());
  for (const size_t at : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    Write(file(), damaged);
    EXPECT_EQ(Run(Load().get()), logits);
    EXPECT_EQ(Bytes(file()), bytes);
    Write(file(), bytes.substr(0, at));
    EXPECT_EQ(Run(Load().get()), logits);
    EXPECT_EQ(Bytes(file()), bytes);
  }
}

TEST_F(ModelSkewTest, AnotherModelsFileIsMadeAgain) {
  const std::vector<float> logits = Run(Load().get());
  const std::string bytes = Bytes(file());
  options_.seed = 2;
  fs::remove(file());
  Run(Load().get());
  const std::string other = Bytes(file());
  EXPECT_NE(other, bytes);
  options_.seed = 1;
  EXPECT_EQ(Run(Load().get()), logits);  // over the other's
  EXPECT_EQ(Bytes(file()), bytes);
}

// Where a directory has the file's name, nobody can write it.
TEST_F(ModelSkewTest, GoesToTheCacheDirectoryOrSaysThatItCannotBeKept) {
  const std::vector<float> logits = Run(Load().get());
  const std::string bytes = Bytes(file());
  fs::remove(file());
  fs::create_directories(file() + "/x");
  EXPECT_EQ(Run(Load().get()), logits);
  EXPECT_THAT(warnings_, IsEmpty());
  std::vector<std::string> kept;
  for (const auto& entry : fs::directory_iterator(cache())) {
    kept.push_back(entry.path().string());
  }
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(Bytes(kept[0]), bytes);
  const auto written = fs::last_write_time(kept[0]);
  EXPECT_EQ(Run(Load().get()), logits);
  EXPECT_EQ(fs::last_write_time(kept[0]), written);

  EXPECT_EQ(Run(Load(2, /*with_cache=*/false).get()), logits);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_THAT(warnings_[0], HasSubstr("index=skew: cannot write " + file()));
}

TEST_F(ModelSkewTest, FetchingAllIsTheFullCache) {
  const auto engine = Load();
  const std::vector<float> full = Run(engine.get(), "full,type=f32");
  const std::vector<float> all =
      Run(engine.get(), "infinigen,index=skew,fetch=1,alpha=100,type=f32");
  ASSERT_EQ(all.size(), full.size());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(all[i], full[i], 2e-3);
}

}  // namespace
}  // namespace pyramidkv
