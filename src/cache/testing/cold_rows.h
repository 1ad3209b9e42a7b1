// Entries for tests of the cold tier, and tiers with an exact index.

#ifndef PYRAMIDKV_CACHE_TESTING_COLD_ROWS_H_
#define PYRAMIDKV_CACHE_TESTING_COLD_ROWS_H_

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "cache/cold_store.h"
#include "cache/testing/exact_index.h"
#include "cache/testing/failing_calls.h"
#include "gtest/gtest.h"

namespace pyramidkv {

// One entry as the codecs of `format` make it.
struct ColdRow {
  std::vector<float> k;
  std::vector<float> v;
  bool operator==(const ColdRow&) const = default;
};

inline std::vector<float> RandomFloats(size_t count, std::mt19937* random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = normal(*random);
  return values;
}

inline ColdRow Rounded(const PageFormat& format, const float* k,
                       const float* v) {
  std::vector<std::byte> page(format.page_bytes());
  StoreEntry(format, page.data(), 0, k, v);
  ColdRow row;
  row.k.resize(format.head_dim);
  row.v.resize(format.head_dim);
  LoadEntry(format, page.data(), 0, row.k.data(), row.v.data());
  return row;
}

// Appends random entries, and what should come back to `rows`.
inline Status AppendRandom(ColdTier* tier, const PageFormat& format, int layer,
                           int head, int count, std::mt19937* random,
                           std::vector<ColdRow>* rows) {
  const size_t stride = format.head_dim + 3;
  const std::vector<float> k = RandomFloats(count * stride, random);
  const std::vector<float> v = RandomFloats(count * stride, random);
  std::vector<int32_t> positions(count);
  for (int i = 0; i < count; ++i) {
    positions[i] = static_cast<int32_t>(rows->size() + i) * 2 + 5;
  }
  Status status = tier->Append(layer, head, count, k.data(), v.data(), stride,
                               positions.data());
  for (int i = 0; i < count && status.ok(); ++i) {
    rows->push_back(Rounded(format, &k[i * stride], &v[i * stride]));
  }
  return status;
}

// Whether entry `entry` is what the view holds at `at`.
inline bool ViewHas(const PageFormat& format, const ColdView& view, int at,
                    const ColdRow& entry) {
  ColdRow row = entry;
  LoadEntry(format, view.pages[at / kBlockEntries], at % kBlockEntries,
            row.k.data(), row.v.data());
  return row == entry;
}

inline std::unique_ptr<ColdTier> MakeExactTier(const ColdTierOptions& options,
                                               Failures* failures = nullptr,
                                               int readers = kColdReaders) {
  ColdStoreParts parts;
  parts.index = [d = options.format.head_dim](int, int) {
    return std::make_unique<ExactIndex>(d);
  };
  if (failures != nullptr) {
    parts.calls = std::make_unique<FailingCalls>(failures);
  }
  parts.readers = readers;
  auto tier = MakeColdStore(options, std::move(parts));
  EXPECT_TRUE(tier.ok()) << tier.status().message();
  return std::move(*tier);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TESTING_COLD_ROWS_H_
