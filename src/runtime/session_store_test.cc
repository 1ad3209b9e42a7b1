// Sessions that are stored and go on: bit for bit as if nothing had happened,
// for every policy; and files that cannot be trusted.

#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "policy/registry.h"
#include "pyramidkv/stored_session.h"
#include "runtime/session_file.h"
#include "runtime/testing/head_profile_file.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kVocabulary = 320;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.context_length = 2048;
  return options;
}

std::string TemporaryPath(const std::string& name) {
  return (fs::temp_directory_path() /
          ("pyramidkv_" + std::to_string(getpid()) + "_" + name))
      .string();
}

std::vector<std::string> Specs() {
  std::vector<std::string> specs = ExampleSpecs(HeadProfileFile(2));
  for (const char* more :
       {"snapkv,keep=0.3,prefill=streaming",
        "streaming-llm,tokens=64,positions=renumber",
        "h2o,tokens=64,positions=renumber", "full,type=f32",
        "snapkv,keep=0.3,type_k=bf16,type_v=f32", "snapkv-wide,memory=256KiB",
        "full,type=int4", "full,type=int8,scale=channel",
        "full,type=int4,scale=tensor,recent_type=int8",
        "snapkv,keep=1,type=int4,top_type=int8,top=0.4"}) {
    specs.emplace_back(more);
  }
  return specs;
}

Generation Sampled(Session* session) {
  GenerateOptions options;
  options.max_tokens = 20;
  options.ignore_eos = true;
  options.sampling = {.temp = 1.5f, .repeat_penalty = 1.2f, .seed = 7};
  auto answer = session->Generate(options);
  EXPECT_TRUE(answer.ok()) << answer.status().message();
  return answer.ok() ? *answer : Generation();
}

struct Rest {
  std::vector<float> logits;
  std::vector<int> tokens;
  std::vector<std::vector<int>> kept;
  int64_t entries = 0, cold = 0;
  bool operator==(const Rest&) const = default;
};

// The rest of a conversation: all that a policy reacts to.
Rest GoOn(Session* session) {
  Rest rest;
  rest.logits = Logits(*session);
  const auto add = [&](std::span<const float> more) {
    rest.logits.insert(rest.logits.end(), more.begin(), more.end());
  };
  for (const GeneratedToken& t : Sampled(session).tokens) {
    rest.tokens.push_back(t.id);
  }
  add(session->logits());
  const auto forced = session->Force(RandomTokens(90, kVocabulary, 11));
  EXPECT_TRUE(forced.ok()) << forced.status().message();
  if (forced.ok()) add(*forced);
  EXPECT_TRUE(session->Read(RandomTokens(150, kVocabulary, 12), {}).ok());
  add(session->logits());
  const auto more = session->Force(RandomTokens(70, kVocabulary, 13));
  EXPECT_TRUE(more.ok());
  if (more.ok()) add(*more);
  const KvReport report = session->Report();
  for (const auto& layer : report.layers) rest.kept.push_back(layer.kept);
  rest.entries = report.entries_kept;
  rest.cold = report.tier ? report.tier->entries : 0;
  for (int id : session->tokens()) rest.tokens.push_back(id);
  return rest;
}

class SessionStoreTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    profile_ = new std::string(HeadProfileFile(2));
    engine_ = TinyEngine(Options(), 2, Compute::kAuto).release();
    other_ = TinyEngine(Options(), 1, Compute::kAuto).release();
  }
  static void TearDownTestSuite() {
    delete profile_;
    delete engine_;
    delete other_;
  }
  void SetUp() override { path_ = TemporaryPath("a.session"); }
  void TearDown() override { fs::remove(path_); }

  // In the middle of a conversation.
  static std::unique_ptr<Session> Talk(Engine* engine, const std::string& kv) {
    auto session = MakeSession(engine, kv, 400);
    EXPECT_TRUE(session->Read(RandomTokens(300, kVocabulary, 1), {}).ok());
    EXPECT_TRUE(session->Force(RandomTokens(37, kVocabulary, 2)).ok());
    EXPECT_TRUE(session->Read(RandomTokens(41, kVocabulary, 3), {}).ok());
    Sampled(session.get());
    return session;
  }

  std::vector<std::byte> Payload(SessionFileId* id) {
    auto reader = SessionFileReader::Open(path_);
    EXPECT_TRUE(reader.ok());
    std::vector<std::byte> payload((*reader)->payload_bytes());
    EXPECT_TRUE((*reader)->Read(payload).ok());
    *id = (*reader)->id();
    return payload;
  }
  void Forge(std::span<const std::byte> payload, const SessionFileId& id) {
    auto writer = SessionFileWriter::Create(path_, id);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append(payload).ok());
    ASSERT_TRUE((*writer)->Commit().ok());
  }

  static std::string* profile_;
  static Engine* engine_;
  static Engine* other_;
  std::string path_;
};
std::string* SessionStoreTest::profile_ = nullptr;
Engine* SessionStoreTest::engine_ = nullptr;
Engine* SessionStoreTest::other_ = nullptr;

TEST_F(SessionStoreTest, GoesOnBitForBitWithEveryPolicy) {
  for (const std::string& kv : Specs()) {
    SCOPED_TRACE(kv);
    auto session = Talk(engine_, kv);
    ASSERT_TRUE(session->Save(path_).ok());
    auto loaded = other_->LoadSession(path_, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    const KvReport before = session->Report(), after = (*loaded)->Report();
    EXPECT_EQ(before.spec, after.spec);
    EXPECT_EQ(before.requested, after.requested);
    EXPECT_EQ(before.retained_mass, after.retained_mass);
    EXPECT_EQ(before.warnings, after.warnings);
    EXPECT_LE(after.bytes, before.bytes);
    EXPECT_EQ(before.peak_bytes, after.peak_bytes);
    EXPECT_EQ((*loaded)->position(), session->position());
    EXPECT_EQ((*loaded)->context_size(), session->context_size());
    EXPECT_TRUE(GoOn(session.get()) == GoOn(loaded->get()));
  }
}

// Keys that moved to the start of the context, and go on moving.
TEST_F(SessionStoreTest, GoesOnBehindTheContextsEnd) {
  for (const char* kv :
       {"streaming-llm,tokens=64,positions=renumber",
        "tova,tokens=64,positions=renumber",
        "expected-attention,tokens=64,evict=both,positions=renumber",
        "snapkv,tokens=64,evict=both,positions=renumber,remainder=cluster,"
        "merge=attention"}) {
    SCOPED_TRACE(kv);
    auto made = engine_->NewSession({kv, 256, 64});
    ASSERT_TRUE(made.ok());
    auto& session = *made;
    ASSERT_TRUE(session->Read(RandomTokens(200, kVocabulary, 1), {}).ok());
    ASSERT_TRUE(session->Force(RandomTokens(300, kVocabulary, 2)).ok());
    ASSERT_TRUE(session->Save(path_).ok());
    auto loaded = other_->LoadSession(path_, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    EXPECT_EQ(*session->Force(RandomTokens(400, kVocabulary, 3)),
              *(*loaded)->Force(RandomTokens(400, kVocabulary, 3)));
  }
}

TEST_F(SessionStoreTest, ColdTiersGoOn) {
  TinyGgufOptions options = Options();
  options.layers = 3;  // infinigen leaves two whole
  auto one = TinyEngine(options, 1, Compute::kAuto);
  auto two = TinyEngine(options, 2, Compute::kAuto);
  for (const char* kv :
       {"infinigen,tokens=64,resident=0.3,victim=lru",
        "infinigen,tokens=64,index=quest,resident=0.01",
        "infinigen,tokens=64,index=cluster,slack=16",
        "infinigen,tokens=64,index=sign,type=int8,fetch=0.5",
        "snapkv,keep=0.25,remainder=offload,resident=0.5",
        "h2o,keep=0.3,remainder=offload,type_v=int4",
        "snapkv,keep=0.3,heads=adaptive,evict=both,remainder=offload"}) {
    SCOPED_TRACE(kv);
    auto session = Talk(one.get(), kv);
    ASSERT_GT(session->Report().tier->entries, 0);
    ASSERT_TRUE(session->Save(path_).ok());
    auto loaded = two->LoadSession(path_, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    const KvReport before = session->Report(), after = (*loaded)->Report();
    EXPECT_EQ(before.tier->entries, after.tier->entries);
    EXPECT_LE(after.bytes, before.bytes);
    const Rest rest = GoOn(session.get());
    EXPECT_GT(rest.cold, before.tier->entries);
    EXPECT_TRUE(rest == GoOn(loaded->get()));
  }
}

TEST_F(SessionStoreTest, SlidingWindowsGoOn) {
  TinyGgufOptions options = Options();
  options.architecture = "gemma3";
  options.layers = 7;
  options.sliding_window = 96;
  auto one = TinyEngine(options, 1, Compute::kAuto);
  auto two = TinyEngine(options, 2, Compute::kAuto);
  for (const char* kv : {"full", "snapkv,keep=0.3", "h2o,keep=0.3"}) {
    SCOPED_TRACE(kv);
    auto session = Talk(one.get(), kv);
    ASSERT_TRUE(session->Save(path_).ok());
    auto loaded = two->LoadSession(path_, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    EXPECT_TRUE(GoOn(session.get()) == GoOn(loaded->get()));
  }
}

// A stored session needs nothing but its model.
TEST_F(SessionStoreTest, TheProfileTravelsWithTheSession) {
  auto session = Talk(engine_, "duo-attention,keep=0.5,profile=" + *profile_);
  ASSERT_TRUE(session->Save(path_).ok());
  fs::rename(*profile_, *profile_ + ".away");
  auto loaded = other_->LoadSession(path_, {});
  fs::rename(*profile_ + ".away", *profile_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_TRUE(GoOn(session.get()) == GoOn(loaded->get()));
}

TEST_F(SessionStoreTest, SaysWhatIsInside) {
  auto session = Talk(engine_, "snapkv,keep=0.3");
  ASSERT_TRUE(session->Save(path_).ok());
  ASSERT_TRUE(session->Save(path_).ok());
  auto stored = ReadStoredSession(path_);
  ASSERT_TRUE(stored.ok()) << stored.status().message();
  const KvReport report = session->Report();
  EXPECT_EQ(stored->generation, 2u);
  EXPECT_EQ(stored->session.size(), 32u);
  EXPECT_EQ(stored->spec, report.spec);
  EXPECT_EQ(stored->tokens, session->position());
  EXPECT_EQ(stored->entries, report.entries_kept);
  EXPECT_EQ(stored->bytes, report.bytes);
  EXPECT_EQ(stored->bytes_full, report.bytes_full);
  EXPECT_EQ(stored->file_bytes, int64_t(fs::file_size(path_)));
  EXPECT_TRUE(stored->question_aware);
  EXPECT_TRUE(VerifyStoredSession(path_).ok());
  auto loaded = other_->LoadSession(path_, {});
  ASSERT_TRUE(loaded.ok());
  ASSERT_TRUE((*loaded)->Save(path_).ok());
  EXPECT_EQ(ReadStoredSession(path_)->generation, 3u);
  EXPECT_EQ(ReadStoredSession(path_)->session, stored->session);
}

TEST_F(SessionStoreTest, SaysWhatIsHotAndWhatIsCold) {
  auto session =
      Talk(engine_, "snapkv,keep=0.3,remainder=offload,resident=0.1");
  ASSERT_TRUE(session->Save(path_).ok());
  const KvReport report = session->Report();
  const auto stored = ReadStoredSession(path_);
  ASSERT_TRUE(stored.ok()) << stored.status().message();
  ASSERT_TRUE(stored->tier.has_value());
  EXPECT_EQ(stored->tier->index, "sign");
  EXPECT_EQ(stored->tier->entries, report.tier->entries);
  EXPECT_EQ(stored->tier->index_bytes, report.tier->index_bytes);
  EXPECT_EQ(stored->bytes, report.bytes);
  EXPECT_EQ(stored->entries + stored->tier->entries, stored->entries_full);
  int64_t hot = 0, cold = 0, blocks = 0;
  ASSERT_EQ(stored->layers.size(), report.layers.size());
  for (size_t l = 0; l < report.layers.size(); ++l) {
    EXPECT_EQ(stored->layers[l].kept, report.layers[l].kept);
    EXPECT_EQ(stored->layers[l].bytes, report.layers[l].bytes);
    hot += stored->layers[l].bytes;
    for (int n : stored->layers[l].cold) {
      cold += n;
      blocks += (n + 15) / 16;
    }
  }
  EXPECT_EQ(hot, stored->hot_bytes);
  EXPECT_EQ(cold, stored->tier->entries);
  const int head_dim = engine_->info().head_dim;
  EXPECT_EQ(stored->tier->block_bytes, blocks * 16 * head_dim * 2 * 2);
  EXPECT_GT(stored->file_bytes, hot + stored->tier->block_bytes);
}

// A killed save's litter goes when its file is used again.
TEST_F(SessionStoreTest, ALoadRemovesLitter) {
  ASSERT_TRUE(Talk(engine_, "full")->Save(path_).ok());
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int result = 0;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  const std::string litter = path_ + ".tmp-" + std::to_string(child) + "-0";
  std::ofstream(litter).close();
  ASSERT_TRUE(other_->LoadSession(path_, {}).ok());
  EXPECT_FALSE(fs::exists(litter));
}

TEST_F(SessionStoreTest, KnowsWhichPoliciesLookAtTheQuestion) {
  for (const auto& [kv, aware] : std::vector<std::pair<std::string, bool>>{
           {"full", false},
           {"streaming-llm,keep=0.5", false},
           {"kvzip,keep=0.5", false},
           {"expected-attention,keep=0.5", false},
           {"keydiff,keep=0.5", false},
           {"knorm,keep=0.5", false},
           {"far-attention,keep=0.5", false},
           {"infinigen,tokens=64", false},
           {"snapkv,keep=0.5,remainder=offload", true},
           {"snapkv,keep=1", false},
           {"snapkv,keep=0.5,select=recent", false},
           {"snapkv,keep=0.5", true},
           {"pyramidkv,keep=0.5", true},
           {"snapkv-wide,keep=0.5", true},
           {"tova,keep=0.5", true},
           {"h2o,keep=0.5", true},
           {"r-kv,keep=0.5", true}}) {
    auto session = MakeSession(engine_, kv);
    ASSERT_TRUE(session->Read(RandomTokens(120, kVocabulary, 1), {}).ok());
    ASSERT_TRUE(session->Save(path_).ok());
    EXPECT_EQ(ReadStoredSession(path_)->question_aware, aware) << kv;
  }
}

TEST_F(SessionStoreTest, OtherModelsAreRefusedByWhatDiffers) {
  auto session = Talk(engine_, "full");
  ASSERT_TRUE(session->Save(path_).ok());
  TinyGgufOptions weights = Options(), shape = Options(), rope = Options(),
                  tokens = Options();
  weights.seed = 2;
  shape.layers = 3;
  rope.rope_scaling = "linear";
  rope.rope_factor = 2;

  tokens.vocabulary = 330;
  for (const auto& [options, named] :
       std::vector<std::pair<TinyGgufOptions, std::string>>{
           {weights, "differ in: weights"},
           {shape, "tensors"},
           {rope, "RoPE"},
           {tokens, "tokenizer"}}) {
    auto engine = TinyEngine(options, 1, Compute::kAuto);
    const auto loaded = engine->LoadSession(path_, {});
    EXPECT_EQ(loaded.status().code(), StatusCode::kModel);
    EXPECT_THAT(loaded.status().message(), HasSubstr(named));
  }
}

TEST_F(SessionStoreTest, Errors) {
  auto session = MakeSession(engine_, "full");
  EXPECT_EQ(session->Save(path_).code(), StatusCode::kUsage);
  EXPECT_EQ(engine_->LoadSession(path_, {}).status().code(),
            StatusCode::kModel);
  session = Talk(engine_, "full");
  ASSERT_TRUE(session->Save(path_).ok());
  EXPECT_EQ(other_->LoadSession(path_, {.context_size = 100}).status().code(),
            StatusCode::kDoesNotFit);
  auto larger = other_->LoadSession(path_, {.context_size = 4096});
  ASSERT_TRUE(larger.ok());
  EXPECT_EQ((*larger)->context_size(), 4096);
  EXPECT_EQ(session->Save("/nonexistent/a").code(), StatusCode::kRuntime);
  // None of this harmed it.
  EXPECT_TRUE(GoOn(session.get()).entries > 0);
}

// Bytes that checksums vouch for and no session ever had: refused, or at
// least of no harm to this process.
TEST_F(SessionStoreTest, ForgedFilesDoNoHarm) {
  for (const char* kv :
       {"full", "h2o,keep=0.3", "r-kv,keep=0.3",
        "mistral,keep=0.6,type=int4,top_type=int8,sliding_window=300",
        "infinigen,tokens=64,resident=0.5", "infinigen,tokens=64,index=cluster",
        "infinigen,tokens=64,index=quest",
        "expected-attention,keep=0.3,evict=both",
        "snapkv,keep=0.3,evict=both,remainder=cluster,merge=attention"}) {
    SCOPED_TRACE(kv);
    ASSERT_TRUE(Talk(engine_, kv)->Save(path_).ok());
    SessionFileId id;
    const auto payload = Payload(&id);
    std::mt19937 random(5);
    int refused = 0;
    for (int i = 0; i < 80; ++i) {
      auto forged = payload;
      // Most of the numbers that matter stand before the pages.
      const size_t at =
          random() % (i % 2 == 0 ? std::min<size_t>(6000, forged.size())
                                 : forged.size() - 8);
      const uint64_t value = i % 3 == 0 ? ~uint64_t{0}
                             : i % 3 == 1
                                 ? uint64_t{0x7fffffff}
                                 : (uint64_t{random()} << 32 | random());
      std::memcpy(&forged[at], &value, 1 + random() % 8);
      Forge(forged, id);
      auto loaded = other_->LoadSession(path_, {});
      if (!loaded.ok()) {
        ++refused;
        EXPECT_NE(loaded.status().code(), StatusCode::kOk);
        continue;
      }
      (void)(*loaded)->Force(RandomTokens(70, kVocabulary, 1));
      (void)(*loaded)->Read(RandomTokens(20, kVocabulary, 1), {});
    }
    EXPECT_GT(refused, 10);
    for (size_t size :
         {size_t{0}, size_t{1}, payload.size() / 2, payload.size() - 1}) {
      Forge(std::span(payload).first(size), id);
      EXPECT_EQ(other_->LoadSession(path_, {}).status().code(),
                StatusCode::kModel);
    }
    auto longer = payload;
    longer.push_back({});
    Forge(longer, id);
    EXPECT_EQ(other_->LoadSession(path_, {}).status().code(),
              StatusCode::kModel);
  }
}

}  // namespace
}  // namespace pyramidkv
