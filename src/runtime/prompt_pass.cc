#include "runtime/prompt_pass.h"

#include <algorithm>

#include "runtime/fit_rounding.h"
#include "runtime/prompt_tiles.h"

namespace pyramidkv {
namespace {

// Every later token attends to the first ones, so that their rounding is
// everyone's: they take a third off the divergence at no cost.
constexpr int kFineRows = 16;

// KVzip (arXiv 2505.23416), section 3.2, with smaller chunks: attention to a
// chunk is sharper when less is repeated at once (docs/policies.md).
constexpr int kRepeatChunk = 512;
constexpr int kRepeatLead = 8;  // tokens of the chunk before, to start from

}  // namespace

PromptPass::PromptPass(const ForwardContext& context,
                       std::span<const int> tokens,
                       std::span<Sequence* const> targets,
                       std::span<const int> repeat, PromptWorkspace* work)
    : context_(context),
      params_(context.model->params()),
      targets_(targets.begin(), targets.end()),
      position_(targets[0]->position),
      rows_(static_cast<int>(tokens.size())),
      tile_rows_(TileRows(context, rows_)),
      work_(*work) {
  sparse_ = position_ == 0 &&
            targets_[0]->compressor.spec().prefill == PrefillKind::kSparse;
  if (sparse_) tile_rows_ = kPromptTile;  // blocks are chosen for a tile
  AddSegment({tokens.begin(), tokens.end()}, 0, 0);
  bool repeats = false;
  for (const Sequence* s : targets_) {
    const ScorerNeeds needs = s->compressor.needs();
    window_rows_ = std::max(window_rows_, needs.window_rows);
    if (s->compressor.spec().storage.rounds_keys()) {
      window_rows_ = std::max(window_rows_, kRoundingQueries);
    }
    keep_lse_ = keep_lse_ || needs.all_rows || needs.repetition;
    keep_queries_ = keep_queries_ || keep_lse_ || needs.query_statistics;
    repeats = repeats || needs.repetition;
  }
  window_rows_ = std::min(window_rows_, rows_);
  if (repeats) AddRepetitions(repeat);
  wave_tiles_ = std::min(tiles_, MostWaveTiles(context, tile_rows_));
}

void PromptPass::AddSegment(std::vector<int> tokens, int from, int to) {
  Segment s;
  s.first_tile = tiles_;
  s.rows = static_cast<int>(tokens.size());
  s.position = segments_.empty() ? position_ : position_ + rows_;
  s.entry = segments_.empty() ? 0 : rows_;
  s.from = from;
  s.to = to;
  s.tokens = std::move(tokens);
  tiles_ += (s.rows + tile_rows_ - 1) / tile_rows_;
  tile_segment_.resize(tiles_, static_cast<int>(segments_.size()));
  segments_.push_back(std::move(s));
}

void PromptPass::AddRepetitions(std::span<const int> repeat) {
  const std::vector<int> prompt = segments_[0].tokens;
  for (int from = 0; from < rows_; from += kRepeatChunk) {
    const int to = std::min(from + kRepeatChunk, rows_);
    std::vector<int> tokens(repeat.begin(), repeat.end());
    const int lead = std::max(0, from - kRepeatLead);
    tokens.insert(tokens.end(), prompt.begin() + lead, prompt.begin() + to);
    longest_repetition_ =
        std::max(longest_repetition_, static_cast<int>(tokens.size()));
    AddSegment(std::move(tokens), from, to);
  }
}

// The last wave of a layer counts once the targets have taken the layer.
int64_t PromptPass::done() const {
  const int tile = tile_ < tiles_ ? tile_ : wave_;
  return (int64_t{layer_} * tiles_ + tile) * tile_rows_;
}

int64_t PromptPass::total() const {
  return int64_t{params_.layers} * tiles_ * tile_rows_;
}

int PromptPass::rows_in(int tile) const {
  return std::min(tile_rows_, segment_of(tile).rows - first_row(tile));
}

PromptRows PromptPass::rows_of(int tile) const {
  const int rows = rows_in(tile);
  const int position = segment_of(tile).position + first_row(tile);
  return {rows, std::clamp(kFineRows - position, 0, rows)};
}

const float* PromptPass::last_hidden() const {
  return work_.hidden.data() + size_t(rows_ - 1) * params_.embedding;
}

Status PromptPass::Begin(int prompt_end) {
  for (Sequence* s : targets_) {
    PKV_RETURN_IF_ERROR(s->MakeRoom(rows_, context_.pool));
    PKV_RETURN_IF_ERROR(s->compressor.Begin(position_ + rows_, prompt_end));
  }
  prompt_end_ = std::max(prompt_end, position_ + rows_);
  ResizeBuffers();
  if (sparse_) {
    blocks_.Resize(params_.kv_heads, params_.head_dim, rows_,
                   context_.pool->threads());
  }
  context_.pool->ParallelFor(tiles_, [&](int tile, int) { EmbedTile(tile); });
  // A long prompt touches most of the embedding.
  context_.model->DropFilePages();
  return {};
}

// Says which of K and V somebody reads in f32.
PromptKeys::Options PromptPass::KeyOptions() const {
  PromptKeys::Options options;
  options.form = context_.attention;
  options.head_dim = params_.head_dim;
  options.past_keys = false;
  options.f32_values = false;
  for (const Sequence* s : targets_) {
    const Compressor& compressor = s->compressor;
    const bool scores = compressor.needs().window_rows > 0;
    options.past_keys = options.past_keys || scores;
    options.f32_values = options.f32_values || s->cold != nullptr ||
                         s->cache.shape().format.v != Codec::kF16 ||
                         (scores && compressor.spec().reads_values());
  }
  return options;
}

void PromptPass::ResizeBuffers() {
  const HyperParams& p = params_;
  const size_t rows = size_t(tiles_) * tile_rows_, q_width = this->q_width();
  work_.hidden.Resize(rows * p.embedding);
  work_.rotations.Resize(p, static_cast<int>(rows));
  work_.q.Resize((keep_queries_ ? rows : size_t(wave_tiles_) * tile_rows_) *
                 q_width);
  if (keep_lse_) work_.lse.Resize(rows * p.heads);
  work_.window_q.Resize(window_rows_ * q_width);
  work_.keys.Configure(KeyOptions(), p.kv_heads);
  bias_.resize(p.kv_heads);
  work_.workers.resize(context_.pool->threads());
  for (PromptWorkspace::Worker& w : work_.workers) {
    // Rows of padding go through oneDNN and are thrown away.
    w.block.Resize(p, kPromptTile);
    w.kv.Resize(size_t(kPromptTile) * p.kv_heads * p.head_dim * 2);
    w.attention.Resize(kPromptTile * q_width);
    w.prefill.Resize(p.group(), p.head_dim);
  }
}

void PromptPass::EmbedTile(int tile) {
  const Segment& s = segment_of(tile);
  const int first = tile * tile_rows_;
  const int rope_shift = targets_[0]->cache.rope_shift();
  for (int r = 0; r < rows_in(tile); ++r) {
    const int row = first_row(tile) + r;
    EmbedToken(*context_.model, s.tokens[row], hidden(first + r));
    work_.rotations.Set(first + r, s.position + row - rope_shift);
  }
}

Result<bool> PromptPass::Step() {
  if (layer_ == params_.layers) return true;
  if (tile_ < tiles_) {
    if (tile_ == 0) PKV_RETURN_IF_ERROR(BeginLayer());
    RunWave();
    return false;
  }
  Sequence* const target = targets_[target_];
  PKV_RETURN_IF_ERROR(EndLayer(target));
  if (layer_ + 1 == params_.layers) PKV_RETURN_IF_ERROR(EndPass(target));
  if (++target_ < static_cast<int>(targets_.size())) return false;
  target_ = tile_ = 0;
  return ++layer_ == params_.layers;
}

void PromptPass::RunWave() {
  PackLayer(context_, layer_);
  const int first = tile_;
  const int count = TilesOfWave();
  context_.pool->ParallelFor(
      count, [&](int i, int worker) { ProjectTile(first + i, worker); });
  const int last = first + count - 1;
  work_.keys.Close(segment_of(last).entry + first_row(last) + rows_in(last));
  if (IsSparse()) {
    blocks_.AddKeys(work_.keys.heads(),
                    std::min(rows_, (first + count) * tile_rows_),
                    context_.pool);
  }
  context_.pool->ParallelFor(count, [&](int i, int worker) {
    // The last tile attends to the most: begin with it.
    const int tile = last - i;
    if (!NeedsAttention(tile)) return;
    AttendRows(tile, worker);
    if (NeedsOutput(tile)) FinishTile(tile, worker);
  });
  wave_ = first;
  tile_ += count;
}

// From the next one on. Deep in a prompt fewer of them take as long.
int PromptPass::TilesOfWave() const {
  const int first = tile_;
  const int entries =
      position_ + segment_of(first).entry + first_row(first) + tile_rows_;
  const int affordable = AffordableTiles(context_, tile_rows_, entries);
  // Repetitions write their keys over each other: one at a time.
  int count = 1;
  while (count < std::min(wave_tiles_, affordable) && first + count < tiles_ &&
         tile_segment_[first + count] == tile_segment_[first]) {
    ++count;
  }
  return count;
}

Status PromptPass::EndPass(Sequence* target) {
  PKV_RETURN_IF_ERROR(target->compressor.End(&target->cache));
  PKV_RETURN_IF_ERROR(target->Settle());
  target->position = position_ + rows_;
  if (sparse_) target->prefill_mass = blocks_.covered();
  return {};
}

// After the last layer only the prompt's last row is read.
bool PromptPass::NeedsOutput(int tile) const {
  return layer_ + 1 < params_.layers ||
         (tile_segment_[tile] == 0 && first_row(tile) + tile_rows_ >= rows_);
}

bool PromptPass::NeedsAttention(int tile) const {
  return keep_lse_ || NeedsOutput(tile);
}

Status PromptPass::BeginLayer() {
  blocks_.BeginLayer();
  const KvCache& cache = targets_[0]->cache;
  const int fresh = rows_ + longest_repetition_;
  // A streamed prompt never leaves more in the cache than it has tokens.
  const int64_t most = int64_t{prompt_end_} + longest_repetition_;
  PKV_RETURN_IF_ERROR(work_.keys.Begin(cache, targets_[0]->cold.get(), layer_,
                                       fresh, most, context_.pool));
  for (int h = 0; h < params_.kv_heads; ++h) {
    const HeadView view = cache.View(layer_, h);
    bias_[h].clear();
    if (view.bias == nullptr) continue;
    bias_[h].assign(view.bias, view.bias + view.length);
    bias_[h].resize(size_t(view.length) + fresh, 0.0f);
  }
  return {};
}

PromptTileRows PromptPass::block_rows(int tile, int worker) const {
  return PromptTileRows(context_, tile * tile_rows_, rows_of(tile), worker);
}

void PromptPass::ProjectTile(int tile, int worker) {
  PromptWorkspace::Worker& s = work_.workers[worker];
  const size_t q_width = this->q_width();
  const size_t kv_width = size_t(params_.kv_heads) * params_.head_dim;
  float* const q = query(tile);
  float* const k = s.kv.data();
  float* const v = k + kPromptTile * kv_width;
  PromptTileRows rows = block_rows(tile, worker);
  Block(context_, layer_, work_.rotations)
      .Project(work_.hidden.data(), &rows, &s.block, {q, k, v});
  for (int r = 0; r < rows.count(); ++r) {
    const int row = first_row(tile) + r;
    work_.keys.Add(segment_of(tile).entry + row, k + r * kv_width,
                   v + r * kv_width);
    const int window = row - (rows_ - window_rows_);
    if (window >= 0 && tile_segment_[tile] == 0) {
      std::copy(q + r * q_width, q + (r + 1) * q_width,
                work_.window_q.data() + window * q_width);
    }
  }
}

// Attention of a tile's rows, all heads, into the scratch.
void PromptPass::AttendRows(int tile, int worker) {
  static_assert(kPromptTile <= kMaxQueryRows);
  PromptWorkspace::Worker* s = &work_.workers[worker];
  const int rows = rows_in(tile);
  const HyperParams& p = params_;
  const Segment& segment = segment_of(tile);
  const size_t q_width = this->q_width();
  PrefillTile t;
  t.rows = rows;
  t.group = p.group();
  t.head_dim = p.head_dim;
  t.scale = p.attention_scale;
  t.q_stride = t.out_stride = q_width;
  const LayerKeys& keys = work_.keys;
  for (int h = 0; h < p.kv_heads; ++h) {
    const int past = keys.past(h), before = keys.before(h);
    const size_t offset = size_t(h) * p.group() * p.head_dim;
    t.q = query(tile) + offset;
    t.out = s->attention.data() + offset;
    if (keep_lse_) {
      t.lse = work_.lse.data() + size_t(tile) * tile_rows_ * p.heads +
              h * p.group();
      t.lse_stride = p.heads;
    }
    if (!bias_[h].empty()) t.bias = bias_[h].data();
    const HeadView view = targets_[0]->cache.View(layer_, h);
    t.origin =
        view.positions == nullptr && view.length > 0 ? view.base / 2 * 2 : 0;
    for (int i = 0; i < rows; ++i) {
      const int row = first_row(tile) + i;
      const int visible =
          targets_[0]->plan.FirstVisible(layer_, segment.position + row);
      int begin = i > 0 ? t.begin[i - 1] : 0;
      while (begin < past && view.position(begin) < visible) ++begin;
      t.begin[i] = visible <= position_ ? begin : before + visible - position_;
      t.end[i] = before + segment.entry + row + 1;
    }
    if (IsSparse()) blocks_.Choose(h, worker, &t);
    keys.head(h).Attend(t, &s->prefill);
  }
}

void PromptPass::FinishTile(int tile, int worker) {
  PromptWorkspace::Worker& s = work_.workers[worker];
  PromptTileRows rows = block_rows(tile, worker);
  const Block block(context_, layer_, work_.rotations);
  float* const hidden = work_.hidden.data();
  block.AddAttention(s.attention.data(), &rows, &s.block, hidden);
  block.AddFeedForward(&rows, &s.block, hidden);
}

// Gives a target the layer to keep.
Status PromptPass::EndLayer(Sequence* target) {
  const LayerKeys& keys = work_.keys;
  std::vector<const float*> k, v;
  std::vector<const uint16_t*> fresh_v16;
  for (int h = 0; h < params_.kv_heads; ++h) {
    // Entries in a cold tier stay there.
    const size_t cold = size_t(keys.cold(h)) * params_.head_dim;
    const PromptKeys& head = keys.head(h);
    k.push_back(head.k() + cold);
    v.push_back(cold > 0 ? head.v() + cold : head.v());
    fresh_v16.push_back(head.fresh_v16());
  }
  LayerEntries entries;
  entries.layer = layer_;
  entries.fresh = rows_;
  entries.fresh_position = position_;
  entries.past = keys.past();
  entries.k = k.data();
  entries.v = v.data();
  entries.fresh_v16 = fresh_v16.data();
  entries.window_q = work_.window_q.data();
  entries.window_rows = window_rows_;
  entries.q = keep_queries_ ? work_.q.data() : nullptr;
  entries.lse = keep_lse_ ? work_.lse.data() : nullptr;
  std::vector<ObserverRows> repetition;
  for (size_t s = 1; s < segments_.size(); ++s) {
    const size_t row = size_t(segments_[s].first_tile) * tile_rows_;
    repetition.push_back({work_.q.data() + row * q_width(),
                          work_.lse.data() + row * params_.heads,
                          segments_[s].rows, segments_[s].from,
                          segments_[s].to});
  }
  entries.repetition = repetition;
  entries.form = context_.attention;
  return target->compressor.OnLayer(entries, &target->cache, context_.pool);
}

}  // namespace pyramidkv
