// The directions of a model that index=skew needs (cache/skew.h): measured
// once, on ids that are drawn at random and then repeated, and kept in a file
// beside the model.
//
// Why no text: no text suits all models and languages, and a prompt would make
// an answer depend on what was read before. Repeated ids have heads look for
// what followed the same token far behind, but such queries stand for those of
// a text less well than hoped (docs/policies.md).
//
// Thread-compatible.

#ifndef PYRAMIDKV_RUNTIME_MODEL_SKEW_H_
#define PYRAMIDKV_RUNTIME_MODEL_SKEW_H_

#include <span>
#include <string>
#include <vector>

#include "cache/skew.h"
#include "pyramidkv/status.h"
#include "runtime/forward_context.h"
#include "text/text.h"

namespace pyramidkv {

// `count` ids of ordinary tokens: as many at random as `count` / 2, twice. The
// same for every run.
std::vector<int> SkewSample(const Tokenizer& tokenizer, int count);

// Reads `tokens` and spreads their keys and their last queries over contexts
// of `span` tokens. Layers with a sliding window, which never go to a cold
// tier, get zeros. Errors: those of a prompt.
Result<SkewTable> MeasureSkew(const ForwardContext& context,
                              std::span<const int> tokens, int span);

class ModelSkew {
 public:
  // cache_directory: where the file goes if it cannot lie beside the model
  // (MODEL.skew); empty: nowhere. All of `context` and `tokenizer` must outlive
  // this.
  ModelSkew(const ForwardContext& context, const Tokenizer& tokenizer,
            std::string cache_directory);

  // [layers, kv_heads, head_dim, head_dim]; valid as long as this. The first
  // call reads the file; if there is none of this very model that is whole, it
  // measures and writes one. Errors: of MeasureSkew.
  Result<const float*> Get();

  // Why the file could not be written; empty if it could, or was there.
  const std::string& warning() const { return warning_; }

 private:
  std::string ModelKey() const;
  std::vector<std::string> Paths() const;
  void Save(const std::vector<std::string>& paths);

  ForwardContext context_;
  const Tokenizer* tokenizer_;
  std::string cache_directory_;
  SkewTable table_;
  std::string warning_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_MODEL_SKEW_H_
