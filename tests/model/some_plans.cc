#include "tests/model/some_plans.h"

#include "runtime/compress/build_plan.h"
#include "runtime/compress/statistics.h"
#include "runtime/weights/status_macros.h"

namespace lorc::test {

std::vector<TokenId> SomeTokens(int32_t count, uint32_t state) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<TokenId>(20 + (state >> 9) % 2000);
  }
  return tokens;
}

absl::StatusOr<KvPlan> SomePlan(const Checkpoint& checkpoint, const std::string& kind) {
  if (kind == "full") return KvPlan::Full(checkpoint.config(), SegmentType::kBf16);
  CompressionOptions options;
  options.keys = kind == "rebuilt" ? KvLayoutKind::kRebuilt : KvLayoutKind::kDirect;
  if (kind == "mixed") options.bytes_per_token = 3600;
  StatisticsOptions gather;
  gather.gradient_windows = 1;
  LORC_ASSIGN_OR_RETURN(const auto statistics,
                        CollectStatistics(checkpoint, {SomeTokens(400, 99)}, gather, nullptr));
  LORC_ASSIGN_OR_RETURN(const auto spectra, ComputeWeightSpectra(checkpoint, nullptr));
  LORC_ASSIGN_OR_RETURN(const auto bases, ComputeBases(checkpoint, &statistics, options, nullptr));
  LORC_ASSIGN_OR_RETURN(auto built, BuildPlan(checkpoint.config(), spectra, bases, options));
  return std::move(built.plan);
}

}  // namespace lorc::test
