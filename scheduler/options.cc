#include "scheduler/options.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "scheduler/admission.h"

namespace lorc {
namespace {

absl::Status CheckRange(const char* field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  const std::string range =
      most == kNeverNs ? absl::StrCat("at least ", least) : absl::StrCat(least, "..", most);
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", expected ", range));
}

}  // namespace

absl::Status CheckOptions(const SchedulerOptions& options, const StepLimits& limits,
                          const KvGeometry& geometry) {
  struct Field {
    const char* name;
    int64_t value, least, most;
  };
  const Field fields[] = {
      {"max_running", options.max_running, 1, kNeverNs},
      {"max_waiting", options.max_waiting, 1, kNeverNs},
      {"max_waiting_prompt_tokens", options.max_waiting_prompt_tokens, 1, kNeverNs},
      {"max_sequence_tokens", options.max_sequence_tokens, 2, kNeverNs},
      {"look_ahead", options.look_ahead, 0, kNeverNs},
      {"overtake_age_ns", options.overtake_age_ns, 0, kNeverNs},
      {"slow_reader_timeout_ns", options.slow_reader_timeout_ns, 1, kNeverNs},
      {"exact_headroom_blocks", options.exact_headroom_blocks, -1, geometry.num_exact_blocks},
      {"max_step_tokens", limits.max_tokens, 1, kNeverNs},
      {"max_step_sequences", limits.max_sequences, 1, kNeverNs},
      {"block_tokens", geometry.block_tokens, 1, kNeverNs},
      {"prefix_blocks", geometry.prefix_blocks, 0, kNeverNs},
      {"window_blocks", geometry.window_blocks, 0, kNeverNs},
      {"num_latent_blocks", geometry.num_latent_blocks, 0, kMaxPoolBlocks},
      {"num_exact_blocks", geometry.num_exact_blocks, 0, kMaxPoolBlocks},
  };
  for (const Field& field : fields) {
    absl::Status status = CheckRange(field.name, field.value, field.least, field.most);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

SchedulerOptions CutToStep(SchedulerOptions options, const StepLimits& limits) {
  options.max_running = std::min({options.max_running, limits.max_sequences, limits.max_tokens});
  return options;
}

int64_t ExactHeadroomBlocks(const SchedulerOptions& options, const StepLimits& limits,
                            const KvGeometry& geometry) {
  if (geometry.window_blocks == 0) return 0;
  if (options.exact_headroom_blocks >= 0) return options.exact_headroom_blocks;
  const int64_t one_sequence = int64_t{geometry.prefix_blocks} + geometry.window_blocks;
  return std::clamp<int64_t>(geometry.num_exact_blocks - one_sequence, 0,
                             geometry.ExactHeadroom(limits.max_tokens));
}

absl::Status CheckLongestRequestFits(const SchedulerOptions& options, const StepLimits& limits,
                                     const KvGeometry& geometry) {
  const Ledger ledger(geometry, ExactHeadroomBlocks(options, limits, geometry));
  if (ledger.EverFits(BlocksNeeded(geometry, options.max_sequence_tokens))) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the cache budget can't hold one request of max_sequence_tokens = ",
      options.max_sequence_tokens, ": it ",
      NeedArithmetic(geometry, ledger, options.max_sequence_tokens),
      "; raise the budget, lower max_sequence_tokens or use a plan with fewer bytes per token"));
}

}  // namespace lorc
