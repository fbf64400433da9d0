#include "tests/model/real_model.h"

#include <cstdlib>

#include "kernels/base/check.h"

namespace lorc::test {

std::string RequiredEnvironment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) ADD_FAILURE() << name << " is not set; run the tests through ctest";
  return value == nullptr ? "" : value;
}

RunningModel Run(const Checkpoint& checkpoint, const KvPlan& plan, const RunOptions& options) {
  RunningModel running;
  auto backend = MakeBackend(options.backend, options.num_threads);
  LORC_CHECK(backend.ok());
  running.backend = *std::move(backend);
  ExecutorOptions executor_options;
  executor_options.weight_type = options.weight_type;
  executor_options.max_step_tokens = options.max_step_tokens;
  executor_options.max_step_sequences = options.num_sequences;
  executor_options.max_sequence_tokens = options.max_tokens;
  auto layout = MakeKvLayout(plan, checkpoint.config(), executor_options.block_tokens,
                             ExactType(options.weight_type));
  EXPECT_TRUE(layout.ok()) << layout.status();
  KvGeometry geometry = layout->geometry;
  geometry.num_latent_blocks = options.num_sequences * geometry.LatentBlocks(options.max_tokens);
  geometry.num_exact_blocks =
      geometry.exact_block_bytes == 0
          ? 0
          : options.num_sequences * geometry.ExactBlocksSteady(options.max_tokens) +
                geometry.ExactHeadroom(options.max_step_tokens) + options.num_sequences;
  auto executor = ModelExecutor::Make(*running.backend, checkpoint, plan, *layout, geometry,
                                      executor_options, nullptr);
  EXPECT_TRUE(executor.ok()) << executor.status();
  if (executor.ok()) running.executor = *std::move(executor);
  return running;
}

}  // namespace lorc::test
