// How a model's rotary embedding is scaled to longer contexts, reduced to
// the frequencies and the magnitude of a Rope. Follows ggml's rope_yarn, so
// that logits agree with llama.cpp's.

#ifndef PYRAMIDKV_MODEL_ROPE_SCALING_H_
#define PYRAMIDKV_MODEL_ROPE_SCALING_H_

#include <span>

#include "model/model.h"

namespace pyramidkv {

struct RopeScaling {
  Rope::Layout layout = Rope::Layout::kNorm;
  int dims = 0;  // even
  double base = 10000;
  double factor = 1;  // contexts longer by this (1: plain)
  // YaRN (https://arxiv.org/abs/2309.00071) leaves frequencies with more than
  // 32 turns in the original context as they are and blends down to 1 turn;
  // without it all of them are scaled alike.
  bool yarn = false;
  int original_context = 0;  // tokens
  double magnitude = 1;      // multiplies YaRN's own
};

// REQUIRES: base > 1, factor > 0, original_context > 0.
Rope MakeRope(const RopeScaling& scaling);

// Divides each frequency by its factor, [dims / 2] (Llama 3.1).
void DivideFrequencies(std::span<const float> factors, Rope* rope);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_ROPE_SCALING_H_
