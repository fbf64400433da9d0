// From a checkpoint to a measured KV plan, the whole line of `lorc compress`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/compress/build_plan.h"
#include "runtime/compress/evaluate.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

// Reads a text file for calibration or evaluation. INVALID_ARGUMENT where it is empty or not UTF-8.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

struct CompressRequest {
  CompressionOptions options;
  std::string text;                  // calibration text; empty: the model writes its own, but for
                                     // method full, whose plan is then not measured
  int32_t window = 1024;             // tokens
  int32_t calibration_windows = 15;  // at most; spread evenly over the text
  int32_t measure_windows = 8;       // at most, none of those that were used for calibration
  DType weight_type = DType::kBf16;
  uint64_t seed = 0;
};

struct CompressResult {
  KvPlan plan;
  std::vector<LayerRanks> ranks;      // before rounding
  std::vector<double> log_condition;  // ln(kappa(W_k) kappa(W_v)) per layer; full: empty
  Evaluation full, compressed;        // on the windows kept for measuring
};

// `stage(name, share)` tells what is being done and how far it is.
using StageProgress = std::function<void(const std::string& name, double share)>;

// Deterministic. FAILED_PRECONDITION where the text has too few windows.
absl::StatusOr<CompressResult> Compress(Backend& backend, const Checkpoint& checkpoint,
                                        const Tokenizer& tokenizer, const CompressRequest& request,
                                        const StageProgress& stage);

// What to tell the user of a plan's measured loss: a sentence, and whether it is a warning.
struct Verdict {
  bool warning = false;
  std::string text;
};
Verdict JudgePlan(const PlanMeasurement& measured);

}  // namespace lorc
