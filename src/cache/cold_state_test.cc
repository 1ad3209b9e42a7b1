// Cold tiers that are stored and go on in another one.

#include "cache/cold_state.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <random>
#include <vector>

#include "cache/testing/cold_rows.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using ::testing::HasSubstr;

constexpr int kPosition = 1 << 20;

ColdTierOptions Options(double resident, Codec codec = Codec::kF16) {
  ColdTierOptions options;
  options.layers = 2;
  options.kv_heads = 2;
  options.format.head_dim = 64;
  options.format.entries = kBlockEntries;
  options.format.k = options.format.v = codec;
  options.resident = resident;
  options.fetch = 0.3;
  return options;
}

std::unique_ptr<ColdTier> Make(const ColdTierOptions& options) {
  auto tier = ColdTier::Create(options);
  EXPECT_TRUE(tier.ok()) << tier.status().message();
  return std::move(*tier);
}

struct StoredHead {
  ColdHeadState state;
  std::vector<std::vector<std::byte>> pages;
};

StoredHead Store(const ColdTier& tier, int layer, int head) {
  StoredHead stored;
  stored.state = tier.Export(layer, head);
  const Status shown =
      tier.ShowBlocks(layer, head, [&](std::span<const std::byte> page) {
        stored.pages.emplace_back(page.begin(), page.end());
        return Status();
      });
  EXPECT_TRUE(shown.ok()) << shown.message();
  return stored;
}

Status Load(const StoredHead& stored, int layer, int head, ColdTier* tier,
            int position = kPosition) {
  size_t next = 0;
  return tier->Import(layer, head, position, stored.state,
                      [&](std::span<std::byte> page) {
                        const auto& from = stored.pages.at(next++);
                        EXPECT_EQ(from.size(), page.size());
                        std::copy(from.begin(), from.end(), page.begin());
                        return Status();
                      });
}

// A query's view of a head, and all of it.
std::vector<float> Answer(ColdTier* tier, const PageFormat& format, int layer,
                          int head, const std::vector<float>& q) {
  const size_t d = format.head_dim;
  tier->Select(layer, head, q.data(), 2, 0.125F);
  std::vector<float> all;
  const auto grow = [&](int entries) {  // where they begin
    const size_t from = all.size();
    all.resize(from + size_t(entries) * 2 * d);
    return all.data() + from;
  };
  ColdView view;
  do {
    EXPECT_TRUE(tier->Fetch(layer, head, &view).ok());
    float* at = grow(view.length);
    for (int i = 0; i < view.length; ++i, at += 2 * d) {
      LoadEntry(format, view.pages[i / kBlockEntries], i % kBlockEntries, at,
                at + d);
    }
  } while (!view.last());
  const int length = tier->length(layer, head);
  float* const at = grow(length);
  EXPECT_TRUE(tier->Decode(layer, head, at, at + length * d).ok());
  return all;
}

// A head of each layer grows and the other stays empty; `add` is called with
// what both tiers are to append.
class ColdState : public ::testing::Test {
 protected:
  void Grow(std::vector<ColdTier*> tiers, const PageFormat& format, int count) {
    const uint32_t seed = random_();
    for (ColdTier* tier : tiers) {
      std::mt19937 random(seed);
      std::vector<ColdRow> rows(tier->length(1, 0));
      for (int layer = 0; layer < 2; ++layer) {
        ASSERT_TRUE(AppendRandom(tier, format, layer, layer == 0 ? 1 : 0, count,
                                 &random, &rows)
                        .ok());
      }
    }
  }
  void Compare(ColdTier* a, ColdTier* b, const PageFormat& format) {
    for (int layer = 0; layer < 2; ++layer) {
      for (int head = 0; head < 2; ++head) {
        ASSERT_EQ(a->length(layer, head), b->length(layer, head));
        EXPECT_TRUE(std::ranges::equal(a->positions(layer, head),
                                       b->positions(layer, head)));
        const auto q = RandomFloats(size_t(2) * format.head_dim, &random_);
        EXPECT_EQ(Answer(a, format, layer, head, q),
                  Answer(b, format, layer, head, q));
      }
    }
  }
  static void Copy(const ColdTier& from, ColdTier* to) {
    for (int layer = 0; layer < 2; ++layer) {
      for (int head = 0; head < 2; ++head) {
        const Status loaded = Load(Store(from, layer, head), layer, head, to);
        ASSERT_TRUE(loaded.ok()) << loaded.message();
      }
    }
  }
  std::mt19937 random_{5};
};

// Whatever is in memory on either side.
TEST_F(ColdState, GoesOnToTheBit) {
  for (const Codec codec : {Codec::kF16, Codec::kInt8}) {
    for (const int first : {3, 16, 1000, 1007}) {
      for (const auto& [before, after] : std::vector<std::pair<double, double>>{
               {1, 1}, {0.3, 0.3}, {0, 0.5}, {0.7, 0}}) {
        for (const IndexKind index : {IndexKind::kSign, IndexKind::kCluster}) {
          SCOPED_TRACE(testing::Message() << first << " " << before);
          ColdTierOptions options = Options(before, codec);
          options.index = index;
          const auto tier = Make(options);
          Grow({tier.get()}, options.format, first);
          options.resident = after;
          const auto loaded = Make(options);
          Copy(*tier, loaded.get());
          EXPECT_EQ(loaded->entries(), tier->entries());
          ASSERT_TRUE(loaded->Settle().ok());
          Compare(tier.get(), loaded.get(), options.format);
          for (const int more : {1, 12, 15, 300}) {
            Grow({tier.get(), loaded.get()}, options.format, more);
            Compare(tier.get(), loaded.get(), options.format);
          }
        }
      }
    }
  }
}

TEST_F(ColdState, MemoryStaysWithinTheResidentShare) {
  const ColdTierOptions options = Options(0.25);
  const auto tier = Make(options);
  Grow({tier.get()}, options.format, 4000);
  const auto loaded = Make(options);
  Copy(*tier, loaded.get());
  EXPECT_LE(loaded->bytes(), tier->bytes());
  EXPECT_EQ(loaded->file_bytes(), tier->file_bytes());
}

TEST_F(ColdState, WhatCannotBeIsRefused) {
  const ColdTierOptions options = Options(0.5);
  const auto tier = Make(options);
  Grow({tier.get()}, options.format, 100);
  const StoredHead sound = Store(*tier, 0, 1);
  const auto refused = [&](auto change, int position = kPosition) {
    StoredHead stored = sound;
    change(&stored.state);
    const Status status = Load(stored, 0, 1, Make(options).get(), position);
    EXPECT_EQ(status.code(), StatusCode::kModel);
    return status.message();
  };
  EXPECT_THAT(refused([](ColdHeadState*) {}, 99), HasSubstr("more entries"));
  EXPECT_THAT(refused([](ColdHeadState* s) { s->positions[7] = -1; }),
              HasSubstr("past the last"));
  EXPECT_THAT(refused([](ColdHeadState* s) { s->positions[7] = kPosition; }),
              HasSubstr("past the last"));
  EXPECT_THAT(refused([](ColdHeadState* s) { s->positions.pop_back(); }),
              HasSubstr("index"));
  EXPECT_THAT(refused([](ColdHeadState* s) { --s->index.length; }),
              HasSubstr("index"));
  EXPECT_THAT(refused([](ColdHeadState* s) { s->index.codes.pop_back(); }),
              HasSubstr("index"));
}

TEST_F(ColdState, ErrorsOfBothSidesArePassedOn) {
  Failures failures;
  const ColdTierOptions options = Options(0.2);
  const auto tier = MakeExactTier(options, &failures);
  Grow({tier.get()}, options.format, 500);
  const StoredHead stored = Store(*tier, 0, 1);
  failures.read_error = EIO;
  EXPECT_EQ(tier->ShowBlocks(
                    0, 1, [](std::span<const std::byte>) { return Status(); })
                .code(),
            StatusCode::kRuntime);
  failures.read_error = 0;
  const Status stop = Status::Runtime("stop");
  EXPECT_EQ(
      tier->ShowBlocks(0, 1, [&](std::span<const std::byte>) { return stop; })
          .message(),
      "stop");
  EXPECT_EQ(MakeExactTier(options)
                ->Import(0, 1, kPosition, stored.state,
                         [&](std::span<std::byte>) { return stop; })
                .message(),
            "stop");
  failures.disk_bytes = 0;
  const Status full =
      Load(stored, 0, 1, MakeExactTier(options, &failures).get());
  EXPECT_EQ(full.code(), StatusCode::kRuntime);
  EXPECT_THAT(full.message(), HasSubstr("more bytes"));
}

TEST(ColdStateOfSkew, SaysWhichDirectionsItIsBy) {
  ColdTierOptions options = Options(1);
  EXPECT_EQ(Make(options)->index_basis(), 0u);
  std::vector<float> skew(size_t(4) * 64 * 64);
  options.index = IndexKind::kSkew;
  options.skew = skew.data();
  const uint64_t zero = Make(options)->index_basis();
  skew.back() = 1;
  EXPECT_NE(Make(options)->index_basis(), zero);
}

}  // namespace
}  // namespace pyramidkv
