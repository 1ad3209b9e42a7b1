#include "eval/divergence.h"

#include <algorithm>
#include <cmath>

namespace pyramidkv {

Distribution::Distribution(std::span<const float> logits)
    : logits_(logits), probs_(logits.size()) {
  const auto top = std::max_element(logits.begin(), logits.end());
  likeliest_ = static_cast<int>(top - logits.begin());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    probs_[i] = std::exp(static_cast<double>(logits[i]) - *top);
    sum += probs_[i];
  }
  norm_ = *top + std::log(sum);
  for (double& p : probs_) p /= sum;
}

double Distribution::DivergenceTo(const Distribution& other) const {
  double sum = 0;
  for (size_t i = 0; i < probs_.size(); ++i) {
    sum += probs_[i] * (static_cast<double>(logits_[i]) - other.logits_[i]);
  }
  // It cannot be negative, but its rounding can.
  return std::max(0.0, sum - norm_ + other.norm_);
}

void DivergenceSum::Add(const Distribution& full, const Distribution& cache,
                        int next) {
  const double kl = full.DivergenceTo(cache);
  sum_.mean_kl += kl;
  sum_.max_kl = std::max(sum_.max_kl, kl);
  sum_.top1_agreement += full.likeliest() == cache.likeliest() ? 1 : 0;
  sum_.nll -= cache.LogProb(next);
  sum_.nll_full -= full.LogProb(next);
  ++count_;
}

EvalDivergence DivergenceSum::Mean() const {
  EvalDivergence mean = sum_;
  for (double* value :
       {&mean.mean_kl, &mean.top1_agreement, &mean.nll, &mean.nll_full}) {
    *value /= count_;
  }
  return mean;
}

}  // namespace pyramidkv
