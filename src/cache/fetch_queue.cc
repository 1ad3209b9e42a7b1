#include "cache/fetch_queue.h"

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace pyramidkv {

void FetchQueue::Stopwatch::Enter() {
  if (count++ == 0) since = Clock::now();
}

void FetchQueue::Stopwatch::Leave() {
  if (--count == 0) sum += Clock::now() - since;
}

FetchQueue::FetchQueue(int threads) {
  for (int t = 0; t < threads; ++t) threads_.emplace_back([this] { Work(); });
}

FetchQueue::~FetchQueue() {
  {
    std::lock_guard lock(mutex_);
    DCHECK(jobs_.empty() && reading_.count == 0);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void FetchQueue::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    ReadNext(jobs_.front(), &lock);
  }
}

void FetchQueue::Unlist(ReadJob* job) {
  const auto found = std::find(jobs_.begin(), jobs_.end(), job);
  if (found != jobs_.end()) jobs_.erase(found);
}

void FetchQueue::ReadNext(ReadJob* job, std::unique_lock<std::mutex>* lock) {
  ReadJob::Run* const run = &job->runs[job->next++];
  if (job->next == job->runs.size()) Unlist(job);
  lock->unlock();
  run->error = run->file->Read(
      run->offset, std::span(job->pieces).subspan(run->first, run->count));
  lock->lock();
  if (--job->left > 0) return;
  // Who waits may wake up much later; that is no time of the disk's.
  if (job->waited) stalled_.Leave();
  reading_.Leave();
  done_.notify_all();
}

void FetchQueue::Start(ReadJob* job) {
  if (job->runs.empty()) return;
  std::lock_guard lock(mutex_);
  job->next = 0;
  job->left = static_cast<uint32_t>(job->runs.size());
  job->waited = false;
  jobs_.push_back(job);
  reading_.Enter();
  const size_t most = std::min(job->runs.size(), threads_.size());
  for (size_t i = 0; i < most; ++i) work_.notify_one();
}

void FetchQueue::Wait(ReadJob* job) {
  std::unique_lock lock(mutex_);
  if (job->left == 0) return;
  job->waited = true;
  stalled_.Enter();
  while (job->next < job->runs.size()) ReadNext(job, &lock);
  done_.wait(lock, [job] { return job->left == 0; });
}

void FetchQueue::Cancel(ReadJob* job) {
  std::unique_lock lock(mutex_);
  if (job->left == 0) return;
  Unlist(job);
  for (; job->next < job->runs.size(); ++job->next, --job->left) {
    job->runs[job->next].error = ECANCELED;
  }
  if (job->left == 0) return reading_.Leave();
  done_.wait(lock, [job] { return job->left == 0; });
}

FetchTimes FetchQueue::times() const {
  std::lock_guard lock(mutex_);
  const auto seconds = [](Clock::duration d) {
    return std::chrono::duration<double>(d).count();
  };
  return {seconds(reading_.sum), seconds(stalled_.sum)};
}

}  // namespace pyramidkv
