#include "runtime/batch_job.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "runtime/context_size.h"

namespace pyramidkv {
namespace {

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace

Result<std::unique_ptr<BatchJob>> BatchJob::Make(const EngineParts& parts,
                                                 PagePool* pages,
                                                 BatchRequest request) {
  std::unique_ptr<BatchJob> job(new BatchJob(parts, std::move(request)));
  PKV_RETURN_IF_ERROR(job->OpenSession(pages));
  PKV_RETURN_IF_ERROR(job->FindPrompt());
  const std::vector<int>& prompt = job->request_.tokens;
  PKV_RETURN_IF_ERROR(job->session_->CheckTokens(prompt));
  const SessionImpl& session = *job->session_;
  if (prompt.empty() && session.logits().empty()) {
    return Status::Usage("the prompt is empty");
  }
  PKV_RETURN_IF_ERROR(
      Sampler::Make(job->request_.generate.sampling, *parts.tokenizer)
          .status());
  RequestSize size;
  size.before = session.position();
  size.prompt = static_cast<int>(prompt.size());
  const int asked = job->request_.generate.max_tokens;
  const int most = std::max(0, session.context_size() - size.before);
  size.answer = asked >= 0 ? std::min(asked, most) : most;
  PKV_ASSIGN_OR_RETURN(job->bytes_,
                       PlanRequest(job->session_->sequence()->compressor.spec(),
                                   parts.context, size));
  job->bytes_.cache =
      std::max(job->bytes_.cache, job->session_->sequence()->bytes());
  return job;
}

// A context of the request's, or a new session, which is opened once the
// engine's thread has time for it.
Status BatchJob::OpenSession(PagePool* pages) {
  is_new_ = request_.context == nullptr;
  if (!is_new_) {
    session_.reset(static_cast<SessionImpl*>(request_.context.release()));
    return {};
  }
  const SessionOptions& options = request_.session;
  PKV_ASSIGN_OR_RETURN(const CacheSpec spec, ParseCacheSpec(options.kv));
  PKV_RETURN_IF_ERROR(CheckAskedContextSize(options.context_size));
  session_ =
      std::make_unique<SessionImpl>(parts_, pages, spec, options.kv, options);
  return {};
}

// Tokens, of text or messages where they were not given.
Status BatchJob::FindPrompt() {
  if (!request_.tokens.empty()) return {};
  const Tokenizer& tokenizer = *parts_.tokenizer;
  if (!request_.messages.empty()) {
    if (!is_new_) {
      return Status::Usage(
          "messages begin a context, and the request has one: give the next "
          "turn as text or tokens");
    }
    request_.chat.add_assistant = true;
    PKV_ASSIGN_OR_RETURN(
        const ChatText chat,
        tokenizer.RenderChat(request_.messages, request_.chat));
    PKV_ASSIGN_OR_RETURN(request_.tokens,
                         tokenizer.TokenizeChat(chat, /*add_special=*/true));
  } else if (!request_.text.empty()) {
    PKV_ASSIGN_OR_RETURN(
        request_.tokens,
        tokenizer.Tokenize(request_.text, {.add_special = is_new_}));
  }
  return {};
}

Status BatchJob::Begin() {
  result_.queued_ms = MillisecondsSince(since_);
  since_ = Clock::now();
  if (is_new_) PKV_RETURN_IF_ERROR(session_->Open());
  result_.prompt_tokens = static_cast<int>(request_.tokens.size());
  if (request_.tokens.empty()) return BeginAnswer();
  SessionImpl* const session = session_.get();
  reader_ = std::make_unique<PromptReader>(
      parts_, std::span<SessionImpl* const>(&session, 1), request_.tokens);
  return reader_->Begin();
}

Status BatchJob::Read() {
  PKV_ASSIGN_OR_RETURN(const bool complete, reader_->Step());
  if (request_.on_prompt) {
    request_.on_prompt(complete ? reader_->total() : reader_->done(),
                       reader_->total());
  }
  if (!complete) return {};
  reader_.reset();
  result_.prompt_ms = MillisecondsSince(since_);
  return BeginAnswer();
}

Status BatchJob::BeginAnswer() {
  PKV_ASSIGN_OR_RETURN(answer_, session_->BeginAnswer(request_.generate));
  return Choose();
}

Status BatchJob::Choose() {
  PKV_ASSIGN_OR_RETURN(const std::optional<int> id,
                       answer_->Next(session_->logits()));
  complete_ = !id || !session_->HasRoom();
  next_ = id.value_or(0);
  return {};
}

void BatchJob::End(const Status& status) {
  const bool cancelled = status.code() == StatusCode::kCancelled;
  reader_.reset();
  result_.status = cancelled && answer_ != nullptr ? Status() : status;
  if (answer_ != nullptr) {
    if (cancelled) answer_->End("cancelled");
    result_.generation = answer_->Finish();
  }
  if (!result_.status.ok()) {
    result_.generation.finish_reason = cancelled ? "cancelled" : "";
    result_.generation.stop_reason = result_.generation.finish_reason;
  }
  if (session_->usable()) {
    result_.kv = session_->Report();
    result_.session = std::move(session_);
  }
  if (request_.on_done) request_.on_done(std::move(result_));
}

}  // namespace pyramidkv
