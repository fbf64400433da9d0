// What a model loses where its keys and values keep only their leading directions: KV-CoRE's second
// instrument.
//
// The paper calls it normalised delta perplexity (ND-PPL); its formula is not known to us. Our
// definition:
//   ND-PPL = (PPL_truncated - PPL_full) / PPL_full
// over the same windows, keys and values of every layer projected to the same number of kv-core
// directions, in float32, of every token, without exact ones.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/compress/build_plan.h"
#include "runtime/compress/evaluate.h"
#include "runtime/compress/interval.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct TruncationOptions {
  KvLayoutKind keys = KvLayoutKind::kRebuilt;  // projected before RoPE, or direct: after it
  int32_t anchor = 256;                        // tokens, of direct keys and of the statistics
  int32_t window = 1024;
  DType weight_type = DType::kBf16;
};

struct Truncation {
  double level = 0;  // share of the directions that was asked for
  int32_t rank = 0;  // directions of K and of V that are kept: the nearest that backends run
  double perplexity = 0;
  Estimate nd_ppl;  // relative: 0.01 is +1 %; interval from the windows' differences
};

// Measures the uncompressed model first, then truncations. Runs them by MakeOfflineModel, one at a
// time.
class TruncationMeter {
 public:
  // Bases of `statistics`, perplexities of `tokens` (whole windows, at least one), which outlive
  // the meter with the rest. `progress` gets shares of every measurement by itself; may be nullptr.
  static absl::StatusOr<TruncationMeter> Make(Backend& backend, const Checkpoint& checkpoint,
                                              const std::vector<LayerSpectra>& spectra,
                                              const Statistics& statistics,
                                              std::span<const TokenId> tokens,
                                              const TruncationOptions& options,
                                              const Progress& progress);

  double full_perplexity() const { return full_.perplexity; }

  // All layers. level in (0, 1].
  absl::StatusOr<Truncation> Measure(double level, const Progress& progress) const;
  // One layer, the others with their full cache.
  absl::StatusOr<Truncation> MeasureLayer(int32_t layer, double level,
                                          const Progress& progress) const;

 private:
  TruncationMeter(Backend& backend, const Checkpoint& checkpoint,
                  const std::vector<LayerSpectra>& spectra, std::span<const TokenId> tokens,
                  const TruncationOptions& options);

  absl::StatusOr<KvPlan> PlanOf(double level) const;
  absl::StatusOr<Truncation> Measure(double level, const KvPlan& plan, int32_t rank,
                                     const Progress& progress) const;

  Backend* backend_;
  const Checkpoint* checkpoint_;
  const std::vector<LayerSpectra>* spectra_;
  std::span<const TokenId> tokens_;
  DType weight_type_;
  EvaluationOptions evaluation_;
  CompressionOptions compression_;
  ModelBases bases_;
  Evaluation full_;
};

}  // namespace lorc
