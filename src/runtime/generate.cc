// Session::Generate: an answer (text/answer.h), its tokens decoded one after
// the other.

#include <algorithm>
#include <limits>

#include "runtime/session.h"

namespace pyramidkv {

Result<std::unique_ptr<Answer>> SessionImpl::BeginAnswer(
    const GenerateOptions& options) const {
  PKV_RETURN_IF_ERROR(CheckTokens(options.forced));
  if (logits_.empty()) return Status::Usage("nothing was read to answer from");
  // Unbounded only where positions are.
  return Answer::Begin(
      options, *parts_.tokenizer,
      sequence_.renumbers() ? std::numeric_limits<int>::max() : context_size_);
}

// The rows of forced tokens are known, so up to kMaxRows go at once.
Status SessionImpl::AddForced(Answer* answer) {
  const size_t vocabulary = logits_.size();
  std::vector<float> rows, before;
  while (!answer->forced().empty() && !answer->Cancelled()) {
    const std::span<const int> forced = answer->forced();
    const auto part = forced.first(std::min(RowsAtOnce(), forced.size()));
    before = logits_;
    PKV_RETURN_IF_ERROR(DecodeOwnRows(part, &rows));
    for (size_t r = 0; r < part.size(); ++r) {
      PKV_RETURN_IF_ERROR(answer->Next(before).status());
      const auto row = rows.begin() + r * vocabulary;
      before.assign(row, row + vocabulary);
    }
  }
  return {};
}

Result<Generation> SessionImpl::Generate(const GenerateOptions& options) {
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Answer> answer,
                       BeginAnswer(options));
  PKV_RETURN_IF_ERROR(AddForced(answer.get()));
  std::vector<float> rows;
  while (answer->forced().empty()) {
    PKV_ASSIGN_OR_RETURN(const std::optional<int> id, answer->Next(logits_));
    if (!id || !HasRoom()) break;
    PKV_RETURN_IF_ERROR(DecodeOwnRows({&*id, 1}, &rows));
  }
  return answer->Finish();
}

}  // namespace pyramidkv
