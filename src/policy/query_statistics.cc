#include "policy/query_statistics.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "policy/gemm.h"

namespace pyramidkv {
namespace {

// In integers, so that the loop vectorises.
bool AllFinite(const float* x, int count) {
  uint32_t largest = 0;
  for (int i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  }
  return largest < 0x7f800000u;  // infinity
}

// The finite rows of one head in a block.
struct HeadRows {
  std::vector<const float*> row;
  std::vector<double> mean;  // [head_dim]

  HeadRows(const float* q, int rows, size_t stride, int head_dim)
      : mean(head_dim, 0.0) {
    for (int r = 0; r < rows; ++r) {
      const float* x = q + r * stride;
      if (!AllFinite(x, head_dim)) continue;
      row.push_back(x);
      for (int d = 0; d < head_dim; ++d) mean[d] += x[d];
    }
    for (double& m : mean) m /= std::max<double>(1.0, row.size());
  }

  int count() const { return static_cast<int>(row.size()); }
};

// Sum over rows of (x - mean)(x - mean)': [head_dim, head_dim].
std::vector<float> CentredProducts(const HeadRows& rows) {
  const int head_dim = static_cast<int>(rows.mean.size());
  std::vector<float> centred(static_cast<size_t>(rows.count()) * head_dim);
  float* to = centred.data();
  for (const float* x : rows.row) {
    for (int d = 0; d < head_dim; ++d) {
      to[d] = static_cast<float>(x[d] - rows.mean[d]);
    }
    to += head_dim;
  }
  std::vector<float> products(static_cast<size_t>(head_dim) * head_dim);
  Gemm({.m = head_dim,
        .n = head_dim,
        .k = rows.count(),
        .a = {centred.data(), head_dim, true},
        .b = {centred.data(), head_dim, false},
        .c = products.data(),
        .c_stride = head_dim});
  return products;
}

}  // namespace

QueryStatistics::QueryStatistics(int heads, int head_dim, int sinks)
    : heads_(heads), head_dim_(head_dim), sinks_(sinks), sums_(heads) {
  for (Sums& sums : sums_) {
    sums.mean.resize(head_dim);
    sums.squares.resize(static_cast<size_t>(head_dim) * (head_dim + 1) / 2);
  }
}

void QueryStatistics::Add(std::span<const float> q, int rows,
                          ThreadPool* pool) {
  const size_t row_size = static_cast<size_t>(heads_) * head_dim_;
  DCHECK(q.size() == rows * row_size);
  const int skipped = static_cast<int>(
      std::clamp<int64_t>(sinks_ - position_, 0, static_cast<int64_t>(rows)));
  position_ += skipped;
  rows -= skipped;
  const float* next = q.data() + skipped * row_size;
  while (rows > 0) {
    const int room = kBlockRows - static_cast<int>(position_ % kBlockRows);
    const int taken = std::min(rows, room);
    const float* block = next;
    int block_rows = taken;
    if (taken < room || !waiting_.empty()) {
      waiting_.insert(waiting_.end(), next, next + taken * row_size);
      block = waiting_.data();
      block_rows = static_cast<int>(waiting_.size() / row_size);
    }
    if (taken == room) {
      const auto add = [&](int head, int) {
        AddBlock(block, block_rows, head, &sums_[head]);
      };
      if (pool != nullptr) {
        pool->ParallelFor(heads_, add);
      } else {
        for (int head = 0; head < heads_; ++head) add(head, 0);
      }
      waiting_.clear();
    }
    position_ += taken;
    rows -= taken;
    next += taken * row_size;
  }
}

void QueryStatistics::AddBlock(const float* q, int rows, int head,
                               Sums* sums) const {
  const HeadRows block(q + static_cast<size_t>(head) * head_dim_, rows,
                       static_cast<size_t>(heads_) * head_dim_, head_dim_);
  if (block.count() == 0) return;
  const std::vector<float> products = CentredProducts(block);
  const double count = static_cast<double>(sums->count);
  const double all = count + block.count();
  std::vector<double> apart(head_dim_);
  for (int d = 0; d < head_dim_; ++d) apart[d] = block.mean[d] - sums->mean[d];
  const double weight = count * block.count() / all;
  double* squares = sums->squares.data();
  for (int i = 0; i < head_dim_; ++i) {
    const float* row = products.data() + static_cast<size_t>(i) * head_dim_;
    const double factor = weight * apart[i];
    for (int j = 0; j <= i; ++j) squares[j] += row[j] + factor * apart[j];
    squares += i + 1;
  }
  for (int d = 0; d < head_dim_; ++d) {
    sums->mean[d] += apart[d] * block.count() / all;
  }
  sums->count += block.count();
}

bool QueryStatistics::Import(State state) {
  const size_t row_size = static_cast<size_t>(heads_) * head_dim_;
  // Far from where counting on would overflow.
  bool fits = state.position >= 0 && state.position <= INT32_MAX &&
              state.sums.size() == sums_.size() &&
              state.waiting.size() % row_size == 0 &&
              state.waiting.size() < kBlockRows * row_size;
  for (size_t h = 0; fits && h < sums_.size(); ++h) {
    fits = state.sums[h].count >= 0 && state.sums[h].count <= INT32_MAX &&
           state.sums[h].mean.size() == sums_[h].mean.size() &&
           state.sums[h].squares.size() == sums_[h].squares.size();
  }
  if (!fits) return false;
  position_ = state.position;
  waiting_ = std::move(state.waiting);
  sums_ = std::move(state.sums);
  return true;
}

QueryStatistics::Moments QueryStatistics::Of(int head) const {
  Sums sums = sums_[head];
  if (!waiting_.empty()) {
    const size_t row_size = static_cast<size_t>(heads_) * head_dim_;
    AddBlock(waiting_.data(), static_cast<int>(waiting_.size() / row_size),
             head, &sums);
  }
  Moments moments;
  moments.count = sums.count;
  moments.mean = std::move(sums.mean);
  moments.covariance.resize(static_cast<size_t>(head_dim_) * head_dim_);
  const double divisor = std::max<double>(1.0, sums.count);
  const double* square = sums.squares.data();
  for (int i = 0; i < head_dim_; ++i) {
    for (int j = 0; j <= i; ++j, ++square) {
      moments.covariance[i * head_dim_ + j] = *square / divisor;
      moments.covariance[j * head_dim_ + i] = *square / divisor;
    }
  }
  return moments;
}

}  // namespace pyramidkv
