#include "base/thread_pool.h"

#include <chrono>

namespace pyramidkv {
namespace {

constexpr auto kSpin = std::chrono::microseconds(200);

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until done() or until the spin time is over; true when done.
template <typename Done>
bool SpinUntil(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      Pause();
    }
    if (std::chrono::steady_clock::now() > end) return done();
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads, std::function<void()> init)
    : cursors_(threads), init_(std::move(init)) {
  if (init_) init_();
  for (int i = 1; i < threads; ++i) {
    workers_.emplace_back([this, i] { WorkerLoop(i); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::Work(Job* job, int worker) {
  for (;;) {
    const int i = job->next.fetch_add(1, std::memory_order_relaxed);
    if (i >= job->count) return;
    job->call(job->task, i, worker);
  }
}

void ThreadPool::Run(Job* job) {
  job_ = job;
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    // The lock orders this after a worker's last look at generation_.
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  Work(job, 0);
  // The others finish within one item. With more threads than processors
  // the one we wait for may need ours: yield, never a busy wait for good.
  const auto done = [this] {
    return running_.load(std::memory_order_acquire) == 0;
  };
  while (!SpinUntil(done)) std::this_thread::yield();
}

void ThreadPool::WorkerLoop(int worker) {
  if (init_) init_();
  uint64_t seen = 0;
  for (;;) {
    const auto raised = [this, seen] {
      return generation_.load(std::memory_order_acquire) != seen;
    };
    if (!SpinUntil(raised)) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [this, seen] {
        return generation_.load(std::memory_order_seq_cst) != seen;
      });
      sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
    ++seen;
    if (stop_.load()) return;
    Work(job_, worker);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace pyramidkv
