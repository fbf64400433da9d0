#include "runtime/compress/offline_model.h"

#include "runtime/kv/kv_layout.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

absl::StatusOr<std::unique_ptr<ModelExecutor>> MakeOfflineModel(Backend& backend,
                                                                const Checkpoint& checkpoint,
                                                                const KvPlan& plan,
                                                                const OfflineOptions& options,
                                                                const Progress& progress) {
  const ModelConfig& config = checkpoint.config();
  LORC_RETURN_IF_ERROR(CheckPlan(plan, checkpoint));
  LORC_ASSIGN_OR_RETURN(const KvLayout layout, MakeKvLayout(plan, config, options.block_tokens,
                                                            ExactType(options.weight_type)));
  KvGeometry geometry = layout.geometry;
  geometry.num_latent_blocks =
      options.num_sequences * geometry.LatentBlocks(options.max_sequence_tokens);
  // A step of many sequences with a few tokens each may touch one more block per sequence than a
  // single chunk.
  geometry.num_exact_blocks =
      options.num_sequences * (geometry.ExactBlocksSteady(options.max_sequence_tokens) + 1) +
      geometry.ExactHeadroom(options.max_step_tokens);
  if (geometry.exact_block_bytes == 0) geometry.num_exact_blocks = 0;
  ExecutorOptions executor;
  executor.weight_type = options.weight_type;
  executor.block_tokens = options.block_tokens;
  executor.max_step_tokens = options.max_step_tokens;
  executor.max_step_sequences = options.num_sequences;
  executor.max_sequence_tokens = options.max_sequence_tokens;
  return ModelExecutor::Make(backend, checkpoint, plan, layout, geometry, executor, progress);
}

}  // namespace lorc
