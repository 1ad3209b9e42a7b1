#include "runtime/prompt_reader.h"

#include <algorithm>
#include <utility>

namespace pyramidkv {
namespace {

// Tokens of a streamed prompt that are read at once: enough that compressing
// after each chunk costs little, and whole tiles for many numbers of threads.
constexpr size_t kStreamingChunk = 24 * kPromptTile;

}  // namespace

PromptReader::PromptReader(const EngineParts& parts,
                           std::span<SessionImpl* const> sessions,
                           std::span<const int> tokens)
    : parts_(parts),
      sessions_(sessions.begin(), sessions.end()),
      tokens_(tokens.begin(), tokens.end()),
      chunk_(tokens.size()),
      first_(sessions[0]->position() == 0),
      end_(sessions[0]->position() + static_cast<int>(tokens.size())) {
  const Compressor& compressor = sessions[0]->sequence()->compressor;
  if (compressor.spec().prefill == PrefillKind::kStreaming) {
    chunk_ = std::min(chunk_, kStreamingChunk);
  }
}

PromptReader::~PromptReader() {
  if (complete()) return;
  for (SessionImpl* s : sessions_) s->DropPrompt(first_);
}

Status PromptReader::BeginPart() {
  const bool repeats =
      std::any_of(sessions_.begin(), sessions_.end(), [](SessionImpl* s) {
        return s->sequence()->compressor.needs().repetition;
      });
  if (repeats && repeat_.empty()) {
    PKV_ASSIGN_OR_RETURN(repeat_, SessionImpl::RepeatTokens(parts_));
  }
  std::vector<Sequence*> sequences;
  for (SessionImpl* s : sessions_) sequences.push_back(s->sequence());
  part_ = std::min(chunk_, tokens_.size() - read_);
  pass_.emplace(parts_.context,
                std::span<const int>(tokens_).subspan(read_, part_), sequences,
                repeat_, &work_);
  return pass_->Begin(end_);
}

Result<bool> PromptReader::Step() {
  PKV_ASSIGN_OR_RETURN(const bool complete_part, pass_->Step());
  for (SessionImpl* s : sessions_) s->NotePeak();
  if (!complete_part) return false;
  std::vector<float> logits(parts_.context.model->params().vocabulary);
  parts_.decode->Output(pass_->last_hidden(), 1, logits.data());
  if (!AllFinite(logits)) {
    return Status::Runtime(
        "the model gave logits that are not numbers after the prompt");
  }
  read_ += part_;
  if (!complete()) {
    PKV_RETURN_IF_ERROR(BeginPart());
    return false;
  }
  for (SessionImpl* s : sessions_) s->TakePrompt(tokens_, logits);
  return true;
}

// Parts of a prompt count by their tokens.
int64_t PromptReader::done() const {
  return static_cast<int64_t>(read_) * RowSteps() + pass_->done();
}

int64_t PromptReader::total() const {
  return static_cast<int64_t>(tokens_.size()) * RowSteps();
}

int64_t PromptReader::RowSteps() const {
  return pass_->total() / static_cast<int64_t>(part_);
}

}  // namespace pyramidkv
