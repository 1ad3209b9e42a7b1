#include "runtime/scheduler.h"

#include <algorithm>
#include <array>
#include <utility>

#include "fmt/format.h"
#include "kernels/matmul_rows.h"

namespace pyramidkv {
namespace {

constexpr int kMostSequences = 1024;

}  // namespace

Result<std::unique_ptr<Batch>> Scheduler::Create(const EngineParts& parts,
                                                 PagePool* pages,
                                                 const BatchOptions& options) {
  if (options.max_sequences < 1 || options.max_sequences > kMostSequences) {
    return Status::Usage(fmt::format("max_sequences is {}; it must be 1 to {}",
                                     options.max_sequences, kMostSequences));
  }
  if (options.memory_bytes < 0) {
    return Status::Usage("memory_bytes is below 0; 0 is no limit");
  }
  return std::unique_ptr<Batch>(new Scheduler(parts, pages, options));
}

Scheduler::~Scheduler() {
  TakeInbox();
  EndAll(Status::Cancelled());
}

Result<Batch::RequestId> Scheduler::Submit(BatchRequest request) {
  PKV_ASSIGN_OR_RETURN(std::unique_ptr<BatchJob> job,
                       BatchJob::Make(parts_, pages_, std::move(request)));
  const int64_t bytes = job->bytes().all();
  if (options_.memory_bytes > 0 && bytes > options_.memory_bytes) {
    return Status::DoesNotFit(fmt::format(
        "the request may take {} bytes, and all of them together {}: take a "
        "smaller budget, a shorter prompt or fewer tokens",
        bytes, options_.memory_bytes));
  }
  RequestId id = 0;
  {
    const std::lock_guard lock(mutex_);
    job->id = id = ++last_id_;
    submitted_.push_back(std::move(job));
    ++load_.waiting;
  }
  work_.notify_all();
  return id;
}

void Scheduler::Cancel(RequestId id) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
  }
  work_.notify_all();
}

bool Scheduler::Wait(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return work_.wait_for(lock, timeout, [this] {
    return !cancelled_.empty() || load_.waiting > 0 || load_.prompts > 0 ||
           load_.answers > 0;
  });
}

BatchLoad Scheduler::load() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

bool Scheduler::Step() {
  bool busy = TakeInbox();
  busy = Admit() || busy;
  if (!answers_.empty() && (prompts_.empty() || read_last_)) {
    read_last_ = false;
    DecodeAll();
    busy = true;
  } else if (!prompts_.empty()) {
    read_last_ = true;
    ReadOne();
    busy = true;
  }
  NoteLoad();
  return busy;
}

bool Scheduler::TakeInbox() {
  std::vector<RequestId> cancelled;
  {
    const std::lock_guard lock(mutex_);
    for (auto& job : submitted_) waiting_.push_back(std::move(job));
    submitted_.clear();
    cancelled = std::exchange(cancelled_, {});
  }
  bool any = false;
  for (const RequestId id : cancelled) any = CancelJob(id) || any;
  return any;
}

bool Scheduler::CancelJob(RequestId id) {
  const auto is_it = [id](const auto& job) { return job->id == id; };
  for (Jobs* jobs : {&prompts_, &answers_}) {
    const auto at = std::find_if(jobs->begin(), jobs->end(), is_it);
    if (at == jobs->end()) continue;
    EndAt(jobs, at - jobs->begin(), Status::Cancelled());
    return true;
  }
  const auto at = std::find_if(waiting_.begin(), waiting_.end(), is_it);
  if (at == waiting_.end()) return false;
  const std::unique_ptr<BatchJob> job = std::move(*at);
  waiting_.erase(at);
  job->End(Status::Cancelled());
  return true;
}

int64_t Scheduler::PlannedBytes() const {
  int64_t bytes = 0;
  for (const auto& job : prompts_) bytes += job->bytes().all();
  for (const auto& job : answers_) bytes += job->bytes().cache;
  return bytes;
}

bool Scheduler::Fits(const BatchJob& job) const {
  const size_t admitted = prompts_.size() + answers_.size();
  if (admitted >= static_cast<size_t>(options_.max_sequences)) return false;
  return options_.memory_bytes == 0 ||
         PlannedBytes() + job.bytes().all() <= options_.memory_bytes;
}

// Nothing overtakes the one that waits longest.
bool Scheduler::Admit() {
  bool any = false;
  while (!waiting_.empty() && Fits(*waiting_.front())) {
    any = true;
    std::unique_ptr<BatchJob> job = std::move(waiting_.front());
    waiting_.pop_front();
    const Status begun = job->Begin();
    Jobs* const jobs = job->reads() ? &prompts_ : &answers_;
    jobs->push_back(std::move(job));
    if (!begun.ok() || jobs->back()->complete()) {
      EndAt(jobs, jobs->size() - 1, begun);
    }
  }
  return any;
}

void Scheduler::EndAt(Jobs* jobs, size_t at, const Status& status) {
  const std::unique_ptr<BatchJob> job = std::move((*jobs)[at]);
  jobs->erase(jobs->begin() + static_cast<std::ptrdiff_t>(at));
  job->End(status);
}

void Scheduler::EndAll(const Status& status) {
  while (!answers_.empty()) EndAt(&answers_, 0, status);
  while (!prompts_.empty()) EndAt(&prompts_, 0, status);
  for (const auto& job : waiting_) job->End(status);
  waiting_.clear();
}

// The first in turn, which then goes to the end.
void Scheduler::ReadOne() {
  BatchJob* const job = prompts_.front().get();
  const Status read = job->Read();
  if (!read.ok() || job->complete()) return EndAt(&prompts_, 0, read);
  if (job->reads()) {
    std::rotate(prompts_.begin(), prompts_.begin() + 1, prompts_.end());
    return;
  }
  answers_.push_back(std::move(prompts_.front()));
  prompts_.erase(prompts_.begin());
}

void Scheduler::DecodeAll() {
  std::vector<Status> status(answers_.size());
  for (size_t i = 0; i < answers_.size(); i += kMaxRows) {
    const size_t count = std::min<size_t>(kMaxRows, answers_.size() - i);
    DecodeRows(std::span(answers_).subspan(i, count),
               std::span(status).subspan(i, count));
  }
  for (size_t i = answers_.size(); i-- > 0;) {
    if (!status[i].ok() || answers_[i]->complete()) {
      EndAt(&answers_, i, status[i]);
    }
  }
}

void Scheduler::DecodeRows(std::span<const std::unique_ptr<BatchJob>> jobs,
                           std::span<Status> status) {
  std::array<SessionImpl*, kMaxRows> sessions;
  std::array<int, kMaxRows> tokens;
  for (size_t i = 0; i < jobs.size(); ++i) {
    sessions[i] = jobs[i]->session();
    tokens[i] = jobs[i]->next();
  }
  SessionImpl::DecodeRows(parts_, {sessions.data(), jobs.size()},
                          {tokens.data(), jobs.size()}, &logits_, status);
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (status[i].ok()) status[i] = jobs[i]->Choose();
  }
}

void Scheduler::NoteLoad() {
  const std::lock_guard lock(mutex_);
  load_.waiting = static_cast<int>(waiting_.size() + submitted_.size());
  load_.prompts = static_cast<int>(prompts_.size());
  load_.answers = static_cast<int>(answers_.size());
  load_.bytes = PlannedBytes();
  load_.most_bytes = std::max(load_.most_bytes, load_.bytes);
}

}  // namespace pyramidkv
