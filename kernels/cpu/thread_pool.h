// A fixed set of threads that run loops for one caller at a time.
//
// Threads spin for a short time between loops (a step is hundreds of small loops) and sleep after
// that. The caller takes part and waits for indices, not for threads: a thread that is late,
// because it sleeps or the machine is busy, costs nothing unless it holds an index. Which thread
// runs which index is not defined; results must not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace lorc {

// Cores that the process may run on, or fewer where its control group has a quota (version 2, as a
// container sees its own): more threads than that would only wait for each other.
int AvailableCores();

class ThreadPool {
 public:
  // `num_threads` >= 1 counts the caller.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(index, thread) for every index in [0, count), count < 2^31, thread in [0,
  // num_threads); returns when all are done. Not reentrant; one caller at a time.
  template <typename Body>
  void ParallelFor(int64_t count, const Body& body) {
    if (count <= 0) return;
    if (num_threads_ == 1 || count == 1) {
      for (int64_t i = 0; i < count; ++i) body(i, 0);
      return;
    }
    Run(
        count,
        [](const void* context, int64_t i, int thread) {
          (*static_cast<const Body*>(context))(i, thread);
        },
        &body);
  }

 private:
  using Invoke = void (*)(const void* context, int64_t index, int thread);

  void Run(int64_t count, Invoke invoke, const void* context);
  void WorkerLoop(int thread);
  void TakeIndices(uint32_t loop, int thread);

  const int num_threads_;
  std::vector<std::thread> workers_;

  // The loop's number (upper half) and its next index. An index is claimed by exchanging the whole,
  // so that a late thread can't claim one of a loop that it has not seen. Between loops the index
  // is kClosed.
  static constexpr uint32_t kClosed = 0xffffffff;
  alignas(64) std::atomic<uint64_t> ticket_{kClosed};
  alignas(64) std::atomic<int64_t> num_done_{0};

  // Of the loop that runs; they change only while the ticket is closed.
  alignas(64) std::atomic<int64_t> count_{0};
  std::atomic<Invoke> invoke_{nullptr};
  std::atomic<const void*> context_{nullptr};

  alignas(64) std::atomic<uint32_t> wake_{0};  // raised for every loop, and once more to stop
  std::atomic<bool> stop_{false};
};

}  // namespace lorc
