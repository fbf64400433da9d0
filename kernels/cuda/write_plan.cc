#include "kernels/cuda/write_plan.h"

#include <algorithm>

namespace lorc::cuda {

int64_t WritePlan::MaxRuns(const BackendLimits& limits) {
  // A sequence adds at most two runs to those that its tokens fill, and ages at most one block more
  // than it fills.
  return limits.max_rows / kRunTokens +
         limits.max_sequences * (2 + limits.block_tokens / kRunTokens);
}

void WritePlan::Build(const CacheLayer& layer, std::span<const SequenceSpan> sequences) {
  exact.clear();
  latent.clear();
  ages = layer.window_blocks > 0;
  const int32_t block_tokens = layer.block_tokens;
  for (const SequenceSpan& sequence : sequences) {
    const int64_t end = sequence.first + sequence.count;
    for (int64_t position = sequence.first; position < end;) {
      const int64_t start = position / kRunTokens * kRunTokens;
      const int64_t next = std::min(end, start + kRunTokens);
      const int64_t block = start / block_tokens;
      const bool is_exact = block < layer.prefix_blocks || layer.window_blocks > 0;
      WriteRun run;
      run.block = is_exact ? sequence.exact_blocks[block] : sequence.latent_blocks[block];
      run.slot = static_cast<int32_t>(start % block_tokens);
      run.begin = static_cast<int32_t>(position - start);
      run.end = static_cast<int32_t>(next - start);
      run.source = static_cast<int32_t>(sequence.row + start - sequence.first);
      run.position = static_cast<int32_t>(start);
      (is_exact ? exact : latent).push_back(run);
      position = next;
    }
    if (!ages) continue;
    const int64_t latent_end = layer.LatentEnd(end);
    for (int64_t block = std::max<int64_t>(layer.prefix_blocks, layer.LatentEnd(sequence.first));
         block < latent_end; ++block) {
      for (int32_t slot = 0; slot < block_tokens; slot += kRunTokens) {
        WriteRun run;
        run.block = sequence.latent_blocks[block];
        run.slot = slot;
        run.begin = 0;
        run.end = kRunTokens;
        run.source = sequence.exact_blocks[block];
        run.position = static_cast<int32_t>(block * block_tokens + slot);
        latent.push_back(run);
      }
    }
  }
}

}  // namespace lorc::cuda
