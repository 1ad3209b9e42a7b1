// Bounds that several folders share.

#ifndef PYRAMIDKV_BASE_LIMITS_H_
#define PYRAMIDKV_BASE_LIMITS_H_

namespace pyramidkv {

// Tokens of a context, whether a model, a plan or a session names it. Far above
// any model, and one less than twice as many are still an int.
inline constexpr int kMostTokens = 1 << 30;

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_LIMITS_H_
