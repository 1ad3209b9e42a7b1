#include "kernels/kv_quant.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr Codec kQuantized[] = {Codec::kInt8, Codec::kInt4, Codec::kInt2};
constexpr int kHeadDims[] = {8, 16, 40, 64, 80, 96, 128, 256};
constexpr float kLargest = std::numeric_limits<float>::max();

// One row through a page.
std::vector<float> RoundTrip(const PageFormat& format, bool is_k,
                             const std::vector<float>& row, int slot = 5) {
  std::vector<std::byte> page(format.page_bytes());
  std::vector<float> k(row.size()), v(row.size());
  StoreEntry(format, page.data(), slot, row.data(), row.data());
  LoadEntry(format, page.data(), slot, k.data(), v.data());
  return is_k ? k : v;
}

PageFormat FormatOf(Codec codec, int head_dim, int entries = kPageEntries) {
  const Codec k = codec == Codec::kInt2 ? Codec::kInt4 : codec;
  return {head_dim, k, codec, entries};
}

TEST(KvQuant, RotationIsOrthonormalAndItsOwnInverse) {
  for (int d : kHeadDims) {
    const auto q = RandomFloats(d, 1), k = RandomFloats(d, 2);
    auto rotated_q = q, rotated_k = k;
    RotateChannels(d, rotated_q.data());
    RotateChannels(d, rotated_k.data());
    double dot = 0, rotated = 0;
    for (int i = 0; i < d; ++i) {
      dot += double(q[i]) * k[i];
      rotated += double(rotated_q[i]) * rotated_k[i];
    }
    EXPECT_NEAR(dot, rotated, 1e-4);
    RotateChannels(d, rotated_q.data());
    ExpectNear(rotated_q, q, 1e-6f);
  }
}

// The bounds are those of a normal distribution.
TEST(KvQuant, ErrorsAreSmall) {
  for (Codec codec : kQuantized) {
    const double most = codec == Codec::kInt8   ? 4e-5
                        : codec == Codec::kInt4 ? 0.0078
                                                : 0.125;
    for (int d : kHeadDims) {
      for (bool is_k : {true, false}) {
        if (is_k && codec == Codec::kInt2) continue;
        double error = 0, power = 0;
        for (int seed = 0; seed < 300; ++seed) {
          auto row = RandomFloats(d, seed, std::exp2(float(seed % 20 - 8)));
          row[0] *= 8;  // what the rotation is for
          const auto got = RoundTrip(FormatOf(codec, d), is_k, row, seed % 64);
          const float unit = std::exp2(float(seed % 20 - 8));
          for (int i = 0; i < d; ++i) {
            const double off = (got[i] - row[i]) / unit;
            error += off * off;
            power += double(row[i]) * row[i] / unit / unit;
          }
        }
        EXPECT_LT(error / power, most)
            << d << " " << CodecBits(codec) << " " << is_k;
      }
    }
  }
}

TEST(KvQuant, FiniteInputStaysFinite) {
  for (Codec codec : kQuantized) {
    for (int d : kHeadDims) {
      const PageFormat format = FormatOf(codec, d);
      for (float x : {0.0f, 1.0f, -3.0f, 1e-30f, 1e-7f, 65504.0f, -7e4f, 1e30f,
                      kLargest, -kLargest}) {
        std::vector<float> alone(d, 0.0f), all(d, x);
        alone[d / 2] = x;
        for (const auto& row : {alone, all}) {
          for (float y : RoundTrip(format, false, row)) {
            EXPECT_TRUE(std::isfinite(y)) << x;
          }
        }
        if (x == 0) {
          EXPECT_EQ(RoundTrip(format, false, all), all);
        }
      }
      std::vector<float> bad(d, 1.0f);
      bad[0] = std::numeric_limits<float>::infinity();
      for (float y : RoundTrip(format, false, bad)) {
        EXPECT_TRUE(std::isfinite(y));
      }
      bad[0] = std::nanf("");
      EXPECT_TRUE(std::isnan(RoundTrip(format, false, bad)[0]));
    }
  }
}

// Entry `slot` of the page is k and v.
void ExpectEntry(const PageFormat& format, const std::vector<std::byte>& page,
                 int slot, const std::vector<float>& k,
                 const std::vector<float>& v) {
  std::vector<float> k_got(k.size()), v_got(v.size());
  LoadEntry(format, page.data(), slot, k_got.data(), v_got.data());
  ASSERT_EQ(k_got, k);
  ASSERT_EQ(v_got, v);
}

void CheckCopies(const PageFormat& format) {
  const int d = format.head_dim, entries = format.entries;
  std::vector<std::byte> page(format.page_bytes()), other(page.size());
  std::vector<std::vector<float>> k, v;
  for (int slot = 0; slot < entries; ++slot) {
    const auto row = RandomFloats(d, slot);
    StoreEntry(format, page.data(), slot, row.data(), row.data());
    k.push_back(RoundTrip(format, true, row));
    v.push_back(RoundTrip(format, false, row));
  }
  for (int i = 0; i < 100; ++i) {
    const int from = i * 37 % entries, to = i * 11 % entries;
    CopyEntry(format, page.data(), to, page.data(), from);
    k[to] = k[from];
    v[to] = v[from];
    CopyEntry(format, other.data(), to, page.data(), to);
    ExpectEntry(format, other, to, k[to], v[to]);
  }
  for (int slot = 0; slot < entries; ++slot) {
    ExpectEntry(format, page, slot, k[slot], v[slot]);
  }
}

// Stored bits, so that moving an entry about costs nothing.
TEST(KvQuant, CopiesAreBitIdenticalAndTouchOneSlot) {
  for (Codec codec : kQuantized) {
    for (int d : {8, 40, 64, 128}) {
      CheckCopies(FormatOf(codec, d));
      CheckCopies(FormatOf(codec, d, 16));
    }
  }
}

// Sums of bytes as the plain loops stored them that came first: a session that
// was saved must mean the same for ever.
TEST(KvQuant, CodesStayAsTheyAre) {
  struct Golden {
    Codec codec;
    int head_dim;
    uint64_t hash;
  };
  constexpr Golden kGolden[] = {
      {Codec::kInt8, 8, 0x1666b70d34afa0dau},
      {Codec::kInt8, 24, 0x1a1786248a9c49e2u},
      {Codec::kInt8, 40, 0xea5be260a3669398u},
      {Codec::kInt8, 64, 0x405b2c9e283c4651u},
      {Codec::kInt8, 80, 0xccec24364649a854u},
      {Codec::kInt8, 96, 0xdc40abdcc228bdb4u},
      {Codec::kInt8, 256, 0x964df4b02699a07bu},
      {Codec::kInt4, 8, 0x6def3ed9df4f722cu},
      {Codec::kInt4, 24, 0x9991b0ce6fbd53fau},
      {Codec::kInt4, 40, 0xf302f280e4565d2eu},
      {Codec::kInt4, 64, 0x7d907e1493d5f685u},
      {Codec::kInt4, 80, 0x564626d1d04c06fbu},
      {Codec::kInt4, 96, 0xd6806f5297cff344u},
      {Codec::kInt4, 256, 0xec89ecd8e0795921u},
      {Codec::kInt2, 8, 0x154a1e58113f1cbdu},
      {Codec::kInt2, 24, 0x149843ea7f91091fu},
      {Codec::kInt2, 40, 0xfecd944bd9bcec94u},
      {Codec::kInt2, 64, 0x2a134f3dd1f49d99u},
      {Codec::kInt2, 80, 0x9fbd2f1fac73d375u},
      {Codec::kInt2, 96, 0xa6a9d69f78369615u},
      {Codec::kInt2, 256, 0x2c490e3342cf5057u},
  };
  // Without the library's distributions, which may change.
  const auto row = [](int d, uint32_t seed) {
    std::vector<float> x(d);
    for (int i = 0; i < d; ++i) {
      uint32_t h = (seed * 977 + i + 1) * 2654435761u;
      h ^= h >> 15;
      h *= 2246822519u;
      h ^= h >> 13;
      x[i] = float(int(h % 20001) - 10000) / float(1 + (h >> 20) % 50);
    }
    return x;
  };
  for (const Golden& golden : kGolden) {
    const PageFormat format = FormatOf(golden.codec, golden.head_dim);
    std::vector<std::byte> page(format.page_bytes());
    for (int slot = 0; slot < kPageEntries; ++slot) {
      StoreEntry(format, page.data(), slot, row(golden.head_dim, slot).data(),
                 row(golden.head_dim, slot + 1000).data());
    }
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (std::byte b : page) hash = (hash ^ uint64_t(b)) * 1099511628211u;
    EXPECT_EQ(hash, golden.hash)
        << CodecBits(golden.codec) << " " << golden.head_dim;
  }
}

// Share of an f16 entry's 256 bytes, with 4 for a position.
TEST(KvQuant, BytesPerEntry) {
  const auto share = [](Codec k, Codec v) {
    const PageFormat format{64, k, v};
    return (double(format.page_bytes()) / kPageEntries + 4) / 256;
  };
  EXPECT_LE(share(Codec::kInt8, Codec::kInt8), 0.55);
  EXPECT_LE(share(Codec::kInt4, Codec::kInt4), 0.34);
  EXPECT_LE(share(Codec::kInt4, Codec::kInt2), 0.27);
}

}  // namespace
}  // namespace pyramidkv
