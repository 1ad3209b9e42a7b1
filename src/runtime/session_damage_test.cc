// Files that cannot be trusted, tried beside a session that is in use: every
// one is refused, and the session goes on as if nobody had tried.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "runtime/little_endian.h"
#include "runtime/session.h"
#include "runtime/session_cold.h"
#include "runtime/session_state.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

namespace fs = std::filesystem;

constexpr int kVocabulary = 320;

const char* const kSpecs[] = {"snapkv,keep=0.3,type=int8",
                              "infinigen,tokens=64,resident=0.5"};

class SessionDamageTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    TinyGgufOptions options;
    options.layers = 4;
    options.context_length = 2048;
    engine_ = TinyEngine(options, 1, Compute::kAuto);
    path_ = (fs::temp_directory_path() /
             ("pyramidkv_damage_" + std::to_string(getpid())))
                .string();
    session_ = Talk();
    ASSERT_TRUE(session_->Save(path_).ok());
    undisturbed_ = Talk();
    const std::ifstream in(path_, std::ios::binary);
    std::stringstream all;
    all << in.rdbuf();
    file_ = all.str();
    fd_ = open(path_.c_str(), O_RDWR);
    ASSERT_GE(fd_, 0);
  }
  void TearDown() override {
    close(fd_);
    fs::remove(path_);
  }

  std::unique_ptr<Session> Talk() {
    auto session = MakeSession(engine_.get(), GetParam(), 200);
    EXPECT_TRUE(session->Read(RandomTokens(150, kVocabulary, 1), {}).ok());
    EXPECT_TRUE(session->Force(RandomTokens(20, kVocabulary, 2)).ok());
    return session;
  }

  void Put(size_t at, char byte) {
    ASSERT_EQ(pwrite(fd_, &byte, 1, static_cast<off_t>(at)), 1);
  }
  void TryBit(size_t bit) {
    Put(bit / 8, static_cast<char>(file_[bit / 8] ^ (1 << bit % 8)));
    ExpectRefused("bit", bit);
    Put(bit / 8, file_[bit / 8]);
  }
  void ExpectRefused(const char* what, size_t where) {
    const auto loaded = engine_->LoadSession(path_, {});
    EXPECT_EQ(loaded.status().code(), StatusCode::kModel)
        << what << " " << where << ": " << loaded.status().message();
    if (++tried_ % 300 == 0) GoOn();
  }
  // A token of the session beside.
  void GoOn() {
    const std::vector<int> token = RandomTokens(1, kVocabulary, tried_);
    const auto here = session_->Force(token),
               there = undisturbed_->Force(token);
    ASSERT_TRUE(here.ok() && there.ok());
    EXPECT_EQ(*here, *there);
  }
  void FinishBeside() {
    EXPECT_TRUE(engine_->LoadSession(path_, {}).ok());
    GoOn();
    GenerateOptions options;
    options.max_tokens = 20;
    options.ignore_eos = true;
    std::vector<int> ids[2];
    for (int i = 0; i < 2; ++i) {
      auto answer = (i == 0 ? session_ : undisturbed_)->Generate(options);
      ASSERT_TRUE(answer.ok());
      for (const GeneratedToken& t : answer->tokens) ids[i].push_back(t.id);
    }
    EXPECT_EQ(ids[0].size(), 20u);
    EXPECT_EQ(ids[0], ids[1]);
  }

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_, undisturbed_;
  std::string path_, file_;
  int fd_ = -1;
  int tried_ = 0;
};

TEST_P(SessionDamageTest, EveryFlippedBitIsRefused) {
  std::vector<std::pair<size_t, size_t>> parts = {
      {0, kSessionHeaderBytes},
      {file_.size() - kSessionFooterBytes, kSessionFooterBytes}};
  constexpr size_t kWhole = kChunkHeaderBytes + kChunkBytes;
  for (size_t at = kSessionHeaderBytes; at + kSessionFooterBytes < file_.size();
       at += kWhole) {
    parts.emplace_back(at, kChunkHeaderBytes);
  }
  for (const auto& [first, count] : parts) {
    for (size_t bit = first * 8; bit < (first + count) * 8; ++bit) TryBit(bit);
  }
  std::mt19937 random(3);
  const size_t payload = file_.size() - kSessionFooterBytes -
                         kSessionHeaderBytes - kChunkHeaderBytes;
  for (int i = 0; i < 10000; ++i) {
    const size_t bit = random() % (payload * 8);
    TryBit((kSessionHeaderBytes + kChunkHeaderBytes) * 8 + bit);
  }
  FinishBeside();
}

TEST_P(SessionDamageTest, EveryTruncationIsRefused) {
  std::set<size_t, std::greater<>> sizes = {0, kSessionHeaderBytes - 1,
                                            kSessionHeaderBytes};
  constexpr size_t kWhole = kChunkHeaderBytes + kChunkBytes;
  for (size_t at = kSessionHeaderBytes; at < file_.size(); at += kWhole) {
    for (int near : {-1, 0, 1}) {
      sizes.insert(at + near);
      sizes.insert(at + kChunkHeaderBytes + near);
    }
  }
  std::mt19937 random(4);
  while (sizes.size() < 1030) sizes.insert(random() % file_.size());
  for (const size_t size : sizes) {
    if (size >= file_.size()) continue;
    ASSERT_EQ(ftruncate(fd_, static_cast<off_t>(size)), 0);
    ExpectRefused("size", size);
  }
  ASSERT_EQ(pwrite(fd_, file_.data(), file_.size(), 0), std::ssize(file_));
  FinishBeside();
}

// All counts there are, each as numbers that are near and far, under checksums
// that are right.
TEST_P(SessionDamageTest, EveryForgedCountIsRefused) {
  auto reader = SessionFileReader::Open(path_);
  ASSERT_TRUE(reader.ok());
  const SessionFileId id = (*reader)->id();
  std::vector<std::byte> payload((*reader)->payload_bytes());
  ASSERT_TRUE((*reader)->Read(payload).ok());

  const std::string copy = path_ + ".copy";
  std::vector<uint64_t> places;
  {
    auto again = SessionFileReader::Open(path_);
    ASSERT_TRUE(again.ok());
    StateReader in(again->get());
    const auto head = ReadHead(&in);
    ASSERT_TRUE(head.ok());
    auto writer = SessionFileWriter::Create(copy, id);
    ASSERT_TRUE(writer.ok());
    StateWriter out(writer->get());
    const Sequence& sequence =
        *static_cast<SessionImpl*>(session_.get())->sequence();
    WriteHead(*head, &out);
    WriteSequence(sequence, &out);
    ASSERT_TRUE(WriteCold(sequence, &out).ok());
    ASSERT_TRUE((*writer)->Commit().ok());
    places = out.counts_at();
    auto same = SessionFileReader::Open(copy);
    ASSERT_TRUE(same.ok());
    std::vector<std::byte> bytes((*same)->payload_bytes());
    ASSERT_TRUE((*same)->Read(bytes).ok());
    ASSERT_EQ(bytes, payload);
    fs::remove(copy);
  }
  ASSERT_GT(places.size(), 30u);
  std::mt19937 random(5);
  int forged = 0;
  for (const uint64_t at : places) {
    const auto count = LoadLittle<uint64_t>(&payload[at]);
    const uint64_t forgeries[] = {count + 1,
                                  count - 1,
                                  0,
                                  2 * count,
                                  uint64_t{1} << 31,
                                  uint64_t{1} << 61,
                                  std::numeric_limits<uint64_t>::max(),
                                  random()};
    for (const uint64_t forgery : forgeries) {
      if (forgery == count) continue;
      StoreLittle(forgery, &payload[at]);
      auto writer = SessionFileWriter::Create(path_, id);
      ASSERT_TRUE(writer.ok());
      ASSERT_TRUE((*writer)->Append(payload).ok());
      ASSERT_TRUE((*writer)->Commit().ok());
      ExpectRefused("count at", at);
      ++forged;
    }
    StoreLittle(count, &payload[at]);
  }
  EXPECT_GE(forged, 100);
  std::ofstream(path_, std::ios::binary) << file_;
  FinishBeside();
}

INSTANTIATE_TEST_SUITE_P(All, SessionDamageTest, testing::ValuesIn(kSpecs),
                         [](const auto& info) {
                           return info.index == 0 ? "Hot" : "Cold";
                         });

}  // namespace
}  // namespace pyramidkv
