#include "kernels/channel_keys.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

std::vector<float> Decoded(const ChannelScale& s,
                           const std::vector<uint8_t>& codes) {
  std::vector<float> x;
  for (uint8_t code : codes) {
    x.push_back(F32FromF16(s.low) + float(code) * F32FromF16(s.scale));
  }
  return x;
}

// Two bits, groups of four: by hand. 0.75 and 1.5 lie 1.75 and 2.5 steps above
// -1; 2.5 is rounded to even.
TEST(ChannelKeys, RoundsToTheNearestStepFromTheLowest) {
  std::vector<uint8_t> codes(4);
  const std::vector<float> x = {-1, -0.25f, 0.5f, 2};
  const ChannelScale s = QuantizeChannel(2, x.data(), 4, 1, codes.data());
  EXPECT_EQ(F32FromF16(s.low), -1);
  EXPECT_EQ(F32FromF16(s.scale), 1);
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 1, 2, 3}));
  EXPECT_EQ(Decoded(s, codes), (std::vector<float>{-1, 0, 1, 2}));

  const std::vector<float> even = {0, 2.5f, 1.5f, 3};
  QuantizeChannel(2, even.data(), 4, 1, codes.data());
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 2, 2, 3}));

  const std::vector<float> tenths = {0.1f, 0.2f, 0.3f, 0.4f};
  const ChannelScale t = QuantizeChannel(2, tenths.data(), 4, 1, codes.data());
  EXPECT_NEAR(F32FromF16(t.scale), 0.1f, 1e-4f);
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 1, 2, 3}));
}

TEST(ChannelKeys, KnowsConstantsAndWhatIsNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<uint8_t> codes(3);
  const std::vector<float> same = {0.75f, 0.75f, 0.75f};
  EXPECT_EQ(Decoded(QuantizeChannel(4, same.data(), 3, 1, codes.data()), codes),
            same);
  const std::vector<float> far = {-kInfinity, 0, kInfinity};
  for (float x :
       Decoded(QuantizeChannel(8, far.data(), 3, 1, codes.data()), codes)) {
    EXPECT_TRUE(std::isfinite(x));
  }
  const std::vector<float> none = {1, std::nanf(""), 2};
  for (float x :
       Decoded(QuantizeChannel(8, none.data(), 3, 1, codes.data()), codes)) {
    EXPECT_TRUE(std::isnan(x));
  }
}

// Every key within half a step of its channel and group, whatever the others
// are like; other slots, and V, stay.
TEST(ChannelKeys, KeysAreWithinHalfAStep) {
  for (int d : {8, 40, 64, 128}) {
    for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
      for (int count : {1, 5, 31, 32}) {
        PageFormat format = {d, codec, Codec::kF16};
        format.channel = true;
        std::vector<std::byte> page(format.page_bytes(), std::byte{0x55});
        auto k = RandomFloats(size_t(count) * d, d + count);
        for (size_t i = 0; i < k.size(); i += d) k[i] = 100 + 50 * k[i];
        StoreKeyGroup(format, 1, count, k.data(), page.data());
        for (int i = 0; i < count; ++i) {
          std::vector<float> got(d);
          LoadEntry(format, page.data(), kChannelGroup + i, got.data(),
                    nullptr);
          for (int c = 0; c < d; ++c) {
            const float step =
                F32FromF16(ChannelScales(format, page.data(), 1)[c]);
            const float want = k[size_t(i) * d + c];
            // The scale and the lowest value are rounded, too.
            ASSERT_NEAR(got[c], want, 0.55f * step + 2e-3f * std::fabs(want));
          }
        }
        const size_t first = QuantCodeBytes(codec, d, kPageEntries) / 2;
        for (size_t i = 0; i < first; ++i) ASSERT_EQ(page[i], std::byte{0x55});
        for (size_t i = format.k_bytes(); i < page.size(); ++i) {
          ASSERT_EQ(page[i], std::byte{0x55});
        }
      }
    }
  }
}

TEST(ChannelKeys, BytesOfAPage) {
  PageFormat format = {64, Codec::kInt8, Codec::kInt8};
  format.channel = true;
  // 64 x 64 codes, and two numbers of 2 bytes for 64 channels of two groups.
  EXPECT_EQ(format.k_bytes(), 4096u + 512u);
  format.k = Codec::kInt4;
  EXPECT_EQ(format.k_bytes(), 2048u + 512u);
}

}  // namespace
}  // namespace pyramidkv
