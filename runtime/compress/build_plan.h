// From weights and statistics to a KV plan: the methods of the papers, by closed formulas.
//
// lorc (LoRC, arXiv 2410.03111, Algorithm 1): W = U S V^T per layer, K and V apart, all KV heads
// together; the latent is U_r^T k, so that the paper's factors are S_r V_r^T (what the layer then
// computes) and U_r (what rebuilds). Data-free. kv-core (KV-CoRE, arXiv 2602.05929; Swift-SVD
// Algorithm 1): C = sum y y^T = V S^2 V^T of the keys or values themselves; the latent is V_r^T y,
// the best of its rank for these tokens. full: no basis; keys and values as they are, in the
// segments asked for.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "runtime/compress/ranks.h"
#include "runtime/compress/statistics.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

enum class CompressionMethod { kLorc, kKvCore, kFull };

const char* Name(CompressionMethod method);  // "lorc", "kv-core", "full"

struct CompressionOptions {
  CompressionMethod method = CompressionMethod::kKvCore;
  // full: has no use for what comes before latent_type, nor for the anchor.
  KvLayoutKind keys = KvLayoutKind::kDirect;  // direct or rebuilt; lorc: rebuilt
  int32_t groups = 1;                         // of KV heads that share a latent
  RankRule rank_rule = RankRule::kUniform;
  double target_kept = 0.75;        // share of all ranks
  std::optional<int32_t> min_rank;  // progressive: instead of target_kept
  std::optional<double> threshold;  // progressive: layers above it are left alone
  SegmentType latent_type = SegmentType::kInt8;
  int32_t segment_width = 32;  // numbers that share a scale, of types that have scales
  int32_t exact_prefix = 16;   // tokens
  int32_t exact_window = 64;
  int32_t anchor = 256;  // direct keys; 0: absolute positions

  // INVALID_ARGUMENT names the option, what was expected and what came.
  absl::Status Validate(const ModelConfig& config) const;
};

// Singular values and left singular vectors of the layers' W_k and W_v.
struct WeightSpectrum {
  std::vector<double> values;   // [n], largest first
  std::vector<double> vectors;  // [n, n], rows
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

// What BuildPlan refuses of options and weights, known before there are moments: INVALID_ARGUMENT
// where a condition number is needed and infinite, or target_kept is less than progressive ranks
// can keep.
absl::Status CheckSpectra(const ModelConfig& config, const std::vector<LayerSpectra>& spectra,
                          const CompressionOptions& options);

// The plan, and the ranks before they were rounded to what backends run. `moments` is needed by
// kv-core (its anchor is the options'), else nullptr; full needs no spectra either. Base and
// measurements are the caller's to fill in.
struct BuiltPlan {
  KvPlan plan;
  std::vector<LayerRanks> ranks;
};
absl::StatusOr<BuiltPlan> BuildPlan(const ModelConfig& config,
                                    const std::vector<LayerSpectra>& spectra,
                                    const Moments* moments, const CompressionOptions& options);

}  // namespace lorc
