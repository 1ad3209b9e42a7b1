// How entries of a KvHead move and leave.

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "cache/kv_head.h"

namespace pyramidkv {

bool KvHead::MakeOverlaysOwn() {
  return sinks_.mutable_run()->MakeOwn() && recent_.mutable_run()->MakeOwn() &&
         top_.mutable_run()->MakeOwn();
}

Status KvHead::Keep(std::span<const int> kept) {
  const std::vector<float> moved = MovedKeys(kept);
  if (!MakeOverlaysOwn() || !base_.Keep(kept)) return OutOfMemory();
  sinks_.Keep(kept);
  recent_.Keep(kept);
  top_.Keep(kept);
  sides_.Keep(kept);
  coded_ = std::min(coded_, length());
  CodeLast(moved);
  ReleaseAged();
  return {};
}

// Entry `entry` of another head, the next one of this one. False: no memory.
bool KvHead::AppendCopy(const KvHead& from, int entry) {
  const int i = base_.size();
  base_.Add(1);
  base_.Copy(i, from.base_, entry);
  if (entry < from.sinks_.end()) {
    if (!sinks_.Reserve(i + 1)) return false;
    sinks_.AppendCopy(from.sinks_, entry);
  }
  if (!from.recent_.empty() && entry >= from.recent_.first()) {
    if (recent_.empty()) recent_.Restart(i);
    if (!recent_.Reserve(i + 1)) return false;
    recent_.AppendCopy(from.recent_, entry);
  }
  return top_.AppendCopy(from.top_, entry, i);
}

// It is no older than recent entries before it.
bool KvHead::AppendMerged(const MergedEntry& entry) {
  const int i = base_.size();
  base_.Add(1);
  base_.Store(i, entry.k, entry.v, rounding());
  if (format_.has_sinks() && entry.position < kSinkPositions) {
    if (!sinks_.Reserve(i + 1)) return false;
    sinks_.Append(entry.k, entry.v);
  }
  if (!recent_.empty()) {
    if (!recent_.Reserve(i + 1)) return false;
    recent_.Append(entry.k, entry.v);
  }
  return true;
}

// Kept and merged entries in the order of their positions.
std::vector<KvHead::Source> KvHead::Interleave(
    std::span<const int> kept, std::span<const MergedEntry> merged) const {
  std::vector<Source> order;
  order.reserve(kept.size() + merged.size());
  auto next = merged.begin();
  for (int i : kept) {
    for (; next != merged.end() && next->position < sides_.position(i);
         ++next) {
      order.push_back({-1, &*next});
    }
    order.push_back({i, nullptr});
  }
  for (; next != merged.end(); ++next) order.push_back({-1, &*next});
  return order;
}

EntrySides KvHead::SidesOf(const std::vector<Source>& order) const {
  EntrySides sides;
  ReserveSide(order.size(), &sides.positions);
  ReserveSide(order.size(), &sides.bias);
  if (!sides_.scores.empty()) ReserveSide(order.size(), &sides.scores);
  if (!sides_.rope.empty()) ReserveSide(order.size(), &sides.rope);
  for (const auto& [i, merged] : order) {
    sides.positions.push_back(merged ? merged->position : sides_.position(i));
    sides.bias.push_back(merged                ? merged->bias
                         : sides_.bias.empty() ? 0.0f
                                               : sides_.bias[i]);
    if (!sides_.scores.empty()) {
      sides.scores.push_back(merged ? merged->score : sides_.scores[i]);
    }
    if (!sides_.rope.empty()) {
      sides.rope.push_back(merged ? merged->rope : sides_.rope[i]);
    }
  }
  sides.length = static_cast<int32_t>(order.size());
  sides.base = sides.positions.front();
  sides.TrimPositions();
  return sides;
}

// Builds the head anew: merged entries stand between kept ones, so nearly all
// of them move.
Status KvHead::Merge(std::span<const int> kept,
                     std::span<const MergedEntry> merged) {
  const std::vector<Source> order = Interleave(kept, merged);
  KvHead built(pool_, format_);
  built.key_rounding_ = key_rounding_;
  built.tensor_scales_ = tensor_scales_;
  built.seen_ = seen_;
  built.sides_ = SidesOf(order);
  if (!built.base_.Reserve(built.length())) return OutOfMemory();
  const size_t d = format_.head_dim;
  std::vector<float> keys(format_.channel ? order.size() * d : 0);
  const HeadSegments segments = Segments();
  for (size_t i = 0; i < order.size(); ++i) {
    const auto& [from, entry] = order[i];
    if (!(entry != nullptr ? built.AppendMerged(*entry)
                           : built.AppendCopy(*this, from))) {
      return OutOfMemory();
    }
    if (!format_.channel) continue;
    if (entry != nullptr) {
      std::copy(entry->k, entry->k + d, keys.begin() + i * d);
    } else {
      segments.Load(from, &keys[i * d], nullptr);
    }
  }
  built.CodeLast(keys);
  built.top_.Trim();
  built.ReleaseAged();
  *this = std::move(built);
  return {};
}

// Keys are rotated as f32 and stored again, quantised ones with new codes and
// scales: each time costs them another rounding.
Status KvHead::Renumber(int first, const Rotation& rope) {
  if (!base_.MakeOwn() || !MakeOverlaysOwn()) return OutOfMemory();
  const size_t d = format_.head_dim;
  std::vector<float> table(2 * rope.pairs()), k(d), v(d);
  std::vector<float> keys;  // by channel
  const HeadSegments segments = Segments();
  int table_for = 0;  // nothing is rotated by 0
  bool moved = false;
  for (int i = 0; i < length(); ++i) {
    const int delta = first + i - sides_.rotated_for(i);
    if (delta == 0 && !format_.channel) continue;
    segments.Load(i, k.data(), v.data());
    if (delta != 0 && delta != table_for) {
      RopeTable(rope.inv_freq.data(), rope.pairs(), delta, 1.0f, table.data());
      table_for = delta;
    }
    if (delta != 0) {
      moved = true;
      ApplyRope(table.data(), rope.pairs(), rope.neox, 1, format_.head_dim,
                k.data());
      Store(i, k.data(), v.data());
    }
    if (format_.channel) keys.insert(keys.end(), k.begin(), k.end());
  }
  if (moved) CodeLast(keys);
  ReserveSide(length(), &sides_.rope);
  sides_.rope.resize(length());
  std::iota(sides_.rope.begin(), sides_.rope.end(), first);
  return {};
}

void KvHead::DropBefore(int position) {
  const int before = sides_.LowerBound(position);
  const int pages = before == length() ? static_cast<int>(base_.pages().size())
                                       : before / kPageEntries;
  if (pages == 0) return;
  const int entries = std::min(pages * kPageEntries, length());
  base_.DropFront(pages);
  sinks_.DropFront(entries);
  recent_.DropFront(entries);
  top_.DropFront(entries);
  sides_.DropFront(entries);
  coded_ = std::max(coded_ - entries, 0);
  ReleaseAged();
}

}  // namespace pyramidkv
