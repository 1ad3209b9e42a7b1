#include "kernels/attention_decode.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/channel_keys.h"
#include "kernels/key_rounding.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// One head in pages, and the same entries as the codec stored them.
struct Stored {
  Stored(const PageFormat& format, int entries, int first_slot)
      : format(format), first_slot(first_slot) {
    const int head_dim = format.head_dim;
    const auto keys = RandomFloats(size_t(entries) * head_dim, 4);
    const auto values = RandomFloats(size_t(entries) * head_dim, 5);
    const int size = format.entries;
    const int count = (first_slot + entries + size - 1) / size;
    for (int p = 0; p < count; ++p) {
      memory.emplace_back(format.page_bytes());
      std::fill(memory[p].span().begin(), memory[p].span().end(), std::byte{0});
    }
    for (auto& m : memory) pages.push_back(m.data());
    k.resize(keys.size());
    v.resize(keys.size());
    for (int i = 0; i < entries; ++i) {
      const int slot = first_slot + i;
      std::byte* page = memory[slot / size].data();
      const size_t at = size_t(i) * head_dim;
      StoreEntry(format, page, slot % size, &keys[at], &values[at]);
      LoadEntry(format, page, slot % size, &k[at], &v[at]);
    }
  }

  PageFormat format;
  int first_slot;
  std::vector<AlignedBuffer<std::byte>> memory;
  std::vector<const std::byte*> pages;
  std::vector<float> k, v;
};

struct Row {
  Segment segment;
  DecodeQuery query;
};

Row MakeRow(const Stored& s, int begin, int end, int group, const float* q) {
  Row row;
  row.segment.format = s.format;
  row.segment.pages = s.pages.data();
  row.segment.begin = s.first_slot + begin;
  row.segment.end = s.first_slot + end;
  row.query = {group, 0.2f, q};
  return row;
}

// The row's output [group, head_dim]; what entries receive is added to
// `received` if that is not null.
std::vector<float> Attend(const Row& row, float* received = nullptr) {
  const auto& [segment, query] = row;
  const int head_dim = segment.format.head_dim;
  const size_t size = DecodePartFloats(query.group, head_dim);
  const size_t weights_size = size_t(query.group) * kPartSlots;
  std::vector<float> results(size * segment.parts());
  std::vector<float> weights(weights_size * segment.parts());
  AlignedBuffer<float> scratch;
  for (int p = 0; p < segment.parts(); ++p) {
    AttendDecodePart(
        segment, query, p, &scratch, &results[p * size],
        received != nullptr ? &weights[p * weights_size] : nullptr);
  }
  std::vector<float> out(size_t(query.group) * head_dim);
  MergeDecodeParts(results.data(), segment.parts(), query.group, head_dim,
                   out.data());
  if (received != nullptr) {
    AddReceived(segment, query.group, {results.data(), segment.parts()},
                weights.data(), &scratch, received);
  }
  return out;
}

// received[slot] += mean over the group, from the entries as they are stored.
void ReceivedOracle(const Stored& s, const Row& row,
                    std::vector<float>* received) {
  const auto& [segment, query] = row;
  const int begin = segment.begin - s.first_slot;
  const int end = segment.end - s.first_slot;
  const int head_dim = segment.format.head_dim;
  const float* bias =
      segment.bias != nullptr ? segment.bias + s.first_slot : nullptr;
  for (int g = 0; g < query.group; ++g) {
    const auto p =
        reference::Probabilities(query.q + size_t(g) * head_dim, s.k.data(),
                                 begin, end, head_dim, query.scale, bias);
    for (int j = begin; j < end; ++j) {
      (*received)[s.first_slot + j] += p[j - begin] / query.group;
    }
  }
}

// A query next to int4 keys is rounded to 8 bits: a sum of 64 products that
// are each off by up to 1/254 of the largest, times scale. To 16 bits it is
// 1/65024, and so are weights; those of values of 4 and 2 bits may be off by
// 1/127 of the largest of a page, by chance.
float ValueTolerance(const PageFormat& format) {
  return CodecBits(format.v) <= 4 ? 1e-2f : 2e-4f;
}
float IntegerTolerance(const PageFormat& format) {
  return format.k == Codec::kInt4 ? 0.05f : ValueTolerance(format);
}

void Check(const PageFormat& format, int group, int entries, int first_slot,
           int begin, int end, bool with_bias = false, bool integers = false) {
  const Stored s(format, entries, first_slot);
  const int head_dim = format.head_dim;
  const auto q = RandomFloats(size_t(group) * head_dim, 6);
  const auto bias = RandomFloats(first_slot + entries, 8, 2.0f);  // by slot
  Row row = MakeRow(s, begin, end, group, q.data());
  if (with_bias) row.segment.bias = bias.data();
  row.query.integers = integers;
  std::vector<float> want(q.size());
  for (int g = 0; g < group; ++g) {
    reference::Attend(&q[size_t(g) * head_dim], s.k.data(), s.v.data(), begin,
                      end, head_dim, row.query.scale,
                      with_bias ? &bias[first_slot] : nullptr,
                      &want[size_t(g) * head_dim]);
  }
  SCOPED_TRACE(testing::Message()
               << "head_dim " << head_dim << " group " << group << " entries "
               << entries << " bias " << with_bias << " page " << format.entries
               << " integers " << integers);
  const float tolerance = integers ? IntegerTolerance(format) : 2e-5f;
  const auto got = Attend(row);
  ExpectNear(got, want, tolerance);

  // Values there already stay, and so do the slots that are not seen.
  std::vector<float> received(first_slot + entries, 0.5f);
  auto want_received = received;
  ReceivedOracle(s, row, &want_received);
  EXPECT_EQ(Attend(row, received.data()), got);
  ExpectNear(received, want_received, integers ? tolerance : 1e-6f);
}

TEST(AttentionDecode, MatchesOracleForEveryCodecAndLength) {
  ForAllTargets([] {
    for (Codec codec : {Codec::kF32, Codec::kF16, Codec::kBf16}) {
      for (int n : {1, 2, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 2500}) {
        for (bool bias : {false, true}) {
          Check({64, codec, codec}, 3, n, 0, 0, n, bias);
          Check({64, codec, codec, 16}, 3, n, 0, 0, n, bias);
        }
      }
    }
  });
}

TEST(AttentionDecode, MatchesOracleForOtherShapes) {
  ForAllTargets([] {
    for (int head_dim : {8, 16, 80, 128, 256}) {
      for (int group : {1, 2, 4, 7}) {
        Check({head_dim, Codec::kF16, Codec::kBf16}, group, 130, 0, 0, 130);
      }
    }
    for (int page : {kPageEntries, 16}) {
      Check({64, Codec::kF32, Codec::kF16, page}, 3, 200, 37, 0, 200);
      const PageFormat format = {64, Codec::kF16, Codec::kF16, page};
      Check(format, 3, 1500, 5, 77, 1311);
      Check(format, 3, 1500, 63, 1030, 1031);
      Check(format, 4, 1500, 5, 77, 1311, true);
      Check(format, 1, 1500, 63, 1030, 1031, true);
    }
  });
}

void CheckQuantized(Codec k, Codec v, bool integers) {
  for (int page : {kPageEntries, 16}) {
    for (int n : {1, 2, 15, 17, 63, 64, 65, 1025}) {
      Check({64, k, v, page}, 3, n, 0, 0, n, n % 2 == 0, integers);
    }
    for (int head_dim : {8, 16, 40, 80, 128, 256}) {
      Check({head_dim, k, v, page}, 4, 131, 37, 5, 129, false, integers);
    }
    Check({64, k, v, page}, 7, 1500, 63, 1030, 1031, true, integers);
  }
}

TEST(AttentionDecode, MatchesOracleForQuantizedEntries) {
  ForAllTargets([] {
    for (Codec k : {Codec::kInt8, Codec::kInt4, Codec::kF16}) {
      for (Codec v : {Codec::kInt8, Codec::kInt4, Codec::kInt2, Codec::kF16}) {
        for (bool integers : {false, true}) CheckQuantized(k, v, integers);
      }
    }
  });
}

// Rounding queries and weights adds little to what rounding entries does.
TEST(AttentionDecode, IntegersAddLittleToTheErrorOfTheEntries) {
  constexpr int kEntries = 2000, kDim = 64;
  for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
    const Stored fine({kDim, Codec::kF32, Codec::kF32}, kEntries, 0);
    const Stored coarse({kDim, codec, codec}, kEntries, 0);
    double own = 0, added = 0;
    for (int seed = 0; seed < 8; ++seed) {
      // Up to so steep that few entries have most of the weight.
      const auto q = RandomFloats(3 * kDim, 100 + seed, 0.5f + 0.25f * seed);
      const auto exact = Attend(MakeRow(fine, 0, kEntries, 3, q.data()));
      Row row = MakeRow(coarse, 0, kEntries, 3, q.data());
      const auto integers = Attend(row);
      row.query.integers = false;
      const auto floats = Attend(row);
      for (size_t i = 0; i < q.size(); ++i) {
        own += std::pow(floats[i] - exact[i], 2);
        added += std::pow(integers[i] - floats[i], 2);
      }
    }
    EXPECT_LT(added, 0.01 * own) << CodecBits(codec);
    RecordProperty("added_to_own_" + std::to_string(CodecBits(codec)),
                   std::to_string(added / own));
  }
}

TEST(AttentionDecode, MatchesOracleForKeysByChannel) {
  ForAllTargets([] {
    for (int d : {8, 24, 64, 128}) {
      for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
        for (int n : {1, 31, 32, 33, 64, 65, 1500}) {
          PageFormat format = {d, codec, codec};
          format.channel = true;
          Stored s(format, n, 0);
          auto keys = RandomFloats(size_t(n) * d, 4);
          for (int i = 0; i < n; i += kChannelGroup) {
            StoreKeyGroup(format, i / kChannelGroup % 2,
                          std::min(kChannelGroup, n - i), &keys[size_t(i) * d],
                          s.memory[i / kPageEntries].data());
          }
          for (int i = 0; i < n; ++i) {
            LoadEntry(format, s.pages[i / kPageEntries], i % kPageEntries,
                      &s.k[size_t(i) * d], nullptr);
          }
          for (int group : {1, 3, 5}) {
            const auto q = RandomFloats(size_t(group) * d, 6);
            Row row = MakeRow(s, n / 3, n, group, q.data());
            std::vector<float> want(q.size());
            for (int g = 0; g < group; ++g) {
              reference::Attend(&q[size_t(g) * d], s.k.data(), s.v.data(),
                                n / 3, n, d, row.query.scale, nullptr,
                                &want[size_t(g) * d]);
            }
            row.query.integers = false;
            ExpectNear(Attend(row), want, 1e-4f);
            row.query.integers = true;  // of values
            ExpectNear(Attend(row), want,
                       std::max(1e-3f, ValueTolerance(format)));
          }
        }
      }
    }
  });
}

// Attention over keys without their mean is attention over them with it.
TEST(AttentionDecode, KeysWithoutMeanStandForTheKeys) {
  constexpr int kDim = 64, kGroup = 5, kEntries = 1500;
  const auto q = RandomFloats(size_t(kGroup) * kDim, 6);
  const std::vector<float> mean = RandomFloats(2 * kDim, 9);
  ForAllTargets([&] {
    for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
      Stored s({kDim, codec, codec}, kEntries, 3);
      Row row = MakeRow(s, 0, kEntries, kGroup, q.data());
      row.segment.key_rounding = mean.data();
      AddKeyMean(mean.data(), kDim, kEntries, s.k.data());
      std::vector<float> want(q.size());
      for (int g = 0; g < kGroup; ++g) {
        reference::Attend(&q[size_t(g) * kDim], s.k.data(), s.v.data(), 0,
                          kEntries, kDim, row.query.scale, nullptr,
                          &want[size_t(g) * kDim]);
      }
      row.query.integers = false;
      ExpectNear(Attend(row), want, 1e-4f);
      std::vector<float> received(3 + kEntries, 0.0f);
      auto want_received = received;
      ReceivedOracle(s, row, &want_received);
      Attend(row, received.data());
      ExpectNear(received, want_received, 1e-5f);
    }
  });
}

// A page's other entries do not vanish beside one that has nearly all weight.
TEST(AttentionDecode, IntegersKeepSmallWeights) {
  constexpr int kDim = 64, kEntries = 640;
  for (Codec codec : {Codec::kInt8, Codec::kInt4, Codec::kInt2}) {
    const Codec k = codec == Codec::kInt2 ? Codec::kInt4 : codec;
    const Stored s({kDim, k, codec}, kEntries, 0);
    const std::vector<float> q(size_t{3} * kDim, 0.0f);
    std::vector<float> bias(kEntries, 0.0f);
    bias[3] = std::log(10.0f * kEntries);
    Row row = MakeRow(s, 0, kEntries, 3, q.data());
    row.segment.bias = bias.data();
    const auto integers = Attend(row);
    row.query.integers = false;
    ExpectNear(integers, Attend(row), 2e-4f);
  }
}

// As if their logits were far below all others: some slots, whole pages, and
// all of a part.
TEST(AttentionDecode, UnseenSlotsAddNothing) {
  ForAllTargets([] {
    constexpr int kEntries = 3 * kPartSlots;
    std::vector<uint64_t> unseen(2 * kPartSlots / kPageEntries, 0x30f0000000ff);
    std::fill(unseen.begin(), unseen.begin() + 2, ~uint64_t{0});
    std::fill(unseen.begin() + kPartSlots / kPageEntries, unseen.end(),
              ~uint64_t{0});
    std::vector<float> bias(kEntries, 0.0f);
    for (int i = 0; i < kEntries; ++i) {
      const size_t page = i / kPageEntries;
      const bool hidden =
          page < unseen.size() && (unseen[page] >> i % kPageEntries & 1) != 0;
      if (hidden) bias[i] = -1e30f;
    }
    for (Codec codec : {Codec::kF16, Codec::kInt8, Codec::kInt4}) {
      const Stored s({64, codec, codec}, kEntries, 0);
      const auto q = RandomFloats(4 * 64, 7);
      Row row = MakeRow(s, 20, kEntries - 5, 4, q.data());
      std::vector<float> received(kEntries, 0.0f), want_received = received;
      row.segment.bias = bias.data();
      const auto want = Attend(row, want_received.data());
      row.segment.bias = nullptr;
      row.segment.unseen = unseen;
      ExpectNear(Attend(row, received.data()), want, 1e-4f);
      ExpectNear(received, want_received, 1e-6f);
    }
  });
}

// Which entries slots are of matters to what is known by entry alone.
TEST(AttentionDecode, BiasAndReceivedAreByEntry) {
  ForAllTargets([] {
    constexpr int kEntries = kPartSlots + 100;
    const Stored s({64, Codec::kF16, Codec::kF16, 16}, kEntries, 0);
    const auto q = RandomFloats(4 * 64, 7);
    const auto bias = RandomFloats(3 * kEntries, 8);  // of all entries
    std::vector<int32_t> listed;
    std::vector<float> by_slot;
    for (int i = 0; i < kEntries; ++i) {
      listed.push_back(3 * i - 7 + i % 2);
      by_slot.push_back(bias[std::max(listed.back(), 0)]);
    }
    Row row = MakeRow(s, 3, kEntries - 5, 4, q.data());
    row.segment.bias = by_slot.data();
    std::vector<float> received(kEntries, 0.0f);
    const auto want = Attend(row, received.data());
    row.segment.entries = listed.data();
    row.segment.bias = bias.data();
    std::vector<float> of_entries(bias.size(), 1.0f);
    EXPECT_EQ(Attend(row, of_entries.data()), want);
    for (int i = 3; i < kEntries - 5; ++i) {
      EXPECT_EQ(of_entries[listed[i]], 1.0f + received[i]);
      of_entries[listed[i]] = 1.0f;
    }
    EXPECT_EQ(of_entries, std::vector<float>(bias.size(), 1.0f));

    row.segment.entries = nullptr;
    row.segment.first_entry = -3;
    row.segment.bias = by_slot.data() + 3;
    std::vector<float> moved(kEntries, 0.0f);
    EXPECT_EQ(Attend(row, moved.data()), want);
    EXPECT_TRUE(
        std::equal(moved.begin(), moved.end() - 3, received.begin() + 3));
  });
}

// Dropping whole pages in front changes no bit of the result.
TEST(AttentionDecode, PartsDoNotMoveWithDroppedPages) {
  ForAllTargets([] {
    const int dropped = 20 * kPageEntries;
    const Stored s({64, Codec::kF16, Codec::kF16}, 3000, 0);
    const auto q = RandomFloats(3 * 64, 7), bias = RandomFloats(3000, 8);
    for (bool with_bias : {false, true}) {
      Row row = MakeRow(s, 1300, 3000, 3, q.data());
      row.segment.bias = with_bias ? bias.data() : nullptr;
      std::vector<float> received(3000, 0.0f), received_behind(3000, 0.0f);
      const auto all = Attend(row, received.data());
      row.segment.pages += 20;
      row.segment.begin -= dropped;
      row.segment.end -= dropped;
      row.segment.origin = dropped;
      if (with_bias) row.segment.bias += dropped;
      EXPECT_EQ(Attend(row, received_behind.data() + dropped), all);
      EXPECT_EQ(received_behind, received);
    }
  });
}

// With the logarithm of its count as bias, an entry stands for equal ones.
TEST(AttentionDecode, BiasStandsForACount) {
  ForAllTargets([] {
    const PageFormat format = {64, Codec::kF16, Codec::kF16};
    const Stored merged(format, 93, 0);
    Stored all(format, 100, 0);
    const auto q = RandomFloats(3 * 64, 7);
    std::vector<float> k(64), v(64), bias(93, 0.0f);
    LoadEntry(format, merged.memory[0].data(), 40, k.data(), v.data());
    for (int slot = 93; slot < 100; ++slot) {
      StoreEntry(format, all.memory[slot / kPageEntries].data(),
                 slot % kPageEntries, k.data(), v.data());
    }
    bias[40] = std::log(8.0f);
    Row row = MakeRow(merged, 0, 93, 3, q.data());
    row.segment.bias = bias.data();
    ExpectNear(Attend(row), Attend(MakeRow(all, 0, 100, 3, q.data())), 1e-5f);
  });
}

}  // namespace
}  // namespace pyramidkv
