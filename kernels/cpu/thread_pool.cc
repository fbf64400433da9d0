#include "kernels/cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "kernels/base/check.h"

namespace lorc {
namespace {

// Some tens of microseconds: longer than the serial work between two loops of a step.
constexpr int kSpins = 1000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

constexpr uint64_t Ticket(uint32_t loop, uint32_t index) { return uint64_t{loop} << 32 | index; }
constexpr uint32_t LoopOf(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }
constexpr uint32_t IndexOf(uint64_t ticket) { return static_cast<uint32_t>(ticket); }

}  // namespace

int AvailableCores() {
  cpu_set_t set;
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  std::ifstream file("/sys/fs/cgroup/cpu.max");  // "QUOTA PERIOD" in microseconds, or "max PERIOD"
  double quota = 0;
  double period = 0;
  if (file >> quota >> period && quota > 0 && period > 0) {
    cores = std::min(cores, static_cast<int>(std::ceil(quota / period)));
  }
  return std::max(1, cores);
}

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  LORC_CHECK_GE(num_threads, 1);
  workers_.reserve(num_threads - 1);
  for (int thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t count, Invoke invoke, const void* context) {
  LORC_CHECK_LT(count, int64_t{1} << 31);
  const uint32_t loop = LoopOf(ticket_.load(std::memory_order_relaxed)) + 1;
  // The ticket is closed since the last loop ended, so nobody can take what is written now for the
  // loop before.
  count_.store(count, std::memory_order_release);
  invoke_.store(invoke, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  num_done_.store(0, std::memory_order_relaxed);
  ticket_.store(Ticket(loop, 0), std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();
  TakeIndices(loop, 0);
  for (int spins = 0; true; ++spins) {
    const int64_t done = num_done_.load(std::memory_order_acquire);
    if (done == count) break;
    if (spins < kSpins) {
      Pause();
    } else {
      num_done_.wait(done, std::memory_order_acquire);
    }
  }
  ticket_.store(Ticket(loop, kClosed), std::memory_order_relaxed);
}

void ThreadPool::TakeIndices(uint32_t loop, int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (LoopOf(ticket) == loop && IndexOf(ticket) != kClosed) {
    const int64_t count = count_.load(std::memory_order_acquire);
    const Invoke invoke = invoke_.load(std::memory_order_acquire);
    const void* context = context_.load(std::memory_order_acquire);
    if (IndexOf(ticket) >= count) return;
    // Success means that the loop has not ended, so the fields that were read are its own.
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    invoke(context, IndexOf(ticket), thread);
    if (num_done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) num_done_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  uint32_t seen = 0;
  while (true) {
    uint32_t wake = wake_.load(std::memory_order_acquire);
    for (int spins = 0; wake == seen; ++spins) {
      if (spins < kSpins) {
        Pause();
      } else {
        wake_.wait(seen, std::memory_order_acquire);
      }
      wake = wake_.load(std::memory_order_acquire);
    }
    seen = wake;
    if (stop_.load(std::memory_order_relaxed)) return;
    TakeIndices(LoopOf(ticket_.load(std::memory_order_acquire)), thread);
  }
}

}  // namespace lorc
