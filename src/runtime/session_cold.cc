#include "runtime/session_cold.h"

#include <utility>

namespace pyramidkv {
namespace {

void WriteState(const ColdHeadState& s, StateWriter* out) {
  out->PutArray(s.positions);
  out->Put<int32_t>(s.index.length);
  out->PutArray(s.index.mean);
  out->PutCount(s.index.codes.size());
  out->PutBytes(s.index.codes);
  out->PutArray(s.index.clusters);
  out->PutArray(s.index.inverse_norms);
}

// The index says itself whether its sizes can be.
ColdHeadState ReadState(int position, StateReader* in) {
  const uint64_t any = in->remaining();
  ColdHeadState s;
  s.positions = in->GetArray<int32_t>(position);
  s.index.length = in->Get<int32_t>();
  s.index.mean = in->GetArray<float>(any);
  s.index.codes.resize(in->Count(any, 1));
  in->GetBytes(s.index.codes);
  s.index.clusters = in->GetArray<uint16_t>(position);
  s.index.inverse_norms = in->GetArray<float>(position);
  return s;
}

Status ReadHead(StateReader* in, const Sequence& sequence, int layer,
                int head) {
  ColdTier* const cold = sequence.cold.get();
  ColdHeadState state = ReadState(sequence.position, in);
  const auto entries = static_cast<int64_t>(state.positions.size());
  if (entries + sequence.cache.length(layer, head) > sequence.position) {
    in->Fail("damaged: a head holds more entries than there were tokens");
  }
  const PageFormat block = BlockFormat(sequence.cache.shape().format);
  const uint64_t blocks = (entries + kBlockEntries - 1) / kBlockEntries;
  if (blocks > in->remaining() / block.page_bytes()) {
    in->Fail("damaged: it counts more than it can hold");
  }
  PKV_RETURN_IF_ERROR(in->status());
  in->Fail(cold->Import(layer, head, sequence.position, std::move(state),
                        [in](std::span<std::byte> page) {
                          in->GetBytes(page);
                          return in->status();
                        }));
  return in->status();
}

}  // namespace

Status WriteCold(const Sequence& sequence, StateWriter* out) {
  const ColdTier* const cold = sequence.cold.get();
  if (cold == nullptr) return {};
  out->Put<uint64_t>(cold->index_basis());
  const KvShape& shape = sequence.cache.shape();
  for (int l = 0; l < shape.layers; ++l) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      WriteState(cold->Export(l, h), out);
      PKV_RETURN_IF_ERROR(out->status());
      PKV_RETURN_IF_ERROR(
          cold->ShowBlocks(l, h, [out](std::span<const std::byte> page) {
            out->PutBytes(page);
            return out->status();
          }));
    }
  }
  return {};
}

Status ReadCold(StateReader* in, Sequence* sequence) {
  if (sequence->cold == nullptr) return {};
  if (in->Get<uint64_t>() != sequence->cold->index_basis()) {
    in->Fail(
        "its cold tier was indexed along other directions than those measured "
        "for this model (index=skew): they must be the ones it was saved with");
  }
  PKV_RETURN_IF_ERROR(in->status());
  const KvShape& shape = sequence->cache.shape();
  for (int l = 0; l < shape.layers; ++l) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      PKV_RETURN_IF_ERROR(ReadHead(in, *sequence, l, h));
    }
  }
  return sequence->Settle();
}

}  // namespace pyramidkv
