#include "runtime/decode_pass.h"

#include <algorithm>

#include "kernels/elementwise.h"

namespace pyramidkv {

// Rows of one call find the same recent entries.
static_assert(kRecentSlack >= kMaxRows);

DecodePass::DecodePass(const ForwardContext& context)
    : context_(context),
      params_(context.model->params()),
      recall_(context),
      block_rows_(context),
      scratch_(context.pool->threads()) {
  const HyperParams& p = params_;
  hidden_.Resize(size_t(kMaxRows) * p.embedding);
  block_scratch_.Resize(p, kMaxRows);
  q_.Resize(size_t(kMaxRows) * p.heads * p.head_dim);
  attention_.Resize(size_t(kMaxRows) * p.heads * p.head_dim);
  k_.Resize(size_t(kMaxRows) * p.kv_heads * p.head_dim);
  v_.Resize(size_t(kMaxRows) * p.kv_heads * p.head_dim);
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
    rotations_.Set(r, states_[r].position - sequences_[r]->cache.rope_shift());
  }
  block_rows_.Set(this->rows());
  recall_.Select(0, sequences_, hidden_.data(), rotations_);
  for (int layer = 0; layer < p.layers; ++layer) RunLayer(layer);
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

void DecodePass::RunLayer(int layer) {
  const Block block(context_, layer, rotations_);
  float* const hidden = hidden_.data();
  block.Project(hidden, &block_rows_, &block_scratch_,
                {q_.data(), k_.data(), v_.data()});
  Append(layer);
  FetchCold(layer);
  Attend(layer);
  block.AddAttention(attention_.data(), &block_rows_, &block_scratch_, hidden);
  if (layer + 1 < params_.layers) {
    recall_.Select(layer + 1, sequences_, hidden, rotations_);
  }
  block.AddFeedForward(&block_rows_, &block_scratch_, hidden);
}

void DecodePass::Output(const float* hidden, int rows, float* logits) {
  const HyperParams& p = params_;
  float* const normed = block_scratch_.normed.data();
  for (int r = 0; r < rows; ++r) {
    RmsNorm(hidden + size_t(r) * p.embedding,
            context_.model->output_norm().data(), p.embedding, p.rms_epsilon,
            normed + size_t(r) * p.embedding);
  }
  const WeightMatrix& w = context_.model->output();
  const BlockProduct product{&w, nullptr, nullptr, logits};
  block_rows_.Set(rows);
  block_rows_.Multiply(normed, {&product, 1});
  if (p.final_softcap > 0) {
    SoftCap(p.final_softcap, size_t(rows) * w.rows, logits);
  }
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
        state.sequence->plan.FirstVisible(layer, state.position - kMaxRows);
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

DecodeQuery DecodePass::QueryOf(int row, int head) const {
  const HyperParams& p = params_;
  const size_t first = size_t(row) * p.heads + head * p.group();
  return {p.group(), p.attention_scale, q_.data() + first * p.head_dim};
}

void DecodePass::AddRow(int layer, int row, size_t* result, size_t* weights) {
  const HyperParams& p = params_;
  const size_t part_floats = DecodePartFloats(p.group(), p.head_dim);
  const size_t part_weights = size_t(p.group()) * kPartSlots;
  const RowState& state = states_[row];
  Sequence* const sequence = state.sequence;
  const bool wanted = sequence->compressor.observer()->gathers();
  const int visible = sequence->plan.FirstVisible(layer, state.position);
  for (int h = 0; h < p.kv_heads; ++h) {
    const HeadSegments segments =
        sequence->cache.head(layer, h).Segments(visible, state.later);
    const DecodeQuery query = QueryOf(row, h);
    const size_t out = (size_t(row) * p.heads + h * p.group()) * p.head_dim;
    const int64_t first = wanted ? static_cast<int64_t>(*weights) : -1;
    const int cold = (cold_[merges_.size()].selected + kColdPartEntries - 1) /
                     kColdPartEntries;
    merges_.push_back({*result, segments.parts() + cold,
                       attention_.data() + out, segments, first, sequence});
    size_t to = *result;
    for (const Segment& segment : segments.all) {
      for (int part = 0; part < segment.parts(); ++part, to += part_floats) {
        tasks_.push_back({segment, query, part, to,
                          wanted ? static_cast<int64_t>(*weights) : -1});
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
  const int row = head / p.kv_heads;
  const PageFormat format = BlockFormat(sequences_[row]->cache.shape().format);
  const DecodeQuery query = QueryOf(row, head % p.kv_heads);
  for (int at = 0; at < view.length; at += kColdPartEntries) {
    const size_t index =
        merge.segments.parts() + (view.first + at) / kColdPartEntries;
    tasks_.push_back(
        {view.Part(format, at), query, 0,
         merge.result + index * DecodePartFloats(p.group(), p.head_dim), -1});
  }
}

void DecodePass::RunTasks() {
  context_.pool->ParallelRanges(
      static_cast<int>(tasks_.size()), [&](int i, int worker) {
        const Task& t = tasks_[i];
        AttendDecodePart(t.segment, t.query, t.part, &scratch_[worker],
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
    QueryObserver& observer = *states_[r].sequence->compressor.observer();
    observer.ObserveRow(
        layer, states_[r].position - states_[r].sequence->cache.rope_shift(),
        q_.data() + size_t(r) * p.heads * p.head_dim);
    gathers = gathers || observer.gathers();
    AddRow(layer, r, &result, &weights);
  }
  results_.Resize(result);
  weights_.Resize(weights);
  RunTasks();
  AttendFurtherViews(layer);
  block_rows_.ForEach([&](int r) {
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
  const int group = params_.group();
  context_.pool->ParallelFor(params_.kv_heads, [&](int h, int worker) {
    for (size_t i = h; i < merges_.size(); i += params_.kv_heads) {
      const Merge& m = merges_[i];
      if (m.weights < 0) continue;
      const std::span<float> scores = m.sequence->cache.head(layer, h).scores();
      if (scores.empty()) continue;  // a ring
      m.sequence->compressor.observer()->Age(scores);
      PartResults all = {results_.data() + m.result, m.segments.parts()};
      const float* weights = weights_.data() + m.weights;
      for (const Segment& segment : m.segments.all) {
        AddReceived(segment, group, all, weights, &scratch_[worker],
                    scores.data());
        all.first += segment.parts();
        weights += segment.parts() * size_t(group) * kPartSlots;
      }
    }
  });
}

}  // namespace pyramidkv
