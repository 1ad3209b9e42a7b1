#include "kernels/attention_decode.h"

#include <vector>

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
    const int count = (first_slot + entries + kPageEntries - 1) / kPageEntries;
    for (int p = 0; p < count; ++p) {
      memory.emplace_back(format.page_bytes());
      std::fill(memory[p].span().begin(), memory[p].span().end(), std::byte{0});
    }
    for (auto& m : memory) pages.push_back(m.data());
    k.resize(keys.size());
    v.resize(keys.size());
    for (int i = 0; i < entries; ++i) {
      const int slot = first_slot + i;
      std::byte* page = memory[slot / kPageEntries].data();
      const size_t at = size_t(i) * head_dim;
      StoreEntry(format, page, slot % kPageEntries, &keys[at], &values[at]);
      LoadEntry(format, page, slot % kPageEntries, &k[at], &v[at]);
    }
  }

  PageFormat format;
  int first_slot;
  std::vector<AlignedBuffer<std::byte>> memory;
  std::vector<const std::byte*> pages;
  std::vector<float> k, v;
};

DecodeHead MakeHead(const Stored& s, int begin, int end, int group,
                    const float* q) {
  DecodeHead head;
  head.format = s.format;
  head.pages = s.pages.data();
  head.begin = s.first_slot + begin;
  head.end = s.first_slot + end;
  head.group = group;
  head.scale = 0.2f;
  head.q = q;
  return head;
}

std::vector<float> Attend(const DecodeHead& head) {
  const int head_dim = head.format.head_dim;
  const size_t size = DecodePartFloats(head.group, head_dim);
  std::vector<float> results(size * head.parts());
  AlignedBuffer<float> scratch;
  for (int p = 0; p < head.parts(); ++p) {
    AttendDecodePart(head, p, &scratch, &results[p * size]);
  }
  std::vector<float> out(size_t(head.group) * head_dim);
  MergeDecodeParts(results.data(), head.parts(), head.group, head_dim,
                   out.data());
  return out;
}

void Check(Codec k, Codec v, int head_dim, int group, int entries,
           int first_slot, int begin, int end) {
  const Stored s({head_dim, k, v}, entries, first_slot);
  const auto q = RandomFloats(size_t(group) * head_dim, 6);
  const DecodeHead head = MakeHead(s, begin, end, group, q.data());
  std::vector<float> want(q.size());
  for (int g = 0; g < group; ++g) {
    reference::Attend(&q[size_t(g) * head_dim], s.k.data(), s.v.data(), begin,
                      end, head_dim, head.scale, nullptr,
                      &want[size_t(g) * head_dim]);
  }
  SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << " group "
                                  << group << " entries " << entries);
  ExpectNear(Attend(head), want, 2e-5f);
}

TEST(AttentionDecode, MatchesOracleForEveryCodecAndLength) {
  ForAllTargets([] {
    for (Codec codec : {Codec::kF32, Codec::kF16, Codec::kBf16}) {
      for (int n : {1, 2, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 2500}) {
        Check(codec, codec, 64, 3, n, 0, 0, n);
      }
    }
  });
}

TEST(AttentionDecode, MatchesOracleForOtherShapes) {
  ForAllTargets([] {
    for (int head_dim : {8, 16, 80, 128, 256}) {
      for (int group : {1, 2, 4, 7}) {
        Check(Codec::kF16, Codec::kBf16, head_dim, group, 130, 0, 0, 130);
      }
    }
    Check(Codec::kF32, Codec::kF16, 64, 3, 200, 37, 0, 200);
    Check(Codec::kF16, Codec::kF16, 64, 3, 1500, 5, 77, 1311);
    Check(Codec::kF16, Codec::kF16, 64, 3, 1500, 63, 1030, 1031);
  });
}

// Dropping whole pages in front changes no bit of the result.
TEST(AttentionDecode, PartsDoNotMoveWithDroppedPages) {
  ForAllTargets([] {
    const Stored s({64, Codec::kF16, Codec::kF16}, 3000, 0);
    const auto q = RandomFloats(3 * 64, 7);
    const auto all = Attend(MakeHead(s, 1300, 3000, 3, q.data()));
    DecodeHead head = MakeHead(s, 1300, 3000, 3, q.data());
    head.pages += 20;
    head.begin -= 20 * kPageEntries;
    head.end -= 20 * kPageEntries;
    head.origin = 20 * kPageEntries;
    EXPECT_EQ(Attend(head), all);
  });
}

}  // namespace
}  // namespace pyramidkv
