// The smallest plan within a limit of quality: predicted losses say where to look, measurements
// decide.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/statusor.h"

namespace lorc {

struct QualityLimit {
  double max_perplexity_increase = 0.01;      // relative
  std::optional<double> max_recall_increase;  // nats
};

// What a plan of so many bytes costs, measured.
struct MeasuredCost {
  double loss = 0;    // nats per token above the uncompressed model's
  double recall = 0;  // nats above the uncompressed model's
};

struct PlanSearch {
  int64_t least_bytes = 0, most_bytes = 0;                       // per token
  std::function<absl::StatusOr<double>(int64_t bytes)> predict;  // any unit; falls with the bytes
  std::function<absl::StatusOr<MeasuredCost>(int64_t bytes)> measure;
  int32_t max_measurements = 7;
};

// Bytes per token of the smallest plan that was measured and keeps the limit; within 3 % of the
// smallest that does, as far as measurements reach. Each measurement corrects the prediction's
// scale. FAILED_PRECONDITION where none keeps it: says what the largest plan costs.
absl::StatusOr<int64_t> SmallestBytes(const PlanSearch& search, const QualityLimit& limit);

}  // namespace lorc
