#include "model/gguf_file.h"

#include <fcntl.h>
#include <gguf.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/model.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"

namespace pyramidkv {
namespace {

using ::testing::HasSubstr;

// The kModel message of a file that must not load.
std::string Refusal(const std::string& path) {
  const auto model = Model::Load(path);
  EXPECT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), StatusCode::kModel);
  EXPECT_THAT(model.status().message(), HasSubstr(path));
  return model.status().message();
}

TEST(BadFileTest, Missing) {
  EXPECT_THAT(Refusal("/nonexistent/model.gguf"), HasSubstr("no such file"));
}

TEST(BadFileTest, Directory) {
  EXPECT_THAT(Refusal(std::filesystem::temp_directory_path().string()),
              HasSubstr("is a directory"));
}

TEST(BadFileTest, Device) {
  EXPECT_THAT(Refusal("/dev/null"), HasSubstr("not a regular file"));
}

TEST(BadFileTest, Unreadable) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  TempFile file;
  file.Write("GGUF");
  std::filesystem::permissions(file.path(), std::filesystem::perms::none);
  EXPECT_THAT(Refusal(file.path()), HasSubstr("cannot be read"));
}

TEST(BadFileTest, Empty) {
  TempFile file;
  file.Write("");
  EXPECT_THAT(Refusal(file.path()), HasSubstr("is empty"));
}

TEST(BadFileTest, NotAGguf) {
  TempFile file;
  for (const char* bytes : {"x", "GGU", "PK\3\4 and more", "# A README\n"}) {
    file.Write(bytes);
    EXPECT_THAT(Refusal(file.path()), HasSubstr("is not a GGUF file"));
  }
}

TEST(BadFileTest, Version) {
  TempFile file;
  file.Write(std::string("GGUF\1\0\0\0", 8) + std::string(64, '\0'));
  EXPECT_THAT(Refusal(file.path()), HasSubstr("version 1 is not supported"));
  file.Write(std::string("GGUF\0\0\0\3", 8) + std::string(64, '\0'));
  EXPECT_THAT(Refusal(file.path()), HasSubstr("big-endian"));
}

TEST(BadFileTest, AbsurdCounts) {
  TempFile file;
  file.Write(std::string("GGUF\3\0\0\0", 8) + std::string(64, '\x7f'));
  EXPECT_THAT(Refusal(file.path()), HasSubstr("it claims"));
}

TEST(BadFileTest, TruncatedAnywhere) {
  TempFile whole;
  ASSERT_TRUE(WriteTinyGguf({}, whole.path()));
  const std::string bytes = whole.Read();
  TempFile part;
  std::mt19937 random(20240801);
  std::uniform_int_distribution<size_t> in_file(0, bytes.size() - 1);
  // Half of the cuts in the header, which is a small share of the file.
  std::uniform_int_distribution<size_t> in_header(0, 10000);
  for (int i = 0; i < 200; ++i) {
    const size_t size = i % 2 == 0 ? in_file(random) : in_header(random);
    part.Write(std::string_view(bytes).substr(0, size));
    SCOPED_TRACE(size);
    Refusal(part.path());
  }
}

// Whatever a byte of the header is changed to: a Status or a model, and
// nothing is printed by the libraries below.
TEST(BadFileTest, FlippedBytesInTheHeader) {
  TempFile file;
  ASSERT_TRUE(WriteTinyGguf({}, file.path()));
  const std::string bytes = file.Read();
  size_t header_bytes = 0;
  {
    const auto gguf = GgufFile::Open(file.path());
    ASSERT_TRUE(gguf.ok());
    header_bytes = (*gguf)->tensors()[0].offset;
  }
  const int fd = open(file.path().c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  std::mt19937 random(1);
  ::testing::internal::CaptureStderr();
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    const size_t at = random() % header_bytes;
    const char flipped = static_cast<char>(bytes[at] ^ (1 + random() % 255));
    ASSERT_EQ(pwrite(fd, &flipped, 1, at), 1);
    const auto model = Model::Load(file.path());
    if (!model.ok()) {
      ++refused;
      EXPECT_EQ(model.status().code(), StatusCode::kModel);
    }
    ASSERT_EQ(pwrite(fd, &bytes[at], 1, at), 1);
  }
  close(fd);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_GT(refused, 200);
  EXPECT_TRUE(Model::Load(file.path()).ok());
}

TEST(BadFileTest, SplitFilesSayHowToJoin) {
  TinyGgufOptions options;
  options.edit_keys = [](gguf_context* gguf) {
    gguf_set_val_u16(gguf, "split.count", 3);
  };
  TempFile file("-00002-of-00003.gguf");
  ASSERT_TRUE(WriteTinyGguf(options, file.path()));
  std::string first = file.path();
  first.replace(first.find("-00002-"), 7, "-00001-");
  EXPECT_THAT(Refusal(file.path()),
              HasSubstr("llama-gguf-split --merge " + first + " OUT.gguf"));
}

class GgufKeysTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TinyGgufOptions options;
    options.edit_keys = [](gguf_context* gguf) {
      const int32_t equal[] = {7, 7};
      const int64_t differing[] = {7, 8};
      gguf_set_val_i8(gguf, "t.i8", -3);
      gguf_set_val_u64(gguf, "t.u64", UINT64_MAX);
      gguf_set_val_f64(gguf, "t.f64", 0.5);
      gguf_set_val_f32(gguf, "t.inf", HUGE_VALF);
      gguf_set_val_bool(gguf, "t.bool", true);
      gguf_set_val_str(gguf, "t.str", "text");
      gguf_set_arr_data(gguf, "t.equal", GGUF_TYPE_INT32, equal, 2);
      gguf_set_arr_data(gguf, "t.differing", GGUF_TYPE_INT64, differing, 2);
    };
    ASSERT_TRUE(WriteTinyGguf(options, temp_.path()));
    auto file = GgufFile::Open(temp_.path());
    ASSERT_TRUE(file.ok()) << file.status().message();
    file_ = std::move(*file);
  }

  TempFile temp_;
  std::unique_ptr<GgufFile> file_;
};

TEST_F(GgufKeysTest, Integers) {
  EXPECT_EQ(*file_->Int("t.i8", -10, 10), -3);
  EXPECT_EQ(*file_->Int("llama.block_count", 1, 10), 2);
  EXPECT_THAT(file_->Int("t.i8", 0, 10).status().message(),
              HasSubstr("key t.i8 is -3, expected 0 to 10"));
  EXPECT_FALSE(file_->Int("t.u64", 0, 1 << 30).ok());
  EXPECT_THAT(file_->Int("t.str", 0, 1).status().message(),
              HasSubstr("key t.str has type str, expected an integer"));
  EXPECT_FALSE(file_->Int("t.bool", 0, 1).ok());
  EXPECT_FALSE(file_->Int("t.equal", 0, 10).ok());
  EXPECT_THAT(file_->Int("t.none", 0, 1).status().message(),
              HasSubstr("key t.none is missing"));
}

TEST_F(GgufKeysTest, OneValuePerLayer) {
  EXPECT_EQ(*file_->UniformInt("t.equal", 2, 0, 10), 7);
  EXPECT_EQ(*file_->UniformInt("t.i8", 2, -10, 10), -3);
  EXPECT_THAT(file_->UniformInt("t.differing", 2, 0, 10).status().message(),
              HasSubstr("7 for layer 0 and 8 for layer 1"));
  EXPECT_THAT(file_->UniformInt("t.equal", 3, 0, 10).status().message(),
              HasSubstr("has 2 values"));
  EXPECT_FALSE(file_->UniformInt("t.equal", 2, 8, 10).ok());
  EXPECT_FALSE(file_->UniformInt("tokenizer.ggml.tokens", 320, 0, 9).ok());
  EXPECT_FALSE(file_->UniformInt("tokenizer.ggml.scores", 320, 0, 9).ok());
}

TEST_F(GgufKeysTest, OtherTypes) {
  EXPECT_EQ(*file_->Float("t.f64"), 0.5);
  EXPECT_THAT(file_->Float("t.inf").status().message(),
              HasSubstr("expected a finite number"));
  EXPECT_FALSE(file_->Float("t.i8").ok());
  EXPECT_TRUE(*file_->Bool("t.bool"));
  EXPECT_FALSE(file_->Bool("t.i8").ok());
  EXPECT_EQ(*file_->String("t.str"), "text");
  EXPECT_FALSE(file_->String("t.equal").ok());
  EXPECT_EQ(file_->Ints("t.equal")->size(), 2u);
  EXPECT_FALSE(file_->Ints("t.differing").ok());
  EXPECT_EQ(file_->Floats("tokenizer.ggml.scores")->size(), 320u);
  EXPECT_THAT(file_->Strings("t.equal").status().message(),
              HasSubstr("has type array of i32, expected array of str"));
}

TEST_F(GgufKeysTest, Tensors) {
  const GgufTensor* tensor = file_->FindTensor("blk.1.ffn_up.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->ne[0], 64);
  EXPECT_EQ(tensor->ne[1], 96);
  EXPECT_EQ(tensor->elements(), 64 * 96);
  EXPECT_EQ(tensor->bytes, 64u * 96 * 4);
  EXPECT_EQ(file_->FindTensor("blk.2.ffn_up.weight"), nullptr);
  EXPECT_TRUE(file_->CheckTensorData().ok());
}

}  // namespace
}  // namespace pyramidkv
