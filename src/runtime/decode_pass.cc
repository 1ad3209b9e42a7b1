#include "runtime/decode_pass.h"

#include <algorithm>

#include "kernels/elementwise.h"

namespace pyramidkv {
namespace {

const float* BiasOrNull(const std::vector<float>& bias) {
  return bias.empty() ? nullptr : bias.data();
}

int PartsOf(const DecodeHead& head) {
  return head.begin < head.end ? head.parts() : 0;
}

}  // namespace

DecodePass::DecodePass(const ForwardContext& context)
    : context_(context),
      params_(context.model->params()),
      recall_(context),
      scratch_(context.pool->threads()) {
  const HyperParams& p = params_;
  hidden_.Resize(size_t(kMaxRows) * p.embedding);
  normed_.Resize(size_t(kMaxRows) * p.embedding);
  product_.Resize(size_t(kMaxRows) * p.embedding);
  q_.Resize(size_t(kMaxRows) * p.heads * p.head_dim);
  attention_.Resize(size_t(kMaxRows) * p.heads * p.head_dim);
  k_.Resize(size_t(kMaxRows) * p.kv_heads * p.head_dim);
  v_.Resize(size_t(kMaxRows) * p.kv_heads * p.head_dim);
  gate_.Resize(size_t(kMaxRows) * p.feed_forward);
  up_.Resize(size_t(kMaxRows) * p.feed_forward);
  rotations_.Resize(p, kMaxRows);
}

void DecodePass::Begin(std::span<const DecodeRow> rows) {
  states_.clear();
  sequences_.clear();
  for (const DecodeRow& row : rows) {
    RowState state{row.sequence, row.sequence->position, 0, false};
    if (!states_.empty() && states_.back().sequence == state.sequence) {
      state.position = states_.back().position + 1;
    }
    states_.push_back(state);
    sequences_.push_back(row.sequence);
  }
  for (int r = this->rows() - 1; r >= 0; --r) {
    RowState& state = states_[r];
    if (r + 1 < this->rows() && state.sequence == states_[r + 1].sequence) {
      state.later = states_[r + 1].later + 1;
      continue;
    }
    const Status room = state.sequence->MakeRoom(1, context_.pool);
    if (!room.ok()) Fail(state.sequence, room);
  }
}

void DecodePass::Fail(const Sequence* sequence, const Status& status) {
  for (int r = 0; r < rows(); ++r) {
    if (sequences_[r] != sequence) continue;
    states_[r].failed = true;
    status_[r] = status;
  }
}

void DecodePass::Run(std::span<const DecodeRow> rows, float* logits,
                     std::span<Status> status) {
  const HyperParams& p = params_;
  status_ = status;
  std::fill(status.begin(), status.end(), Status());
  Begin(rows);
  for (int r = 0; r < this->rows(); ++r) {
    EmbedToken(*context_.model, rows[r].token,
               hidden_.data() + size_t(r) * p.embedding);
    rotations_.Set(r, states_[r].position - states_[r].sequence->rope_shift);
  }
  recall_.Select(0, sequences_, hidden_.data(), rotations_);
  for (int layer = 0; layer < p.layers; ++layer) {
    Project(layer);
    Append(layer);
    FetchCold(layer);
    Attend(layer);
    const LayerWeights& w = context_.model->layers()[layer];
    AddProduct(w.output, w.output_bias, w.attn_post_norm, attention_.data());
    if (layer + 1 < p.layers) {
      recall_.Select(layer + 1, sequences_, hidden_.data(), rotations_);
    }
    FeedForward(layer);
  }
  EndRows();
  Output(hidden_.data(), this->rows(), logits);
}

void DecodePass::EndRows() {
  for (const RowState& state : states_) {
    state.sequence->position = state.position + 1;
  }
  for (const RowState& state : states_) {
    if (state.later > 0 || state.failed) continue;
    const Status evicted = state.sequence->AfterRows(context_.pool);
    if (!evicted.ok()) Fail(state.sequence, evicted);
  }
}

void DecodePass::Output(const float* hidden, int rows, float* logits) {
  const HyperParams& p = params_;
  for (int r = 0; r < rows; ++r) {
    RmsNorm(hidden + size_t(r) * p.embedding,
            context_.model->output_norm().data(), p.embedding, p.rms_epsilon,
            normed_.data() + size_t(r) * p.embedding);
  }
  const WeightMatrix& w = context_.model->output();
  input_.Set(normed_.data(), rows, p.embedding, context_.exact);
  input_.PrepareFor(w, context_.pool);
  const RowsProduct product{&w, &input_, nullptr, logits, size_t(w.rows)};
  MultiplyRows({&product, 1}, context_.pool);
  if (p.final_softcap > 0) {
    SoftCap(p.final_softcap, size_t(rows) * w.rows, logits);
  }
}

void DecodePass::Project(int layer) {
  const HyperParams& p = params_;
  const LayerWeights& w = context_.model->layers()[layer];
  ForRows([&](int r) {
    RmsNorm(hidden_.data() + size_t(r) * p.embedding, w.attn_norm.data(),
            p.embedding, p.rms_epsilon,
            normed_.data() + size_t(r) * p.embedding);
  });
  input_.Set(normed_.data(), rows(), p.embedding, context_.exact);
  for (const WeightMatrix* m : {&w.q, &w.k, &w.v}) {
    input_.PrepareFor(*m, context_.pool);
  }
  const size_t q_width = size_t(p.heads) * p.head_dim;
  const size_t kv_width = size_t(p.kv_heads) * p.head_dim;
  const RowsProduct products[] = {
      {&w.q, &input_, BiasOrNull(w.q_bias), q_.data(), q_width},
      {&w.k, &input_, BiasOrNull(w.k_bias), k_.data(), kv_width},
      {&w.v, &input_, BiasOrNull(w.v_bias), v_.data(), kv_width}};
  MultiplyRows(products, context_.pool);
  ForRows([&](int r) {
    NormRows(w.q_norm, p.heads, p.rms_epsilon, q_.data() + r * q_width);
    NormRows(w.k_norm, p.kv_heads, p.rms_epsilon, k_.data() + r * kv_width);
    rotations_.Apply(layer, r, p.heads, q_.data() + r * q_width);
    rotations_.Apply(layer, r, p.kv_heads, k_.data() + r * kv_width);
  });
}

void DecodePass::Append(int layer) {
  for (int r = 0; r < rows(); ++r) {
    if (states_[r].failed) continue;
    const Status appended = AppendRow(layer, r);
    if (!appended.ok()) Fail(sequences_[r], appended);
  }
}

Status DecodePass::AppendRow(int layer, int row) {
  const HyperParams& p = params_;
  const RowState& state = states_[row];
  KvCache& cache = state.sequence->cache;
  const size_t first = size_t(row) * p.kv_heads * p.head_dim;
  for (int h = 0; h < p.kv_heads; ++h) {
    const size_t offset = first + size_t(h) * p.head_dim;
    PKV_RETURN_IF_ERROR(cache.Append(layer, h, state.position, 1,
                                     k_.data() + offset, v_.data() + offset,
                                     p.head_dim));
    const int visible =
        state.sequence->FirstVisible(layer, state.position - kMaxRows);
    if (visible > 0) cache.DropBefore(layer, h, visible);
  }
  return {};
}

// The first views of what recall_ selected for the layer.
void DecodePass::FetchCold(int layer) {
  cold_.resize(size_t(rows()) * params_.kv_heads);
  for (int r = 0; r < rows(); ++r) {
    ColdTier* const cold = sequences_[r]->cold.get();
    for (int h = 0; h < params_.kv_heads; ++h) {
      ColdView& view = cold_[r * params_.kv_heads + h];
      view.first = view.length = view.selected = 0;
      if (cold == nullptr || states_[r].failed) continue;
      if (cold->length(layer, h) == 0) continue;
      const Status fetched = cold->Fetch(layer, h, &view);
      if (!fetched.ok()) Fail(sequences_[r], fetched);
    }
  }
}

// What row `row` attends to of a KV head's cold tier, but for the entries.
DecodeHead DecodePass::ColdHeadOf(int row, int head) {
  const HyperParams& p = params_;
  DecodeHead h;
  h.format = BlockFormat(sequences_[row]->cache.shape().format);
  h.group = p.group();
  h.scale = p.attention_scale;
  h.q = q_.data() + (size_t(row) * p.heads + head * p.group()) * p.head_dim;
  return h;
}

int DecodePass::RowHead::parts() const {
  int sum = 0;
  for (const DecodeHead* head : all()) sum += PartsOf(*head);
  return sum;
}

// What row `all` sees of the best ones among the entries [begin, end).
void DecodePass::SetTop(const HeadView& view, int begin, int end,
                        const KvShape& shape, RowHead* all) {
  const auto slot = [&](int entry) {
    const auto at = std::lower_bound(view.top.begin(), view.top.end(), entry);
    return static_cast<int>(at - view.top.begin());
  };
  DecodeHead& top = all->top;
  top.begin = slot(begin);
  top.end = slot(end);
  if (view.top.empty()) return;
  top.format = TopFormat(shape.format, *shape.top);
  top.origin = view.top_origin;
  top.pages = view.top_pages;
  top.bias = nullptr;
  if (IsQuantized(top.format.k)) top.key_rounding = view.key_rounding;
  all->top_entries = view.top.data();
}

DecodePass::RowHead DecodePass::HeadOf(int layer, int row, int head) {
  const HyperParams& p = params_;
  const RowState& state = states_[row];
  const HeadView view = state.sequence->cache.View(layer, head);
  const int visible = state.sequence->FirstVisible(layer, state.position);
  int begin = 0;
  while (view.position(begin) < visible) ++begin;
  DecodeHead h;
  h.format = state.sequence->cache.shape().format;
  h.pages = view.pages;
  h.begin = view.first_slot + begin;
  h.end = view.first_slot + view.length - state.later;
  if (view.positions == nullptr) {
    h.origin = (view.base - view.first_slot) / kPageEntries * kPageEntries;
  }
  h.group = p.group();
  h.scale = p.attention_scale;
  h.q = q_.data() + (size_t(row) * p.heads + head * p.group()) * p.head_dim;
  h.bias = view.bias;
  RowHead all = {h, h, h, h};
  all.rest.key_rounding = view.key_rounding;
  all.rest.unseen = view.top_marks;
  const KvShape& shape = state.sequence->cache.shape();
  SetTop(view, begin, view.length, shape, &all);
  if (!HasFinePages(h.format)) {
    all.fine.end = all.fine.begin;
    all.recent.end = all.recent.begin;
    return all;
  }
  const int oldest = state.position + 1 - FineRecent(h.format);
  const int waiting = FirstWaiting(h.format, view.length - state.later);
  const int recent =
      std::max({view.recent_begin, std::min(view.LowerBound(oldest), waiting),
                h.begin, view.fine});
  all.rest.begin = std::max(h.begin, view.fine);
  all.rest.end = std::min(h.end, recent);
  all.fine.format = all.recent.format = FineFormat(h.format);
  all.fine.origin = all.recent.origin = 0;
  all.fine.pages = view.fine_page;
  all.fine.end = std::min(h.end, view.fine);
  if (view.recent_begin == view.length) {
    all.recent.end = all.recent.begin;
    all.rest.end = h.end;
    return all;
  }
  SetTop(view, begin, recent, shape, &all);
  all.recent.pages = view.recent_pages;
  all.recent.begin = recent - view.recent_begin;
  all.recent.end = h.end - view.recent_begin;
  if (h.bias != nullptr) all.recent.bias = h.bias + view.recent_begin;
  all.recent_begin = view.recent_begin;
  return all;
}

void DecodePass::AddRow(int layer, int row, size_t* result, size_t* weights) {
  const HyperParams& p = params_;
  const size_t part_floats = DecodePartFloats(p.group(), p.head_dim);
  const size_t part_weights = size_t(p.group()) * kPartSlots;
  Sequence* const sequence = states_[row].sequence;
  const bool wanted = sequence->compressor.gathers_attention();
  for (int h = 0; h < p.kv_heads; ++h) {
    const RowHead head = HeadOf(layer, row, h);
    const size_t out = (size_t(row) * p.heads + h * p.group()) * p.head_dim;
    const int64_t first = wanted ? static_cast<int64_t>(*weights) : -1;
    const int cold = (cold_[merges_.size()].selected + kColdPartEntries - 1) /
                     kColdPartEntries;
    merges_.push_back({*result, head.parts() + cold, attention_.data() + out,
                       head, first, sequence});
    size_t to = *result;
    for (const DecodeHead* of : head.all()) {
      for (int part = 0; part < PartsOf(*of); ++part, to += part_floats) {
        tasks_.push_back(
            {*of, part, to, wanted ? static_cast<int64_t>(*weights) : -1});
        if (wanted) *weights += part_weights;
      }
    }
    *result += merges_.back().parts * part_floats;
    AddColdTasks(static_cast<int>(merges_.size()) - 1);
  }
}

void DecodePass::AddColdTasks(int head) {
  const ColdView& view = cold_[head];
  if (view.length == 0) return;
  const HyperParams& p = params_;
  const Merge& merge = merges_[head];
  DecodeHead part = ColdHeadOf(head / p.kv_heads, head % p.kv_heads);
  for (int at = 0; at < view.length; at += kColdPartEntries) {
    part.pages = view.pages.data() + at / kBlockEntries;
    part.end = std::min(kColdPartEntries, view.length - at);
    const size_t index =
        merge.head.parts() + (view.first + at) / kColdPartEntries;
    tasks_.push_back(
        {part, 0,
         merge.result + index * DecodePartFloats(p.group(), p.head_dim), -1});
  }
}

void DecodePass::RunTasks() {
  context_.pool->ParallelRanges(
      static_cast<int>(tasks_.size()), [&](int i, int worker) {
        const Task& t = tasks_[i];
        AttendDecodePart(t.head, t.part, &scratch_[worker],
                         results_.data() + t.result,
                         t.weights < 0 ? nullptr : weights_.data() + t.weights);
      });
}

// Where memory does not take at once what was selected of cold tiers.
void DecodePass::AttendFurtherViews(int layer) {
  for (;;) {
    tasks_.clear();
    for (int i = 0; i < static_cast<int>(cold_.size()); ++i) {
      const int row = i / params_.kv_heads;
      if (states_[row].failed || cold_[i].last()) continue;
      const Status fetched =
          sequences_[row]->cold->Fetch(layer, i % params_.kv_heads, &cold_[i]);
      if (!fetched.ok()) {
        Fail(sequences_[row], fetched);
        continue;
      }
      AddColdTasks(i);
    }
    if (tasks_.empty()) return;
    RunTasks();
  }
}

void DecodePass::Attend(int layer) {
  const HyperParams& p = params_;
  tasks_.clear();
  merges_.clear();
  size_t result = 0, weights = 0;
  bool gathers = false;
  for (int r = 0; r < rows(); ++r) {
    if (states_[r].failed) {  // merges count over all rows and KV heads
      merges_.resize(merges_.size() + p.kv_heads);
      continue;
    }
    Compressor& compressor = states_[r].sequence->compressor;
    compressor.ObserveQuery(layer, states_[r].position,
                            q_.data() + size_t(r) * p.heads * p.head_dim);
    gathers = gathers || compressor.gathers_attention();
    AddRow(layer, r, &result, &weights);
  }
  results_.Resize(result);
  weights_.Resize(weights);
  RunTasks();
  AttendFurtherViews(layer);
  ForRows([&](int r) {
    if (states_[r].failed) {  // numbers, which nobody reads
      const size_t width = size_t(p.heads) * p.head_dim;
      std::fill_n(attention_.data() + r * width, width, 0.0f);
      return;
    }
    for (int h = 0; h < p.kv_heads; ++h) {
      const Merge& m = merges_[r * p.kv_heads + h];
      MergeDecodeParts(results_.data() + m.result, m.parts, p.group(),
                       p.head_dim, m.out);
    }
  });
  if (gathers) GatherReceived(layer);
}

// Rows of a sequence one after the other: how many come at once must not show.
void DecodePass::GatherReceived(int layer) {
  context_.pool->ParallelFor(params_.kv_heads, [&](int h, int) {
    for (size_t i = h; i < merges_.size(); i += params_.kv_heads) {
      const Merge& m = merges_[i];
      if (m.weights < 0) continue;
      const std::span<float> scores = m.sequence->cache.Scores(layer, h);
      if (scores.empty()) continue;  // a ring
      const auto decay =
          static_cast<float>(m.sequence->compressor.spec().decay);
      if (decay < 1) {
        for (float& x : scores) x *= decay;
      }
      PartResults all = {results_.data() + m.result, m.head.parts()};
      const float* weights = weights_.data() + m.weights;
      for (const DecodeHead* head : m.head.all()) {
        if (PartsOf(*head) == 0) continue;
        if (head == &m.head.top) {
          std::vector<float> received(head->end, 0.0f);
          AddReceived(*head, all, weights, received.data());
          for (int i = head->begin; i < head->end; ++i) {
            scores[m.head.top_entries[i]] += received[i];
          }
        } else {
          const int first = head == &m.head.recent ? m.head.recent_begin : 0;
          AddReceived(*head, all, weights, scores.data() + first);
        }
        all.first += PartsOf(*head);
        weights += PartsOf(*head) * size_t(head->group) * kPartSlots;
      }
    }
  });
}

// hidden += norm(w * x + bias).
void DecodePass::AddProduct(const WeightMatrix& w,
                            const std::vector<float>& bias,
                            const std::vector<float>& post_norm,
                            const float* x) {
  input_.Set(x, rows(), w.cols, context_.exact);
  input_.PrepareFor(w, context_.pool);
  const RowsProduct product{&w, &input_, BiasOrNull(bias), product_.data(),
                            size_t(w.rows)};
  MultiplyRows({&product, 1}, context_.pool);
  ForRows([&](int r) {
    float* const row = product_.data() + size_t(r) * w.rows;
    NormRows(post_norm, 1, params_.rms_epsilon, row);
    AddTo(row, w.rows, hidden_.data() + size_t(r) * w.rows);
  });
}

void DecodePass::FeedForward(int layer) {
  const HyperParams& p = params_;
  const LayerWeights& w = context_.model->layers()[layer];
  ForRows([&](int r) {
    RmsNorm(hidden_.data() + size_t(r) * p.embedding, w.ffn_norm.data(),
            p.embedding, p.rms_epsilon,
            normed_.data() + size_t(r) * p.embedding);
  });
  input_.Set(normed_.data(), rows(), p.embedding, context_.exact);
  for (const WeightMatrix* m : {&w.gate, &w.up}) {
    input_.PrepareFor(*m, context_.pool);
  }
  const size_t width = p.feed_forward;
  const RowsProduct products[] = {
      {&w.gate, &input_, BiasOrNull(w.gate_bias), gate_.data(), width},
      {&w.up, &input_, BiasOrNull(w.up_bias), up_.data(), width}};
  MultiplyRows(products, context_.pool);
  ForRows([&](int r) {
    ActivateGate(p.activation, width, up_.data() + r * width,
                 gate_.data() + r * width);
  });
  AddProduct(w.down, w.down_bias, w.ffn_post_norm, gate_.data());
}

}  // namespace pyramidkv
