// Scores from the attention that queries to come are expected to pay.
//
// Queries are taken as Gaussian with the mean and covariance of those seen so
// far; over the next positions their rotation is averaged. A key's expected
// exp(scale * q.k) is then exp(scale * k.m + scale^2 / 2 * k'Ck).
//
// Source: "Expected Attention" (arXiv 2510.00636) and NVIDIA kvpress,
// expected_attention_press.py. Departures: softmax is over the entries after
// the sinks, as there, but the sinks take the best score of their head (there:
// of the layer); `next_position` is the sequence's own also in decode, where
// kvpress counts from the length of its buffer; the norm of the values is the
// caller's (policy/value_norms.h).

#ifndef PYRAMIDKV_POLICY_SCORERS_EXPECTED_ATTENTION_H_
#define PYRAMIDKV_POLICY_SCORERS_EXPECTED_ATTENTION_H_

#include <span>
#include <vector>

#include "kernels/rope.h"
#include "policy/query_statistics.h"
#include "policy/scorer.h"

namespace pyramidkv {

inline constexpr int kFuturePositions = 512;

// The mean of the rotations at positions first ... first + count - 1; shrinks
// the fast pairs towards zero.
struct MeanRotation {
  // REQUIRES: count > 0.
  MeanRotation(const Rotation& rotation, int first, int count);

  bool neox;
  std::vector<double> cosine;  // [pairs]
  std::vector<double> sine;    // [pairs]
};

struct ExpectedAttentionArgs {
  const QueryStatistics* statistics = nullptr;
  const MeanRotation* rotation = nullptr;  // of the positions to come
  int kv_head = 0;
  int group = 0;  // query heads per KV head
  int n = 0;      // entries
  // How many of them are sinks, in front: neither part of the softmax nor
  // ranked.
  int sinks = 0;
  std::span<const float> k;  // [n, head_dim] after RoPE
  float attention_scale = 0;
  float epsilon = 0;  // added to each share; 0.01 in kvpress' comparisons
};

// score[j] = mean over the group of the expected share of attention, plus
// epsilon; the sinks get the best of them. A key whose expectation is not
// finite scores NaN and takes no share. Without any query all are equal.
// score: [n]. About 2 * group * n * head_dim^2 operations.
void ExpectedAttentionScores(const ExpectedAttentionArgs& args,
                             std::span<float> score);

const Scorer* ExpectedAttentionScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_EXPECTED_ATTENTION_H_
