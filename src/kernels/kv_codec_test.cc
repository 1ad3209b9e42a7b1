#include "kernels/kv_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr Codec kCodecs[] = {Codec::kF32, Codec::kF16, Codec::kBf16};
constexpr int kHeadDims[] = {8, 16, 64, 80, 128, 256};

// The value of a 16-bit float with so many bits of mantissa, from its
// definition.
double Value(uint16_t bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7fff) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0)
    return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa,
                           exponent - bias - mantissa_bits);
}

// The nearest 16-bit float by search; of two, the even one.
uint16_t Nearest(float value, int mantissa_bits) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double x = std::fabs(static_cast<double>(value));
  const uint16_t infinity = ((1 << (15 - mantissa_bits)) - 1) << mantissa_bits;
  int low = 0;  // the last one at or below x
  for (int high = infinity; high - low > 1;) {
    const int middle = (low + high) / 2;
    (Value(middle, mantissa_bits) <= x ? low : high) = middle;
  }
  // Above the largest, the next would be as far as the step before it.
  const double below = Value(low, mantissa_bits);
  const double above = low + 1 < infinity
                           ? Value(low + 1, mantissa_bits)
                           : 2 * below - Value(low - 1, mantissa_bits);
  const bool up =
      x - below > above - x || (x - below == above - x && low % 2 == 1);
  return sign | (low + (up ? 1 : 0));
}

uint16_t Encode16(Codec codec, float value) {
  return codec == Codec::kF16 ? F16FromF32(value) : Bf16FromF32(value);
}

// Every 16-bit pattern, the middle between it and the next and the floats
// beside that, for both formats; the limits of all three; random bits.
std::vector<float> ManyValues() {
  std::vector<float> values;
  for (uint32_t i = 0; i < 0x10000; ++i) {
    for (uint32_t base :
         {i << 16, std::bit_cast<uint32_t>(static_cast<float>(Value(i, 10)))}) {
      const uint32_t half = base == i << 16 ? 0x8000 : 0x1000;
      for (uint32_t bits : {base, base + half - 1, base + half, base + half + 1,
                            base - 1, base + 1}) {
        values.push_back(std::bit_cast<float>(bits));
      }
    }
  }
  for (int i = -3; i < 2050; ++i) {  // halves of the smallest f16
    for (float sign : {1.0f, -1.0f}) {
      const float x = static_cast<float>(std::ldexp(i, -25));
      values.push_back(sign * x);
      values.push_back(sign * std::nextafter(x, 0.0f));
      values.push_back(sign * std::nextafter(x, 1.0f));
    }
  }
  for (float x :
       {65504.0f, 65519.0f, 65519.996f, 65520.0f, 65536.0f, 1e38f,
        std::numeric_limits<float>::max(), std::numeric_limits<float>::min(),
        std::numeric_limits<float>::denorm_min(),
        std::numeric_limits<float>::infinity(), 0.0f}) {
    values.push_back(x);
    values.push_back(-x);
  }
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  }
  return values;
}

TEST(KvCodec, ScalarRoundsToNearestEven) {
  const std::vector<float> values = ManyValues();
  for (float x : values) {
    const uint16_t f16 = F16FromF32(x);
    const uint16_t bf16 = Bf16FromF32(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(F32FromF16(f16)));
      ASSERT_TRUE(std::isnan(F32FromBf16(bf16)));
      continue;
    }
    ASSERT_EQ(f16,
              std::isinf(x) ? std::signbit(x) << 15 | 0x7c00 : Nearest(x, 10))
        << x;
    ASSERT_EQ(bf16,
              std::isinf(x) ? std::signbit(x) << 15 | 0x7f80 : Nearest(x, 7))
        << x;
  }
}

TEST(KvCodec, EveryHalfComesBack) {
  for (int i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const double f16 = Value(bits, 10);
    const double bf16 = Value(bits, 7);
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(F32FromF16(bits)));
    } else {
      EXPECT_EQ(F32FromF16(bits), static_cast<float>(f16)) << i;
      EXPECT_EQ(F16FromF32(F32FromF16(bits)), bits);
    }
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(F32FromBf16(bits)));
    } else {
      EXPECT_EQ(F32FromBf16(bits), static_cast<float>(bf16)) << i;
      EXPECT_EQ(Bf16FromF32(F32FromBf16(bits)), bits);
    }
  }
}

// The bits of element (slot, channel) at the offset the header promises.
uint32_t BitsAt(const PageFormat& f, const std::byte* page, bool value,
                int slot, int channel) {
  const int d = f.head_dim;
  const size_t element =
      value ? (static_cast<size_t>(slot / 2) * d + channel) * 2 + slot % 2
            : ((static_cast<size_t>(slot / 16) * (d / 2) + channel / 2) * 16 +
               slot % 16) *
                      2 +
                  channel % 2;
  const Codec codec = value ? f.v : f.k;
  uint32_t bits = 0;
  std::memcpy(&bits,
              page + (value ? f.k_bytes() : 0) + element * CodecBytes(codec),
              CodecBytes(codec));
  return bits;
}

uint32_t WantBits(Codec codec, float x) {
  return codec == Codec::kF32 ? std::bit_cast<uint32_t>(x) : Encode16(codec, x);
}

float WantValue(Codec codec, float x) {
  if (codec == Codec::kF32) return x;
  const uint16_t bits = Encode16(codec, x);
  return codec == Codec::kF16 ? F32FromF16(bits) : F32FromBf16(bits);
}

bool SameBits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

class KvCodecFormat : public testing::TestWithParam<PageFormat> {
 protected:
  KvCodecFormat() : format_(GetParam()), page_(format_.page_bytes()) {}

  // Rows for all slots, from a shuffled list with all the special values.
  void Fill(int seed) {
    std::mt19937 random(seed);
    const size_t n = static_cast<size_t>(format_.entries) * format_.head_dim;
    k_.resize(n);
    v_.resize(n);
    static const std::vector<float> values = ManyValues();
    for (std::vector<float>* rows : {&k_, &v_}) {
      for (float& x : *rows) x = values[random() % values.size()];
    }
    for (int slot = 0; slot < format_.entries; ++slot) {
      StoreEntry(format_, page_.data(), slot, k(slot), v(slot));
    }
  }
  const float* k(int slot) const { return &k_[slot * format_.head_dim]; }
  const float* v(int slot) const { return &v_[slot * format_.head_dim]; }

  const PageFormat format_;
  std::vector<std::byte> page_;
  std::vector<float> k_, v_;
};

TEST_P(KvCodecFormat, LiesWhereTheHeaderSays) {
  for (int seed = 0; seed < 6; ++seed) {
    Fill(seed);
    for (int slot = 0; slot < format_.entries; ++slot) {
      for (int c = 0; c < format_.head_dim; ++c) {
        ASSERT_EQ(BitsAt(format_, page_.data(), false, slot, c),
                  WantBits(format_.k, k(slot)[c]))
            << slot << " " << c;
        ASSERT_EQ(BitsAt(format_, page_.data(), true, slot, c),
                  WantBits(format_.v, v(slot)[c]))
            << slot << " " << c;
      }
    }
  }
}

TEST_P(KvCodecFormat, LoadsWhatWasStored) {
  Fill(1);
  std::vector<float> k_out(format_.head_dim), v_out(format_.head_dim);
  for (int slot = 0; slot < format_.entries; ++slot) {
    LoadEntry(format_, page_.data(), slot, k_out.data(), nullptr);
    LoadEntry(format_, page_.data(), slot, nullptr, v_out.data());
    for (int c = 0; c < format_.head_dim; ++c) {
      ASSERT_TRUE(SameBits(k_out[c], WantValue(format_.k, k(slot)[c])));
      ASSERT_TRUE(SameBits(v_out[c], WantValue(format_.v, v(slot)[c])));
    }
  }
}

TEST_P(KvCodecFormat, StoreTouchesOneSlotOnly) {
  Fill(2);
  const std::vector<float> zeros(format_.head_dim, 0.0f);
  for (int slot : {0, 1, 15, 16, 17, 31, 62, 63}) {
    if (slot >= format_.entries) continue;
    std::vector<std::byte> page = page_;
    StoreEntry(format_, page.data(), slot, zeros.data(), zeros.data());
    for (int s = 0; s < format_.entries; ++s) {
      for (int c = 0; c < format_.head_dim; ++c) {
        for (bool value : {false, true}) {
          ASSERT_EQ(BitsAt(format_, page.data(), value, s, c),
                    s == slot ? 0 : BitsAt(format_, page_.data(), value, s, c));
        }
      }
    }
  }
}

TEST_P(KvCodecFormat, CopiesBitsWithinAndAcrossPages) {
  Fill(3);
  std::vector<std::byte> other(page_.size(), std::byte{0x5a});
  for (int from : {0, 1, 16, 37, 63}) {
    for (int to : {0, 1, 2, 15, 36, 63}) {
      if (std::max(from, to) >= format_.entries) continue;
      std::vector<std::byte> same = page_;
      CopyEntry(format_, same.data(), to, same.data(), from);
      std::vector<std::byte> across = other;
      CopyEntry(format_, across.data(), to, page_.data(), from);
      for (int s = 0; s < format_.entries; ++s) {
        for (int c = 0; c < format_.head_dim; ++c) {
          for (bool value : {false, true}) {
            const auto bits = [&](const std::vector<std::byte>& page, int i) {
              return BitsAt(format_, page.data(), value, i, c);
            };
            ASSERT_EQ(bits(same, s), bits(page_, s == to ? from : s));
            ASSERT_EQ(bits(across, s),
                      s == to ? bits(page_, from) : bits(other, s));
          }
        }
      }
    }
  }
}

std::vector<PageFormat> AllFormats() {
  std::vector<PageFormat> formats;
  for (int d : kHeadDims) {
    for (Codec k : kCodecs) {
      for (Codec v : kCodecs) {
        for (int entries : {kPageEntries, 16}) {
          formats.push_back({d, k, v, entries});
        }
      }
    }
  }
  return formats;
}

std::string FormatName(const testing::TestParamInfo<PageFormat>& info) {
  constexpr const char* kNames[] = {"F32", "F16", "Bf16"};
  std::string name = "D";
  name += std::to_string(info.param.head_dim);
  name += kNames[static_cast<int>(info.param.k)];
  name += kNames[static_cast<int>(info.param.v)];
  name += "Of" + std::to_string(info.param.entries);
  return name;
}

// One block of a file system.
TEST(KvCodec, SixteenEntriesFillABlock) {
  const PageFormat format = {64, Codec::kF16, Codec::kF16, 16};
  EXPECT_EQ(format.page_bytes(), 4096u);
}

INSTANTIATE_TEST_SUITE_P(All, KvCodecFormat, testing::ValuesIn(AllFormats()),
                         FormatName);

}  // namespace
}  // namespace pyramidkv
