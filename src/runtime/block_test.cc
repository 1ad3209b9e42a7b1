#include "runtime/block.h"

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/testing/tiny_forward.h"

namespace pyramidkv {
namespace {

constexpr int kRows = 6;
constexpr int kFirstPosition = 11;
constexpr float kTolerance = 2e-5f;  // of numbers near 1, summed in f32

using Floats = std::vector<float>;

// The block in plain loops and f64, a row at a time.
class PlainBlock {
 public:
  PlainBlock(const Model& model, int layer)
      : p_(model.params()), w_(model.layers()[layer]), layer_(layer) {}

  Floats Heads(const Floats& x, int position, const WeightMatrix& w,
               const Floats& bias, const Floats& norm, bool rotated) const {
    Floats y = Multiply(w, Norm(x, w_.attn_norm), bias);
    const size_t dim = p_.head_dim;
    for (size_t at = 0; at < y.size(); at += dim) {
      Floats head(y.begin() + at, y.begin() + at + dim);
      head = Norm(head, norm);
      if (rotated) Rotate(position, &head);
      std::copy(head.begin(), head.end(), y.begin() + at);
    }
    return y;
  }
  Floats AddAttention(const Floats& x, const Floats& attention) const {
    return Add(x, Norm(Multiply(w_.output, attention, w_.output_bias),
                       w_.attn_post_norm));
  }
  Floats AddFeedForward(const Floats& x) const {
    const Floats normed = Norm(x, w_.ffn_norm);
    Floats gate = Multiply(w_.gate, normed, w_.gate_bias);
    const Floats up = Multiply(w_.up, normed, w_.up_bias);
    for (size_t i = 0; i < gate.size(); ++i) {
      gate[i] = static_cast<float>(Activate(gate[i]) * up[i]);
    }
    return Add(x,
               Norm(Multiply(w_.down, gate, w_.down_bias), w_.ffn_post_norm));
  }

 private:
  Floats Norm(const Floats& x, const Floats& weight) const {
    if (weight.empty()) return x;
    double sum = 0;
    for (const double v : x) sum += v * v;
    const double root =
        std::sqrt(sum / static_cast<double>(x.size()) + p_.rms_epsilon);
    Floats y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      y[i] = static_cast<float>(x[i] / root * weight[i]);
    }
    return y;
  }
  static Floats Multiply(const WeightMatrix& w, const Floats& x,
                         const Floats& bias) {
    Floats y(w.rows), row(w.cols);
    for (int r = 0; r < w.rows; ++r) {
      DequantizeRows(w, r, 1, row.data());
      double sum = bias.empty() ? 0 : bias[r];
      for (int c = 0; c < w.cols; ++c) sum += double{row[c]} * x[c];
      y[r] = static_cast<float>(sum);
    }
    return y;
  }
  void Rotate(int position, Floats* head) const {
    const Rope& rope = p_.rope_of(layer_);
    const bool neox = rope.layout == Rope::Layout::kNeox;
    const int half = rope.dims / 2;
    for (int i = 0; i < half; ++i) {
      float& a = (*head)[neox ? i : 2 * i];
      float& b = (*head)[neox ? i + half : 2 * i + 1];
      const double angle = double{rope.inv_freq[i]} * position;
      const double c = std::cos(angle) * rope.magnitude;
      const double s = std::sin(angle) * rope.magnitude;
      const double x = a, y = b;
      a = static_cast<float>(x * c - y * s);
      b = static_cast<float>(x * s + y * c);
    }
  }
  double Activate(double g) const {
    if (p_.block.activation == Activation::kSilu) return g / (1 + std::exp(-g));
    const double u = std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g);
    return 0.5 * g * (1 + std::tanh(u));
  }
  static Floats Add(Floats x, const Floats& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    return x;
  }

  const HyperParams& p_;
  const LayerWeights& w_;
  int layer_;
};

// A tiny model and rows that go through its second layer, in f32.
class BlockThreaded : public testing::TestWithParam<const char*>,
                      protected TinyForward {
 protected:
  static TinyGgufOptions Options() {
    TinyGgufOptions options;
    options.architecture = GetParam();
    options.biases = true;
    options.sliding_window = options.architecture == "gemma3" ? 32 : 0;
    return options;
  }

  BlockThreaded() : TinyForward(Options()) {
    const HyperParams& p = params();
    rotations_.Resize(p, kRows);
    for (int r = 0; r < kRows; ++r) rotations_.Set(r, kFirstPosition + r);
    // Tiles are multiplied whole, rows that do not count included.
    scratch_.Resize(p, kPromptTile);
    hidden_ = Random(size_t(kRows) * p.embedding, 1);
    attention_ = Random(size_t(kPromptTile) * q_width(), 2);
  }

  size_t q_width() const { return size_t(params().heads) * params().head_dim; }
  size_t kv_width() const {
    return size_t(params().kv_heads) * params().head_dim;
  }
  Block block() const { return Block(context_, kLayer, rotations_); }

  static Floats Random(size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Floats x(count);
    for (float& v : x) v = normal(random);
    return x;
  }
  static Floats Row(const Floats& x, int row, size_t width) {
    return {x.begin() + row * width, x.begin() + (row + 1) * width};
  }
  static void ExpectNear(const Floats& got, const Floats& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], expected[i], kTolerance * (1 + std::abs(expected[i])))
          << i;
    }
  }

  // All steps of the block with `rows`, which are kRows - first rows from row
  // `first` on, against the plain loops.
  void CheckAgainstPlainLoops(BlockRows* rows, int first) {
    const HyperParams& p = params();
    const LayerWeights& w = model_->layers()[kLayer];
    const PlainBlock plain(*model_, kLayer);
    Floats q(kPromptTile * q_width()), k(kPromptTile * kv_width()),
        v(kPromptTile * kv_width());
    block().Project(hidden_.data(), rows, &scratch_,
                    {q.data(), k.data(), v.data()});
    Floats after = hidden_;
    block().AddAttention(attention_.data(), rows, &scratch_, after.data());
    const Floats between = after;
    block().AddFeedForward(rows, &scratch_, after.data());
    for (int i = 0; i < kRows - first; ++i) {
      const int row = first + i;
      const Floats x = Row(hidden_, row, p.embedding);
      const int position = kFirstPosition + row;
      ExpectNear(Row(q, i, q_width()),
                 plain.Heads(x, position, w.q, w.q_bias, w.q_norm, true));
      ExpectNear(Row(k, i, kv_width()),
                 plain.Heads(x, position, w.k, w.k_bias, w.k_norm, true));
      ExpectNear(Row(v, i, kv_width()),
                 plain.Heads(x, position, w.v, w.v_bias, {}, false));
      ExpectNear(Row(between, row, p.embedding),
                 plain.AddAttention(x, Row(attention_, i, q_width())));
      ExpectNear(Row(after, row, p.embedding),
                 plain.AddFeedForward(Row(between, row, p.embedding)));
    }
    // Rows of others stay as they are.
    for (int row = 0; row < first; ++row) {
      EXPECT_EQ(Row(after, row, p.embedding), Row(hidden_, row, p.embedding));
    }
  }

  static constexpr int kLayer = 1;
  RowRotations rotations_;
  BlockScratch scratch_;
  Floats hidden_;     // [kRows, embedding]
  Floats attention_;  // [kPromptTile, heads * head_dim]
};

TEST_P(BlockThreaded, GeneratedRowsAreThePlainLoops) {
  GeneratedRows rows(context_);
  rows.Set(kRows);
  CheckAgainstPlainLoops(&rows, 0);
}

TEST_P(BlockThreaded, PromptRowsAreThePlainLoops) {
  PackLayer(context_, kLayer);
  for (const int first : {0, 2}) {
    PromptTileRows rows(context_, first, {kRows - first, 0}, /*worker=*/1);
    CheckAgainstPlainLoops(&rows, first);
  }
}

TEST_P(BlockThreaded, ARowIsTheSameInAnyCompany) {
  GeneratedRows rows(context_);
  rows.Set(kRows);
  Floats q(kRows * q_width()), k(kRows * kv_width()), v(kRows * kv_width());
  block().Project(hidden_.data(), &rows, &scratch_,
                  {q.data(), k.data(), v.data()});
  const std::vector<int> numbers = {4, 1};
  rows.Set(numbers);
  Floats some(numbers.size() * q_width());
  block().ProjectQueries(hidden_.data(), &rows, &scratch_, some.data());
  for (size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(Row(some, static_cast<int>(i), q_width()),
              Row(q, numbers[i], q_width()));
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, BlockThreaded,
                         testing::Values("llama", "qwen2", "qwen3", "gemma3",
                                         "phi3"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace pyramidkv
