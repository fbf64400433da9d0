// How compressible a model's keys and values are, layer by layer and text by text: KV-CoRE's
// instrument (arXiv 2602.05929, 2604.01609) beside LoRC's (arXiv 2410.03111), the whole line of
// `lorc analyze`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/correlation.h"
#include "runtime/compress/text_spectra.h"
#include "runtime/compress/truncation.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct AnalysisText {
  std::string name;  // for people
  std::string text;
};

struct AnalysisRequest {
  std::vector<AnalysisText> texts;
  bool own_text = false;  // and one that the model writes itself; so too where there are no texts
  int32_t window = 1024;  // tokens
  // Windows of every text, at most; the same number of each, as many as the shortest text has.
  int32_t statistics_windows = 15;
  int32_t measure_windows = 8;
  std::vector<double> levels = {0.75, 0.5, 0.25};  // of truncation; none: not measured
  std::optional<double> per_layer;  // one layer at a time is truncated to this share, too
  KvLayoutKind keys = KvLayoutKind::kRebuilt;  // truncated before RoPE (rebuilt), or after (direct)
  int32_t anchor = 256;                        // tokens; 0: absolute positions
  int32_t gradient_windows = 0;  // of the statistics' windows, at most; 0: losses are not predicted
  int32_t exact_prefix = 16;     // tokens beyond which losses are predicted
  int32_t exact_window = 64;
  DType weight_type = DType::kBf16;
  uint64_t seed = 0;        // of the text that the model writes and of the gradients' labels
  int32_t num_threads = 0;  // of statistics; 0: one per available core

  // INVALID_ARGUMENT names the option, what was expected and what came.
  absl::Status Validate(const ModelConfig& config) const;
};

// The name of the text that the model writes itself.
inline constexpr char kOwnTextName[] = "written by the model";

struct LayerConditions {
  double key =
      0;  // of W_k: largest over smallest singular value; infinite or NaN without full rank
  double value = 0;           // of W_v
  double cumulative_log = 0;  // ln of key * value, summed over this layer and those after it (LoRC)
};

struct TextAnalysis {
  std::string name;
  int64_t num_statistics_tokens = 0;
  int64_t num_measured_tokens = 0;
  std::vector<LayerSpectrum> layers;
  std::vector<LayerLoss> losses;              // by layer; empty without gradients
  double perplexity = 0;                      // uncompressed; 0: not measured
  std::vector<Truncation> truncations;        // of all layers, by level
  std::vector<Truncation> layer_truncations;  // of one layer at a time, by layer; or empty
  // Over layers: the layer's normalised effective rank with what its truncation costs.
  std::optional<Correlation> layer_correlation;

  // Normalised effective rank of the layer: the mean of its values and of its keys as they are
  // truncated.
  std::vector<double> LayerNers(KvLayoutKind keys) const;
};

struct Analysis {
  int64_t kv_width = 0;                     // numbers of K, and of V, per layer and token
  std::vector<LayerConditions> conditions;  // by layer
  std::vector<TextAnalysis> texts;
  // Over texts, by level: the mean over layers of the normalised effective rank with ND-PPL. Empty
  // where nothing was truncated.
  std::vector<Correlation> text_correlations;
};

// Deterministic. FAILED_PRECONDITION names a text that is too short, with what it has and what is
// needed.
absl::StatusOr<Analysis> Analyze(Backend& backend, const Checkpoint& checkpoint,
                                 const Tokenizer& tokenizer, const AnalysisRequest& request,
                                 const StageProgress& stage);

}  // namespace lorc
