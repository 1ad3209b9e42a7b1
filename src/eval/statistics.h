// Intervals of 95 % for shares and means from few trials.

#ifndef PYRAMIDKV_EVAL_STATISTICS_H_
#define PYRAMIDKV_EVAL_STATISTICS_H_

#include <cstdint>
#include <span>

#include "pyramidkv/eval.h"

namespace pyramidkv {

// Wilson's score interval of the share right / trials, which is honest at 0
// and 1 too (20 of 20 is 84 to 100 %). {0, 1} for no trials.
EvalInterval WilsonInterval(int right, int trials);

// Two methods on the same trials.
struct PairedCounts {
  int both = 0, first = 0, second = 0, neither = 0;  // who was right
};

// The square-and-add interval of the difference first - second of the shares
// right, with a continuity-corrected correlation: method 10 of R. G.
// Newcombe, "Improved confidence intervals for the difference between binomial
// proportions based on paired data", Statistics in Medicine 17 (1998). Chosen
// over a bootstrap, whose interval is a point where no trial tells the two
// apart. {-1, 1} for no trials.
EvalInterval PairedInterval(const PairedCounts& counts);

// The mean of `values`: percentiles of 10,000 bootstrap means, drawn with a
// fixed seed. REQUIRES: values is not empty.
EvalInterval BootstrapMeanInterval(std::span<const double> values);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_STATISTICS_H_
