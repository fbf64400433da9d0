// A histogram that many threads may write while one reads: no lock, so that a scrape never holds up
// the engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace lorc {

class Histogram {
 public:
  // `bounds`: upper bounds of the buckets, inclusive, rising; what is above the last one counts in
  // the sum and the count only.
  explicit Histogram(std::vector<double> bounds);

  void Observe(double value);

  // Counts are never torn; a value that arrives meanwhile may be in the sum and not in a bucket.
  struct Snapshot {
    std::vector<uint64_t> cumulative;  // [bounds.size()], values <= bound
    uint64_t count = 0;
    double sum = 0;
  };
  Snapshot Read() const;

  const std::vector<double>& bounds() const { return bounds_; }

 private:
  const std::vector<double> bounds_;
  const std::unique_ptr<std::atomic<uint64_t>[]> counts_;  // [bounds.size() + 1]
  std::atomic<double> sum_{0};
};

}  // namespace lorc
