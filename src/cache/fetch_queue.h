// Reads of blocks by threads of their own, while their owner computes.
//
// A job is what one Select of a head needs. Its runs are read in any order by
// any of the threads; who waits for a job helps with it.
//
// Thread safety: all functions may be called from any thread; a job belongs to
// one owner.

#ifndef PYRAMIDKV_CACHE_FETCH_QUEUE_H_
#define PYRAMIDKV_CACHE_FETCH_QUEUE_H_

#include <sys/uio.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "cache/block_file.h"

namespace pyramidkv {

// Filled by its owner, who leaves it alone from Start until Wait or Cancel
// returns.
struct ReadJob {
  // Adjacent in the file: one read into several pieces.
  struct Run {
    const BlockFile* file = nullptr;  // outlives the job
    int64_t offset = 0;
    uint32_t first = 0;  // of pieces
    uint32_t count = 0;
    int error = 0;  // errno, after Wait; ECANCELED after Cancel
  };

  std::vector<iovec> pieces;
  std::vector<Run> runs;

  // Guarded by the queue's mutex.
  uint32_t next = 0;    // run to begin with
  uint32_t left = 0;    // runs not finished
  bool waited = false;  // somebody stands in Wait
};

struct FetchTimes {
  double read_seconds = 0;   // time during which any job was under way
  double stall_seconds = 0;  // time of it during which anybody waited for one
};

class FetchQueue {
 public:
  // threads: may be 0; then who waits reads.
  explicit FetchQueue(int threads);
  ~FetchQueue();  // REQUIRES: no job is under way.
  FetchQueue(const FetchQueue&) = delete;
  FetchQueue& operator=(const FetchQueue&) = delete;

  void Start(ReadJob* job);
  // Until all of a job is read.
  void Wait(ReadJob* job);
  // The same, but does not begin what nobody has begun yet.
  void Cancel(ReadJob* job);

  FetchTimes times() const;

 private:
  using Clock = std::chrono::steady_clock;

  // Wall time during which a count is above 0.
  struct Stopwatch {
    void Enter();
    void Leave();
    int count = 0;
    Clock::time_point since;
    Clock::duration sum{};
  };

  void Work();
  // Reads one run that nobody has begun. `lock` is held before and after.
  void ReadNext(ReadJob* job, std::unique_lock<std::mutex>* lock);
  void Unlist(ReadJob* job);

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable work_;
  std::condition_variable done_;
  std::deque<ReadJob*> jobs_;  // with runs that nobody has begun
  Stopwatch reading_;
  Stopwatch stalled_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_FETCH_QUEUE_H_
