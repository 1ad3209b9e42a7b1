#include "kernels/matmul_int8.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "kernels/matmul_int8-inl.h"

namespace pyramidkv {
namespace {

constexpr int kForkRows = 4;  // worth more than one thread

// The next group of `left` rows of a kind.
Int8Rows::Group NextGroup(int first, int left, bool fine) {
  const int most = fine ? kFineGroup : kInt8RowGroup;
  Int8Rows::Group group;
  group.first = first;
  group.rows = left < most ? left : most;
  group.planes = fine ? 2 : 1;
  group.padded_rows = fine && left <= 2 ? left : fine && left <= 4 ? 4 : most;
  return group;
}

}  // namespace

const char* FormName(Int8Form form) {
  switch (form) {
    case Int8Form::kVnni:
      return "vnni";
    case Int8Form::kAvx2:
      return "avx2";
  }
  return "";
}

CpuFeatures FormNeeds(Int8Form form) {
  CpuFeatures needs;
  needs.avx512_vnni = form == Int8Form::kVnni;
  needs.avx2 = form == Int8Form::kAvx2;
  return needs;
}

bool HasInt8Products(const CpuFeatures& cpu) {
  return std::any_of(
      std::begin(kInt8Forms), std::end(kInt8Forms),
      [&](Int8Form form) { return Covers(cpu, FormNeeds(form)); });
}

Int8Rows::Int8Rows()
    : Int8Rows(Covers(Cpu(), FormNeeds(Int8Form::kVnni)) ? Int8Form::kVnni
                                                         : Int8Form::kAvx2) {}

void Int8Rows::Set(const float* x, int rows, int cols, int fine_rows,
                   ThreadPool* pool) {
  cols_ = cols;
  groups_.clear();
  size_t bytes = 0;
  for (int row = 0; row < rows; row += groups_.back().rows) {
    const bool fine = row < fine_rows;
    Group group = NextGroup(row, (fine ? fine_rows : rows) - row, fine);
    group.offset = bytes;
    bytes += size_t(group.padded_rows) * BlockRowBytes(group.planes) *
             (cols / kBlockCols);
    groups_.push_back(group);
  }
  data_.Resize(bytes);
  const auto quantize_row =
      form_ == Int8Form::kVnni ? QuantizeRowVnni : QuantizeRowAvx2;
  for (const Group& group : groups_) {
    auto* to = reinterpret_cast<uint8_t*>(data_.data() + group.offset);
    const auto quantize = [&](int r, int) {
      quantize_row(x, group, r, cols, to);
    };
    if (pool != nullptr && group.padded_rows >= kForkRows) {
      pool->ParallelFor(group.padded_rows, quantize);
    } else {
      for (int r = 0; r < group.padded_rows; ++r) quantize(r, 0);
    }
  }
}

void MultiplyTiles(const TileFormat& format, const std::byte* tiles,
                   int outputs, const Int8Rows& x, int first, int count,
                   float* y, size_t y_stride) {
  const std::span<const Int8Rows::Group> groups = x.groups();
  const Int8Call call = {reinterpret_cast<const uint8_t*>(tiles),
                         format.group_bytes(x.cols()),
                         outputs,
                         groups.data(),
                         static_cast<int>(groups.size()),
                         reinterpret_cast<const uint8_t*>(x.data()),
                         x.cols() / kBlockCols,
                         first,
                         count,
                         y,
                         y_stride};
  if (x.form() == Int8Form::kVnni) {
    MultiplyTilesVnni(format, call);
  } else {
    MultiplyTilesAvx2(format, call);
  }
}

}  // namespace pyramidkv
