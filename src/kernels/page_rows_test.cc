#include "kernels/page_rows.h"

#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

const int kHeadDims[] = {8, 24, 64, 72, 128, 256};
const int kCounts[] = {1, 2, 15, 16, 17, 33, 63, 64};

struct Page {
  PageFormat format;
  std::vector<std::byte> bytes;
  std::vector<float> k, v;  // as LoadEntry reads them
};

Page RandomPage(int head_dim, Codec k, Codec v) {
  Page page;
  page.format = {head_dim, k, v};
  page.bytes.resize(page.format.page_bytes());
  const size_t n = size_t(kPageEntries) * head_dim;
  const auto keys = RandomFloats(n, 1), values = RandomFloats(n, 2, 1e-4f);
  page.k.resize(n);
  page.v.resize(n);
  for (int i = 0; i < kPageEntries; ++i) {
    const size_t at = size_t(i) * head_dim;
    StoreEntry(page.format, page.bytes.data(), i, &keys[at], &values[at]);
    LoadEntry(page.format, page.bytes.data(), i, &page.k[at], &page.v[at]);
  }
  return page;
}

// Rows of the entries before `count`, and nothing behind them.
void ExpectRows(const Page& page, int count) {
  const int d = page.format.head_dim;
  const size_t n = size_t(count) * d, pairs = size_t(count + 1) / 2 * 2 * d;
  std::vector<float> k(n + 1, 77), v(n + 1, 77);
  std::vector<uint16_t> k16(n + 1, 77), v16(pairs + 1, 77);
  LoadPage(page.format, page.bytes.data(), count,
           {k.data(), v.data(), k16.data(), v16.data()});
  EXPECT_EQ(k[n], 77);
  EXPECT_EQ(v[n], 77);
  EXPECT_EQ(k16[n], 77);
  EXPECT_EQ(v16[pairs], 77);
  for (size_t i = 0; i < n; ++i) {
    ASSERT_EQ(k[i], page.k[i]) << i;
    ASSERT_EQ(v[i], page.v[i]) << i;
    ASSERT_EQ(k16[i], Bf16FromF32(page.k[i])) << i;
    const size_t entry = i / d, channel = i % d;
    ASSERT_EQ(v16[entry / 2 * 2 * d + 2 * channel + entry % 2],
              Bf16FromF32(page.v[i]))
        << i;
  }
  for (int c = 0; count % 2 == 1 && c < d; ++c) {
    ASSERT_EQ(v16[size_t(count / 2) * 2 * d + 2 * c + 1], 0) << c;
  }
}

TEST(PageRows, LoadPageGivesWhatLoadEntryDoes) {
  const std::pair<Codec, Codec> codecs[] = {{Codec::kF16, Codec::kF16},
                                            {Codec::kF32, Codec::kBf16},
                                            {Codec::kInt8, Codec::kInt4}};
  ForAllTargets([&] {
    for (const auto& [k, v] : codecs) {
      for (int head_dim : kHeadDims) {
        const Page page = RandomPage(head_dim, k, v);
        for (int count : kCounts) ExpectRows(page, count);
      }
    }
  });
}

TEST(PageRows, LoadPageLeavesOutWhatIsNotWanted) {
  const Page page = RandomPage(64, Codec::kF16, Codec::kF16);
  ForAllTargets([&] {
    std::vector<float> k(page.k.size());
    LoadPage(page.format, page.bytes.data(), kPageEntries, {.k = k.data()});
    EXPECT_EQ(k, page.k);
    std::vector<uint16_t> k16(page.k.size()), want(page.k.size());
    LoadPage(page.format, page.bytes.data(), kPageEntries, {.k16 = k16.data()});
    ToBf16(page.k.data(), want.size(), want.data());
    EXPECT_EQ(k16, want);
  });
}

TEST(PageRows, StoreValueRowFillsOneHalfOfAPair) {
  ForAllTargets([] {
    for (int d : kHeadDims) {
      std::vector<uint16_t> pairs(size_t(4) * d, 77);
      const auto v = RandomFloats(d, 3);
      StoreValueRow(v.data(), d, 3, pairs.data());
      for (int i = 0; i < 4 * d; ++i) {
        const bool own = i >= 2 * d && i % 2 == 1;
        ASSERT_EQ(pairs[i], own ? Bf16FromF32(v[(i - 2 * d) / 2]) : 77) << i;
      }
    }
  });
}

TEST(PageRows, F16RoundsAsTheCodec) {
  auto from = RandomFloats(1001, 4, 1e-5f);  // many subnormal halves
  const auto normal = RandomFloats(1000, 5, 100.0f);
  from.insert(from.end(), normal.begin(), normal.end());
  for (float x : {0.0f, -0.0f, 65504.0f, 65519.9f, 65520.0f, -1e30f,
                  std::numeric_limits<float>::infinity()}) {
    from.push_back(x);
  }
  ForAllTargets([&] {
    std::vector<uint16_t> halves(from.size());
    std::vector<float> back(from.size());
    ToF16(from.data(), from.size(), halves.data());
    FromF16(halves.data(), halves.size(), back.data());
    for (size_t i = 0; i < from.size(); ++i) {
      ASSERT_EQ(halves[i], F16FromF32(from[i])) << from[i];
      ASSERT_EQ(back[i], F32FromF16(halves[i])) << from[i];
    }
  });
}

}  // namespace
}  // namespace pyramidkv
