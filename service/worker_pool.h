// A few threads and one queue: work that must run neither on gRPC's threads, which move everybody's
// bytes, nor on the engine's.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "scheduler/mutex.h"

namespace lorc {

class WorkerPool {
 public:
  explicit WorkerPool(int num_threads);
  // Runs what was posted, then joins. Nothing may be posted any more, but by tasks.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Any thread; does not wait. Tasks start in order.
  void Post(std::function<void()> task);

 private:
  void Run();

  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace lorc
