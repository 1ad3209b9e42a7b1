// Mean and covariance of a layer's queries, gathered while a prompt runs.
//
// Chan, Golub and LeVeque's pairwise update ("Updating Formulae and a
// Pairwise Algorithm for Computing Sample Variances", 1979): each block of
// rows is centred on its own mean, and the moments of two parts are joined
// through the difference of their means. Nothing is subtracted that is large
// against the result, as it would be in E[qq'] - E[q]E[q]'.

#ifndef PYRAMIDKV_POLICY_QUERY_STATISTICS_H_
#define PYRAMIDKV_POLICY_QUERY_STATISTICS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace pyramidkv {

// Blocks end at multiples of kBlockRows positions, however the rows arrive:
// the moments do not depend on how a prompt was sliced, to the bit.
//
// Memory: heads * head_dim * (head_dim + 3) * 4 bytes, and up to
// kBlockRows * heads * head_dim * 4 for rows that wait for their block.
//
// Thread safety: none; Of may be called from several threads while nobody
// adds.
class QueryStatistics {
 public:
  static constexpr int kBlockRows = 64;

  // `heads`: query heads. The first `sinks` positions do not count.
  QueryStatistics(int heads, int head_dim, int sinks);

  // The queries of the next `rows` positions, before RoPE (after a norm of
  // queries, where the model has one). Values of a head that are not all
  // finite do not count. q: [rows, heads * head_dim]. `pool` may be null.
  void Add(std::span<const float> q, int rows, ThreadPool* pool);

  int heads() const { return heads_; }
  int head_dim() const { return head_dim_; }
  int64_t positions() const { return position_; }  // added so far

  // Over all rows so far; more may be added later.
  struct Moments {
    int64_t count = 0;               // rows that counted
    std::vector<double> mean;        // [head_dim]
    std::vector<double> covariance;  // [head_dim, head_dim], divisor `count`
  };
  // Zeros if no row counted.
  Moments Of(int head) const;

  struct Sums {
    int64_t count = 0;
    std::vector<double> mean;     // [head_dim]
    std::vector<double> squares;  // lower triangle of the centred products
  };
  // All that was gathered, to be stored.
  struct State {
    int64_t position = 0;
    std::vector<float> waiting;  // fewer than kBlockRows rows
    std::vector<Sums> sums;      // [heads]
  };
  State Export() const { return {position_, waiting_, sums_}; }
  // False, and nothing changes, if `state` is of another shape.
  bool Import(State state);

 private:
  // Joins a block [rows, heads * head_dim] to one head's sums.
  void AddBlock(const float* q, int rows, int head, Sums* sums) const;

  int heads_;
  int head_dim_;
  int sinks_;
  int64_t position_ = 0;
  std::vector<float> waiting_;  // rows of the block that is not complete
  std::vector<Sums> sums_;      // [heads]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_QUERY_STATISTICS_H_
