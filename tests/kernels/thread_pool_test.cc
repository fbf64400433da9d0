#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace lorc {
namespace {

TEST(ThreadPoolTest, RunsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 2, 3, 100, 1000}) {
      std::vector<int> runs(count, 0);
      pool.ParallelFor(count, [&](int64_t i, int thread) {
        ASSERT_TRUE(thread >= 0 && thread < threads);
        ++runs[i];
      });
      EXPECT_EQ(std::accumulate(runs.begin(), runs.end(), int64_t{0}), count);
      for (const int n : runs) EXPECT_EQ(n, 1);
    }
  }
}

TEST(ThreadPoolTest, WakesAfterSleeping) {
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    int64_t sums[64] = {};
    pool.ParallelFor(64, [&](int64_t i, int) { sums[i] = i; });
    EXPECT_EQ(std::accumulate(sums, sums + 64, int64_t{0}), 63 * 64 / 2);
  }
}

TEST(ThreadPoolTest, ManySmallLoops) {
  ThreadPool pool(4);
  int64_t total = 0;
  for (int round = 0; round < 5000; ++round) {
    int64_t parts[4] = {};
    pool.ParallelFor(4, [&](int64_t i, int) { parts[i] = i + round; });
    total += parts[0] + parts[1] + parts[2] + parts[3];
  }
  EXPECT_EQ(total, 5000LL * 6 + 4LL * (4999LL * 5000 / 2));
}

}  // namespace
}  // namespace lorc
