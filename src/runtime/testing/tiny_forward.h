// A tiny model and what its forward passes share, on two threads in f32: for
// tests of the parts below a session.

#ifndef PYRAMIDKV_RUNTIME_TESTING_TINY_FORWARD_H_
#define PYRAMIDKV_RUNTIME_TESTING_TINY_FORWARD_H_

#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"
#include "runtime/forward_context.h"

namespace pyramidkv {

class TinyForward {
 protected:
  explicit TinyForward(const TinyGgufOptions& options)
      : pool_(2), matmul_(2, PromptCompute::kF32) {
    const TempFile file;  // mapped, so its name may go
    EXPECT_TRUE(WriteTinyGguf(options, file.path()));
    model_ = std::move(*Model::Load(file.path()));
    context_.model = model_.get();
    context_.pool = &pool_;
    context_.prompt_matmul = &matmul_;
    context_.packed = &packed_;
    context_.exact = true;
  }

  const HyperParams& params() const { return model_->params(); }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  PromptMatMul matmul_;
  PackedLayer packed_;
  ForwardContext context_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_TESTING_TINY_FORWARD_H_
