// How well each index in memory picks what queries attend to, on the keys and
// queries of a real model, and how long it takes:
//
//   build/release/bin/index_quality [MODEL [TOKENS [QUERIES [SAMPLE [SPAN]]]]]
//
// A text of TOKENS tokens is read; then QUERIES more tokens, and a question
// for a pass key hidden in such a text, are forced. The first 16 and the last
// 256 entries count as kept in memory; blocks of 16 of the others are chosen
// for each row and KV head by the best of its group's logits below each
// query's best one. Printed, in percent:
//
//   recall   of the blocks that exact products choose
//   mass     of the attention that the other entries receive from the group
//
//   us       to score a head for one row, the fastest of its rows, meaned
//
// The skew is measured as a session does it, or, if SAMPLE is `text`, on text
// of the same generator; it is made for contexts of SPAN tokens, by default the
// model's.
//
// "entries" chooses as many single entries instead of whole blocks. Rows of
// "ideas" are plain loops over keys as an index might keep them, with the
// bytes that it would take.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "cache/key_index.h"
#include "cache/skew.h"
#include "eval/prompts.h"
#include "fmt/format.h"
#include "kernels/attention_form.h"
#include "kernels/kv_codec.h"
#include "kernels/kv_quant.h"
#include "kernels/matmul_int8.h"
#include "runtime/decode_pass.h"
#include "runtime/model_skew.h"
#include "runtime/prompt_pass.h"
#include "text/text.h"

namespace pyramidkv {
namespace {

constexpr int kSinks = 16;
constexpr int kRecent = 256;
constexpr int kSampleTokens = 2048;  // for the skew
constexpr double kShares[] = {0.1, 0.2};

template <class T>
T Must(Result<T> result) {
  if (!result.ok()) {
    fmt::print(stderr, "{}\n", result.status().message());
    std::exit(1);
  }
  return std::move(*result);
}
void Must(const Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}\n", status.message());
  std::exit(1);
}

// Keys and queries after RoPE of one text.
struct Capture {
  int keys = 0;                       // of the context
  int rows = 0;                       // of queries
  std::vector<std::vector<float>> k;  // [layers * kv_heads] [keys, head_dim]
  std::vector<std::vector<float>> q;  // the same: [rows, group, head_dim]
};

class Reader {
 public:
  explicit Reader(const std::string& path)
      : model_(Must(Model::Load(path))),
        tokenizer_(Must(Tokenizer::Load(path))),
        pool_(1),
        matmul_(1, PromptCompute::kInt8) {
    if (HasInt8Products()) model_->Repack(&pool_);
    context_.model = model_.get();
    context_.pool = &pool_;
    context_.prompt_matmul = &matmul_;
    context_.packed = &packed_;
    context_.attention = ChooseAttentionForm(/*exact=*/false);
  }

  const HyperParams& params() const { return model_->params(); }
  std::vector<int> Tokenize(const std::string& text) const {
    TokenizeOptions options;
    options.add_special = false;
    return Must(tokenizer_->Tokenize(text, options));
  }
  TextGenerator Generator() const {
    return TextGenerator([this](std::string_view text) {
      return static_cast<int>(Tokenize(std::string(text)).size());
    });
  }

  Capture Read(const std::vector<int>& context, const std::vector<int>& next);
  std::vector<int> Sample(int count) const {
    return SkewSample(*tokenizer_, count);
  }
  SkewTable Skew(const std::vector<int>& sample, int span) {
    return Must(MeasureSkew(context_, sample, span));
  }

 private:
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ThreadPool pool_;
  PromptMatMul matmul_;
  PackedLayer packed_;
  ForwardContext context_;
  PagePool pages_;
};

Capture Reader::Read(const std::vector<int>& context,
                     const std::vector<int>& next) {
  const HyperParams& p = params();
  // A cache that watches queries, with a budget that it never reaches.
  const CacheSpec spec =
      Must(ParseCacheSpec("snapkv,tokens=1000000,evict=decode,type=f32"));
  Sequence sequence(&pages_, *model_, spec, p.context_length, 0);
  Sequence* const target = &sequence;
  PromptWorkspace work;
  PromptPass pass(context_, context, {&target, 1}, {}, &work);
  Must(pass.Begin(static_cast<int>(context.size())));
  while (!Must(pass.Step())) {
  }
  sequence.position = static_cast<int>(context.size());
  QueryRing* ring = sequence.compressor.observer()->queries();
  ring->Reset(p.layers, static_cast<int>(next.size()),
              size_t(p.heads) * p.head_dim);
  DecodePass decode(context_);
  std::vector<float> logits(size_t(kMaxRows) * p.vocabulary);
  for (size_t at = 0; at < next.size(); at += kMaxRows) {
    std::vector<DecodeRow> rows;
    for (size_t i = at; i < std::min(next.size(), at + kMaxRows); ++i) {
      rows.push_back({&sequence, next[i]});
    }
    std::vector<Status> status(rows.size());
    decode.Run(rows, logits.data(), status);
    for (const Status& s : status) Must(s);
  }
  Capture out;
  out.keys = static_cast<int>(context.size());
  out.rows = static_cast<int>(next.size());
  const size_t width = size_t(p.group()) * p.head_dim;
  for (int l = 0; l < p.layers; ++l) {
    for (int h = 0; h < p.kv_heads; ++h) {
      std::vector<float> k(size_t(sequence.cache.length(l, h)) * p.head_dim);
      sequence.cache.Decode(l, h, k.data(), nullptr);
      k.resize(context.size() * p.head_dim);
      out.k.push_back(std::move(k));
      std::vector<float> q(out.rows * width);
      for (int r = 0; r < out.rows; ++r) {
        std::copy_n(ring->rows(l) + r * ring->width() + h * width, width,
                    q.data() + r * width);
      }
      out.q.push_back(std::move(q));
    }
  }
  return out;
}

// --- indexes ---

// Keys as an index would have them, and their products: for what is not
// worth a kernel before it was measured.
class PlainIndex : public KeyIndex {
 public:
  // Changes a key less the mean; may look at its 15 neighbours.
  using Change = std::function<void(float* block, int count, int head_dim)>;
  PlainIndex(int head_dim, Change change)
      : head_dim_(head_dim), change_(std::move(change)) {}

  void Append(const float* k, int count, size_t stride) override {
    std::vector<double> mean(head_dim_);
    for (int e = 0; e < count; ++e) {
      for (int c = 0; c < head_dim_; ++c) mean[c] += k[e * stride + c] / count;
    }
    keys_.resize(size_t(count) * head_dim_);
    for (int e = 0; e < count; ++e) {
      for (int c = 0; c < head_dim_; ++c) {
        keys_[size_t(e) * head_dim_ + c] =
            k[e * stride + c] - static_cast<float>(mean[c]);
      }
    }
    for (int e = 0; e < count; e += kBlockEntries) {
      change_(keys_.data() + size_t(e) * head_dim_,
              std::min(kBlockEntries, count - e), head_dim_);
    }
    length_ = count;
  }
  std::vector<float> EntryScores(const float* q, int group) const {
    std::vector<float> scores(size_t(group) * length_);
    for (int g = 0; g < group; ++g) {
      for (int e = 0; e < length_; ++e) {
        const float* key = keys_.data() + size_t(e) * head_dim_;
        float sum[8] = {};
        for (int c = 0; c < head_dim_; c += 8) {
          for (int i = 0; i < 8; ++i) {
            sum[i] += key[c + i] * q[g * head_dim_ + c + i];
          }
        }
        scores[size_t(g) * length_ + e] = std::accumulate(sum, sum + 8, 0.0f);
      }
    }
    return scores;
  }
  void Score(const float* q, int group, std::vector<float>*,
             float* best) const override {
    const std::vector<float> scores = EntryScores(q, group);
    for (int g = 0; g < group; ++g) {
      for (int b = 0; b < blocks(); ++b) {
        const float* first = scores.data() + size_t(g) * length_;
        *best++ = *std::max_element(
            first + b * kBlockEntries,
            first + std::min(length_, (b + 1) * kBlockEntries));
      }
    }
  }
  int length() const override { return length_; }
  int64_t bytes() const override { return 0; }
  // Is only measured.
  KeyIndexState Export() const override { return {}; }
  bool Import(KeyIndexState) override { return false; }

 private:
  int head_dim_;
  Change change_;
  int length_ = 0;
  std::vector<float> keys_;
};

// One row of the table. make: for one KV head, with its skew.
struct Candidate {
  std::string name;
  std::function<std::unique_ptr<KeyIndex>(int head_dim, const float* skew)>
      make;
  double bytes = 0;      // per entry; 0: what the index says
  bool entries = false;  // choose single entries
};

std::function<std::unique_ptr<KeyIndex>(int, const float*)> Real(
    IndexKind kind, double partial = 0) {
  return [=](int head_dim, const float* skew) {
    KeyIndexOptions options;
    options.kind = kind;
    options.head_dim = head_dim;
    options.partial = partial;
    options.skew = skew;
    return MakeKeyIndex(options);
  };
}

std::function<std::unique_ptr<KeyIndex>(int, const float*)> Plain(
    const PlainIndex::Change& change) {
  return [=](int head_dim, const float*) {
    return std::make_unique<PlainIndex>(head_dim, change);
  };
}

// The first columns of the skewed key, rounded by `round`.
std::function<std::unique_ptr<KeyIndex>(int, const float*)> Columns(
    int columns, const std::function<void(float* x, int n)>& round) {
  return [=](int head_dim, const float* skew) {
    return std::make_unique<PlainIndex>(
        head_dim, [=](float* block, int count, int n) {
          std::vector<float> x(n);
          for (int e = 0; e < count; ++e, block += n) {
            for (int i = 0; i < columns; ++i) {
              x[i] = std::inner_product(block, block + n, skew + i * n, 0.0f);
            }
            round(x.data(), columns);
            for (int c = 0; c < n; ++c) {
              block[c] = 0;
              for (int i = 0; i < columns; ++i) {
                block[c] += x[i] * skew[i * n + c];
              }
            }
          }
        });
  };
}

void ToHalves(float* x, int n) {
  for (int i = 0; i < n; ++i) x[i] = F32FromF16(F16FromF32(x[i]));
}

void ToLevels(float* x, int n, int most) {
  float largest = 1e-30f;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  for (int i = 0; i < n; ++i) {
    x[i] = std::round(x[i] / largest * float(most)) * largest / float(most);
  }
}

// unbiased: the scale for which a key's product with itself is exact.
PlainIndex::Change Signs(bool rotate, bool unbiased) {
  return [=](float* block, int count, int n) {
    for (int e = 0; e < count; ++e, block += n) {
      if (rotate) RotateChannels(n, block);
      double sum = 0, square = 0;
      for (int c = 0; c < n; ++c) {
        sum += std::fabs(block[c]);
        square += double{block[c]} * block[c];
      }
      const auto scale = static_cast<float>(
          unbiased ? square / std::max(sum, 1e-30) : sum / n);
      for (int c = 0; c < n; ++c) block[c] = block[c] < 0 ? -scale : scale;
      if (rotate) RotateChannels(n, block);
    }
  };
}

// Codes -1.5, -0.5, 0.5, 1.5 of the rotated key: 2 bits.
void TwoBits(float* block, int count, int n) {
  for (int e = 0; e < count; ++e, block += n) {
    RotateChannels(n, block);
    double square = 0;
    for (int c = 0; c < n; ++c) square += double{block[c]} * block[c];
    // The best step for a normal distribution.
    const auto step = static_cast<float>(0.996 * std::sqrt(square / n));
    for (int c = 0; c < n; ++c) {
      const float code = std::floor(block[c] / std::max(step, 1e-30f)) + 0.5f;
      block[c] = std::clamp(code, -1.5f, 1.5f) * step;
    }
    RotateChannels(n, block);
  }
}

std::vector<Candidate> Candidates(int head_dim) {
  const int signs = head_dim / 8;  // bytes
  const int halves = signs / 2 + 1;
  const int most = 3 * head_dim / 10;
  const auto levels = [](int steps) {
    return [steps](float* x, int n) { ToLevels(x, n, steps); };
  };
  const auto exact = Plain([](float*, int, int) {});
  return {
      {"exact products", exact, 2.0 * head_dim},
      {"exact products, entries", exact, 2.0 * head_dim, true},
      {"sign", Real(IndexKind::kSign)},
      {"sign, entries", Real(IndexKind::kSign), 0, true},
      {"skew 0.25", Real(IndexKind::kSkew, 0.25)},
      {"skew 0.25, entries", Real(IndexKind::kSkew, 0.25), 0, true},
      {"skew 0.3", Real(IndexKind::kSkew, 0.3)},
      {"skew 0.5", Real(IndexKind::kSkew, 0.5)},
      {"quest", Real(IndexKind::kQuest)},
      {"cluster", Real(IndexKind::kCluster)},
      {"idea: skew, 8-bit columns", Columns(signs, levels(127)), signs + 2.0},
      {"idea: skew, f16 columns", Columns(halves, ToHalves), 2.0 * halves},
      {"idea: skew 0.3, 8-bit columns", Columns(most, levels(127)), most + 2.0},
      {"idea: sign, unbiased scale", Plain(Signs(true, true)), signs + 2.0},
      {"idea: sign, not rotated", Plain(Signs(false, false)), signs + 2.0},
      {"idea: 2 bits, rotated", Plain(TwoBits), 2.0 * signs + 2},
  };
}

// --- the measure ---

struct Sums {
  double recall[2] = {}, covered[2] = {};
  double candidates = 0;  // attention that cold entries receive
  double all = 0, rows = 0;
  double bytes = 0, heads = 0, seconds = 0;
};

// Indices of the `count` largest.
std::vector<int> Best(const std::vector<float>& value, int count) {
  std::vector<int> order(value.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, static_cast<int>(order.size()));
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int a, int b) {
                      return value[a] != value[b] ? value[a] > value[b] : a < b;
                    });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

// The group's best logit of each block, below each query's best one.
std::vector<float> Rank(const std::vector<float>& best, int group) {
  const size_t blocks = best.size() / group;
  std::vector<float> rank(blocks, -1e30f);
  for (int g = 0; g < group; ++g) {
    const float* of_query = best.data() + g * blocks;
    const float most = *std::max_element(of_query, of_query + blocks);
    for (size_t b = 0; b < blocks; ++b) {
      rank[b] = std::max(rank[b], of_query[b] - most);
    }
  }
  return rank;
}

// One row's attention to a KV head: softmax over all keys, summed over the
// group; that of cold entry e is [kSinks + e].
std::vector<double> Attention(const float* q, const std::vector<float>& k,
                              int group, int head_dim, float scale) {
  const size_t keys = k.size() / head_dim;
  std::vector<double> sum(keys), p(keys);
  for (int g = 0; g < group; ++g, q += head_dim) {
    double most = -1e300, total = 0;
    for (size_t e = 0; e < keys; ++e) {
      p[e] = scale *
             std::inner_product(q, q + head_dim, k.data() + e * head_dim, 0.0f);
      most = std::max(most, p[e]);
    }
    for (double& v : p) total += v = std::exp(v - most);
    for (size_t e = 0; e < keys; ++e) sum[e] += p[e] / total;
  }
  return sum;
}

struct Chosen {
  std::vector<int> of_share[2];
};

class Measure {
 public:
  Measure(const HyperParams& params, const Capture& capture,
          const SkewTable& skew)
      : p_(params), capture_(capture), skew_(skew) {
    for (size_t i = 0; i < capture.k.size(); ++i) {
      const size_t width = size_t(p_.group()) * p_.head_dim;
      for (int r = 0; r < capture.rows; ++r) {
        attention_.push_back(Attention(capture.q[i].data() + r * width,
                                       capture.k[i], p_.group(), p_.head_dim,
                                       p_.attention_scale));
      }
    }
  }

  // The first candidate is the exact one.
  Sums Run(const Candidate& candidate) {
    Sums sums;
    const bool exact = exact_.empty();
    for (size_t i = 0; i < capture_.k.size(); ++i) {
      RunHead(candidate, static_cast<int>(i), exact, &sums);
    }
    return sums;
  }

 private:
  void RunHead(const Candidate& candidate, int i, bool exact, Sums* sums) {
    const int d = p_.head_dim;
    const int cold = capture_.keys - kSinks - kRecent;
    const float* k = capture_.k[i].data() + size_t(kSinks) * d;
    const auto index = candidate.make(d, skew_.skew.data() + size_t(i) * d * d);
    // For single entries: blocks of one entry.
    std::vector<float> repeated;
    const int times = candidate.entries ? kBlockEntries : 1;
    for (int e = 0; e < cold && times > 1; ++e) {
      for (int t = 0; t < times; ++t) {
        repeated.insert(repeated.end(), k + size_t(e) * d,
                        k + size_t(e + 1) * d);
      }
    }
    index->Append(times > 1 ? repeated.data() : k, cold * times, d);
    sums->bytes += candidate.bytes > 0
                       ? candidate.bytes
                       : double(index->bytes()) / index->length();
    ++sums->heads;
    const size_t width = size_t(p_.group()) * d;
    std::vector<float> scratch, best(size_t(p_.group()) * index->blocks());
    double fastest = 1e9;
    for (int r = 0; r < capture_.rows; ++r) {
      const auto start = std::chrono::steady_clock::now();
      index->Score(capture_.q[i].data() + r * width, p_.group(), &scratch,
                   best.data());
      fastest = std::min(fastest, std::chrono::duration<double>(
                                      std::chrono::steady_clock::now() - start)
                                      .count());
      Judge(candidate, best, size_t(i) * capture_.rows + r, cold, exact, sums);
    }
    sums->seconds += fastest;
  }

  void Judge(const Candidate& candidate, const std::vector<float>& best,
             size_t row, int cold, bool exact, Sums* sums) {
    const std::vector<double>& attention = attention_[row];
    const std::vector<float> rank = Rank(best, p_.group());
    const int blocks = (cold + kBlockEntries - 1) / kBlockEntries;
    const int size = candidate.entries ? 1 : kBlockEntries;
    if (exact) exact_.emplace_back();
    for (int s = 0; s < 2; ++s) {
      const int count = static_cast<int>(std::ceil(kShares[s] * blocks));
      const std::vector<int> chosen =
          Best(rank, count * (kBlockEntries / size));
      for (int b : chosen) {
        for (int e = b * size; e < std::min(cold, (b + 1) * size); ++e) {
          sums->covered[s] += attention[kSinks + e];
        }
      }
      if (exact) exact_.back().of_share[s] = chosen;
      if (candidate.entries) continue;
      std::vector<int> both;
      std::set_intersection(
          chosen.begin(), chosen.end(), exact_[row].of_share[s].begin(),
          exact_[row].of_share[s].end(), std::back_inserter(both));
      sums->recall[s] += double(both.size()) / count;
    }
    for (int e = 0; e < cold; ++e) sums->candidates += attention[kSinks + e];
    sums->all += p_.group();
    ++sums->rows;
  }

  const HyperParams& p_;
  const Capture& capture_;
  const SkewTable& skew_;
  std::vector<std::vector<double>> attention_;  // [heads * rows]
  std::vector<Chosen> exact_;                   // [heads * rows]
};

// On what a session measures a model with (runtime/model_skew.h), or on text.
SkewTable MakeSkew(Reader* reader, const TextGenerator& generator, bool text,
                   int span) {
  std::vector<int> sample = reader->Sample(kSampleTokens);
  if (text) {
    EvalOptions options;
    options.task = EvalTask::kKl;
    sample =
        reader->Tokenize(MakeText(generator, kSampleTokens, options, 1000));
  }
  const auto start = std::chrono::steady_clock::now();
  SkewTable table = reader->Skew(sample, span);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  fmt::print("skew of {} heads: {:.2f} s\n",
             table.skew.size() / table.head_dim / table.head_dim, seconds);
  std::fflush(stdout);
  return table;
}

void Print(const char* title, const Reader& reader, const Capture& capture,
           const SkewTable& skew) {
  Measure measure(reader.params(), capture, skew);
  bool first = true;
  for (const Candidate& c : Candidates(reader.params().head_dim)) {
    const Sums s = measure.Run(c);
    if (first) {
      fmt::print(
          "\n{}: {} keys, {} rows; cold entries receive {:.1f} % of the "
          "attention\n\n"
          "| index | bytes | recall 10 % | 20 % | mass 10 % | 20 % | us |\n"
          "|---|--:|--:|--:|--:|--:|--:|\n",
          title, capture.keys, capture.rows, 100 * s.candidates / s.all);
    }
    first = false;
    fmt::print("| {} | {:.1f} |", c.name, s.bytes / s.heads);
    for (double recall : s.recall) {
      if (c.entries) {
        fmt::print(" - |");
      } else {
        fmt::print(" {:.1f} |", 100 * recall / s.rows);
      }
    }
    for (double mass : s.covered) {
      fmt::print(" {:.1f} |", 100 * mass / s.candidates);
    }
    fmt::print(" {:.1f} |\n", 1e6 * s.seconds / s.heads);
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  Reader reader(argc > 1 ? argv[1] : "models/default.gguf");
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 4096;
  const int rows = argc > 3 ? std::atoi(argv[3]) : 32;
  const TextGenerator generator = reader.Generator();
  const bool text_sample = argc > 4 && std::string_view(argv[4]) == "text";
  const int span =
      argc > 5 ? std::atoi(argv[5]) : reader.params().context_length;
  const SkewTable skew = MakeSkew(&reader, generator, text_sample, span);

  EvalOptions options;
  options.tokens = tokens;
  options.task = EvalTask::kKl;
  const auto text =
      reader.Tokenize(MakeText(generator, tokens + rows, options, 0));
  const auto middle = text.begin() + tokens;
  Print("text", reader,
        reader.Read({text.begin(), middle}, {middle, middle + rows}), skew);
  options.task = EvalTask::kPasskey;
  const Prompt prompt = Must(MakePrompt(generator, options, 0));
  Print("pass key", reader,
        reader.Read(reader.Tokenize(prompt.context),
                    reader.Tokenize(prompt.question + prompt.prefix)),
        skew);
  return 0;
}

}  // namespace
}  // namespace pyramidkv

int main(int argc, char** argv) { return pyramidkv::Main(argc, argv); }
