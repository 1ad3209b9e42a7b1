// Random choices of a head's entries, for tests.

#ifndef PYRAMIDKV_CACHE_TESTING_RANDOM_SAMPLE_H_
#define PYRAMIDKV_CACHE_TESTING_RANDOM_SAMPLE_H_

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>
#include <vector>

namespace pyramidkv {

// `count` of the indices [0, n), ascending.
inline std::vector<int> RandomSample(int n, int count, std::mt19937* random) {
  std::vector<int> all(n), some;
  std::iota(all.begin(), all.end(), 0);
  std::sample(all.begin(), all.end(), std::back_inserter(some), count, *random);
  return some;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TESTING_RANDOM_SAMPLE_H_
