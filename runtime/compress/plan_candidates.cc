#include "runtime/compress/plan_candidates.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "runtime/compress/option_error.h"
#include "runtime/kv/kv_layout.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kWindows[] = {32, 64, 128, 256};
constexpr int32_t kAnchors[] = {128, 256, 1024};
constexpr size_t kMeasured = 3;
constexpr int32_t kBlockTokens = 16;

// Of plans with this exact prefix and window; without latents.
absl::StatusOr<KvGeometry> GeometryOf(const ModelConfig& config, int32_t exact_prefix,
                                      int32_t exact_window, DType exact_type) {
  KvPlan plan = KvPlan::Full(config, SegmentType::kBf16);
  plan.exact_prefix = exact_prefix;
  plan.exact_window = exact_window;
  LORC_ASSIGN_OR_RETURN(const KvLayout layout,
                        MakeKvLayout(plan, config, kBlockTokens, exact_type));
  return layout.geometry;
}

int64_t SequenceBytes(KvGeometry geometry, int64_t bytes_per_token, int64_t context) {
  geometry.latent_block_bytes = bytes_per_token * geometry.block_tokens;
  return geometry.BytesPromised(context);
}

absl::Status CheckSearch(const ModelConfig& config, const CompressionOptions& options,
                         const CandidateSearch& search) {
  LORC_RETURN_IF_ERROR(options.Validate(config));
  if (options.keeps_all() || !options.method_info().predicts_loss) {
    return Expected("search", "method loss, whose predictions can be compared", options.method);
  }
  if (!options.bytes_per_token.has_value()) {
    return Expected("search", "--bytes-per-token or its default, which all candidates share",
                    "rank options");
  }
  const int32_t exact = options.exact_prefix + options.exact_window;
  if (search.context <= exact || search.context > config.context_length) {
    return Expected(
        "context",
        absl::StrCat("more than the ", exact, " exact tokens, up to the model's context of ",
                     config.context_length),
        search.context);
  }
  if (search.max_decode_macs.has_value() &&
      !(*search.max_decode_macs > 0 && std::isfinite(*search.max_decode_macs))) {
    return Expected("max-decode-macs", "a number above 0", *search.max_decode_macs);
  }
  return absl::OkStatus();
}

CompressionOptions OptionsOf(const KvPlanCandidate& candidate, const CompressionOptions& asked) {
  CompressionOptions options = asked;
  options.keys = candidate.keys;
  options.anchor = candidate.anchor;
  options.exact_window = candidate.exact_window;
  options.bytes_per_token = candidate.bytes_per_token;
  return options;
}

using BetterPlan = std::pair<KvPlanCandidate*, BuiltPlan>;

// Predictions of all candidates; keeps the plans to measure.
class Predictor {
 public:
  Predictor(const CandidateInput& input, std::vector<KvPlanCandidate>* candidates,
            const StageProgress& stage)
      : input_(input),
        config_(input.checkpoint.config()),
        candidates_(*candidates),
        stage_(stage) {}

  absl::StatusOr<std::vector<BetterPlan>> Run() {
    LORC_ASSIGN_OR_RETURN(const DecodeCost full,
                          FindDecodeCost(KvPlan::Full(config_, SegmentType::kBf16), config_,
                                         DType::kBf16, input_.search.context));
    full_macs_ = full.multiply_adds;
    for (const auto& pass : CandidatePasses(candidates_, input_.gather)) {
      LORC_ASSIGN_OR_RETURN(const std::vector<Statistics> statistics,
                            CollectStatisticsTogether(
                                input_.checkpoint, input_.calibration, pass,
                                Named(stage_, absl::StrCat("gathering statistics beyond window ",
                                                           pass.front().exact_window))));
      for (KvPlanCandidate& candidate : candidates_) {
        if (!candidate.excluded.empty() ||
            candidate.exact_window != statistics.front().exact_window) {
          continue;
        }
        // Rebuilt keys are not rotated: any anchor's statistics hold.
        const auto found =
            std::find_if(statistics.begin(), statistics.end(), [&candidate](const Statistics& one) {
              return candidate.keys == KvLayoutKind::kRebuilt || one.anchor == candidate.anchor;
            });
        LORC_RETURN_IF_ERROR(Predict(*found, &candidate));
      }
    }
    return std::move(best_);
  }

 private:
  absl::Status Predict(const Statistics& statistics, KvPlanCandidate* candidate) {
    const CompressionOptions options = OptionsOf(*candidate, input_.options);
    LORC_ASSIGN_OR_RETURN(
        const ModelBases bases,
        ComputeBases(input_.checkpoint, &statistics, options,
                     Named(stage_, absl::StrCat("computing bases, ", Name(candidate->keys),
                                                " keys, window ", candidate->exact_window))));
    LORC_ASSIGN_OR_RETURN(BuiltPlan built, BuildPlan(config_, input_.spectra, bases, options));
    const int64_t context = input_.search.context;
    LORC_ASSIGN_OR_RETURN(const KvLayout layout,
                          MakeKvLayout(built.plan, config_, kBlockTokens, input_.exact_type));
    candidate->bytes_per_token = layout.BytesPerToken();
    candidate->bytes_per_sequence = layout.geometry.BytesPromised(context);
    candidate->predicted_loss = built.predicted_loss;
    LORC_ASSIGN_OR_RETURN(candidate->cost,
                          FindDecodeCost(built.plan, config_, input_.exact_type, context));
    const double share =
        static_cast<double>(candidate->cost.multiply_adds) / static_cast<double>(full_macs_);
    if (share > input_.search.max_decode_macs.value_or(HUGE_VAL)) {
      candidate->excluded =
          absl::StrFormat("%.2f times the full cache's multiply-adds, at most %g may be", share,
                          *input_.search.max_decode_macs);
      return absl::OkStatus();
    }
    best_.emplace_back(candidate, std::move(built));
    std::stable_sort(best_.begin(), best_.end(), [](const BetterPlan& a, const BetterPlan& b) {
      return a.first->predicted_loss < b.first->predicted_loss;
    });
    if (best_.size() > kMeasured) {
      best_.erase(best_.end() - (IsAsked(*best_.back().first) ? 2 : 1));
    }
    return absl::OkStatus();
  }

  // The plan that was asked for is measured in any case, so that the search can be judged by it.
  bool IsAsked(const KvPlanCandidate& candidate) const {
    const CompressionOptions& asked = input_.options;
    return candidate.keys == asked.keys && candidate.exact_window == asked.exact_window &&
           (candidate.keys == KvLayoutKind::kRebuilt || candidate.anchor == asked.anchor);
  }

  const CandidateInput& input_;
  const ModelConfig& config_;
  std::vector<KvPlanCandidate>& candidates_;
  const StageProgress& stage_;
  int64_t full_macs_ = 0;
  std::vector<BetterPlan> best_;  // by rising predicted loss
};

absl::Status NoneLeft(const std::vector<KvPlanCandidate>& candidates) {
  std::vector<std::string> reasons;
  for (const KvPlanCandidate& candidate : candidates) {
    reasons.push_back(absl::StrCat(Name(candidate.keys), " keys, window ", candidate.exact_window,
                                   ", anchor ", candidate.anchor, ": ", candidate.excluded));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("--search: no candidate is left (", absl::StrJoin(reasons, "; "),
                   "); raise --bytes-per-token, --context, --window or --max-decode-macs"));
}

}  // namespace

absl::StatusOr<std::vector<KvPlanCandidate>> ListCandidates(const ModelConfig& config,
                                                            const CompressionOptions& options,
                                                            const CandidateSearch& search,
                                                            DType exact_type,
                                                            int32_t calibration_window) {
  LORC_RETURN_IF_ERROR(CheckSearch(config, options, search));
  LORC_ASSIGN_OR_RETURN(const KvGeometry asked,
                        GeometryOf(config, options.exact_prefix, options.exact_window, exact_type));
  const int64_t bytes = SequenceBytes(asked, *options.bytes_per_token, search.context);
  std::set<int32_t> windows(std::begin(kWindows), std::end(kWindows));
  windows.insert(options.exact_window);
  std::set<int32_t> anchors(std::begin(kAnchors), std::end(kAnchors));
  anchors.insert(options.anchor);
  std::vector<KvPlanCandidate> candidates;
  for (const KvLayoutKind keys : search.keys) {
    const bool rebuilt = keys == KvLayoutKind::kRebuilt;
    CompressionOptions of_layout = options;
    of_layout.keys = keys;
    const ByteRange range = MixedByteRange(config, of_layout);
    for (const int32_t window : windows) {
      LORC_ASSIGN_OR_RETURN(const KvGeometry geometry,
                            GeometryOf(config, options.exact_prefix, window, exact_type));
      const int64_t latent_tokens = geometry.LatentBlocks(search.context) * geometry.block_tokens;
      const int64_t rest = bytes - SequenceBytes(geometry, 0, search.context);
      for (const int32_t anchor : rebuilt ? std::set<int32_t>{0} : anchors) {
        KvPlanCandidate& candidate = candidates.emplace_back();
        candidate.keys = keys;
        candidate.anchor = anchor;
        candidate.exact_window = window;
        if (latent_tokens == 0) {
          candidate.excluded =
              absl::StrCat("all of the context's ", search.context, " tokens are exact");
          continue;
        }
        candidate.bytes_per_token =
            std::min(range.most, std::max<int64_t>(0, rest) / latent_tokens);
        if (candidate.bytes_per_token < range.least) {
          candidate.excluded =
              absl::StrCat("the exact tokens leave ", candidate.bytes_per_token,
                           " bytes per token, at least ", range.least, " are needed");
        } else if (options.exact_prefix + window >= calibration_window) {
          candidate.excluded =
              absl::StrCat("no tokens beyond the exact ones in --window ", calibration_window);
        } else if (anchor > calibration_window) {
          candidate.excluded =
              absl::StrCat("the anchor is longer than --window ", calibration_window);
        }
      }
    }
  }
  const bool any = std::any_of(candidates.begin(), candidates.end(),
                               [](const KvPlanCandidate& one) { return one.excluded.empty(); });
  if (!any) return NoneLeft(candidates);
  return candidates;
}

std::vector<std::vector<StatisticsOptions>> CandidatePasses(
    const std::vector<KvPlanCandidate>& candidates, const StatisticsOptions& gather) {
  std::set<int32_t> windows;
  for (const KvPlanCandidate& candidate : candidates) {
    if (candidate.excluded.empty()) windows.insert(candidate.exact_window);
  }
  std::vector<std::vector<StatisticsOptions>> passes;
  for (const int32_t window : windows) {
    std::set<int32_t> anchors;
    for (const KvPlanCandidate& candidate : candidates) {
      if (candidate.excluded.empty() && candidate.exact_window == window &&
          candidate.keys == KvLayoutKind::kDirect) {
        anchors.insert(candidate.anchor);
      }
    }
    if (anchors.empty()) anchors.insert(0);  // rebuilt keys alone, which have none
    std::vector<StatisticsOptions>& pass = passes.emplace_back();
    for (const int32_t anchor : anchors) {
      StatisticsOptions& options = pass.emplace_back(gather);
      options.exact_window = window;
      options.anchor = anchor;
      if (gather.resume_path.empty()) continue;
      absl::StrAppend(&options.resume_path, ".window", window, ".anchor", anchor);
    }
  }
  return passes;
}

absl::StatusOr<BestCandidate> FindBestCandidate(const CandidateInput& input,
                                                std::vector<KvPlanCandidate>* candidates,
                                                const StageProgress& stage) {
  LORC_ASSIGN_OR_RETURN(std::vector<BetterPlan> plans, Predictor(input, candidates, stage).Run());
  if (plans.empty()) return NoneLeft(*candidates);
  BetterPlan* best = nullptr;
  for (BetterPlan& plan : plans) {
    KvPlanCandidate& candidate = *plan.first;
    LORC_ASSIGN_OR_RETURN(candidate.measured, input.measure(plan.second.plan));
    const auto figures = [](const BetterPlan& of) {
      return std::pair(of.first->measured->perplexity, of.first->measured->recall);
    };
    if (best == nullptr || figures(plan) < figures(*best)) best = &plan;
  }
  best->first->chosen = true;
  return BestCandidate{OptionsOf(*best->first, input.options), std::move(best->second),
                       *best->first->measured};
}

}  // namespace lorc
