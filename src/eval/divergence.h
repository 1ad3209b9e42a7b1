// How far the distributions that a compressed cache gives are from those of
// the full cache.

#ifndef PYRAMIDKV_EVAL_DIVERGENCE_H_
#define PYRAMIDKV_EVAL_DIVERGENCE_H_

#include <span>
#include <vector>

#include "pyramidkv/eval.h"

namespace pyramidkv {

// A distribution over the vocabulary, from logits: softmax in f64.
class Distribution {
 public:
  // REQUIRES: logits are finite and outlive it.
  explicit Distribution(std::span<const float> logits);

  int likeliest() const { return likeliest_; }  // the lowest id of equals
  double LogProb(int token) const { return logits_[token] - norm_; }
  // KL(this || other) in nats, at least 0.
  double DivergenceTo(const Distribution& other) const;

 private:
  std::span<const float> logits_;
  std::vector<double> probs_;
  int likeliest_ = 0;
  double norm_ = 0;  // log of the sum of exp(logits)
};

// The mean of all positions that were added.
class DivergenceSum {
 public:
  // `next`: the token of the text that follows.
  void Add(const Distribution& full, const Distribution& cache, int next);
  // REQUIRES: something was added.
  EvalDivergence Mean() const;

 private:
  EvalDivergence sum_;  // but for max_kl
  int count_ = 0;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_DIVERGENCE_H_
