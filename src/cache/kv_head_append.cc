// How entries come into a KvHead.

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "cache/kv_head.h"

namespace pyramidkv {

// Rows at the first positions.
int KvHead::SinksAmong(int position, const EntryRows& rows) const {
  int sinks = 0;
  while (format_.has_sinks() && sinks < rows.count &&
         position + rows[sinks] < kSinkPositions) {
    ++sinks;
  }
  return sinks;
}

// The first row that is a recent entry once all of them are there; where that
// is not the first of all, no older entry is one.
int KvHead::FirstRecentRow(int position, const EntryRows& rows,
                           int seen) const {
  if (format_.recent_positions() == 0) return rows.count;
  const int oldest =
      position + seen - format_.recent_positions() - kRecentSlack;
  int first = 0;
  while (first < rows.count && position + rows[first] < oldest) ++first;
  if (!format_.channel) return first;
  const int grown = std::max(length() + rows.count - kRecentSlack, 0);
  return std::min(first, std::max(format_.FirstWaiting(grown) - length(), 0));
}

// In pages of our own for all rows, the first `sinks` as sinks, those from
// `first_recent` on as recent ones.
Status KvHead::MakeRoom(const EntryRows& rows, int sinks, int first_recent) {
  const int first = length(), end = first + rows.count;
  const bool anew = first_recent > 0 || recent_.empty();
  RangeOverlay newer(pool_, recent_.run().format());
  newer.Restart(first + first_recent);
  RangeOverlay* const recent = anew ? &newer : &recent_;
  if (!sinks_.Reserve(sinks_.end() + sinks) || !base_.Reserve(end) ||
      !recent->Reserve(end)) {
    sinks_.mutable_run()->Shrink(sinks_.run().size());
    base_.Shrink(base_.size());
    return OutOfMemory();
  }
  if (anew) recent_ = std::move(newer);
  return {};
}

Status KvHead::Append(int position, const EntryRows& rows, int seen,
                      int rope_shift) {
  if (seen == 0) return {};
  DCHECK(position >= seen_);
  if (rows.count > 0) {
    const int before = length();
    const int sinks = SinksAmong(position, rows);
    const int recent = FirstRecentRow(position, rows, seen);
    const std::vector<float> waiting = WaitingKeys(rows.count);
    PKV_RETURN_IF_ERROR(FitTensorScales(rows));
    PKV_RETURN_IF_ERROR(MakeRoom(rows, sinks, recent));
    sides_.Append(position, rows.rows, rows.count, rope_shift);
    base_.Add(rows.count);
    for (int i = 0; i < rows.count; ++i) {
      const size_t offset = rows[i] * rows.stride;
      const float *const k = rows.k + offset, *const v = rows.v + offset;
      base_.Store(before + i, k, v, rounding());
      if (i < sinks) sinks_.Append(k, v);
      if (i >= recent) recent_.Append(k, v);
    }
    CodeRows(before, waiting, rows);
  }
  seen_ = position + seen;
  ReleaseAged();
  return {};
}

// Pages of recent entries that no row will read there.
void KvHead::ReleaseAged() {
  if (recent_.empty()) return;
  int oldest =
      sides_.LowerBound(seen_ - format_.recent_positions() - kRecentSlack);
  if (format_.channel) {
    const int shorter = std::max(length() - kRecentSlack, 0);
    oldest = std::min(oldest, format_.FirstWaiting(shorter));
  }
  recent_.ReleaseBefore(oldest);
}

}  // namespace pyramidkv
