// Which SIMD targets round a multiply-add once: on them a kernel whose sums
// have a fixed order gives equal bits.

#ifndef PYRAMIDKV_KERNELS_TESTING_FUSED_TARGETS_H_
#define PYRAMIDKV_KERNELS_TESTING_FUSED_TARGETS_H_

#include "hwy/detect_targets.h"
#include "hwy/targets.h"

namespace pyramidkv {

// For the target that ForAllTargets has set.
inline bool FusesMultiplyAdd() {
  return (hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3 | HWY_NEON)) != 0;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_TESTING_FUSED_TARGETS_H_
