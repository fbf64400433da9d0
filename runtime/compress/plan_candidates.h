// Plans that take the same memory in other ways: a longer exact window or more bits, another
// anchor, rebuilt keys. Predictions say which are worth measuring, measurements decide.
//
// All candidates take the bytes, for a sequence of `context` tokens, of the plan that was asked
// for:
//   latent bytes * latent tokens + exact bytes * exact tokens
// (KvGeometry::BytesPromised). Far gradients of a window count only queries beyond it, so predicted
// losses of different windows can be compared; they are those of the calibration windows' length,
// of which long exact windows cover more than of a longer context.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/compress/build_plan.h"
#include "runtime/compress/calibration_text.h"
#include "runtime/compress/decode_cost.h"
#include "runtime/compress/evaluate.h"
#include "runtime/compress/stage_progress.h"
#include "runtime/compress/statistics.h"

namespace lorc {

struct CandidateSearch {
  int32_t context = 0;  // tokens of a sequence
  std::vector<KvLayoutKind> keys = {KvLayoutKind::kDirect};
  // Of the uncompressed cache's multiply-adds; nothing: any number.
  std::optional<double> max_decode_macs;
};

struct KvPlanCandidate {
  KvLayoutKind keys = KvLayoutKind::kDirect;
  int32_t anchor = 0;  // tokens, of direct keys
  int32_t exact_window = 0;
  // The plan's, once there is one; before, what there is room for.
  int64_t bytes_per_token = 0;
  int64_t bytes_per_sequence = 0;  // of `context` tokens; 0: no plan was made
  double predicted_loss = 0;       // nats per token
  DecodeCost cost;
  std::optional<Evaluation> measured;
  bool chosen = false;
  std::string excluded;  // why it cannot be; empty: it can
};

// Exact windows 32, 64, 128, 256 and the options' own, by anchors 128, 256, 1024 and the options'
// own for direct keys, all with the bytes of `options` (bytes_per_token and exact_window).
// INVALID_ARGUMENT names the option that does not allow a search; FAILED_PRECONDITION where all are
// excluded says why.
absl::StatusOr<std::vector<KvPlanCandidate>> ListCandidates(const ModelConfig& config,
                                                            const CompressionOptions& options,
                                                            const CandidateSearch& search,
                                                            DType exact_type,
                                                            int32_t calibration_window);

// The statistics that candidates need, one pass over the text after the other. `gather` is that of
// the plan that was asked for; files get ".windowW.anchorA" after their name.
std::vector<std::vector<StatisticsOptions>> CandidatePasses(
    const std::vector<KvPlanCandidate>& candidates, const StatisticsOptions& gather);

struct BestCandidate {
  CompressionOptions options;
  BuiltPlan built;
  Evaluation evaluation;
};

using MeasurePlan = std::function<absl::StatusOr<Evaluation>(const KvPlan&)>;

// What a search works on; all of it outlives the call.
struct CandidateInput {
  const Checkpoint& checkpoint;
  const std::vector<LayerSpectra>& spectra;
  const TokenWindows& calibration;
  const StatisticsOptions& gather;
  const CompressionOptions& options;  // of the plan that was asked for
  const CandidateSearch& search;
  DType exact_type;
  const MeasurePlan& measure;
};

// Fills the candidates in, measures three of them, the plan that was asked for and the best by
// prediction, and gives the one of the lowest perplexity, then recall. FAILED_PRECONDITION where
// none is left. Memory: the statistics of one pass, the bases of one candidate, three plans.
absl::StatusOr<BestCandidate> FindBestCandidate(const CandidateInput& input,
                                                std::vector<KvPlanCandidate>* candidates,
                                                const StageProgress& stage);

}  // namespace lorc
