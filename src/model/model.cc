#include "model/model.h"

#include <fmt/format.h>
#include <ggml.h>

#include <climits>
#include <cmath>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "base/aligned_buffer.h"
#include "kernels/weight_tiles.h"
#include "model/architecture.h"
#include "model/gguf_file.h"
#include "model/hyper_params.h"
#include "model/mapped_file.h"
#include "model/rope_scaling.h"
#include "model/tokenizer_check.h"

namespace pyramidkv {
namespace {

constexpr float kMinRopeFactor = 1e-6f;  // keeps the frequencies finite

// In the order of WeightMatrix: outermost first.
std::string ShapeText(const GgufTensor& tensor) {
  int dims = static_cast<int>(tensor.ne.size());
  while (dims > 1 && tensor.ne[dims - 1] == 1) --dims;
  std::string text = "[";
  for (int i = dims - 1; i >= 0; --i) {
    text += fmt::format("{}{}", tensor.ne[i], i > 0 ? ", " : "]");
  }
  return text;
}

struct PackItem {
  const WeightMatrix* w;
  int group;
  std::byte* to;
};

// Rounded up, so that each matrix begins at a cache line.
size_t TileBytes(const WeightMatrix& w) {
  const TileFormat format = TileFormatOf(w.type);
  if (format.bits == 0) return 0;
  const size_t bytes = format.group_bytes(w.cols) * GroupsOf(w.rows);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Tensors that old converters wrote and nobody reads.
bool IsIgnored(const std::string& name) {
  return name.find(".attn_rot_embd") != name.npos ||
         name.find(".rotary_emb.") != name.npos;
}

}  // namespace

// Builds a Model from a file and remembers which tensors were asked for.
class ModelLoader {
 public:
  static Result<std::unique_ptr<Model>> Load(const std::string& path) {
    PKV_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
    std::unique_ptr<Model> model(new Model());
    PKV_RETURN_IF_ERROR(ModelLoader(*file, model.get()).Run());
    model->path_ = path;
    model->fingerprint_ = FingerprintOf(*file, model->params_);
    model->file_bytes_ = static_cast<int64_t>(file->file_bytes());
    model->mapping_ = file->TakeMapping();
    return model;
  }

 private:
  struct Share {       // of a tensor
    const char* name;  // its own where it has one
    int rows;
    WeightMatrix* weights;
    std::vector<float>* bias;
  };

  ModelLoader(const GgufFile& file, Model* model)
      : file_(file), model_(*model) {}

  Status Run() {
    PKV_ASSIGN_OR_RETURN(model_.params_, ReadHyperParams(file_));
    architecture_ = FindArchitecture(model_.params_.architecture);
    PKV_RETURN_IF_ERROR(ValidateTokenizer(file_, &model_.warnings_));
    PKV_RETURN_IF_ERROR(file_.CheckTensorData());
    PKV_RETURN_IF_ERROR(LoadEnds());
    PKV_RETURN_IF_ERROR(LoadRopeFactors());
    model_.layers_.resize(model_.params_.layers);
    for (int layer = 0; layer < model_.params_.layers; ++layer) {
      PKV_RETURN_IF_ERROR(LoadAttention(layer));
      PKV_RETURN_IF_ERROR(LoadFeedForward(layer));
    }
    return CheckAllUsed();
  }

  Status LoadEnds() {
    const HyperParams& p = model_.params_;
    PKV_RETURN_IF_ERROR(Matrix("token_embd.weight", p.vocabulary, p.embedding,
                               &model_.token_embedding_));
    PKV_RETURN_IF_ERROR(
        Vector("output_norm.weight", p.embedding, &model_.output_norm_));
    if (file_.FindTensor("output.weight") == nullptr) {
      model_.output_ = model_.token_embedding_;
      return {};
    }
    return Matrix("output.weight", p.vocabulary, p.embedding, &model_.output_);
  }

  Status LoadRopeFactors() {
    switch (architecture_->rope_factors) {
      case RopeFactors::kNone:
        return {};
      case RopeFactors::kOne:
        return LoadRopeFactors("rope_freqs.weight");
      case RopeFactors::kShortOrLong:
        return LoadShortOrLongFactors();
    }
    return {};
  }

  // llama.cpp goes by the size of its context, which is the model's unless
  // it is told another one.
  Status LoadShortOrLongFactors() {
    const HyperParams& p = model_.params_;
    std::string chosen = "rope_factors_short.weight";
    std::string other = "rope_factors_long.weight";
    if (p.context_length > p.original_context) std::swap(chosen, other);
    if (file_.FindTensor(other) == nullptr) return LoadRopeFactors(chosen);
    if (file_.FindTensor(chosen) == nullptr) {
      return file_.Error(
          fmt::format("tensor {} is missing, {} is there", chosen, other));
    }
    std::vector<float> unused;
    PKV_RETURN_IF_ERROR(Vector(other, p.rope.dims / 2, &unused));
    return LoadRopeFactors(chosen);
  }

  // Divides the frequencies by the numbers of a tensor, if it is there.
  Status LoadRopeFactors(const std::string& name) {
    Rope& rope = model_.params_.rope;
    std::vector<float> factors;
    PKV_RETURN_IF_ERROR(OptionalVector(name, rope.dims / 2, &factors));
    for (float factor : factors) {
      if (!(factor >= kMinRopeFactor) || !std::isfinite(factor)) {
        return file_.Error(fmt::format(
            "tensor {} has the factor {}, expected numbers of at least {}",
            name, factor, kMinRopeFactor));
      }
    }
    if (!factors.empty()) DivideFrequencies(factors, &rope);
    return {};
  }

  Status LoadAttention(int layer) {
    const HyperParams& p = model_.params_;
    LayerWeights& w = model_.layers_[layer];
    const int q_rows = p.heads * p.head_dim;
    block_ = fmt::format("blk.{}.", layer);
    PKV_RETURN_IF_ERROR(
        Vector(block_ + "attn_norm.weight", p.embedding, &w.attn_norm));
    PKV_RETURN_IF_ERROR(LoadQkv(&w));
    if (architecture_->block.head_norms) {
      PKV_RETURN_IF_ERROR(
          Vector(block_ + "attn_q_norm.weight", p.head_dim, &w.q_norm));
      PKV_RETURN_IF_ERROR(
          Vector(block_ + "attn_k_norm.weight", p.head_dim, &w.k_norm));
    }
    PKV_RETURN_IF_ERROR(
        Linear("attn_output", p.embedding, q_rows, &w.output, &w.output_bias));
    if (!architecture_->block.post_norms) return {};
    return Vector(block_ + "post_attention_norm.weight", p.embedding,
                  &w.attn_post_norm);
  }

  // Apart, or as rows of one tensor, whatever the architecture.
  Status LoadQkv(LayerWeights* w) {
    const HyperParams& p = model_.params_;
    const Share shares[] = {
        {"attn_q", p.heads * p.head_dim, &w->q, &w->q_bias},
        {"attn_k", p.kv_heads * p.head_dim, &w->k, &w->k_bias},
        {"attn_v", p.kv_heads * p.head_dim, &w->v, &w->v_bias}};
    const bool joined = file_.FindTensor(block_ + "attn_qkv.weight") != nullptr;
    return LoadShares(shares, joined ? "attn_qkv" : nullptr);
  }

  Status LoadGateAndUp(LayerWeights* w) {
    const int rows = model_.params_.feed_forward;
    const Share shares[] = {{"ffn_gate", rows, &w->gate, &w->gate_bias},
                            {"ffn_up", rows, &w->up, &w->up_bias}};
    return LoadShares(shares, architecture_->joined_gate ? "ffn_up" : nullptr);
  }

  Status LoadFeedForward(int layer) {
    const HyperParams& p = model_.params_;
    LayerWeights& w = model_.layers_[layer];
    PKV_RETURN_IF_ERROR(
        Vector(block_ + "ffn_norm.weight", p.embedding, &w.ffn_norm));
    PKV_RETURN_IF_ERROR(LoadGateAndUp(&w));
    PKV_RETURN_IF_ERROR(
        Linear("ffn_down", p.embedding, p.feed_forward, &w.down, &w.down_bias));
    if (!architecture_->block.post_norms) return {};
    return Vector(block_ + "post_ffw_norm.weight", p.embedding,
                  &w.ffn_post_norm);
  }

  // Matrices that map the hidden state: tensors of their own or, if `joined`
  // names one, its rows one after the other.
  Status LoadShares(std::span<const Share> shares, const char* joined) {
    const int cols = model_.params_.embedding;
    if (joined == nullptr) {
      for (const Share& s : shares) {
        PKV_RETURN_IF_ERROR(Linear(s.name, s.rows, cols, s.weights, s.bias));
      }
      return {};
    }
    int rows = 0;
    for (const Share& s : shares) rows += s.rows;
    WeightMatrix all;
    std::vector<float> bias;
    PKV_RETURN_IF_ERROR(Linear(joined, rows, cols, &all, &bias));
    int first = 0;
    for (const Share& s : shares) {
      *s.weights = all;
      s.weights->data = all.row(first);
      s.weights->rows = s.rows;
      if (!bias.empty()) {
        s.bias->assign(bias.begin() + first, bias.begin() + first + s.rows);
      }
      first += s.rows;
    }
    return {};
  }

  // A matrix of the current block and, where the file has one, its bias.
  Status Linear(const std::string& name, int rows, int cols, WeightMatrix* out,
                std::vector<float>* bias) {
    PKV_RETURN_IF_ERROR(Matrix(block_ + name + ".weight", rows, cols, out));
    return OptionalVector(block_ + name + ".bias", rows, bias);
  }

  Status Matrix(const std::string& name, int rows, int cols,
                WeightMatrix* out) {
    const GgufTensor* tensor = file_.FindTensor(name);
    if (tensor == nullptr) {
      return file_.Error(fmt::format("tensor {} is missing", name));
    }
    used_.insert(name);
    if (tensor->ne != std::array<int64_t, 4>{cols, rows, 1, 1}) {
      const std::string expected = rows == 1
                                       ? fmt::format("[{}]", cols)
                                       : fmt::format("[{}, {}]", rows, cols);
      return file_.Error(fmt::format("tensor {} has the shape {}, expected {}",
                                     name, ShapeText(*tensor), expected));
    }
    if (!WeightTypeSupported(tensor->type)) {
      return file_.Error(fmt::format(
          "tensor {} has the type {}, which cannot be computed with", name,
          ggml_type_name(static_cast<ggml_type>(tensor->type))));
    }
    *out = {.data = file_.Data(*tensor),
            .type = tensor->type,
            .rows = rows,
            .cols = cols,
            .row_bytes = static_cast<size_t>(tensor->bytes) / rows};
    return {};
  }

  Status Vector(const std::string& name, int size, std::vector<float>* out) {
    WeightMatrix row;
    PKV_RETURN_IF_ERROR(Matrix(name, 1, size, &row));
    out->resize(size);
    DequantizeRows(row, 0, 1, out->data());
    return {};
  }

  Status OptionalVector(const std::string& name, int size,
                        std::vector<float>* out) {
    if (file_.FindTensor(name) == nullptr) return {};
    return Vector(name, size, out);
  }

  // A tensor that nothing asked for (a fused matrix, another norm, scales)
  // belongs to a model that we would compute wrongly.
  Status CheckAllUsed() {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (!used_.contains(tensor.name) && !IsIgnored(tensor.name)) {
        return file_.Error(fmt::format(
            "tensor {} is not supported: architecture {} with {} layers has "
            "no place for it",
            tensor.name, model_.params_.architecture, model_.params_.layers));
      }
      model_.parameters_ += tensor.elements();
    }
    return {};
  }

  const GgufFile& file_;
  Model& model_;
  const Architecture* architecture_ = nullptr;
  std::string block_;  // "blk.N."
  std::set<std::string> used_;
};

Model::Model() = default;
Model::~Model() = default;

// Layer by layer, so that the file's pages and the tiles are never all there
// at the same time.
void Model::Repack(ThreadPool* pool) {
  std::vector<std::vector<WeightMatrix*>> parts = {{&output_}};
  for (LayerWeights& w : layers_) {
    parts.push_back({&w.q, &w.k, &w.v, &w.output, &w.gate, &w.up, &w.down});
  }
  size_t bytes = 0;
  for (const auto& part : parts) {
    for (const WeightMatrix* w : part) bytes += TileBytes(*w);
  }
  tiles_ = HugeBuffer(bytes);
  std::byte* to = tiles_.data();
  for (const auto& part : parts) {
    std::vector<PackItem> items;
    for (WeightMatrix* w : part) {
      if (TileBytes(*w) == 0) continue;
      w->tiles = to;
      const size_t bytes = TileFormatOf(w->type).group_bytes(w->cols);
      for (int g = 0; g < GroupsOf(w->rows); ++g) {
        items.push_back({w, g, to + g * bytes});
      }
      to += TileBytes(*w);
    }
    pool->ParallelFor(static_cast<int>(items.size()), [&](int i, int) {
      PackTiles(*items[i].w, items[i].group, items[i].to);
    });
    DropFilePages();
  }
}

void Model::DropFilePages() const {
  if (tiles_.bytes() > 0) mapping_->DropPages();
}

Result<std::unique_ptr<Model>> Model::Load(const std::string& path) {
  return ModelLoader::Load(path);
}

}  // namespace pyramidkv
