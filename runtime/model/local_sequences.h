// Sequences that run without a scheduler: offline evaluation, calibration, tests. Keeps block
// tables as runtime/step.h wants them. One caller at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/kv/geometry.h"
#include "runtime/step.h"

namespace lorc {

class LocalSequences {
 public:
  explicit LocalSequences(const KvGeometry& geometry);

  // A new empty sequence; its index.
  int Add();

  // Takes the blocks for positions [first, first + count) and returns the work for them; `tokens`
  // are all known tokens and outlive the step. RESOURCE_EXHAUSTED when the pools are empty. After
  // the step, call Finish.
  absl::StatusOr<SequenceWork> Prepare(int sequence, std::span<const TokenId> tokens,
                                       int32_t num_prompt_tokens, int32_t first, int32_t count,
                                       const SamplingParams* sampling = nullptr);

  // Gives back exact blocks that have aged once positions [0, end) are computed.
  void Finish(int sequence, int32_t end);

  // Gives back all blocks; the sequence starts anew.
  void Clear(int sequence);

 private:
  struct Table {
    std::vector<BlockId> latent;
    std::vector<BlockId> exact;
  };

  static bool Take(std::vector<BlockId>& free, BlockId* block);

  const KvGeometry geometry_;
  std::vector<BlockId> free_latent_;
  std::vector<BlockId> free_exact_;
  std::vector<Table> tables_;
};

}  // namespace lorc
