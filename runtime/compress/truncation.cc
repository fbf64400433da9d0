#include "runtime/compress/truncation.h"

#include <utility>

#include "runtime/compress/quality.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

TruncationMeter::TruncationMeter(Backend& backend, const Checkpoint& checkpoint,
                                 const std::vector<LayerSpectra>& spectra,
                                 std::span<const TokenId> tokens, const TruncationOptions& options)
    : backend_(&backend),
      checkpoint_(&checkpoint),
      spectra_(&spectra),
      tokens_(tokens),
      weight_type_(options.weight_type) {
  evaluation_.window = options.window;
  evaluation_.recall = false;
  compression_.method = "kv-core";
  compression_.keys = options.keys;
  compression_.anchor = options.anchor;
  compression_.exact_prefix = 0;
  compression_.exact_window = 0;
  compression_.rank_rule = RankRule::kUniform;
  compression_.latent_type = SegmentType::kF32;
}

absl::StatusOr<TruncationMeter> TruncationMeter::Make(
    Backend& backend, const Checkpoint& checkpoint, const std::vector<LayerSpectra>& spectra,
    const Statistics& statistics, std::span<const TokenId> tokens, const TruncationOptions& options,
    const Progress& progress) {
  TruncationMeter meter(backend, checkpoint, spectra, tokens, options);
  LORC_ASSIGN_OR_RETURN(meter.bases_,
                        ComputeBases(checkpoint, &statistics, meter.compression_, nullptr));
  LORC_ASSIGN_OR_RETURN(
      meter.full_,
      EvaluatePlan(backend, checkpoint, KvPlan::Full(checkpoint.config(), SegmentType::kF32),
                   options.weight_type, tokens, meter.evaluation_, progress));
  return meter;
}

absl::StatusOr<Truncation> TruncationMeter::Measure(double level, const Progress& progress) const {
  LORC_ASSIGN_OR_RETURN(const KvPlan plan, PlanOf(level));
  return Measure(level, plan, plan.layers[0].key.rank, progress);
}

absl::StatusOr<Truncation> TruncationMeter::MeasureLayer(int32_t layer, double level,
                                                         const Progress& progress) const {
  LORC_ASSIGN_OR_RETURN(KvPlan plan, PlanOf(level));
  std::vector<LayerPlan> layers = KvPlan::Full(checkpoint_->config(), SegmentType::kF32).layers;
  layers[layer] = std::move(plan.layers[layer]);
  plan.layers = std::move(layers);
  return Measure(level, plan, plan.layers[layer].key.rank, progress);
}

absl::StatusOr<KvPlan> TruncationMeter::PlanOf(double level) const {
  CompressionOptions options = compression_;
  options.target_kept = level;
  LORC_ASSIGN_OR_RETURN(BuiltPlan built,
                        BuildPlan(checkpoint_->config(), *spectra_, bases_, options));
  return std::move(built.plan);
}

absl::StatusOr<Truncation> TruncationMeter::Measure(double level, const KvPlan& plan, int32_t rank,
                                                    const Progress& progress) const {
  Quality full, truncated;
  full.evaluation = full_;
  LORC_ASSIGN_OR_RETURN(
      truncated.evaluation,
      EvaluatePlan(*backend_, *checkpoint_, plan, weight_type_, tokens_, evaluation_, progress));
  return Truncation{level, rank, truncated.evaluation.perplexity,
                    Compare(full, truncated).perplexity};
}

}  // namespace lorc
