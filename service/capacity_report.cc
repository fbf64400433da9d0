#include "service/capacity_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "scheduler/admission.h"
#include "service/config_values.h"

namespace lorc {
namespace {

// The longest sequence that fits into pools of this many blocks, step headroom kept.
int64_t LongestRequest(const KvGeometry& geometry, const SchedulerOptions& options,
                       const StepLimits& step) {
  const Ledger ledger(geometry, ExactHeadroomBlocks(options, step, geometry));
  int64_t fits = 0;
  int64_t too_long =
      (geometry.num_latent_blocks + geometry.num_exact_blocks + 1) * geometry.block_tokens + 1;
  while (fits + 1 < too_long) {
    const int64_t tokens = fits + (too_long - fits) / 2;
    (ledger.EverFits(BlocksNeeded(geometry, tokens)) ? fits : too_long) = tokens;
  }
  return fits;
}

CacheCapacity Capacity(const KvGeometry& geometry, int64_t bytes_per_token, const CacheSize& size,
                       const std::vector<int64_t>& lengths) {
  CacheCapacity capacity;
  capacity.bytes_per_token = bytes_per_token;
  capacity.latent_blocks = geometry.num_latent_blocks;
  capacity.exact_blocks = geometry.num_exact_blocks;
  capacity.longest_request = LongestRequest(geometry, size.scheduler, size.step);
  for (const int64_t length : lengths) {
    capacity.concurrent.push_back(std::min<int64_t>(
        ConcurrentSequences(geometry, length, size.step.max_tokens), size.step.max_sequences));
  }
  return capacity;
}

CacheCapacity FullCapacity(const ModelFiles& files, const CacheSize& size,
                           const std::vector<int64_t>& lengths) {
  const KvPlan plan = KvPlan::Full(files.config(), SegmentTypeOf(files.full_type));
  const auto layout =
      MakeKvLayout(plan, files.config(), size.geometry.block_tokens, files.full_type);
  LORC_CHECK(layout.ok());  // a full cache has no windows that could be no whole blocks
  KvGeometry geometry = layout->geometry;
  // Counted even where the longest request would not fit.
  geometry.num_latent_blocks = size.budget_bytes / geometry.latent_block_bytes;
  return Capacity(geometry, layout->BytesPerToken(), size, lengths);
}

std::string PlanLine(const KvPlan& plan, const std::string& full_type) {
  if (plan.name == "full") return absl::StrCat("none: full cache in ", full_type);
  std::string line = absl::StrCat(plan.name, " (", plan.method, ")");
  if (plan.exact_prefix > 0) {
    absl::StrAppend(&line, ", first ", plan.exact_prefix, " tokens exact");
  }
  if (plan.exact_window > 0) {
    absl::StrAppend(&line, ", latest ", plan.exact_window, " tokens exact");
  }
  return line;
}

std::string BudgetOrigin(const CacheSize& size) {
  if (!size.budget_is_default) return "as configured";
  return absl::StrCat("default: what is left after a margin of ",
                      RoundedBytes(MemoryMargin(size.available.bytes)), ", at most what ",
                      size.step.max_sequences, " of the longest requests use",
                      size.available.device ? "" : ", at most 4 GiB or one request");
}

}  // namespace

std::string SegmentTypes(const CacheTensor& tensor) {
  std::string types;
  std::vector<SegmentType> seen;
  for (const CacheSegment& segment : tensor.segments) {
    if (std::find(seen.begin(), seen.end(), segment.type) != seen.end()) continue;
    seen.push_back(segment.type);
    absl::StrAppend(&types, types.empty() ? "" : "+", Name(segment.type));
  }
  return types;
}

TensorCapacity DescribeTensor(const TensorPlan& plan, const CacheTensor& tensor) {
  return {Name(plan.layout), tensor.groups * tensor.rank, SegmentTypes(tensor),
          tensor.BytesPerToken()};
}

CapacityReport MakeCapacityReport(const ModelFiles& files, const CacheSize& size, int64_t tokens) {
  const ModelConfig& config = files.config();
  CapacityReport report;
  report.model =
      absl::StrCat(config.name, " (", config.architecture, "), ", config.num_layers, " layers, ",
                   config.num_kv_heads, " KV heads of ", config.head_dim, ", vocabulary ",
                   config.vocabulary_size, ", context ", config.context_length);
  report.full_type = Name(files.full_type);
  report.plan = PlanLine(files.plan, report.full_type);
  report.runs_on =
      absl::StrCat(Name(files.weight_type), " weights, ", files.backend->description());
  for (size_t i = 0; i < files.plan.layers.size(); ++i) {
    report.layers.push_back(
        {DescribeTensor(files.plan.layers[i].key, files.layout.layers[i].key),
         DescribeTensor(files.plan.layers[i].value, files.layout.layers[i].value)});
  }
  report.block_tokens = size.geometry.block_tokens;
  report.latent_block_bytes = size.geometry.latent_block_bytes;
  report.exact_block_bytes = size.geometry.exact_block_bytes;
  report.memory = size.memory;
  report.budget_bytes = size.budget_bytes;
  report.budget_origin = BudgetOrigin(size);
  report.available = size.available;
  report.max_sequence_tokens = size.max_sequence_tokens;
  report.sequence_origin =
      size.sequence_is_cut ? "default: below the context length, more does not fit the budget"
      : size.max_sequence_tokens == config.context_length ? "the model's context length"
                                                          : "as configured";
  report.max_running = size.step.max_sequences;
  report.lengths.push_back(std::min<int64_t>(tokens, size.max_sequence_tokens));
  if (report.lengths[0] != size.max_sequence_tokens) {
    report.lengths.push_back(size.max_sequence_tokens);
  }
  report.with_plan = Capacity(size.geometry, files.layout.BytesPerToken(), size, report.lengths);
  report.with_full_cache = FullCapacity(files, size, report.lengths);
  return report;
}

}  // namespace lorc
