// From weights and statistics to a KV plan: bases by a method (runtime/compress/methods), ranks or
// bits by a rule, mixes folded in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/compress/methods/method.h"
#include "runtime/compress/ranks.h"
#include "runtime/compress/statistics.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/llama.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct CompressionOptions {
  std::string method = "loss";                // of Methods()
  std::optional<MomentSource> moments;        // instead of the method's own
  KvLayoutKind keys = KvLayoutKind::kDirect;  // direct or rebuilt
  int32_t groups = 1;                         // of KV heads that share a latent
  bool group_similar_heads = false;           // else neighbours; where groups have several heads
  int32_t segment_width = 32;                 // numbers that share a scale
  int32_t exact_prefix = 16;                  // tokens
  int32_t exact_window = 64;
  int32_t anchor = 256;  // direct keys; 0: absolute positions

  // Ranks and bits together, for so many bytes; nothing: one type and a rank rule.
  std::optional<int64_t> bytes_per_token;
  RankRule rank_rule = RankRule::kUniform;
  double target_kept = 0.75;        // share of all ranks; uniform, energy, progressive
  double tail_energy = 0.1;         // kTail
  std::optional<int32_t> min_rank;  // progressive: instead of target_kept
  std::optional<double> threshold;  // progressive: layers above it are left alone
  SegmentType latent_type = SegmentType::kInt8;

  // INVALID_ARGUMENT names the option, what was expected and what came.
  absl::Status Validate(const ModelConfig& config) const;
  bool keeps_all() const { return method == "full"; }
  // The method, which Validate has found.
  const Method& method_info() const { return *FindMethod(method); }
  bool needs_text() const;
};

// A full cache by options.keeps_all().
absl::StatusOr<KvPlan> BuildFullPlan(const ModelConfig& config, const CompressionOptions& options);

// Singular values of the layers' W_k and W_v.
struct WeightSpectrum {
  std::vector<double> values;  // [n], largest first
  // Infinite or NaN where the rank is not full.
  double condition_number() const { return values.front() / values.back(); }
};
struct LayerSpectra {
  WeightSpectrum key, value;
};
// INVALID_ARGUMENT names the layer and the weight that is not finite, UNIMPLEMENTED one with more
// rows than columns.
absl::StatusOr<std::vector<LayerSpectra>> ComputeWeightSpectra(const Checkpoint& checkpoint,
                                                               const Progress& progress);

// ln(kappa(W_k) kappa(W_v)) per layer.
std::vector<double> LogConditions(const std::vector<LayerSpectra>& spectra);

// What BuildPlan refuses of options and weights, known before there are statistics:
// INVALID_ARGUMENT where a condition number is needed and infinite, or target_kept is less than
// progressive ranks can keep.
absl::Status CheckSpectra(const ModelConfig& config, const std::vector<LayerSpectra>& spectra,
                          const CompressionOptions& options);

// The bases of all layers, by layer and tensor one per group.
struct LayerBases {
  std::vector<GroupBasis> key, value;
  std::vector<int32_t> head_order = {};  // as LayerPlan's
};
struct ModelBases {
  std::vector<LayerBases> layers;
  // Nats per token and unit of gain that is lost; 0 where the method's gains say nothing of the
  // loss.
  double loss_per_gain = 0;
};

// `statistics` may be nullptr where options.needs_text() is false; its anchor, prefix and window
// are the options'. Errors name layer and tensor.
absl::StatusOr<ModelBases> ComputeBases(const Checkpoint& checkpoint, const Statistics* statistics,
                                        const CompressionOptions& options,
                                        const Progress& progress);

// The plan, and the ranks before they were rounded to what backends run. Base and measurements are
// the caller's to fill in. FAILED_PRECONDITION where bytes_per_token is too little: says what is
// needed.
struct BuiltPlan {
  KvPlan plan;
  std::vector<LayerRanks> ranks;  // of a rank rule
  // Of the method's gains, in nats per token where ModelBases::loss_per_gain is known, else as a
  // share of what every tensor has.
  double predicted_loss = 0;
};
absl::StatusOr<BuiltPlan> BuildPlan(const ModelConfig& config,
                                    const std::vector<LayerSpectra>& spectra,
                                    const ModelBases& bases, const CompressionOptions& options);

// What BuildPlan would predict for plans of mixed bits.
absl::StatusOr<double> PredictLoss(const ModelBases& bases, const CompressionOptions& options);

// Bytes per token that plans of mixed bits can have.
struct ByteRange {
  int64_t least = 0, most = 0;
};
ByteRange MixedByteRange(const ModelConfig& config, const CompressionOptions& options);

}  // namespace lorc
