// From a checkpoint to a measured KV plan, the whole line of `lorc compress`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/compress/build_plan.h"
#include "runtime/compress/calibration_text.h"
#include "runtime/compress/evaluate.h"
#include "runtime/compress/plan_candidates.h"
#include "runtime/compress/plan_search.h"
#include "runtime/compress/stage_progress.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct CompressRequest {
  CompressionOptions options;
  std::optional<QualityLimit> limit;  // finds options.bytes_per_token
  // Finds options.keys, anchor and exact_window, for the bytes that the options as they are would
  // take; not with a limit.
  std::optional<CandidateSearch> search;
  std::string text;  // calibration text; empty: the model writes its own, but for
                     // a full cache, which is then not measured
  // Tokens; 0: 1,024, for method loss the longest of 1,024 to 4,096 that the text has enough of
  // (LongestWindow); no more than the model's context.
  int32_t window = 0;
  // Windows longer than 1,024 tokens count for several (WindowsInPlaceOf).
  int32_t calibration_windows = 15;  // at most; spread evenly over the text
  int32_t gradient_windows = 8;      // of those, at most, for methods that need gradients
  int32_t measure_windows = 8;       // at most, none of those that were used for calibration
  DType weight_type = DType::kBf16;
  uint64_t seed = 0;
  // A file that statistics are saved to on the way, so that an interrupted run goes on and one of
  // another size need not gather them again (StatisticsOptions::resume_path); empty: none. Text
  // that the model writes is kept beside it, with ".text" after its name.
  std::string statistics_path;
};

// Resolves the window and the numbers of windows for a text of so many tokens; the options' method
// is a known one.
void ChooseWindows(int64_t text_tokens, int32_t context_length, CompressRequest* request);

struct CompressResult {
  KvPlan plan;
  std::vector<LayerRanks> ranks;            // before rounding, of a rank rule
  std::vector<double> log_condition;        // ln(kappa(W_k) kappa(W_v)) per layer
  Evaluation full, compressed;              // on the windows kept for measuring
  std::vector<KvPlanCandidate> candidates;  // of a search
};

// Deterministic. FAILED_PRECONDITION where the text has too few windows, the bytes or the limit
// cannot be met, or the files of statistics_path are another run's.
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
