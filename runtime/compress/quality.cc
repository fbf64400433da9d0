#include "runtime/compress/quality.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/compress/offline_model.h"
#include "runtime/compress/option_error.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

int64_t CountEqual(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += a[i] == b[i] ? 1 : 0;
  return count;
}

Estimate AccuracyChange(const std::vector<int32_t>& before, const std::vector<int32_t>& after,
                        const std::vector<int32_t>& answers) {
  int64_t gained = 0;
  int64_t lost = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const bool was = before[i] == answers[i];
    const bool is = after[i] == answers[i];
    gained += is && !was ? 1 : 0;
    lost += was && !is ? 1 : 0;
  }
  return ShareDifference(gained, lost, std::ssize(answers));
}

Estimate Relative(Estimate nats) {
  nats.value = std::expm1(nats.value);
  if (nats.interval.has_value()) {
    nats.interval = {std::expm1(nats.interval->low), std::expm1(nats.interval->high)};
  }
  return nats;
}

}  // namespace

QualityMeter::QualityMeter(Backend& backend, const Checkpoint& checkpoint, DType weight_type,
                           std::vector<TokenId> tokens, QualityOptions options)
    : backend_(&backend),
      checkpoint_(&checkpoint),
      weight_type_(weight_type),
      tokens_(std::move(tokens)),
      options_(std::move(options)) {}

DistanceOptions QualityMeter::Distances() const {
  return {.distances = options_.recall_distances, .window = options_.evaluation.window};
}

AgreementOptions QualityMeter::AgreementOf() const {
  return {.num_tokens = options_.agreement_tokens,
          .window = options_.evaluation.window,
          .max_windows = options_.evaluation.max_windows};
}

absl::StatusOr<QualityMeter> QualityMeter::Make(Backend& backend, const Checkpoint& checkpoint,
                                                DType weight_type, std::vector<TokenId> tokens,
                                                QualityOptions options) {
  QualityMeter meter(backend, checkpoint, weight_type, std::move(tokens), std::move(options));
  const int32_t context = checkpoint.config().context_length;
  const int32_t window = meter.options_.evaluation.window;
  if (window < 2 || window > context) {
    return Expected("window", absl::StrCat("2 to ", context, " tokens, the model's context"),
                    window);
  }
  LORC_RETURN_IF_ERROR(CheckDistances(meter.Distances(), std::ssize(meter.tokens_), context));
  LORC_RETURN_IF_ERROR(CheckAgreement(meter.AgreementOf(), context));
  return meter;
}

int32_t QualityMeter::LongestTokens() const {
  int32_t longest = std::max(options_.evaluation.window, Distances().longest_tokens());
  if (options_.agreement_tokens > 0) {
    longest = std::max(longest, AgreementOf().prompt_tokens() + options_.agreement_tokens);
  }
  for (const EncodedQuestion& question : options_.questions) {
    longest = std::max(longest, question.longest_tokens());
  }
  return longest;
}

absl::StatusOr<std::unique_ptr<ModelExecutor>> QualityMeter::Open(
    const KvPlan& plan, const StageProgress& stage) const {
  OfflineOptions offline;
  offline.weight_type = weight_type_;
  offline.max_sequence_tokens = LongestTokens();
  return MakeOfflineModel(*backend_, *checkpoint_, plan, offline, Named(stage, "reading weights"));
}

absl::StatusOr<Quality> QualityMeter::MeasureUncompressed(const StageProgress& stage) {
  const KvPlan plan = KvPlan::Full(checkpoint_->config(), SegmentTypeOf(ExactType(weight_type_)));
  LORC_ASSIGN_OR_RETURN(const auto executor, Open(plan, stage));
  if (options_.agreement_tokens > 0) {
    LORC_ASSIGN_OR_RETURN(
        continuations_,
        ContinueGreedily(*executor, AgreementPrompts(tokens_, AgreementOf()),
                         options_.agreement_tokens, Named(stage, "continuing prompts")));
  }
  return Measure(*executor, plan, stage);
}

absl::StatusOr<Quality> QualityMeter::Measure(const KvPlan& plan,
                                              const StageProgress& stage) const {
  LORC_ASSIGN_OR_RETURN(const auto executor, Open(plan, stage));
  return Measure(*executor, plan, stage);
}

absl::StatusOr<Quality> QualityMeter::Measure(ModelExecutor& executor, const KvPlan& plan,
                                              const StageProgress& stage) const {
  Quality quality;
  const KvGeometry& geometry = executor.kv_geometry();
  quality.bytes_per_token = plan.BytesPerToken();
  quality.exact_bytes_per_sequence =
      geometry.ExactBlocksSteady(options_.evaluation.window) * geometry.exact_block_bytes;
  LORC_ASSIGN_OR_RETURN(quality.evaluation, Evaluate(executor, tokens_, options_.evaluation,
                                                     Named(stage, "perplexity and recall")));
  if (!options_.recall_distances.empty()) {
    LORC_ASSIGN_OR_RETURN(quality.distances, MeasureDistances(executor, tokens_, Distances(),
                                                              Named(stage, "recall by distance")));
  }
  if (!options_.questions.empty()) {
    LORC_ASSIGN_OR_RETURN(quality.choices, ScoreChoices(executor, options_.questions,
                                                        Named(stage, "multiple choice")));
  }
  if (options_.agreement_tokens > 0) {
    LORC_CHECK(!continuations_.empty());
    LORC_ASSIGN_OR_RETURN(quality.agreement,
                          MeasureAgreement(executor, continuations_, Named(stage, "agreement")));
  }
  return quality;
}

QualityChange Compare(const Quality& uncompressed, const Quality& plan) {
  const Evaluation& before = uncompressed.evaluation;
  const Evaluation& after = plan.evaluation;
  QualityChange change;
  change.perplexity = Relative(MeanDifference(before.window_nll, after.window_nll));
  if (!before.passage_nll.empty()) {
    change.recall = MeanDifference(before.passage_nll, after.passage_nll);
  }
  for (size_t i = 0; i < plan.distances.size(); ++i) {
    change.distances.push_back(
        MeanDifference(uncompressed.distances[i].passage_nll, plan.distances[i].passage_nll));
  }
  for (size_t i = 0; i < after.position_nll.size(); ++i) {
    change.position_nll.push_back(after.position_nll[i] - before.position_nll[i]);
  }
  if (plan.choices.has_value()) {
    const ChoiceScores& a = *uncompressed.choices;
    const ChoiceScores& b = *plan.choices;
    change.accuracy = AccuracyChange(a.picked, b.picked, b.answers);
    change.normalised_accuracy =
        AccuracyChange(a.picked_normalised, b.picked_normalised, b.answers);
    change.same_pick = Share(CountEqual(a.picked, b.picked), std::ssize(b.picked));
  }
  return change;
}

ChoiceAccuracy AccuracyOf(const ChoiceScores& scores) {
  const int64_t n = std::ssize(scores.answers);
  return {Share(CountEqual(scores.picked, scores.answers), n),
          Share(CountEqual(scores.picked_normalised, scores.answers), n)};
}

}  // namespace lorc
