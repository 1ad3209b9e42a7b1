#include "kernels/attention_decode_int8.h"

namespace pyramidkv {
namespace {

constexpr int kBlock = 16;  // entries that kernels take at a time

}  // namespace

IntegerHalf::IntegerHalf(Codec codec, int head_dim, int page_entries,
                         const std::byte* half, int begin, int end)
    : codec(codec),
      head_dim(head_dim),
      page_entries(page_entries),
      begin(begin),
      end(end),
      groups(QuantGroups(head_dim)),
      blocks((end + kBlock - 1) / kBlock),
      codes(reinterpret_cast<const uint8_t*>(half)),
      scales(reinterpret_cast<const uint16_t*>(
          half + QuantCodeBytes(codec, head_dim, page_entries))) {}

std::array<const IntegerForm*, 2> IntegerForms() {
  return {&VnniForm(), &Avx2Form()};
}

const IntegerForm* BestIntegerForm(const CpuFeatures& cpu) {
  for (const IntegerForm* form : IntegerForms()) {
    if (Covers(cpu, form->needs)) return form;
  }
  return nullptr;
}

}  // namespace pyramidkv
