#include "base/thread_pool.h"

#include <chrono>

#include "base/futex.h"
#include "base/processor_loan.h"

namespace pyramidkv {
namespace {

using std::chrono::microseconds;

constexpr microseconds kSpinForJob(200);
constexpr microseconds kSpinForItem(30);
constexpr microseconds kStandstill(20);
constexpr uint32_t kCallerSleeps = 1u << 31;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until done() or until the time is over; true when done.
template <typename Done>
bool SpinUntil(microseconds time, const Done& done) {
  const auto end = std::chrono::steady_clock::now() + time;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      Pause();
    }
    if (std::chrono::steady_clock::now() > end) return done();
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads, std::function<void(int)> init)
    : ranges_(threads), init_(std::move(init)) {
  if (init_) init_(0);
  workers_.reserve(threads - 1);
  times_.resize(threads - 1);
  for (int i = 1; i < threads; ++i) {
    workers_.emplace_back([this, i] { WorkerLoop(i); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1);
  FutexWakeAll(&generation_);
  for (std::thread& t : workers_) t.join();
}

// Takes items until there are none; how many it did.
int ThreadPool::Work(int worker) {
  int done = 0;
  const auto take_all = [&](const auto& take) {
    while (const std::optional<int> item = take()) {
      call_(task_, *item, worker);
      ++done;
    }
  };
  const int ranges = static_cast<int>(ranges_.size());
  take_all([&] { return shared_.TakeFirst(); });
  take_all([&] { return ranges_[worker].TakeFirst(); });
  for (int r = worker + 1; r < worker + ranges; ++r) {
    take_all([&] { return ranges_[r % ranges].TakeLast(); });
  }
  return done;
}

void ThreadPool::Run() {
  generation_.fetch_add(1, std::memory_order_seq_cst);
  // Whoever has not counted itself as sleeping sees the new generation.
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    FutexWakeAll(&generation_);
  }
  Finish(Work(0));
  AwaitItems();
}

// After this a worker must not look at the job.
void ThreadPool::Finish(int items) {
  if (items == 0) return;
  const uint32_t before =
      unfinished_.fetch_sub(items, std::memory_order_acq_rel);
  if (before == (kCallerSleeps | items)) FutexWakeAll(&unfinished_);
}

// A worker that has an item and no processor, or -1. Watches for kStandstill,
// or until done().
template <typename Done>
int ThreadPool::StalledWorker(const Done& done) {
  const int count = static_cast<int>(workers_.size());
  for (int i = 0; i < count; ++i) {
    times_[i] = ProcessorTime(workers_[i].native_handle());
  }
  if (SpinUntil(kStandstill, done)) return -1;
  for (int i = 0; i < count; ++i) {
    if (!ranges_[i + 1].at_work.load(std::memory_order_relaxed)) continue;
    if (ProcessorTime(workers_[i].native_handle()) == times_[i]) return i;
  }
  return -1;
}

// The others are in the middle of their last items, or were stopped there.
void ThreadPool::AwaitItems() {
  const auto done = [this] {
    return unfinished_.load(std::memory_order_acquire) == 0;
  };
  if (done() || SpinUntil(kSpinForItem, done)) return;
  std::optional<ProcessorLoan> loan;
  if (const int stalled = StalledWorker(done); stalled >= 0) {
    loan.emplace(workers_[stalled].native_handle());
  }
  if (done()) return;
  uint32_t left =
      unfinished_.fetch_or(kCallerSleeps, std::memory_order_acq_rel);
  for (left |= kCallerSleeps; left != kCallerSleeps;
       left = unfinished_.load(std::memory_order_acquire)) {
    FutexWait(&unfinished_, left);
  }
}

void ThreadPool::WorkerLoop(int worker) {
  if (init_) init_(worker);
  uint32_t seen = 0;
  for (;;) {
    const auto raised = [this, seen] {
      return generation_.load(std::memory_order_acquire) != seen;
    };
    if (!SpinUntil(kSpinForJob, raised)) {
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      while (generation_.load(std::memory_order_seq_cst) == seen) {
        FutexWait(&generation_, seen);
      }
      sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    std::atomic<bool>* const at_work = &ranges_[worker].at_work;
    at_work->store(true, std::memory_order_relaxed);
    const int items = Work(worker);
    at_work->store(false, std::memory_order_relaxed);
    Finish(items);
  }
}

}  // namespace pyramidkv
