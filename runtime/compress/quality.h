// What decides between KV plans: everything that is measured of a model under a plan, and how it
// differs from the uncompressed model on the same texts.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/compress/agreement.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/evaluate.h"
#include "runtime/compress/interval.h"
#include "runtime/compress/multiple_choice.h"
#include "runtime/compress/recall.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct QualityOptions {
  EvaluationOptions evaluation;
  std::vector<int32_t> recall_distances;   // tokens; none: not measured
  std::vector<EncodedQuestion> questions;  // none: not measured
  int32_t agreement_tokens = 0;            // 0: not measured
};

struct Quality {
  int64_t bytes_per_token = 0;
  int64_t exact_bytes_per_sequence = 0;  // of a sequence of one window
  Evaluation evaluation;
  std::vector<DistanceRecall> distances;  // in the order of the options
  std::optional<ChoiceScores> choices;
  std::optional<Agreement> agreement;
};

// Measures the uncompressed model first, then plans. Runs them by MakeOfflineModel, one at a time.
class QualityMeter {
 public:
  // INVALID_ARGUMENT where an option does not fit the model's context or the text. `backend` and
  // `checkpoint` outlive the meter.
  static absl::StatusOr<QualityMeter> Make(Backend& backend, const Checkpoint& checkpoint,
                                           DType weight_type, std::vector<TokenId> tokens,
                                           QualityOptions options);

  absl::StatusOr<Quality> MeasureUncompressed(const StageProgress& stage);

  // After MeasureUncompressed, whose continuations are what a plan's agreement is with.
  absl::StatusOr<Quality> Measure(const KvPlan& plan, const StageProgress& stage) const;

 private:
  QualityMeter(Backend& backend, const Checkpoint& checkpoint, DType weight_type,
               std::vector<TokenId> tokens, QualityOptions options);

  DistanceOptions Distances() const;
  AgreementOptions AgreementOf() const;
  int32_t LongestTokens() const;
  absl::StatusOr<std::unique_ptr<ModelExecutor>> Open(const KvPlan& plan,
                                                      const StageProgress& stage) const;
  absl::StatusOr<Quality> Measure(ModelExecutor& executor, const KvPlan& plan,
                                  const StageProgress& stage) const;

  Backend* backend_;
  const Checkpoint* checkpoint_;
  DType weight_type_;
  std::vector<TokenId> tokens_;
  QualityOptions options_;
  std::vector<Continuation> continuations_;  // by the uncompressed model
};

// A plan against the uncompressed model. Perplexity: with d the paired differences of the windows'
// negative log-likelihoods (interval.h), the relative change is exp(mean d) - 1, and its interval
// that of the mean, through the same function.
struct QualityChange {
  Estimate perplexity;               // relative: 0.01 is +1 %
  std::optional<Estimate> recall;    // nats
  std::vector<Estimate> distances;   // nats, as Quality::distances
  std::vector<double> position_nll;  // nats, as Evaluation::position_nll
  std::optional<Estimate> accuracy;  // shares
  std::optional<Estimate> normalised_accuracy;
  std::optional<Estimate> same_pick;  // share of questions picked as the uncompressed model does
};
QualityChange Compare(const Quality& uncompressed, const Quality& plan);

struct ChoiceAccuracy {
  Estimate accuracy;  // shares
  Estimate normalised;
};
ChoiceAccuracy AccuracyOf(const ChoiceScores& scores);

}  // namespace lorc
