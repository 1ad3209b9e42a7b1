#include "cache/kv_head.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"

namespace pyramidkv {
namespace {

template <typename T>
const T* DataOrNull(const std::vector<T>& side) {
  return side.empty() ? nullptr : side.data();
}

}  // namespace

int HeadSegments::parts() const {
  int sum = 0;
  for (const Segment& segment : all) sum += segment.parts();
  return sum;
}

void HeadSegments::Load(int i, float* k, float* v) const {
  for (const Segment& segment : all) {
    const int slot = segment.SlotOf(i);
    if (slot >= 0) return segment.Load(slot, k, v);
  }
  DCHECK(false);
}

KvHead::KvHead(PagePool* pool, const HeadFormat& format)
    : pool_(pool),
      format_(format),
      base_(pool, format),
      sinks_(pool, format.recent_page()),
      recent_(pool, format.recent_page()),
      top_(pool, format.top_page()) {}

Status KvHead::OutOfMemory() const {
  return Status::Runtime("out of memory: no room for " +
                         std::to_string(format_.page_bytes()) +
                         " more bytes of the KV cache");
}

int64_t KvHead::bytes() const {
  return static_cast<int64_t>(base_.bytes() + sinks_.run().bytes() +
                              recent_.run().bytes() + top_.run().bytes() +
                              sides_.bytes() + top_.side_bytes() +
                              key_rounding_.capacity() * sizeof(float));
}

HeadView KvHead::View() const {
  HeadView view;
  view.pages = base_.pages().data();
  view.length = length();
  view.positions = DataOrNull(sides_.positions);
  view.base = sides_.base;
  view.bias = DataOrNull(sides_.bias);
  view.scores = DataOrNull(sides_.scores);
  view.rope = DataOrNull(sides_.rope);
  view.key_rounding = rounding_of_keys();
  view.sinks = sinks_.end();
  return view;
}

// The first of `length` entries that a row reads as a recent one when there
// are `seen` tokens, its own counted.
int KvHead::RecentFrom(int seen, int length) const {
  return std::min(sides_.LowerBound(seen - format_.recent_positions()),
                  format_.FirstWaiting(length));
}

HeadSegments KvHead::Segments(int visible, int later) const {
  const int end = length() - later;
  const int begin = std::min(sides_.LowerBound(visible), end);
  const int sinks = std::max(begin, std::min(end, sinks_.end()));
  int recent = end;
  if (!recent_.empty()) {
    const int newest = RecentFrom(seen_ - later, end);
    recent = std::clamp(std::max(recent_.first(), newest), sinks, end);
  }
  Segment base;
  base.format = format_;
  base.pages = base_.pages().data();
  base.begin = sinks;
  base.end = recent;
  if (sides_.positions.empty()) {
    base.origin = sides_.base / kPageEntries * kPageEntries;
  }
  base.unseen = top_.marks();
  base.key_rounding = rounding_of_keys();
  HeadSegments segments = {{sinks_.Part(begin, sinks), base,
                            top_.Part(begin, recent),
                            recent_.Part(recent, end)}};
  segments.all[2].key_rounding = top_rounding().keys;
  for (Segment& segment : segments.all) {
    segment.bias = DataOrNull(sides_.bias);
  }
  return segments;
}

void KvHead::Decode(float* k, float* v) const {
  for (const Segment& segment : Segments().all) {
    for (int slot = segment.begin; slot < segment.end; ++slot) {
      if (!segment.Sees(slot)) continue;
      const size_t row = size_t(segment.entry(slot)) * format_.head_dim;
      segment.Load(slot, k != nullptr ? k + row : nullptr,
                   v != nullptr ? v + row : nullptr);
    }
  }
}

// REQUIRES: pages of our own; the entry's position is there.
void KvHead::Store(int i, const float* k, const float* v) {
  base_.Store(i, k, v, rounding());
  sinks_.Store(i, k, v);
  recent_.Store(i, k, v);
  top_.Store(i, k, v, top_rounding());
}

Status KvHead::SetTop(std::span<const int> top, const float* k,
                      const float* v) {
  DCHECK(format_.top.has_value());
  return top_.Set(top, k, v, top_rounding()) ? Status() : OutOfMemory();
}

void KvHead::SetScores(std::span<const float> scores) {
  DCHECK(static_cast<int>(scores.size()) == length());
  ReserveSide(scores.size(), &sides_.scores);
  sides_.scores.assign(scores.begin(), scores.end());
}

HeadState KvHead::Export() const {
  HeadState state;
  state.sides = sides_;
  state.seen = seen_;
  state.key_rounding = key_rounding_;
  state.tensor_scales = tensor_scales_;
  state.coded = coded_;
  state.recent_begin = recent_.empty() ? length() : recent_.first();
  state.top.assign(top_.entries().begin(), top_.entries().end());
  state.top_origin = top_.origin();
  return state;
}

void KvHead::ForEachPage(
    const std::function<void(std::span<const std::byte>)>& show) const {
  for (const PageRun* run :
       {&base_, &sinks_.run(), &recent_.run(), &top_.run()}) {
    for (const std::byte* page : run->pages()) {
      show({page, run->format().page_bytes()});
    }
  }
}

Status KvHead::Import(
    int position, HeadState state,
    const std::function<Status(std::span<std::byte>)>& read_page) {
  PKV_RETURN_IF_ERROR(CheckHeadState(state, format_, position));
  KvHead built(pool_, format_);
  const int n = state.sides.length;
  built.sides_ = std::move(state.sides);
  built.seen_ = state.seen;
  built.key_rounding_ = std::move(state.key_rounding);
  built.tensor_scales_ = state.tensor_scales;
  built.coded_ = state.coded;
  built.recent_.Restart(state.recent_begin);
  const int sinks =
      format_.has_sinks() ? built.sides_.LowerBound(kSinkPositions) : 0;
  const int top = static_cast<int>(state.top.size());
  built.top_.Restore(std::move(state.top), state.top_origin);
  for (const auto& [run, size] :
       {std::pair(&built.base_, n),
        std::pair(built.sinks_.mutable_run(), sinks),
        std::pair(built.recent_.mutable_run(), n - state.recent_begin),
        std::pair(built.top_.mutable_run(), top)}) {
    while (run->size() < size) {  // no more memory than can be read
      const int next = std::min(size, run->size() + run->format().entries);
      if (!run->Reserve(next)) return OutOfMemory();
      run->Add(next - run->size());
      PKV_RETURN_IF_ERROR(
          read_page({run->pages().back(), run->format().page_bytes()}));
    }
  }
  *this = std::move(built);
  return {};
}

}  // namespace pyramidkv
